"""`macbind` with other limits for its clients, or other sizes of its pieces of work, than an admin can choose.

So a test need not wait a minute for a time-out, nor have ten thousand machines. Run as a program:
`python bounded.py '{"idle_s": 1}' '{"slice": 7}' serve --config macbind.toml`.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType


def command(sizes: Mapping[str, int] = MappingProxyType({}), **limits: float) -> list[str]:
    """The command line of macbind with these `Sizes` and `Limits`, for `Farm`."""
    return [sys.executable, __file__, json.dumps(limits), json.dumps(dict(sizes))]


def _main(limits: str, sizes: str, *arguments: str) -> None:
    if arguments[0] != "serve":
        from macbind.cli.commands import app

        app(arguments, prog_name="macbind")
        return
    from macbind.core.sizes import Sizes
    from macbind.daemon.main import serve
    from macbind.http.limits import Limits

    serve(Path(arguments[2]), Limits(**json.loads(limits)), Sizes(**json.loads(sizes)))


if __name__ == "__main__":
    _main(*sys.argv[1:])
