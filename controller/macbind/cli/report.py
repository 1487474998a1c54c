"""``macbind report``: everything a bug report needs, in one file, without secrets."""

from __future__ import annotations

import io
import os
import sys
import tarfile
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from macbind.cli.formats import Form
from macbind.cli.options import DEFAULT_CONFIG, Config, Socket, connect
from macbind.cli.output import say
from macbind.cli.service_tables import PACKED, Packed, Packet
from macbind.cli.show import Show, prints
from macbind.core.errors import Conflict, InvalidRequest, InvariantViolation

_MODE = 0o600
_READ = (Form.TEXT, Form.WIDE)
"""What is read before the question is answered; the other forms tell what was written."""


@prints(PACKED)
def report(
    file: Annotated[
        Path | None, typer.Argument(help="The file to write; macbind-report-TIME.tar.gz.", show_default=False)
    ] = None,
    log: Annotated[
        list[Path] | None,
        typer.Option("--log", metavar="FILE", help="Also the end of this file. May be repeated."),
    ] = None,
    config: Config = DEFAULT_CONFIG,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing.")] = False,
    socket: Socket = None,
    *,
    show: Show,
) -> None:
    """Write all that a bug report needs into one file, without secrets. The service need not run."""
    from macbind.cli.report_parts import Sources, collect

    if not yes and not sys.stdin.isatty():
        raise InvalidRequest(
            "report asks before it writes, and there is no terminal to ask on.", hint="Give --yes."
        )
    target = Path(f"macbind-report-{datetime.now(UTC):%Y%m%d-%H%M%S}.tar.gz") if file is None else file
    _refuse_existing(target)
    with connect(socket) as client:
        parts, redactor = collect(Sources(config, client, tuple(log or ())))
    leaking = [part.name for part in parts if not redactor.is_clean(part.content)]
    if leaking:
        raise InvariantViolation(f"A secret would be left in {leaking[0]}, so nothing was written.")
    packed = tuple(Packed(part.name, len(part.content)) for part in parts)
    if show.form in _READ:
        show.print(packed)
    if not yes:
        typer.confirm(f"Write these into {target}?", default=True, abort=True, err=True)
    _write(target, [(part.name, part.content) for part in parts])
    if show.form not in _READ:
        show.print(packed, whole=Packet(str(target), packed))
        return
    say(f"{target} written. Read it before you send it: names and addresses of machines are in it.")


def _refuse_existing(target: Path) -> None:
    if target.exists() or target.is_symlink():
        raise Conflict(f"{target} exists already.", hint="Name another file, or remove that one.")


def _write(target: Path, parts: Sequence[tuple[str, bytes]]) -> None:
    """Writes the archive: all of it, or nothing."""
    content = _archive(parts)
    try:
        descriptor = os.open(
            target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, _MODE
        )
    except FileExistsError:
        _refuse_existing(target)
        raise
    except OSError as error:
        raise InvalidRequest(
            f"{target} cannot be written: {error.strerror}.", hint="Name a file in another directory."
        ) from error
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), _MODE)
            file.write(content)
    except OSError as error:
        with suppress(OSError):
            target.unlink()
        raise InvalidRequest(
            f"{target} cannot be written: {error.strerror}.", hint="Free space, or name another file."
        ) from error


def _archive(parts: Sequence[tuple[str, bytes]]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, content in parts:
            member = tarfile.TarInfo(f"macbind-report/{name}")
            member.size, member.mode, member.mtime = len(content), _MODE, int(time.time())
            archive.addfile(member, io.BytesIO(content))
    return packed.getvalue()
