"""Durations as people write them."""

from __future__ import annotations

import re

from macbind.core.errors import InvalidRequest

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_PART = r"(\d{1,12}(?:\.\d{1,6})?)([smhd])"
_WHOLE = re.compile(rf"(?:{_PART})+", re.ASCII)
_SECONDS = re.compile(r"\d{1,12}(?:\.\d{1,6})?", re.ASCII)


def parse_duration(text: str) -> float:
    """Reads ``90``, ``15m``, ``1h30m`` or ``2d``; returns seconds.

    Raises:
        InvalidRequest: It is no duration, or none that lasts.
    """
    compact = text.strip().lower()
    seconds = 0.0
    if _SECONDS.fullmatch(compact):
        seconds = float(compact)
    elif _WHOLE.fullmatch(compact):
        seconds = sum(float(number) * _UNITS[unit] for number, unit in re.findall(_PART, compact))
    if seconds <= 0:
        raise InvalidRequest(
            f"{text!r} is no duration.",
            hint="Write seconds, or a number with s, m, h or d: 90, 15m, 1h30m, 2d.",
        )
    return seconds
