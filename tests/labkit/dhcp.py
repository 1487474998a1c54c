"""DHCP clients in this very process: every verb of the protocol, exact deadlines, typed answers.

A verb takes a packet socket that is receiving in the client's namespace, and only then sends: no reply is
missed. Each message is sent once, as the lab loses nothing. Replies are ours if xid and hardware address
match. While a verb listens it answers ARP for the client's address, as the machine would; `bind=True` gives
the address to the machine for good.
"""

import random
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from enum import IntEnum
from ipaddress import IPv4Address, IPv4Interface
from types import TracebackType
from typing import Any, Self

from scapy.layers.dhcp import DHCP
from scapy.packet import Raw

from labkit.lease import Ack, Answer, Lease, Nak, Offer, Reply, Route, Silence
from labkit.net import Port
from labkit.wire import (
    NOBODY,
    Garbage,
    Wire,
    arp_answer,
    arp_holder,
    arp_question,
    bootp,
    garbage,
    reply_for,
    to_server,
)

__all__ = [
    "Ack", "Answer", "DhcpClient", "Garbage", "Lease", "Nak", "Offer", "Route", "Silence", "expect_silence",
]  # fmt: skip

DEFAULT_TIMEOUT_S = 15.0
_WANTED = (1, 3, 6, 12, 15, 28, 51, 54, 119, 121)  # mask, routers, dns, names, times, routes
Codes = Mapping[int, bytes]
"""Options by number."""


class _Kind(IntEnum):
    OFFER = 2
    ACK = 5
    NAK = 6


_ANY = tuple(_Kind)
_VERDICTS = (_Kind.ACK, _Kind.NAK)


