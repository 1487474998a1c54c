"""An honest OMAPI server in memory: bytes in, bytes out, written from the protocol and from nothing of ours.

It keeps hosts and leases as attribute tables, signs like dhcpd, and counts the bytes of each window, so that
tests can say what a real dhcpd would have had in its two buffers.
"""

import hmac
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

STARTUP = struct.pack("!II", 100, 24)
OPEN, UPDATE, STATUS, DELETE = 1, 3, 5, 6
SUCCESS, EXISTS, NOT_FOUND, NOT_IMPLEMENTED = 0, 18, 23, 27
KEY_CONFLICT, NO_KEY, INVALID_KEY = 393223, 393225, 393227
AUTH_ID = 5
TEXTS = {
    SUCCESS: "",
    EXISTS: "already exists!",
    NOT_FOUND: "no object matches specification",
    NOT_IMPLEMENTED: "not implemented",
    KEY_CONFLICT: "object lookup failed",
    NO_KEY: "No authenticator on message",
    INVALID_KEY: "Invalid authentication key",
}

Table = dict[bytes, bytes]
Object = tuple[bytes, Table]  # its type and its attributes


def number(value: int) -> bytes:
    """A 32-bit integer as OMAPI writes it."""
    return struct.pack("!I", value)


def table(values: Mapping[bytes, bytes]) -> bytes:
    """Attributes as OMAPI writes them."""
    parts = [struct.pack("!H", len(k)) + k + struct.pack("!I", len(v)) + v for k, v in values.items()]
    return b"".join(parts) + b"\0\0"


@dataclass
class Message:
    """One OMAPI message."""

    opcode: int
    handle: int = 0
    tid: int = 0
    rid: int = 0
    message: Table = field(default_factory=dict)
    obj: Table = field(default_factory=dict)
    authid: int = 0
    signature: bytes = b""

    def encode(self, key: "Key | None" = None) -> bytes:
        """Its bytes, signed with the key if there is one."""
        body = struct.pack("!IIII", self.opcode, self.handle, self.tid, self.rid)
        body += table(self.message) + table(self.obj)
        size = key.size if key else 0
        signed = number(size) + body
        return number(self.authid if key is None else AUTH_ID) + signed + (key.sign(signed) if key else b"")


@dataclass(frozen=True)
class Key:
    """An omapi-key: its name, its algorithm as in dhcpd.conf, its secret."""

    name: str
    algorithm: str
    secret: bytes

    @property
    def digest(self) -> str:
        """The name of the digest."""
        return self.algorithm.removeprefix("hmac-")

    @property
    def size(self) -> int:
        """Bytes of a signature."""
        return len(self.sign(b""))

    def sign(self, data: bytes) -> bytes:
        """The signature of these bytes."""
        return hmac.new(self.secret, data, self.digest).digest()


class Peer:
    """A dhcpd with these hosts and leases; feed it what the client sent and send what it returns.

    Attributes:
        windows: For each call of `answer`, the bytes that came in and the bytes that go out.
    """

    def __init__(self, key: Key | None, objects: list[Object] | None = None) -> None:
        self.key = key
        self.objects: dict[int, Object] = dict(enumerate(objects or [], start=1000))
        self.windows: list[tuple[int, int]] = []
        self._buffer = b""
        self._started = False
        self._next_handle = 5000

    def answer(self, data: bytes) -> list[bytes]:
        """The replies to what has come in so far, one item each."""
        self._buffer += data
        replies = []
        if not self._started and len(self._buffer) >= len(STARTUP):
            assert self._buffer.startswith(STARTUP), "the client does not begin with its version"
            self._buffer = self._buffer[len(STARTUP) :]
            self._started = True
            replies.append(STARTUP)
        replies += [self._reply(request, raw) for request, raw in self._requests()]
        self.windows.append((len(data), sum(map(len, replies))))
        return replies

    def _requests(self) -> Iterator[tuple[Message, bytes]]:
        while len(self._buffer) >= 24:
            authid, authlen, opcode, handle, tid, rid = struct.unpack("!6I", self._buffer[:24])
            position = 24
            tables: list[Table] = []
            for _ in range(2):
                values, position = self._table(position)
                tables.append(values)
            end = position + authlen
            assert end <= len(self._buffer), "a window ends within a message"
            raw, self._buffer = self._buffer[:end], self._buffer[end:]
            message, obj = tables
            yield Message(opcode, handle, tid, rid, message, obj, authid, raw[position:end]), raw
        assert not self._buffer, "a window ends within a header"

    def _table(self, position: int) -> tuple[Table, int]:
        values: Table = {}
        while True:
            (size,) = struct.unpack_from("!H", self._buffer, position)
            name, position = self._buffer[position + 2 : position + 2 + size], position + 2 + size
            if not name:
                return values, position
            (size,) = struct.unpack_from("!I", self._buffer, position)
            assert size, "dhcpd does not survive an empty value"
            values[name], position = (
                self._buffer[position + 4 : position + 4 + size],
                position + 4 + size,
            )

    def _reply(self, request: Message, raw: bytes) -> bytes:
        if request.message.get(b"type") == b"authenticator":
            return self._authenticate(request)
        if self.key is not None:
            if request.authid != AUTH_ID:
                return self._status(request, NO_KEY).encode()
            if request.signature != self.key.sign(raw[4 : -self.key.size]):
                return self._status(request, INVALID_KEY).encode()
        return self._act(request).encode(self.key)

    def _authenticate(self, request: Message) -> bytes:
        key = self.key
        wanted = (
            {b"name": key.name.encode(), b"algorithm": f"{key.algorithm}.SIG-ALG.REG.INT.".encode()}
            if key
            else {}
        )
        if key is None or request.obj != wanted:
            return self._status(request, NOT_FOUND).encode()
        return Message(UPDATE, handle=AUTH_ID, tid=request.tid, rid=request.tid).encode()

    def _act(self, request: Message) -> Message:
        if request.opcode == OPEN:
            return self._open(request)
        if request.handle not in self.objects:
            return self._status(request, NOT_FOUND)
        if request.opcode == DELETE:
            del self.objects[request.handle]
        elif request.opcode == UPDATE:
            self.objects[request.handle][1].update(request.obj)
        return self._status(request, SUCCESS)

    def _open(self, request: Message) -> Message:
        kind = request.message[b"type"]
        keys = {k: v for k, v in request.obj.items() if k in (b"name", b"hardware-address")}
        if kind == b"lease":
            keys = {k: v for k, v in request.obj.items() if k in (b"ip-address", b"hardware-address")}
        for name, value in keys.items():
            for handle, (other, values) in self.objects.items():
                if other == kind and values.get(name) == value:
                    if b"create" not in request.message:
                        return Message(UPDATE, handle, 0, request.tid, {}, values)
                    return self._status(
                        request, EXISTS if name == b"name" or kind == b"lease" else KEY_CONFLICT
                    )
        if b"create" not in request.message:
            return self._status(request, NOT_FOUND)
        if kind == b"lease":
            return self._status(request, NOT_IMPLEMENTED)
        self._next_handle += 1
        values = {k: v for k, v in request.obj.items() if k != b"statements"}
        self.objects[self._next_handle] = (kind, values)
        return Message(UPDATE, self._next_handle, 0, request.tid, {}, values)

    @staticmethod
    def _status(request: Message, result: int) -> Message:
        text = TEXTS[result].encode()
        message = {b"result": number(result)} | ({b"message": text} if text else {})
        return Message(STATUS, 0, 0, request.tid, message)
