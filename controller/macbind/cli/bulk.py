"""The question before much is given back at once."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

import typer

from macbind.cli.output import say

_SHOWN = 20
"""So many are named in the question."""


def agreed(would_be: Callable[[], Sequence[str]], *, yes: bool) -> bool:
    """Whether a person at the terminal agrees. Where nobody can be asked, nobody is: a script goes on.

    Args:
        would_be: What would be done, a sentence each; asked for only if there is somebody to ask.
        yes: Whether the answer is given already.
    """
    if yes or not (sys.stdin.isatty() and sys.stderr.isatty()):
        return True
    found = would_be()
    for sentence in found[:_SHOWN]:
        say(f"  {sentence}", err=True)
    if len(found) > _SHOWN:
        say(f"  and {len(found) - _SHOWN} more", err=True)
    return typer.confirm("Go on?", default=False, err=True)
