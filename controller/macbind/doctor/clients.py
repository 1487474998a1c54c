"""Clones: machines that send dhcpd one client identifier, because they have one machine-id.

dhcpd keeps no identifiers in a subnet that macbind renders (``ignore-client-uids``): there the MAC counts, and clones
do no harm. In a subnet of the site's own configuration it gives one identifier one address.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from macbind.core.findings import Finding
from macbind.dhcp.isc.files import open_ordinary, pieces
from macbind.doctor.site import Site

_PIECE_BYTES, _LONGEST = 1 << 20, 1 << 16
_RECORD = re.compile(rb"^lease [0-9.]{7,15} \{\n(?P<body>(?:  [^\n]*\n)*)\}\n", re.MULTILINE)
_MAC = re.compile(rb"^  hardware ethernet (?P<mac>[0-9a-f:]{17});", re.MULTILINE)
_UID = re.compile(rb'^  uid (?P<uid>"(?:[^"\\\n]|\\.)*"|[0-9a-f:]+);', re.MULTILINE)
_ENDS = re.compile(rb"^  ends (?:never|[0-6] (?P<ends>[0-9/]{10} [0-9:]{8}));", re.MULTILINE)
_NAMED = 3


def look(site: Site) -> Iterator[Finding]:
    """Several MACs with one client identifier."""
    for name, dhcpd in site.configured.dhcpds.items():
        if dhcpd.leases_file is None:
            continue
        try:
            users = clients_of(dhcpd.leases_file, datetime.now(UTC))
        except OSError:
            continue  # another check says so
        for uid, macs in sorted(users.items()):
            if len(macs) < 2:
                continue
            some = ", ".join(sorted(macs)[:_NAMED]) + (" and others" if len(macs) > _NAMED else "")
            yield Finding(
                "client_id_shared",
                f"{len(macs)} machines send dhcpd '{name}' one client identifier, {uid}: {some}. They are clones "
                "with one machine-id, and take one address in turns.",
                "Write `ignore-client-uids true;` into the subnet of dhcpd's own configuration, as macbind does in "
                "its own. Or in the template: `truncate -s 0 /etc/machine-id`; in each clone the same, then "
                "`systemd-machine-id-setup` and a reboot.",
                uid,
            )


def clients_of(path: Path, now: datetime) -> dict[str, set[str]]:
    """The MACs that have used each client identifier in leases that have not ended.

    Every record counts, also one that a later one replaces: dhcpd gives one identifier one address, in turns.

    Raises:
        OSError: The file cannot be read.
    """
    users: dict[str, set[str]] = {}
    data = b""
    with open_ordinary(path) as file:
        for piece in pieces(file, _PIECE_BYTES):
            data += piece
            end = 0
            for record in _RECORD.finditer(data):
                client = _client(record["body"], now)
                if client is not None:
                    users.setdefault(client[0], set()).add(client[1])
                end = record.end()
            data = data[end:][-_LONGEST:]
    return users


def _client(body: bytes, now: datetime) -> tuple[str, str] | None:
    uid, mac, ends = _UID.search(body), _MAC.search(body), _ENDS.search(body)
    if uid is None or mac is None or b"\n  binding state active;" not in b"\n" + body:
        return None
    if ends is not None and ends["ends"] is not None:
        until = datetime.strptime(ends["ends"].decode(), "%Y/%m/%d %H:%M:%S").replace(tzinfo=UTC)
        if until <= now:
            return None
    return uid["uid"].decode("ascii", "replace"), mac["mac"].decode()
