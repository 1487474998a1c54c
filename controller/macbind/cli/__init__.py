"""The command line: ``macbind``."""

from __future__ import annotations


def main() -> None:
    """The console script."""
    from macbind.cli.commands import app

    app(prog_name="macbind")