class DhcpClient:
    """A machine that speaks DHCP, plugged into `port`.

    `mac` is the port's unless given; several clients with their own MACs may share one port. `client_id` is
    option 61, type byte included. `says` are more options that go with every message, `wanted` those that it asks for
    beside the usual ones. `seed` makes the transaction ids repeatable.
    """

    def __init__(
        self,
        port: Port,
        mac: str | None = None,
        *,
        client_id: bytes | None = None,
        hostname: str | None = None,
        says: Codes | None = None,
        wanted: Iterable[int] = (),
        seed: int | None = None,
    ) -> None:
        self.port = port
        self.mac = (mac or port.mac).lower()
        self.client_id = client_id
        self.hostname = hostname
        self.says = says or {}
        self.wanted = (*_WANTED, *wanted)
        self._random = random.Random(seed)

    def __repr__(self) -> str:
        return f"DhcpClient({self.port.name!r}, {self.mac})"

    def discover(self, timeout_s: float = DEFAULT_TIMEOUT_S) -> Offer | None:
        """Ask for any address; the first offer within `timeout_s` seconds."""
        with _Exchange(self) as exchange:
            exchange.send_discover()
            reply = exchange.first([_Kind.OFFER], timeout_s)
            return Offer(reply.lease(exchange.elapsed_s), exchange.xid) if reply else None

    def request_selecting(self, offer: Offer, timeout_s: float = DEFAULT_TIMEOUT_S) -> Answer:
        """Take up an offer."""
        chosen = [("server_id", str(offer.lease.server)), ("requested_addr", str(offer.address))]
        with _Exchange(self, offer.xid) as exchange:
            exchange.broadcast("request", chosen)
            return exchange.answer(timeout_s)

    def dora(self, timeout_s: float = DEFAULT_TIMEOUT_S, *, bind: bool = False) -> Lease | None:
        """The full exchange, `timeout_s` seconds for each half; None after silence or refusal.

        `elapsed_s` of the lease runs from DISCOVER to ACK. With `bind` the port gets the client's MAC and the
        address.
        """
        started_at = time.monotonic()
        offer = self.discover(timeout_s)
        answer = self.request_selecting(offer, timeout_s) if offer else None
        if not isinstance(answer, Ack):
            return None
        lease = replace(answer.lease, elapsed_s=time.monotonic() - started_at)
        if bind:
            self.bind(lease)
        return lease

    def bind(self, lease: Lease) -> None:
        """Configure the leased address on the port: from now on it answers ARP and ping."""
        if self.port.mac != self.mac:
            self.port.mac = self.mac
        self.port.add_address(IPv4Interface(f"{lease.address}/{lease.mask or 32}"))

    def renew(self, lease: Lease, timeout_s: float = DEFAULT_TIMEOUT_S) -> Answer:
        """Extend the lease, by unicast to its server, whose MAC may be longer in coming than its answer."""
        with _Exchange(self, own=lease.address) as exchange:
            exchange.unicast("request", lease.server, DEFAULT_TIMEOUT_S)
            return exchange.answer(timeout_s)

    def rebind(self, lease: Lease, timeout_s: float = DEFAULT_TIMEOUT_S) -> Answer:
        """Extend the lease, by broadcast to any server."""
        with _Exchange(self, own=lease.address) as exchange:
            exchange.broadcast("request", ciaddr=lease.address)
            return exchange.answer(timeout_s)

    def init_reboot(self, address: IPv4Address | str, timeout_s: float = DEFAULT_TIMEOUT_S) -> Answer:
        """Ask to keep an address remembered from before a reboot."""
        with _Exchange(self) as exchange:
            exchange.broadcast("request", [("requested_addr", str(address))])
            return exchange.answer(timeout_s)

    def inform(self, address: IPv4Address | str, timeout_s: float = DEFAULT_TIMEOUT_S) -> Answer:
        """Ask for options only, for an address configured by hand."""
        own = IPv4Address(address)
        with _Exchange(self, own=own) as exchange:
            exchange.broadcast("inform", ciaddr=own)
            return exchange.answer(timeout_s)

    def release(self, lease: Lease, timeout_s: float = DEFAULT_TIMEOUT_S) -> None:
        """Give the lease back, which nobody answers; `timeout_s` seconds are for finding the server's MAC."""
        with _Exchange(self, own=lease.address) as exchange:
            exchange.unicast("release", lease.server, timeout_s, [("server_id", str(lease.server))])

    def decline(self, lease: Lease) -> None:
        """Report that somebody else uses the address. The protocol has no answer to that."""
        refused = [("requested_addr", str(lease.address)), ("server_id", str(lease.server))]
        with _Exchange(self) as exchange:
            exchange.broadcast("decline", refused)

    def send_garbage(self, payload: bytes | Garbage) -> None:
        """Broadcast a broken message, or any bytes, to the server's port."""
        with _Exchange(self) as exchange:
            data = garbage(payload, self.mac, exchange.xid) if isinstance(payload, Garbage) else payload
            exchange.wire.send(to_server(Raw(data), self.mac))

    def new_xid(self) -> int:
        """The next transaction id."""
        return self._random.getrandbits(32)

    def identity(self) -> list[tuple[str | int, Any]]:
        """The options that go with every message of this client."""
        options: list[tuple[str | int, Any]] = [("client_id", self.client_id)] if self.client_id else []
        options += [("hostname", self.hostname)] if self.hostname else []
        return [*options, *self.says.items()]


def expect_silence(
    client: DhcpClient, witness: DhcpClient, *, grace_s: float = 0.05, timeout_s: float = DEFAULT_TIMEOUT_S
) -> Silence:
    """Prove that the server has nothing to say to `client`'s DISCOVER, without a long wait.

    The witness, whose MAC is reserved, asks directly afterwards. dhcpd reads one message after the other, so
    when the witness has its offer (at most `timeout_s` seconds) and `grace_s` seconds more have passed, the
    first was dropped. This holds unless the server delays offers (`ping-check` for dynamic addresses,
    `delayed-ack`). Raises AssertionError when the client is answered, or the witness is not.
    """
    with _Exchange(client) as asked, _Exchange(witness) as control:
        asked.send_discover()
        control.send_discover()
        if control.first([_Kind.OFFER], timeout_s) is None:
            raise AssertionError(
                f"the witness {witness} got no offer in {timeout_s:g} s: silence proves nothing"
            )
        answer = asked.first(_ANY, grace_s)
        if answer is not None:
            raise AssertionError(
                f"{client} should meet silence but got {_Kind(answer.kind).name} {answer.yiaddr}"
            )
        return Silence(asked.elapsed_s)


