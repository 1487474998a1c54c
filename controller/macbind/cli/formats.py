"""The forms in which values are printed: JSON, one JSON object a line, YAML, and CSV that a spreadsheet may open.

Each is ASCII or printable, so that no text of others steers a terminal.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from textwrap import indent
from typing import Any

from macbind.core.dhcp_options import DhcpOptions
from macbind.core.mac_address import MacAddress
from macbind.core.printable import visible


class Form(StrEnum):
    """How a command prints."""

    TEXT = "text"
    WIDE = "wide"
    JSON = "json"
    JSONL = "jsonl"
    YAML = "yaml"
    CSV = "csv"
    NAME = "name"

    @property
    def is_structured(self) -> bool:
        """Whether it shows whole values, and errors as values, too."""
        return self in (Form.JSON, Form.JSONL, Form.YAML)


_FORMULA = tuple("=+-@\uff1d\uff0b\uff0d\uff20")
"""A spreadsheet takes a cell that begins so for a formula; the last four are the wide forms of the first."""


def plain(value: Any) -> Any:
    """A value as JSON types: dataclasses become objects, addresses and times text."""
    if isinstance(value, DhcpOptions):
        return value.to_dict()
    if dataclasses.is_dataclass(value) and not isinstance(value, (type, MacAddress)):
        return {item.name: plain(getattr(value, item.name)) for item in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    if isinstance(value, datetime):
        return value.isoformat()
    if value is None or isinstance(value, (bool, int, float)):
        return value
    return str(value)


def json_of(value: Any, *, spread: bool = True) -> str:
    """A value as JSON, over several lines unless ``spread`` is false. DEL is the one control JSON leaves as it is."""
    return json.dumps(plain(value), indent=2 if spread else None).replace("\x7f", r"\u007f")


def structured(form: Form, value: Any) -> Iterator[str]:
    """A value in lines of JSON, JSONL or YAML; of a long list never more than one item is text at a time."""
    items = value if isinstance(value, list) else None
    if form is Form.JSONL:
        for one in [value] if items is None else items:
            yield json_of(one, spread=False)
    elif form is Form.YAML:
        for one in [value] if not items else ([item] for item in items):
            yield _yaml(one)
    elif not items:
        yield json_of(value)
    else:
        last = len(items) - 1
        yield "["
        for number, one in enumerate(items):
            yield indent(json_of(one), "  ") + "," * (number < last)
        yield "]"


def _yaml(value: Any) -> str:
    import yaml

    fast = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    how: dict[str, Any] = {"sort_keys": False, "allow_unicode": False, "default_flow_style": False}
    data = plain(value)
    try:
        text = yaml.dump(data, Dumper=fast, **how)
    except UnicodeEncodeError:  # broken text of others, which only the slower one writes down
        text = yaml.dump(data, Dumper=yaml.SafeDumper, **how)
    assert isinstance(text, str)
    return text.removesuffix("\n").removesuffix("\n...")


def csv_lines(rows: Iterable[Sequence[object]]) -> Iterator[str]:
    """Rows as lines of CSV (RFC 4180). Times are UTC in ISO 8601, nothing is an empty cell."""
    for row in rows:
        line = io.StringIO()
        csv.writer(line, lineterminator="").writerow([_cell(one) for one in row])
        yield line.getvalue()


def _cell(value: object) -> object:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (int, float)):
        return value
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    text = str(value)
    shown = visible(text)
    return f"'{shown}" if text.startswith(("\t", "\r", *_FORMULA)) else shown
