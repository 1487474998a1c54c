"""Windows' `cmd`, as Wine has it, with stand-ins for the programs a script calls.

Wine needs neither a display nor 32-bit libraries for it, and no registry of Windows: its own programs in place are
enough, so `wineboot` and the ten seconds it takes are left out. Starting Wine takes a second; therefore any number of
scenes are played in one start.
"""

import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

_WINE = "/usr/lib/wine/wine64"
_SERVER = "/usr/lib/wine/wineserver64"
_PROGRAMS = Path("/usr/lib/x86_64-linux-gnu/wine/x86_64-windows")
_SYSTEM = "C:\\windows\\system32"
_RECORD = "calls.txt"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run of a script came to.

    Attributes:
        code: Its exit code.
        output: Standard output, with LF.
        errors: Standard error, with LF.
        calls: The command lines of the stand-ins, in order.
    """

    code: int
    output: str
    errors: str
    calls: list[str]


@dataclass(frozen=True, slots=True)
class Scene:
    """A script, the programs it finds, and how it is run.

    Attributes:
        script: Its text.
        runs: The arguments of each run, one after the other in the same scene, as cmd reads them.
        programs: What each stand-in does after it has recorded its arguments: lines of cmd, by its name. They run in
            the directory of the script and find the files there.
        files: Texts for files beside the script.
        version: Which Windows this is, in Wine's words.
    """

    script: str
    runs: Sequence[str] = ("",)
    programs: Mapping[str, Sequence[str]] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    version: str = "win10"


@dataclass(frozen=True, slots=True)
class Wine:
    """A Windows made of files."""

    place: Path

    @property
    def _environment(self) -> dict[str, str]:
        """For all that runs in it. It is small, because cmd gets slow with a large one."""
        return {
            "HOME": str(self.place),
            "PATH": "/usr/bin:/bin",
            "WINEPREFIX": str(self.place / "prefix"),
            "WINEDEBUG": "-all",
            "ComSpec": f"{_SYSTEM}\\cmd.exe",
            "PATHEXT": ".COM;.EXE;.BAT;.CMD",
        }

    def install(self) -> None:
        """Makes the directory of Windows; `.update-timestamp` tells Wine that it needs no more."""
        system = self.place / "prefix" / "drive_c" / "windows" / "system32"
        system.mkdir(parents=True)
        (self.place / "prefix" / ".update-timestamp").write_text("disable\n")
        for program in _PROGRAMS.iterdir():
            (system / program.name).symlink_to(program)

    def stop(self) -> None:
        """Ends all its processes."""
        subprocess.run([_SERVER, "--kill"], env=self._environment, check=False)
        subprocess.run([_SERVER, "--wait"], env=self._environment, check=True)

    def play(self, scenes: Mapping[str, Scene]) -> dict[str, list[Outcome]]:
        """Plays the scenes; the outcomes of each scene's runs, by its name."""
        lines = ["@echo off", f'set "TEMP={windows_path(self.place)}"']
        for name, scene in scenes.items():
            lines += self._stage(self.place / name, scene)
        lines.append("exit /b 0")
        stage = self.place / "stage.bat"
        _write(stage, lines)
        subprocess.run(
            [_WINE, f"{_SYSTEM}\\cmd.exe", "/c", windows_path(stage)],
            env=self._environment,
            cwd=self.place,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=400,
            check=True,
        )
        return {name: list(_outcomes(self.place / name, len(scene.runs))) for name, scene in scenes.items()}

    def _stage(self, place: Path, scene: Scene) -> Iterator[str]:
        """Lays the scene out; the lines that play it."""
        (place / "bin").mkdir(parents=True)
        (place / "mac2ip.bat").write_text(scene.script, encoding="ascii", newline="")
        for name, text in scene.files.items():
            _write(place / name, text.splitlines())
        for name, commands in scene.programs.items():
            _write(place / "bin" / f"{name}.bat", ["@echo off", f">>{_RECORD} echo {name} %*", *commands])
        yield f"{_SYSTEM}\\reg.exe add HKCU\\Software\\Wine /v Version /d {scene.version} /f >nul"
        yield f'set "PATH={windows_path(place / "bin")};{_SYSTEM}"'
        yield f'cd /d "{windows_path(place)}"'
        for number, arguments in enumerate(scene.runs):
            yield f"cmd /c mac2ip.bat {arguments} >out{number}.txt 2>err{number}.txt"
            yield f">code{number}.txt echo %errorlevel%"
            yield f"if exist {_RECORD} ren {_RECORD} calls{number}.txt"


def _outcomes(place: Path, runs: int) -> Iterator[Outcome]:
    for number in range(runs):
        text = {
            kind: path.read_text(encoding="ascii") if path.exists() else ""
            for kind in ("out", "err", "code", "calls")
            for path in [place / f"{kind}{number}.txt"]
        }
        calls = [line.strip() for line in text["calls"].splitlines()]
        yield Outcome(int(text["code"]), text["out"], text["err"], calls)


@contextmanager
def wine(place: Path) -> Iterator[Wine]:
    """A new Windows in this directory; all its processes end with it."""
    machine = Wine(place)
    machine.install()
    try:
        yield machine
    finally:
        machine.stop()


def windows_path(path: Path) -> str:
    """The name Windows has for a file of ours."""
    return "Z:" + str(path).replace(os.sep, "\\")


def _write(path: Path, lines: Sequence[str]) -> None:
    path.write_text("".join(f"{line}\r\n" for line in lines), encoding="ascii", newline="")
