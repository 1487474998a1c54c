"""An OMAPI session without a socket: bytes in, replies out; requests in, bytes out.

Built on pypureomapi's message class; bytes are made and read here, in a sixth of the time that pypureomapi's own
buffers take. This file owns the *window*, the one thing that keeps dhcpd 4.4.3-P1 alive under load. The bytes of
all requests in flight, and the bytes of all replies they can cause, each stay below :data:`WINDOW_BYTES`. A window
is answered completely before the next is sent.

dhcpd's connection buffers hold 4048 bytes. A signed word that straddles the end of one aborts the process
(``dst_api.c: REQUIRE(dctxp != NULL && *dctxp == NULL)``), and input that fills one exactly stops it from
serving anybody until more bytes arrive.

This module knows no socket, clock, thread or file; :mod:`macbind.dhcp.isc.connection` adds those.
"""

from __future__ import annotations

import hmac
import struct
from collections import deque
from collections.abc import Iterable
from enum import StrEnum

import pypureomapi as wire

from macbind.core.errors import DhcpdRefused, DhcpdUnavailable, InvalidOption
from macbind.dhcp.isc.messages import WINDOW_BYTES, Reply, Request, open_object

_MAX_MESSAGE = 65536
"""Bytes of a reply; what claims to be longer is not dhcpd's."""

_STARTUP = struct.pack("!II", 100, 24)  # protocol version and length of the header
_U16, _U32, _HEADER = struct.Struct("!H"), struct.Struct("!I"), struct.Struct("!6I")


class Algorithm(StrEnum):
    """HMAC algorithms dhcpd accepts for ``omapi-key`` (isc-dhcp common/parse.c)."""

    MD5 = "hmac-md5"
    SHA1 = "hmac-sha1"
    SHA224 = "hmac-sha224"
    SHA256 = "hmac-sha256"
    SHA384 = "hmac-sha384"
    SHA512 = "hmac-sha512"


class _Authenticator(wire.OmapiAuthenticatorBase):  # type: ignore[misc]  # pypureomapi is untyped
    """Signs with any of dhcpd's algorithms; pypureomapi itself knows MD5 only."""

    def __init__(self, name: str, algorithm: Algorithm, secret: bytes) -> None:
        super().__init__()
        self._name = name.encode()
        self._keyed = hmac.new(secret, digestmod=algorithm.removeprefix("hmac-"))  # copied for each message
        # The wire wants the full name with its trailing dot; the configuration file the short one.
        self.algorithm = f"{algorithm}.SIG-ALG.REG.INT.".encode()
        self.authlen = len(self.sign(b""))

    def auth_object(self) -> dict[bytes, bytes]:
        return {b"name": self._name, b"algorithm": self.algorithm}

    def sign(self, message: bytes) -> bytes:
        mac = self._keyed.copy()
        mac.update(message)
        return mac.digest()


def _encode(message: wire.OmapiMessage, authenticator: wire.OmapiAuthenticatorBase) -> bytes:
    """A message as it goes over the wire: who signed it, what is signed, the signature."""
    signed = _HEADER.pack(
        message.authid, authenticator.authlen, message.opcode, message.handle, message.tid, message.rid
    )[_U32.size :]
    for values in (message.message, message.obj):
        named = [_U16.pack(len(name)) + name + _U32.pack(len(value)) + value for name, value in values]
        signed += b"".join(named) + b"\0\0"
    return _U32.pack(message.authid) + signed + bytes(authenticator.sign(signed))


def _decode(data: bytes, start: int) -> tuple[wire.OmapiMessage, bytes, int] | None:
    """The message that begins at ``start``, its signed bytes and its end; None while it is not all there."""
    try:
        authid, authlen, *numbers = _HEADER.unpack_from(data, start)
        message, position = _decode_values(data, start + _HEADER.size)
        values, position = _decode_values(data, position)
    except struct.error:
        return None
    end = position + authlen
    if end > len(data):
        return None
    found = wire.OmapiMessage(authid, *numbers, message, values, data[position:end])
    return found, data[start + _U32.size : position], end


def _decode_values(data: bytes, position: int) -> tuple[list[tuple[bytes, bytes]], int]:
    values = []
    while size := _U16.unpack_from(data, position)[0]:
        name, position = data[position + 2 : position + 2 + size], position + 2 + size
        size = _U32.unpack_from(data, position)[0]
        values.append((name, data[position + 4 : position + 4 + size]))
        position += 4 + size
    return values, position + 2


