"""`macbind` with other limits for its clients, so that a test need not wait a minute for a time-out.

Run as a program: `python bounded.py '{"idle_s": 1}' serve --config macbind.toml`.
"""

import json
import sys
from pathlib import Path


def command(**limits: float) -> list[str]:
    """The command line of macbind with these `Limits`, for `Farm`."""
    return [sys.executable, __file__, json.dumps(limits)]


def _main(limits: str, *arguments: str) -> None:
    if arguments[0] != "serve":
        from macbind.cli.commands import app

        app(arguments, prog_name="macbind")
        return
    from macbind.config import load
    from macbind.daemon import serve
    from macbind.service.limits import Limits

    serve(load(Path(arguments[2])), Limits(**json.loads(limits)))


if __name__ == "__main__":
    _main(*sys.argv[1:])
