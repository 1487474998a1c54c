"""No secret may be anywhere but in the file it belongs to: not in logs, journals, answers, processes, registries."""

import base64
import contextlib
import stat
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

_SAMPLE_S = 0.2


@dataclass(frozen=True)
class Secret:
    """A secret: what it may look like, and the one file that may hold it, readable by owner and group alone."""

    name: str
    forms: Mapping[str, bytes]
    home: Path

    @classmethod
    def of_key(cls, name: str, text: str, home: Path) -> Self:
        """A key in base64."""
        raw = base64.b64decode(text)
        forms = {"base64": text.encode(), "bytes": raw, "hex": raw.hex().encode()}
        return cls(name, forms | {"HEX": raw.hex().upper().encode()}, home)

    def found_in(self, content: bytes) -> str | None:
        """The form in which it is in there, if it is."""
        return next((form for form, value in self.forms.items() if value in content), None)


class Guard:
    """Looks at the command lines and environments of all processes, again and again. A context manager.

    Attributes:
        processes: How many it has seen.
        leaks: Sentences.
    """

    def __init__(self, secrets: Iterable[Secret]) -> None:
        self.secrets = list(secrets)
        self.leaks: list[str] = []
        self._seen: set[int] = set()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, name="guard", daemon=True)

    @property
    def processes(self) -> int:
        """How many processes it has seen."""
        return len(self._seen)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(_SAMPLE_S):
            for process in Path("/proc").iterdir():
                if process.name.isdecimal():
                    self._seen.add(int(process.name))
                    self._read(process)

    def _read(self, process: Path) -> None:
        for part in ("cmdline", "environ"):
            with contextlib.suppress(OSError):  # it has ended
                content = (process / part).read_bytes()
                for secret in self.secrets:
                    if form := secret.found_in(content):
                        self.leaks.append(
                            f"{secret.name} ({form}) is in the {part} of process {process.name}"
                        )


def search(secrets: Iterable[Secret], places: Iterable[Path]) -> tuple[int, list[str]]:
    """Searches every file below some directories; returns how many there were, and sentences about leaks."""
    wanted, leaks, files = list(secrets), [], 0
    for place in places:
        for file in sorted(place.rglob("*")):
            if file.is_symlink() or not file.is_file():
                continue
            files += 1
            try:
                content = file.read_bytes()
            except FileNotFoundError:  # a database's own affair
                continue
            leaks += [leak for one in wanted if (leak := _leak(one, file, content))]
    return files, leaks


def _leak(secret: Secret, file: Path, content: bytes) -> str | None:
    form = secret.found_in(content)
    if form is None:
        return None
    if file != secret.home:
        return f"{secret.name} ({form}) is in {file}"
    mode = stat.S_IMODE(file.stat().st_mode)
    return f"{file} with {secret.name} has mode {mode:04o}" if mode & 0o007 else None