class Session:
    """The protocol's state on one connection.

    Feed what the socket received to :meth:`feed` and send what :meth:`bytes_to_send` returns, until
    :attr:`ready` and later until :attr:`idle`.

    Args:
        name: The dhcpd's name, for error messages.
        key: Name, algorithm and secret of its ``omapi-key``; None if it has none.
        window: Requests in a window, at most; None for as many as dhcpd's buffers take.
    """

    def __init__(
        self, name: str, key: tuple[str, Algorithm, bytes] | None, window: int | None = None
    ) -> None:
        self._name, self._key, self._window = name, key[0] if key else "", window
        self._authenticator = _Authenticator(*key) if key else wire.OmapiNullAuthenticator()
        self._in = b""
        self._started = False
        self.ready = False
        self._out = bytearray(_STARTUP)
        self._tid = 0
        self._queue: deque[tuple[int, bytes, int]] = deque()
        self._in_flight: dict[int, int] = {}
        self._tickets = 0

    @property
    def idle(self) -> bool:
        """Whether every request has been answered."""
        return not self._queue and not self._in_flight

    def submit(self, requests: Iterable[Request]) -> range:
        """Queues requests in order; returns their tickets.

        Raises:
            InvalidOption: A request alone is larger than a window.
        """
        if not self.ready:
            raise DhcpdUnavailable(f"The OMAPI session with dhcpd '{self._name}' is not open yet.")
        signed = [(self._sign(request.message), request.reply_bytes) for request in requests]
        longest = max((len(raw) for raw, _ in signed), default=0)
        if longest > WINDOW_BYTES:  # nothing of this batch may linger in the queue
            raise InvalidOption(
                f"A message of {longest} bytes is more than dhcpd can take.",
                hint="Give the machine fewer or shorter DHCP options.",
            )
        tickets = range(self._tickets, self._tickets + len(signed))
        self._tickets = tickets.stop
        for ticket, (raw, reply_bytes) in zip(tickets, signed, strict=True):
            self._queue.append((ticket, raw, reply_bytes + self._authenticator.authlen))
        return tickets

    def _sign(self, message: wire.OmapiMessage) -> bytes:
        message.tid, message.authid = self._next_tid(), self._authenticator.authid
        return _encode(message, self._authenticator)

    def _next_tid(self) -> int:
        """Counts from 1 through all 32-bit numbers: a busy connection gets round in some months."""
        self._tid = self._tid % 0xFFFFFFFF + 1
        return self._tid

    def bytes_to_send(self) -> bytes:
        """The bytes to send now: part of the handshake, the next window, or nothing."""
        if self.ready and not self._in_flight and self._queue:
            sent = expected = 0
            while self._queue:
                ticket, raw, reply_bytes = self._queue[0]
                if self._in_flight and (
                    sent + len(raw) > WINDOW_BYTES
                    or expected + reply_bytes > WINDOW_BYTES
                    or len(self._in_flight) == self._window
                ):
                    break
                self._queue.popleft()
                # The transaction id is the fifth of the header's 32-bit words.
                self._in_flight[int.from_bytes(raw[16:20])] = ticket
                self._out += raw
                sent, expected = sent + len(raw), expected + reply_bytes
        out = bytes(self._out)
        self._out.clear()
        return out

    def feed(self, data: bytes) -> list[tuple[int, Reply]]:
        """Takes received bytes; returns the replies they complete, each with its request's ticket.

        Raises:
            DhcpdRefused: dhcpd refuses our key.
            DhcpdUnavailable: The bytes are not OMAPI; the connection is of no further use.
        """
        replies: list[tuple[int, Reply]] = []
        self._in += data
        position = 0
        if not self._started and len(self._in) >= len(_STARTUP):
            position = len(_STARTUP)
            self._on_startup(self._in[:position])
        while self._started and (read := _decode(self._in, position)) is not None:
            message, signed, position = read
            if self.ready:
                replies.append(self._on_reply(message, signed))
            else:
                self._on_authenticated(message)
        self._in = self._in[position:]
        if len(self._in) > _MAX_MESSAGE:
            raise self._garbled("an endless message")
        return replies

    def _on_startup(self, greeting: bytes) -> None:
        if greeting != _STARTUP:
            raise self._garbled("another protocol, or another version of it")
        self._started = True
        if isinstance(self._authenticator, wire.OmapiNullAuthenticator):
            self.ready = True
            return
        request = open_object(b"authenticator")
        request.update_object(self._authenticator.auth_object())
        request.tid = self._next_tid()
        self._out += _encode(request, wire.OmapiNullAuthenticator())

    def _on_authenticated(self, message: wire.OmapiMessage) -> None:
        if message.opcode != wire.OMAPI_OP_UPDATE or not message.handle:
            raise DhcpdRefused(
                f"dhcpd '{self._name}' has no OMAPI key of this name and algorithm.",
                hint="Compare key_name and key_algorithm in macbind.toml with omapi-key in dhcpd's "
                "configuration; `macbind render` writes both sides.",
            )
        self._authenticator.authid = message.handle
        self.ready = True

    def _on_reply(self, message: wire.OmapiMessage, signed: bytes) -> tuple[int, Reply]:
        own = self._authenticator
        if message.authid != own.authid or not hmac.compare_digest(message.signature, own.sign(signed)):
            if not self._key:
                raise self._garbled("a signed answer to a question that was not")
            raise DhcpdRefused(
                f"dhcpd '{self._name}' does not accept our signature with the key '{self._key}': the secrets differ.",
                hint="Restart dhcpd after its key file changed, or give macbind the key dhcpd uses.",
            )
        ticket = self._in_flight.pop(message.rid, None)
        if ticket is None:
            raise self._garbled("a reply to nothing we asked")
        if message.opcode == wire.OMAPI_OP_UPDATE:
            return ticket, Reply(0, message.handle, dict(message.obj))
        if message.opcode == wire.OMAPI_OP_STATUS:
            return ticket, Reply(int.from_bytes(dict(message.message).get(b"result", b"\xff")))
        raise self._garbled(f"a message with opcode {message.opcode}")

    def _garbled(self, what: str) -> DhcpdUnavailable:
        return DhcpdUnavailable(
            f"dhcpd '{self._name}' sent bytes that are not OMAPI: {what}.",
            hint="Check that host and port in macbind.toml are those of dhcpd's omapi-port.",
        )
