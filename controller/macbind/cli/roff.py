"""Text as roff has it, for manual pages."""

from __future__ import annotations

import re
import textwrap


def escaped(text: str) -> str:
    """Plain text in one line, with nothing that roff would obey."""
    line = re.sub(r"\s+", " ", text.strip()).replace("\\", r"\e").replace("-", r"\-")
    line = "".join(one if one.isascii() else rf"\[u{ord(one):04X}]" for one in line)
    return _obeyed_by_nobody(line)


def prose(text: str) -> str:
    """Text in which `code` stands in bold, in lines that are not too long."""
    parts = re.split(r"`+([^`]+)`+", text)
    line = "".join(bold(one) if number % 2 else _inner(one) for number, one in enumerate(parts))
    return "\n".join(_obeyed_by_nobody(one) for one in wrap(line))


def wrap(line: str) -> list[str]:
    """A line of roff as several: roff fills them again."""
    return textwrap.wrap(line, 78, break_long_words=False, break_on_hyphens=False) or [""]


def _obeyed_by_nobody(line: str) -> str:
    return rf"\&{line}" if line.startswith((".", "'")) else line


def _inner(text: str) -> str:
    """A part of a line: blanks at its ends count."""
    lead = " " * text.startswith((" ", "\n"))
    tail = " " * (len(text.strip()) > 0 and text.endswith((" ", "\n")))
    return lead + escaped(text) + tail if text.strip() else " " * bool(text)


def bold(text: str) -> str:
    """Text in bold."""
    return rf"\fB{escaped(text)}\fR"


def italic(text: str) -> str:
    """Text in italics, or underlined."""
    return rf"\fI{escaped(text)}\fR"
