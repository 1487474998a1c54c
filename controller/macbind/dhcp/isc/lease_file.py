"""Reads dhcpd's lease file: what dhcpd has on disk, and what it will hold after a restart.

The file is a log of records, ``kind name { statements }``. The last record of a host or lease wins; dhcpd writes a
host's change as a deletion and a record. ``deleted;`` removes a host, ``dynamic;`` marks one made over OMAPI. A
deleted host of the configuration file leaves a tombstone that goes on masking it.

The file may be damaged: a full disk or a power failure cuts a record off, and later records follow the cut. dhcpd
itself reads on from there in a confused state and silently drops what follows. This reader relies on how dhcpd
writes. Every record begins at the start of a line, and everything inside it except the last brace is indented. No
string and no comment contains a line break, and no comment a brace. So the file falls into chunks, each from one
such line to the next. A chunk that cannot be understood is reported, and reading goes on with the next one. The
work is linear in the size of the file and nothing recurses, whatever the bytes are.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import AddressValueError, IPv4Address
from typing import TypeVar

from macbind.core.binding import Binding, Lease
from macbind.core.errors import InvalidAddress
from macbind.core.mac_address import MacAddress

_T = TypeVar("_T")

# dhcpd writes four words before a brace and a few addresses per host; more than this only costs memory.
MAX_HEAD_WORDS = 8
MAX_STATEMENT_WORDS = 64
MAX_PROBLEMS = 100
MAX_RECORD_BYTES = 1 << 20
"""A longer record is damage; dhcpd writes 64 KiB of a machine's options at most."""
_OVERLAP = 32  # more than the beginning of a record that one of _NEXT_RECORD's is seen by
_PACE = 200  # records between two calls of what must not wait for all of them

_WORD = rb"[!$-:<-z|~]++"  # printable, except the space and "#;{}
# No group is possessive: Python 3.11.2 does not go back to where a repetition of one began that fails.
_STRING = rb'"[^"\\\n]*+(?:\\[^\n][^"\\\n]*+)*"'
_TOKEN = re.compile(
    rb"(?:\s++|\#[^\n{]*+(?=\n|\Z))*(?:(%b)|(%b)|([{};])|\Z|(.))" % (_WORD, _STRING), re.DOTALL
)
# The repetition of white space and comments is not possessive: Python 3.11.2 then takes a comment that is none. What
# follows always matches, so nothing is tried twice.
_BAD = 4  # the last group of _TOKEN: a byte that no token begins with

_KINDS = rb"host|lease|group|class|subclass|failover|ia-na|ia-ta|ia-pd|server-duid|authoring-byte-order"
_NEXT_RECORD = re.compile(rb"[\n\0](?=(?:%b)[ \t])" % _KINDS)  # a power failure may leave a hole of NULs
_HEAD = re.compile(
    rb"(host|lease) (%(word)b)|group(?: (?:%(word)b|%(string)b))?|class %(string)b|"
    rb"subclass %(string)b (?:%(word)b|%(string)b)|failover peer %(string)b state|ia-(?:na|ta|pd) %(string)b"
    % {b"word": _WORD, b"string": _STRING}
)
_SETTINGS = frozenset({b"server-duid", b"authoring-byte-order"})

# Nearly every record of a file full of our own hosts looks exactly like one of these two.
_PLAIN_HOST = re.compile(
    rb"host ([A-Za-z0-9._-]{1,255}) \{\n  dynamic;\n"
    rb"(?:  hardware ethernet ((?:[0-9a-f]{2}:){5}[0-9a-f]{2});\n  fixed-address ([0-9.]{7,15})"
    rb"(?:;\n        supersede server\.use-host-decl-names = 00)?|  deleted);\n"
    rb"\}(?:\n++|\Z)"
)

_WANTED = frozenset({b"dynamic", b"deleted", b"hardware", b"fixed-address", b"binding", b"ends"})
_STATES = frozenset({"free", "active", "expired", "released", "abandoned", "reset", "backup", "bootp"})
_DATE = re.compile(rb"[0-6] (\d{4})/(\d{1,2})/(\d{1,2}) (\d{1,2}):(\d{1,2}):(\d{1,2})|epoch (\d{1,11})")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Statements = dict[bytes, list[bytes]]
RawHost = tuple[bytes | None, Sequence[bytes], bool]  # MAC, addresses, dynamic; parsed only if they last


@dataclass(frozen=True, slots=True)
class HostRecord:
    """The record of a ``host`` that exists.

    Attributes:
        mac: Its Ethernet address; None if it has none, or another number of bytes.
        addresses: Its fixed addresses, in order; empty if they cannot be read.
        dynamic: Whether it was made over OMAPI; otherwise it is a changed host of the configuration file.
    """

    name: str
    mac: MacAddress | None
    addresses: tuple[IPv4Address, ...]
    dynamic: bool

    @property
    def binding(self) -> Binding | None:
        """The binding it makes: of one MAC, for one address or none; None if it is anything else."""
        if self.mac is None or len(self.addresses) > 1:
            return None
        return Binding(self.name, self.mac, self.addresses[0] if self.addresses else None)


