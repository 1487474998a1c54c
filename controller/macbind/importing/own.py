"""Our own export: what is written, and how it is read again."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from macbind.core.allocation import Allocation
from macbind.core.errors import InvalidRequest
from macbind.core.import_plan import ImportEntry
from macbind.importing.json_lines import LINE, line_of, read_json, text_of
from macbind.importing.machine_list import MachineList, options_of

FORMAT = "macbind-export/1"


def exported(found: Iterable[Allocation]) -> dict[str, Any]:
    """Reservations and allocations as an import reads them."""
    return {"format": FORMAT, "allocations": [_item(one) for one in found]}


def _item(one: Allocation) -> dict[str, Any]:
    item: dict[str, Any] = {
        "name": one.name,
        "address": str(one.address),
        "mac": str(one.mac),
        "pinned": one.pinned,
    }
    expires = None if one.expires_at is None else one.expires_at.isoformat()
    more = {"group": one.group, "options": one.options.to_dict(), "labels": one.labels, "expires_at": expires}
    return item | {key: value for key, value in more.items() if value}


def read_own(text: str) -> MachineList:
    """The machines of an export, or of what `macbind list -o json` prints.

    Raises:
        InvalidRequest: It is neither.
    """
    return allocations(read_json(text))


def allocations(value: Any) -> MachineList:
    """The machines of a value that was read.

    Raises:
        InvalidRequest: It is no export.
    """
    if isinstance(value, dict) and value.get("format") not in (None, FORMAT):
        raise InvalidRequest(
            f"The export has the format {str(value['format'])[:64]!r}, and this macbind reads '{FORMAT}'.",
            hint="Use a macbind that is as new as the one that wrote it.",
        )
    items = value.get("allocations") if isinstance(value, dict) else value
    if not isinstance(items, list) or not all(isinstance(one, dict) for one in items):
        raise InvalidRequest("The JSON is no export of macbind.", hint="Write one with `macbind export`.")
    found = MachineList()
    for one in items:
        if one.get("renumbers_from") is None:  # its name has another address, and only one counts
            found.add(_entry(one))
    return found


def _entry(one: dict[str, Any]) -> ImportEntry:
    options, left_out = options_of(_table(one.get("options")))
    labels = _table(one.get("labels"))
    address = text_of(one.get("address"))
    return ImportEntry(
        text_of(one.get("name")) or "",
        () if address is None else (address,),
        text_of(one.get("mac")),
        line_of(one),
        options=options,
        labels={key: value for key, value in labels.items() if isinstance(value, str)},
        group=text_of(one.get("group")),
        pinned=one.get("pinned") is not False,
        left_out=left_out if one.get("expires_at") is None else (*left_out, "expiry"),
    )


def _table(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        return {}
    return {key: _table(one) if isinstance(one, dict) else one for key, one in value.items() if key != LINE}