class _Exchange:
    """One question and the wait for its answer, on a socket that is open before the question is asked."""

    def __init__(self, client: DhcpClient, xid: int | None = None, own: IPv4Address | None = None) -> None:
        self.client = client
        self.xid = client.new_xid() if xid is None else xid
        self.own = own  # the address the client has, for which it answers ARP
        self._loan = client.port.packet_socket()
        self._started_at = 0.0

    def __enter__(self) -> Self:
        self.wire = Wire(self._loan.__enter__())
        self._started_at = time.monotonic()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loan.__exit__(kind, error, trace)

    @property
    def elapsed_s(self) -> float:
        """Seconds since the socket was ready, just before our first packet."""
        return time.monotonic() - self._started_at

    def send_discover(self) -> None:
        """Ask anybody for an address."""
        self.broadcast("discover")

    def broadcast(
        self, kind: str, options: Iterable[tuple[str, Any]] = (), ciaddr: IPv4Address = NOBODY
    ) -> None:
        """Send a message to every server; `ciaddr` is the address the client has."""
        self.wire.send(to_server(self._message(kind, options, ciaddr), self.client.mac, source=ciaddr))

    def unicast(
        self, kind: str, server: IPv4Address, timeout_s: float, options: Iterable[tuple[str, Any]] = ()
    ) -> None:
        """Send a message to one server, whose MAC is found by ARP within `timeout_s` seconds."""
        own = self.own or NOBODY
        message = self._message(kind, options, own)
        self.wire.send(to_server(message, self.client.mac, own, server, self._resolve(server, timeout_s)))

    def first(self, kinds: Collection[int], timeout_s: float) -> Reply | None:
        """The first reply of these kinds within `timeout_s` seconds."""
        for frame in self.wire.frames(time.monotonic() + timeout_s):
            reply = reply_for(frame, self.client.mac, self.xid)
            if reply and reply.kind in kinds:
                return reply
            if self.own and (defence := arp_answer(frame, self.client.mac, self.own)):
                self.wire.send(defence)
        return None

    def answer(self, timeout_s: float) -> Answer:
        """The server's verdict within `timeout_s` seconds."""
        started_at = time.monotonic()
        reply = self.first(_VERDICTS, timeout_s)
        if reply is None:
            return Silence(time.monotonic() - started_at)
        if reply.kind == _Kind.NAK:
            return Nak(reply.server, reply.message, self.elapsed_s)
        return Ack(reply.lease(self.elapsed_s))

    def _message(self, kind: str, options: Iterable[tuple[str, Any]], ciaddr: IPv4Address) -> Any:
        wanted = (
            [("param_req_list", list(self.client.wanted))]
            if kind in {"discover", "request", "inform"}
            else []
        )
        all_options = [("message-type", kind), *self.client.identity(), *options, *wanted, "end"]
        return bootp(self.client.mac, self.xid, ciaddr) / DHCP(options=all_options)

    def _resolve(self, address: IPv4Address, timeout_s: float) -> str:
        self.wire.send(arp_question(self.client.mac, self.own or NOBODY, address))
        for frame in self.wire.frames(time.monotonic() + timeout_s):
            if holder := arp_holder(frame, address):
                return holder
        raise TimeoutError(f"nobody answered ARP for {address} within {timeout_s:g} s")
