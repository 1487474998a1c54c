"""Reads the reservations of a Kea configuration, of its subnets and global ones."""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import Any

from macbind.core.errors import InvalidRequest
from macbind.core.import_plan import ImportEntry
from macbind.importing.json_lines import LINE, line_of, lists, read_json, text_of
from macbind.importing.machine_list import MachineList, name_for, options_of, words

_READ = frozenset(
    {LINE, "hw-address", "ip-address", "ip-addresses", "hostname", "next-server", "boot-file-name"}
)
_NO_SERVER = str(IPv4Address(0))
_IDENTIFIERS = ("duid", "circuit-id", "client-id", "flex-id")


def read_kea(text: str) -> MachineList:
    """The reservations.

    Raises:
        InvalidRequest: It is no JSON, or has none.
    """
    return reservations(read_json(text))


def reservations(value: Any) -> MachineList:
    """The reservations of a configuration, or of a list of them.

    Raises:
        InvalidRequest: It has none.
    """
    found = MachineList()
    if isinstance(value, list) and any("hw-address" in one for one in value if isinstance(one, dict)):
        value = {"reservations": value}
    all_of_them = list(lists(value, "reservations"))
    if not all_of_them:
        raise InvalidRequest(
            "The JSON has no reservations.",
            hint="Import a configuration of Kea's DHCPv4 server, or an export.",
        )
    for one in (each for some in all_of_them for each in some if isinstance(each, dict)):
        found.add(_entry(one))
    return found


def _entry(one: dict[str, Any]) -> ImportEntry:
    name, mac = text_of(one.get("hostname")), text_of(one.get("hw-address"))
    address = text_of(one.get("ip-address"))
    more = one.get("ip-addresses")
    addresses = [address] if address else [each for each in more or () if isinstance(each, str)]
    options, left_out = options_of(
        {
            "hostname": name,
            "next_server": None if one.get("next-server") == _NO_SERVER else one.get("next-server"),
            "filename": one.get("boot-file-name"),
        }
    )
    other = next((key for key in _IDENTIFIERS if key in one), "no identifier")
    is_problem = mac is None and not more
    return ImportEntry(
        name_for(name, next(iter(addresses), None)),
        tuple(addresses),
        mac,
        line_of(one),
        options=options,
        problem=f"It has {other} and no hw-address, and macbind knows MACs only." if is_problem else "",
        mend="Give its hw-address instead." if is_problem else "",
        left_out=(*left_out, *words(key for key, value in one.items() if key not in _READ and value)),
    )
