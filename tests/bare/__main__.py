"""`python -m bare` (`make bare`): runs a command of the project's users on a bare Debian, and says what failed.

The exit status is that of the command; MIRROR_FAILED when what is needed could not be downloaded to begin with.
"""

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from bare import root as roots
from bare.settings import of_this_machine
from labkit import debian
from labkit.netns import CommandFailed

RELEASES = ("bookworm", "trixie")
COMMAND = "make run && make test"
MIRROR_FAILED = 75  # "try again later", among the exit codes of sysexits.h
REPOSITORY = Path(__file__).parents[2]
_CACHE = REPOSITORY / ".cache"
_ENTER = Path(__file__).with_name("enter")
_UNSHARE = (
    *("unshare", "--mount", "--propagation", "private", "--uts", "--ipc"),
    *("--pid", "--fork", "--kill-child"),
)
_END_S = 20.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Makes the machine, runs the command, takes the machine away."""
    parser = argparse.ArgumentParser(prog="make bare", description="The project on a bare Debian.")
    parser.add_argument("--release", choices=RELEASES, default=RELEASES[0])
    parser.add_argument("command", nargs="?", default=COMMAND, help=f"of the shell; by default '{COMMAND}'")
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that everything is taken away
    if os.geteuid() != 0:
        print("A bare machine is made of mounts and namespaces: run this as root.", file=sys.stderr)
        return 1
    try:
        return try_out(options.release, options.command)
    except debian.MirrorFailed as error:
        print(f"\nThe mirror is at fault, the project was not tried: {error}", file=sys.stderr)
        return MIRROR_FAILED
    except CommandFailed as error:
        print(f"\nThis machine is at fault, the project was not tried: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def try_out(release: str, command: str) -> int:
    """Runs the command on a bare machine with this release; its exit status."""
    started = time.monotonic()
    among = debian.sources()
    settings = of_this_machine(release, debian.release(), among, os.environ)
    kept = _CACHE / "bare" / release
    pristine = roots.pristine(kept, release)
    (kept / "pip").mkdir(exist_ok=True)
    for line in roots.uncommitted(REPOSITORY):
        say(f"not committed, so not tried: {line}")
    with roots.copy(pristine, kept / "copies") as root:
        roots.set_up(root, settings)
        commit = roots.check_out(REPOSITORY, root)
        say(f"a bare {release} was made in {time.monotonic() - started:.0f} s; it has {commit}")
        say(command)
        started = time.monotonic()
        status = inside(root, kept, command)
        say(f"exit status {status} after {time.monotonic() - started:.0f} s: {command}")
    return status


def inside(root: Path, kept: Path, command: str) -> int:
    """Runs the command in there, where it finds the downloads that were `kept`; it ends with all it has started."""
    process = subprocess.Popen([*_UNSHARE, str(_ENTER), str(root), str(kept), command])
    try:
        return process.wait()
    except KeyboardInterrupt:  # which the command got, too
        with suppress(subprocess.TimeoutExpired):
            process.wait(_END_S)
        raise
    finally:
        _end(process)


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Ends all of it at once; harmless when it has ended. unshare waits for process 1, which goes last."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    while process.poll() is None:
        for child in children.read_text().split():
            with suppress(ProcessLookupError):
                os.kill(int(child), signal.SIGKILL)
        with suppress(subprocess.TimeoutExpired):
            process.wait(1)


def say(line: str) -> None:
    """Prints a line of our own between those of the command."""
    print(f"bare: {line}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
