"""The OMAPI messages that macbind uses: what it asks about hosts and leases, and what dhcpd answers.

Each request knows the largest reply it can cause, which the window of :class:`~macbind.dhcp.isc.omapi.Session`
rests on. A *host* is dhcpd's word for the object that holds a binding.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from enum import IntEnum
from ipaddress import IPv4Address

import pypureomapi as wire

from macbind.core.binding import Binding, Lease
from macbind.core.binding_size import MAX_STATEMENTS
from macbind.core.errors import DhcpdRefused, InvalidOption
from macbind.core.mac_address import MacAddress

WINDOW_BYTES = 3900
"""Less than dhcpd's 4048-byte buffers by a margin."""

# The largest replies, without signature, as measured with dhcpd 4.4.3-P1. Too small an estimate ends dhcpd;
# too large a one costs little: with 5 look-ups in a window instead of 16 they are slower by a fifth.
_STATUS_REPLY = 104  # 44 for success, 57 and the text of a refusal otherwise (31 characters: "not found")
_OWN_HOST_REPLY = 109  # and its name
_HOST_REPLY = 660  # 647 for another's host with a name and a client identifier of 255 bytes each
_LEASE_REPLY = WINDOW_BYTES  # 243, and whatever client, relay and dhcpd.conf had stored in it: one by one

_ETHERNET = struct.pack("!I", 1)
_TRUE = struct.pack("!I", 1)
_LONG_AGO = struct.pack("!I", 1)
"""One second after 1970: a lease end that has passed whatever dhcpd's clock says. (0 means "never".)"""


class ResultCode(IntEnum):
    """dhcpd's result codes that have a fate of their own (isc-dhcp includes/omapip/result.h)."""

    SUCCESS = 0
    NO_PERMISSION = 6
    EXISTS = 18
    NOT_FOUND = 23
    IO_ERROR = 26
    NOT_IMPLEMENTED = 27
    INVALID_ARGUMENT = 393219
    SEVERAL_MATCH = 393222
    KEY_CONFLICT = 393223
    PARSE_ERROR = 393224
    NO_KEY = 393225
    INVALID_KEY = 393227
    UNKNOWN_ATTRIBUTE = 393248

    @staticmethod
    def describe(code: int) -> str:
        """The code as a person reads it, e.g. ``IO_ERROR (26)``."""
        try:
            return f"{ResultCode(code).name} ({code})"
        except ValueError:
            return f"result {code}"


@dataclass(slots=True)
class Request:
    """One message to dhcpd and the largest reply it can reasonably cause, in bytes (unsigned)."""

    message: wire.OmapiMessage
    reply_bytes: int


@dataclass(frozen=True, slots=True)
class Reply:
    """dhcpd's answer.

    Attributes:
        result: 0, or why it refused (see :class:`ResultCode`).
        handle: The object's handle, valid for the next message only: it may name another object after a
            restart of dhcpd.
        values: The object's attributes as dhcpd sends them.
    """

    result: int
    handle: int = 0
    values: dict[bytes, bytes] = field(default_factory=dict)


def open_object(kind: bytes) -> wire.OmapiMessage:
    """Begins a message about an object of this kind."""
    return wire.OmapiMessage(opcode=wire.OMAPI_OP_OPEN, message=[(b"type", kind)])


def find_host(mac: MacAddress) -> Request:
    """Looks up the host of a MAC; MAC and name are the only reliable keys."""
    message = open_object(b"host")
    message.obj += [(b"hardware-address", bytes(mac)), (b"hardware-type", _ETHERNET)]
    return Request(message, _HOST_REPLY)


def find_host_by_name(name: str) -> Request:
    """Looks up the host of a name."""
    message = open_object(b"host")
    message.obj.append((b"name", name.encode("ascii")))
    return Request(message, _HOST_REPLY)


def create_host(host: Binding, statements: str = "") -> Request:
    """Creates a ``host`` with these statements; dhcpd refuses it if its name or its MAC exists.

    Raises:
        InvalidOption: The statements are too long for one message.
    """
    if host.address is None:
        raise InvalidOption(f"The binding {host.name} has no address.")
    if len(statements) > MAX_STATEMENTS:
        raise InvalidOption(
            f"The options of {host.address} take {len(statements)} bytes, dhcpd can be sent {MAX_STATEMENTS}.",
            hint="Give the machine fewer or shorter DHCP options.",
        )
    message = open_object(b"host")
    message.message += [(b"create", _TRUE), (b"exclusive", _TRUE)]
    message.obj += [
        (b"name", host.name.encode("ascii")),
        (b"hardware-address", bytes(host.mac)),
        (b"hardware-type", _ETHERNET),  # without it the host is accepted and never matches a client
        (b"ip-address", host.address.packed),
    ]
    if statements:  # an empty value would be accepted as a statement that fails to parse
        message.obj.append((b"statements", statements.encode("ascii")))
    return Request(message, _OWN_HOST_REPLY + len(host.name))


