"""Text from elsewhere, made harmless for a terminal."""

from __future__ import annotations


def visible(text: object) -> str:
    """The text in one line, with everything that is not printable as an escape.

    Names of domains, host names and reasons are written by others. Control characters, C1 included, would move the
    cursor or hide a finding; marks of direction would turn a line around.
    """
    shown = str(text)
    if shown.isprintable():
        return shown
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in shown)
