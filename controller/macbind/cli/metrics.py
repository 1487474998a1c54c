"""``macbind metrics``: the service in numbers, printed or as a file for node_exporter."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Annotated

import typer

from macbind.cli.options import Socket, connect
from macbind.core.errors import InvalidRequest

_SUFFIX = ".prom"
"""node_exporter reads files with this name, and no other."""


def metrics(
    textfile: Annotated[
        Path | None,
        typer.Option(
            "--textfile", help="Write them to this .prom file of node_exporter instead.", readable=False
        ),
    ] = None,
    socket: Socket = None,
) -> None:
    """Print the service in numbers, as Prometheus reads them."""
    if textfile is not None and textfile.suffix != _SUFFIX:
        raise InvalidRequest(
            f"--textfile {textfile}: node_exporter reads only files whose names end in {_SUFFIX}.",
            hint=f"Write to {textfile}{_SUFFIX}.",
        )
    with connect(socket) as client:
        text = client.metrics()
    if textfile is None:
        typer.echo(text, nl=False)
    else:
        _write(textfile, text)


def _write(path: Path, text: str) -> None:
    """Puts a file in its place in one step: whoever reads it sees the old one or the new one, whole.

    Raises:
        InvalidRequest: It cannot be written; what was there stays.
    """
    try:
        with NamedTemporaryFile("w", dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            try:
                file.write(text)
                file.flush()
                os.fchmod(file.fileno(), 0o644)  # another user reads it
                Path(file.name).replace(path)
            except BaseException:
                Path(file.name).unlink()
                raise
    except OSError as error:
        raise InvalidRequest(
            f"--textfile {path}: The file cannot be written: {error.strerror}.",
            hint="Name a file in the directory that node_exporter reads (--collector.textfile.directory), and run "
            "the command as a user who may write there.",
        ) from error