@dataclass(frozen=True, slots=True)
class Problem:
    """A part of the file that was not understood and left out: its line, from 1, and what is wrong there."""

    line: int
    text: str


@dataclass(frozen=True, slots=True)
class LeaseFile:
    """What a lease file says.

    Attributes:
        hosts, leases: What exists, by name and by address.
        tombstones: Hosts of the configuration file that dhcpd leaves out because they were deleted.
        complete: Whether the file was understood up to its end. False for a torn last record, which is also
            how a file looks while dhcpd is writing to it: read it again before raising an alarm.
        problems: The damage, in the order of the file; the first ``MAX_PROBLEMS`` of it.
    """

    hosts: Mapping[str, HostRecord]
    leases: Mapping[IPv4Address, Lease]
    tombstones: frozenset[str]
    complete: bool
    problems: tuple[Problem, ...]


def parse(data: bytes) -> LeaseFile:
    """Reads a whole lease file; never raises, whatever the bytes are."""
    reader = LeaseReader()
    reader.feed(data)
    return reader.finish()


class _Damage(Exception):
    """A position, and why the chunk cannot be read further from there."""


def paced(items: Iterable[_T], between: Callable[[], object]) -> Iterator[_T]:
    """The items, with a call between them every now and then."""
    for number, item in enumerate(items, 1):
        yield item
        if number % _PACE == 0:
            between()


def _text(raw: bytes) -> str:
    return raw.decode("ascii", "backslashreplace")


class LeaseReader:
    """One reading of one file, piece by piece; what it keeps is what lasts, and one record.

    Args:
        keeps: Whether the leases of an address are of interest; all are by default.
    """

    def __init__(self, keeps: Callable[[IPv4Address], bool] = lambda _: True) -> None:
        self._keeps = keeps
        self._hosts: dict[bytes, RawHost] = {}
        self._leases: dict[IPv4Address, Lease] = {}
        self._masked: set[bytes] = set()
        self._problems: list[Problem] = []
        self._data = b""
        self._searched = 0  # up to here there is no end of the record that the data begin with
        self._counted = (0, 1)  # a position and its line number

    def feed(self, piece: bytes) -> None:
        """Reads on."""
        self._data += piece
        self._read(at_end=False)
        if len(self._data) > MAX_RECORD_BYTES:
            self._report(0, "This record is too long")
            self._drop(len(self._data) - _OVERLAP)

    @property
    def ends_whole(self) -> bool:
        """Whether what was read so far is whole records; a torn last one may be on its way to the disk."""
        return parse(self._data).complete

    def finish(self, between: Callable[[], object] = lambda: None) -> LeaseFile:
        """What the file says, now that all of it was read.

        Args:
            between: Called every now and then during the work.
        """
        complete = self._read(at_end=True)
        return LeaseFile(
            hosts={
                _text(name): _host_record(_text(name), *raw)
                for name, raw in paced(self._hosts.items(), between)
            },
            leases=self._leases,
            tombstones=frozenset(map(_text, self._masked - self._hosts.keys())),
            complete=complete,
            problems=tuple(self._problems),
        )

    def _read(self, *, at_end: bool) -> bool:
        """Reads all whole records; False if the last one at the end of the file is damaged."""
        position, size, complete = 0, len(self._data), True
        while position < size:
            plain = _PLAIN_HOST.match(self._data, position)
            if plain is not None and (at_end or plain.end() < size):
                name, mac, address = plain.groups()
                self._put_host(name, (mac, (address,), True), deleted=mac is None)
                position = plain.end()
                continue
            following = _NEXT_RECORD.search(self._data, max(position, self._searched))
            if following is None and not at_end:
                self._searched = max(position, size - _OVERLAP)
                break
            end = following.end() if following else size
            try:
                self._read_chunk(position, end)
            except _Damage as damage:
                self._report(*damage.args)
                complete = end < size
            position = end
        self._drop(position)
        return complete

    def _drop(self, position: int) -> None:
        """Forgets the data before a position."""
        counted, line = self._counted
        self._counted = (0, line + self._data.count(b"\n", counted, position))
        self._data = self._data[position:]
        self._searched = max(0, self._searched - position)

    def _read_chunk(self, start: int, end: int) -> None:
        """Reads the records from one line start to the next; usually it is one."""
        head: list[bytes] = []
        first = start
        tokens = self._tokens(start, end)
        for position, token in tokens:
            if token == b"{":
                known = _HEAD.fullmatch(b" ".join(head))
                if known is None:
                    raise _Damage(first, "This is no record of dhcpd")
                self._commit(first, known, self._body(first, tokens))
                head = []
            elif token == b";":
                if not head or head[0] not in _SETTINGS:
                    raise _Damage(first if head else position, "This is no statement of dhcpd")
                head = []
            elif token == b"}":
                raise _Damage(position, "This brace closes nothing")
            else:
                if not head:
                    first = position
                if len(head) < MAX_HEAD_WORDS:
                    head.append(token)
        if head:
            raise _Damage(first, "This is cut off")

    def _tokens(self, start: int, end: int) -> Iterator[tuple[int, bytes]]:
        """Words, strings and punctuation between two positions, each with its own position."""
        for match in _TOKEN.finditer(self._data, start, end):
            group = match.lastindex
            if group is None:  # nothing but white space and comments is left
                return
            if group == _BAD:
                raise _Damage(match.start(group), "This cannot be read")
            yield match.start(group), match[group]

    @staticmethod
    def _body(first: int, tokens: Iterator[tuple[int, bytes]]) -> Statements:
        """The wanted statements up to the brace that closes the record; nested blocks are skipped."""
        found: Statements = {}
        statement: list[bytes] = []
        depth = 1
        for position, token in tokens:
            if token == b"{":
                depth += 1
            elif token == b"}" and depth == 1:
                if statement:
                    raise _Damage(position, "Before this brace a semicolon is missing")
                return found
            elif token == b";" or token == b"}":
                depth -= token == b"}"
                if depth == 1:
                    if statement and statement[0] in _WANTED:
                        if statement[0] in found:
                            raise _Damage(position, "This statement stands here twice")
                        found[statement[0]] = statement
                    statement = []
            elif depth == 1 and len(statement) < MAX_STATEMENT_WORDS:
                statement.append(token)
        raise _Damage(first, "This record is cut off")

    def _commit(self, position: int, head: re.Match[bytes], found: Statements) -> None:
        kind, name = head.groups()
        if kind == b"host":
            addresses = [one for one in b"".join(found.get(b"fixed-address", [])[1:]).split(b",") if one]
            host = (_ethernet(found), addresses, b"dynamic" in found)
            self._put_host(name, host, deleted=b"deleted" in found)
        elif kind == b"lease":
            try:
                lease = _lease(name, found)
            except ValueError as error:
                self._report(position, str(error))
            else:
                if self._keeps(lease.address):
                    self._leases[lease.address] = lease

    def _put_host(self, name: bytes, host: RawHost, *, deleted: bool) -> None:
        self._hosts.pop(name, None)
        if not deleted:
            self._hosts[name] = host
        elif not host[2]:
            self._masked.add(name)

    def _report(self, position: int, why: str) -> None:
        if len(self._problems) < MAX_PROBLEMS:
            counted, line = self._counted
            line += self._data.count(b"\n", counted, position)
            self._counted = (position, line)
            excerpt = self._data[position : position + 60].split(b"\n", 1)[0]
            self._problems.append(Problem(line, f"{why}: {repr(excerpt)[1:]}"))


