"""Durations as people write them."""

import pytest

from macbind.core.duration import parse_duration
from macbind.core.errors import InvalidRequest


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("3600", 3600),
        ("0.5", 0.5),
        ("90s", 90),
        ("15m", 900),
        ("1h", 3600),
        ("1h30m", 5400),
        (" 2D ", 172_800),
        ("1.5h", 5400),
    ],
)
def test_what_is_understood(text: str, seconds: float) -> None:
    """Seconds, or numbers with units."""
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0",
        "0h",
        "-1",
        "-1h",
        "nan",
        "inf",
        "1e3",
        "1x",
        "h",
        "1h 30m",
        "1 h",
        "\u0661h",
        "9" * 30,
        "1h\n2",
        "0x10",
    ],
)
def test_what_is_not_is_refused(text: str) -> None:
    """With one sentence and a hint."""
    with pytest.raises(InvalidRequest, match="is no duration") as refused:
        parse_duration(text)
    assert "1h30m" in refused.value.hint
