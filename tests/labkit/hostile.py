"""DHCP messages of a guest that means harm: texts that break out of quotes, and the names and MACs of others."""

from collections.abc import Sequence
from ipaddress import IPv4Address

from scapy.layers.dhcp import DHCP

from labkit.wire import bootp, to_server

TEXTS: Sequence[bytes] = (
    b'";}\n}\nhost evil { hardware ethernet 02:00:00:00:00:66; fixed-address 10.1.1.3; }\n',
    b"} # { \\",
    b'\\"',
    b'"' * 255,
    b"\\" * 255,
    b"{" * 100 + b"}" * 100,
    b"\n\nlease 10.1.1.4 {\n  binding state free;\n}\n",
    b"\r\nNov 30 00:00:00 dhcpd: Abandoning IP address 10.1.1.3: pinged before offer",
    b"x: possible data loss, wrote 0 records",
    b"\x1b]0;owned\x07\x1b[2J",
    b"\xc2\x9b2J\xe2\x80\xae\xff\xfe",
    b"$(touch /tmp/evil) `touch /tmp/evil` %s%n",
    b"\x00\x01",
)
"""What is sent where a host name, a client identifier or a class belongs."""
VERBS: Sequence[str] = ("discover", "request", "inform", "decline", "release")


def message(
    mac: str, verb: str, text: bytes, *, address: str = "10.1.1.3", server: str = "10.0.0.1", xid: int = 1
) -> bytes:
    """A frame from somebody who says that a MAC is his, about an address, with a text wherever there is room."""
    options = [
        ("message-type", verb),
        ("hostname", text[:255]),
        ("client_id", text[:255]),
        ("vendor_class_id", text[:255]),
        (81, b"\x01\x00\x00" + text[:200]),
        (82, b"\x01" + bytes([min(len(text), 60)]) + text[:60]),
    ]
    if verb != "inform":
        options += [("requested_addr", address), ("server_id", server)]
    own = IPv4Address(address if verb in {"inform", "release"} else 0)
    return bytes(to_server(bootp(mac, xid, own) / DHCP(options=[*options, "end"]), mac, own))