def delete(handle: int) -> Request:
    """Deletes the object that the reply before this message named."""
    return Request(wire.OmapiMessage(opcode=wire.OMAPI_OP_DELETE, handle=handle), _STATUS_REPLY)


def find_lease(key: IPv4Address | MacAddress) -> Request:
    """Looks up the lease of an address or a client; SEVERAL_MATCH when a client has more than one."""
    return Request(_open_lease(key), _LEASE_REPLY)


def has_lease(key: IPv4Address | MacAddress) -> Request:
    """Asks whether :func:`find_lease` would find any: EXISTS or SEVERAL_MATCH if so.

    It is an order to create that lease, which dhcpd refuses in either case: no lease can be created
    (NOT_IMPLEMENTED). So the answer is small whatever a guest had stored in its lease, and many of these fit
    into one window; the leases themselves must be looked up one by one.
    """
    message = _open_lease(key)
    message.message += [(b"create", _TRUE), (b"exclusive", _TRUE)]
    return Request(message, _STATUS_REPLY)


def _open_lease(key: IPv4Address | MacAddress) -> wire.OmapiMessage:
    message = open_object(b"lease")
    if isinstance(key, IPv4Address):
        message.obj.append((b"ip-address", key.packed))
    else:
        message.obj += [(b"hardware-address", bytes(key)), (b"hardware-type", _ETHERNET)]
    return message


def end_lease(handle: int) -> Request:
    """Ends a lease at once.

    Writing ``ends`` frees the lease and removes its old end; writing ``state`` would only relabel it.
    """
    message = wire.OmapiMessage(opcode=wire.OMAPI_OP_UPDATE, handle=handle)
    message.obj.append((b"ends", _LONG_AGO))
    return Request(message, _STATUS_REPLY)


def host_in(reply: Reply) -> Binding | None:
    """The binding that a reply describes; None if there is no such object.

    Raises:
        DhcpdRefused: dhcpd refused the look-up, or the object is not one it can have sent.
    """
    if reply.result == ResultCode.NOT_FOUND:
        return None
    if reply.result:
        raise DhcpdRefused(
            f"dhcpd refused to look up a host: {ResultCode.describe(reply.result)}.", result=reply.result
        )
    raw_ip, raw_mac = reply.values.get(b"ip-address", b""), reply.values.get(b"hardware-address", b"")
    if len(raw_mac) != 6:
        raise DhcpdRefused(f"dhcpd described a host with a hardware address of {len(raw_mac)} bytes.")
    return Binding(
        name=reply.values.get(b"name", b"").decode("latin-1"),
        mac=MacAddress.from_bytes(raw_mac),
        address=IPv4Address(raw_ip) if len(raw_ip) == 4 else None,
    )


_LEASE_STATES = ("", "free", "active", "expired", "released", "abandoned", "reset", "backup")


def lease_in(reply: Reply) -> Lease | None:
    """The lease that a reply describes; None if there is no such object. ``ends`` is not decoded.

    Raises:
        DhcpdRefused: dhcpd refused the look-up, or the object is not one it can have sent.
    """
    if reply.result == ResultCode.NOT_FOUND:
        return None
    if reply.result:
        raise DhcpdRefused(
            f"dhcpd refused to look up a lease: {ResultCode.describe(reply.result)}.", result=reply.result
        )
    state = int.from_bytes(reply.values.get(b"state", b""))
    raw_ip, raw_mac = reply.values.get(b"ip-address", b""), reply.values.get(b"hardware-address", b"")
    if len(raw_ip) != 4:
        raise DhcpdRefused(f"dhcpd described a lease with an address of {len(raw_ip)} bytes.")
    return Lease(
        address=IPv4Address(raw_ip),
        state=_LEASE_STATES[state] if state < len(_LEASE_STATES) else f"state {state}",
        mac=MacAddress.from_bytes(raw_mac) if len(raw_mac) == 6 else None,
    )
