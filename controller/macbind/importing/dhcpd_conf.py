"""Reads the hosts of a dhcpd.conf, with its groups and all that it includes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from macbind.core.errors import InvalidRequest
from macbind.core.import_plan import ImportEntry
from macbind.dhcp.isc.conf_file import ConfHost, read_conf
from macbind.importing.machine_list import MachineList, options_of, words

_OPTIONS = {
    ("option", "host-name"): "hostname",
    ("next-server",): "next_server",
    ("filename",): "filename",
}
_OF_THE_ENTRY = ("hardware", "fixed-address")


def read_dhcpd_conf(data: bytes, path: Path) -> MachineList:
    """The hosts.

    Args:
        data: The content of the file.
        path: Where it was; relative paths that it includes begin in its directory.

    Raises:
        InvalidRequest: A file that it includes cannot be read.
    """
    path = path.absolute()
    conf = read_conf(path, cwd=path.parent, data=data)
    if conf.failed is not None:
        raise InvalidRequest(
            f"{conf.failed.filename} is included, and cannot be read: {conf.failed.strerror}.",
            hint="Put the file there, or take its include out of what you import.",
        )
    found = MachineList()
    for one in conf.notes:
        if "hardware address" not in one.text and "a name for an address" not in one.text:  # rows say these
            found.note(f"{one.place}: {one.text}.")
    for host in conf.hosts:
        if ["deleted"] not in host.said[0]:
            found.add(_entry(host, path))
    return found


def _entry(host: ConfHost, path: Path) -> ImportEntry:
    values: dict[str, str] = {}
    left_out: list[str] = []
    for key, value in _said(host):
        if key is None:
            left_out.append(value)
        else:
            values.setdefault(key, value)  # the nearest counts
    options, not_possible = options_of(values)
    own = list(host.said[0])
    hardware = next((one[1:] for one in own if one[0].lower() == "hardware"), None)
    named = next((one[1] for one in own if one[0].lower() == "fixed-address"), None)
    problem = mend = ""
    if hardware is not None and hardware[0].lower() != "ethernet":
        problem, mend = "Its hardware is none of Ethernet.", "Leave it out: macbind binds Ethernet MACs."
    elif hardware is None and host.mac is None:
        problem, mend = (
            "It has no hardware address, and macbind knows MACs only.",
            "Add its `hardware ethernet`.",
        )
    elif named is not None and not host.addresses:
        problem = f"Its fixed-address '{named[:64]}' is a name, which is not looked up."
        mend = "Write the address instead."
    mac = "".join(hardware[1:]) if hardware is not None else None if host.mac is None else str(host.mac)
    return ImportEntry(
        host.name,
        tuple(map(str, host.addresses)),
        mac,
        host.place.line,
        None if host.place.path == path else str(host.place.path),
        options=options,
        problem=problem,
        mend=mend,
        left_out=words([*not_possible, *left_out]),
    )


def _said(host: ConfHost) -> Iterator[tuple[str | None, str]]:
    """What a host says beside MAC and address, nearest first: options by their keys, and the rest in words."""
    for number, block in enumerate(host.said):
        for one in block:
            key = _option(one)
            if key is not None:
                yield key, one[-1].strip('"')
            elif one[0].lower() not in _OF_THE_ENTRY:
                yield (
                    None,
                    " ".join(one[: 2 if one[0].lower() == "option" else 1]) + " of its group" * bool(number),
                )


def _option(statement: Sequence[str]) -> str | None:
    """The option of macbind's that a statement sets to one value."""
    head = tuple(word.lower() for word in statement[:-1])
    return _OPTIONS.get(head)