def _mac(raw: bytes | None) -> MacAddress | None:
    with suppress(InvalidAddress):  # another length than Ethernet's, or torn
        return None if raw is None else MacAddress.parse(_text(raw))
    return None


def _host_record(name: str, mac: bytes | None, addresses: Sequence[bytes], dynamic: bool) -> HostRecord:
    parsed: tuple[IPv4Address, ...] = ()
    with suppress(AddressValueError):
        parsed = tuple(IPv4Address(_text(one)) for one in addresses)
    return HostRecord(name, _mac(mac), parsed, dynamic)


def _ethernet(found: Statements) -> bytes | None:
    """The hardware address, if there is one and it is Ethernet's."""
    hardware = found.get(b"hardware", [])
    return hardware[2] if len(hardware) == 3 and hardware[1] == b"ethernet" else None


def _lease(name: bytes, found: Statements) -> Lease:
    try:
        address = IPv4Address(_text(name))
    except AddressValueError:
        raise ValueError("This lease has no IPv4 address") from None
    state = _text(b" ".join(found.get(b"binding", [])[1:])).removeprefix("state ")
    if state not in _STATES:
        raise ValueError("This lease has no binding state")
    return Lease(address, state, _mac(_ethernet(found)), _end(found.get(b"ends")))


def _end(statement: Sequence[bytes] | None) -> datetime | None:
    """When a lease ends; dhcpd leaves the statement out for a lease that ends with the epoch itself."""
    if statement is None:
        return _EPOCH
    text = b" ".join(statement[1:])
    if text == b"never":
        return None
    date = _DATE.fullmatch(text)
    if date is not None:
        if date[7]:
            return _EPOCH + timedelta(seconds=int(date[7]))
        year, month, day, hour, minute, second = (int(part) for part in date.groups()[:6])
        with suppress(ValueError):  # there is no such day
            return datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    raise ValueError("The end of this lease cannot be read")
