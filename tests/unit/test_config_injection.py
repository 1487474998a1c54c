"""Nothing written into the configuration file can become a statement of dhcpd's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from macbind.config import load
from macbind.config.tables import TABLES
from macbind.core.errors import ConfigError

TEXT_KEYS = [
    (table, key, "'array'" in shape)
    for table, model in TABLES.items()
    for key, field in model.model_fields.items()
    for shape in [str(TypeAdapter(field.rebuild_annotation()).json_schema())]
    if "'string'" in shape and (table, key) != ("registry", "url")
]


PAYLOADS = ('x"; } host evil { }', "x\\", "x\nhost evil { }", "x\0", "é")


@pytest.mark.parametrize(
    ("table", "key", "many", "payload"),
    [
        (*one, payload)
        for one in TEXT_KEYS
        for payload in PAYLOADS
        if (one[1], payload)
        != ("filename", "x\\")  # a file may have one, which is written in hexadecimal digits
    ],
)
def test_no_text_smuggles_statements(table: str, key: str, many: bool, payload: str, tmp_path: Path) -> None:
    """A quote, backslash, newline, NUL or foreign letter is refused in every text before it is rendered."""
    path = tmp_path / "macbind.toml"
    tables: dict[str, dict[str, Any]] = {"dhcpd.main": {}, "pool.farm": {"subnet": "10.1.0.0/16"}}
    name = {
        "hypervisor": "hypervisor.local",
        "subnet": 'subnet."10.2.0.0/16"',
        "pool": "pool.farm",
        "dhcpd": "dhcpd.main",
    }.get(table, table)
    for start in ("", "/", "10.1.0.1", "10.1.0.0/16"):
        value = start + payload
        tables[name] = tables.get(name, {}) | {key: [value] if many else value}
        lines = [
            f"[{header}]\n" + "".join(f"{one} = {json.dumps(what)}\n" for one, what in values.items())
            for header, values in tables.items()
        ]
        path.write_text("".join(lines), encoding="utf-8")
        with pytest.raises(ConfigError) as caught:
            load(path)
        assert caught.value.details["key"] == key
        assert "\n" not in caught.value.message
