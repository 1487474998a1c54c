"""The command line: ``macbind``."""

from __future__ import annotations


def main() -> None:
    """The console script."""
    import os

    from macbind.cli.commands import app
    from macbind.cli.shells import COMPLETE_VARIABLE

    if COMPLETE_VARIABLE in os.environ:  # a shell asks for words
        from typer import completion

        completion.completion_init()  # type: ignore[attr-defined]  # of every version of Typer
    app(prog_name="macbind", complete_var=COMPLETE_VARIABLE)
