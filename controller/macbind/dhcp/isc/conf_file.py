"""Reads dhcpd's configuration with all that it includes: which hosts and ranges dhcpd serves beside ours.

The reader is tolerant: it knows blocks and statements, and passes over what it does not know. It never stops at a
fault; a fault is a note with its file and line. Its work is bounded, whoever can write the files: sizes, the depth
and number of included files, and no file is read while it is being read.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import AddressValueError, IPv4Address, IPv4Network
from pathlib import Path

from macbind.core.address_range import AddressRange
from macbind.core.binding import STATIC_BINDING_PREFIX
from macbind.core.errors import InvalidAddress
from macbind.core.mac_address import MacAddress
from macbind.dhcp.isc.files import read_whole

MAX_BYTES = 64 << 20
"""Of all files together. A static pool of ours with 500,000 addresses has as much."""
MAX_FILES, MAX_INCLUDE_DEPTH, MAX_DEPTH = 1000, 16, 64
MAX_NOTES = 100
MAX_WORDS = 1000
"""Of one statement; more only costs memory."""
MAX_SAID = 64
"""Statements of one host or group that are kept."""

# Our own hosts of a static pool, a line each, are passed over as white space.
_TOKEN = re.compile(
    rb"(?:\s+|#[^\n]*|host %b[0-9.]+ \{ hardware ethernet [0-9a-f:]+; fixed-address [0-9.]+; \}\n){0,1000}"
    rb'(?:("(?:[^"\\]|\\.)*")|([{};,])|([^\s{};,"#]+)|\Z|(.))' % re.escape(STATIC_BINDING_PREFIX.encode()),
    re.DOTALL,
)
_PACE_TOKENS = 2000


@dataclass(frozen=True, slots=True)
class Place:
    """A line of a file."""

    path: Path
    line: int

    def __str__(self) -> str:
        return f"{self.path} line {self.line}"


@dataclass(frozen=True, slots=True)
class ConfHost:
    """A ``host`` of the configuration.

    Attributes:
        name: Its name.
        mac: Its Ethernet address; None if it has none.
        addresses: Its fixed addresses, without those that are names.
        place: Where it begins.
        said: What else it says, as words of statements: its own, then that of each group around it.
    """

    name: str
    mac: MacAddress | None
    addresses: tuple[IPv4Address, ...]
    place: Place
    said: tuple[Sequence[Sequence[str]], ...] = field(default=(), compare=False)


@dataclass(frozen=True, slots=True)
class ConfRange:
    """A dynamic range that dhcpd hands out by itself, and where it stands."""

    addresses: AddressRange
    place: Place


@dataclass(frozen=True, slots=True)
class ConfSubnet:
    """A subnet that it declares, and where it stands."""

    network: IPv4Network
    place: Place


@dataclass(frozen=True, slots=True)
class Note:
    """What was not understood, and where."""

    place: Place
    text: str


@dataclass(frozen=True, slots=True)
class Conf:
    """A configuration.

    Attributes:
        path: The file that it begins with.
        files: Every file that was read.
        hosts, ranges, subnets: In the order of the files.
        omapi_port: The port it opens for OMAPI; None if it opens none.
        notes: What was not understood; the first :data:`MAX_NOTES`.
        failed: The first file that could not be read, if there is one.
    """

    path: Path
    files: frozenset[Path]
    hosts: tuple[ConfHost, ...]
    ranges: tuple[ConfRange, ...]
    subnets: tuple[ConfSubnet, ...]
    omapi_port: int | None
    notes: tuple[Note, ...]
    failed: OSError | None


def read_conf(
    path: Path,
    *,
    cwd: Path = Path("/"),
    between: Callable[[], object] = lambda: None,
    data: bytes | None = None,
) -> Conf:
    """Reads a configuration; never raises, whatever the files are.

    Args:
        path: The file dhcpd was started with.
        cwd: The directory dhcpd was started in: where relative paths begin.
        between: Called every now and then during the work.
        data: The content of the file, where it was read already.
    """
    reading = _Reading(cwd, between)
    reading.include(path, None, data)
    return Conf(
        path,
        frozenset(reading.files),
        tuple(reading.hosts),
        tuple(reading.ranges),
        tuple(reading.subnets),
        reading.omapi_port,
        tuple(reading.notes),
        reading.failed,
    )


@dataclass
class _Block:
    """A block that is open: what stands before its brace, and what was said in it."""

    kind: str
    name: str
    place: Place
    mac: MacAddress | None = None
    addresses: list[IPv4Address] = field(default_factory=list)
    ranges: list[ConfRange] = field(default_factory=list)
    denied: set[str] = field(default_factory=set)
    said: list[list[str]] = field(default_factory=list)


class _Reading:
    """One reading of one configuration."""

    def __init__(self, cwd: Path, between: Callable[[], object]) -> None:
        self._cwd, self._between = cwd, between
        self.files: set[Path] = set()
        self.hosts: list[ConfHost] = []
        self.ranges: list[ConfRange] = []
        self.subnets: list[ConfSubnet] = []
        self.omapi_port: int | None = None
        self.notes: list[Note] = []
        self.failed: OSError | None = None
        self._left = MAX_BYTES
        self._open: list[Path] = []
        self._blocks: list[_Block] = []
        self._deeper = 0  # blocks beyond MAX_DEPTH

    def include(self, path: Path, place: Place | None, data: bytes | None = None) -> None:
        """Reads a file where another one includes it; ``data`` is its content if that is known."""
        path = self._cwd / path
        place = place or Place(path, 1)
        if path in self._open:
            self._note(place, f"{path} includes itself")
            return
        if len(self._open) >= MAX_INCLUDE_DEPTH or len(self.files) >= MAX_FILES:
            self._note(place, f"{path} is included too deeply, or as one of too many")
            return
        try:
            data = read_whole(path, self._left) if data is None else data
        except OSError as error:
            self.failed = self.failed or error
            return
        self._left -= len(data)
        self.files.add(path)
        self._open.append(path)
        depth = len(self._blocks)
        self._read(path, data)
        self._open.pop()
        while len(self._blocks) > depth:
            self._note(self._blocks[-1].place, "This block has no end")
            self._close()

    def _read(self, path: Path, data: bytes) -> None:
        words: list[str] = []
        place = Place(path, 1)
        for line, word in self._tokens(data):
            if not words:
                place = Place(path, line)
            if word == "{":
                self._enter(words, place)
                words = []
            elif word == "}":
                self._say(words, place)
                words = []
                self._leave(place)
            elif word == ";":
                self._say(words, place)
                words = []
            elif len(words) < MAX_WORDS:
                words.append(word)
        self._say(words, place)

    def _tokens(self, data: bytes) -> Iterator[tuple[int, str]]:
        """Words, texts with their quotes, and punctuation, each with its line."""
        line, counted = 1, 0
        for number, match in enumerate(_TOKEN.finditer(data), 1):
            if number % _PACE_TOKENS == 0:
                self._between()
            if match.lastindex is None:
                return
            start = match.start(match.lastindex)
            line += data.count(b"\n", counted, start)
            counted = start
            yield line, match[match.lastindex].decode("ascii", "backslashreplace")

    # -- blocks ----------------------------------------------------------------------------------------

    def _enter(self, words: list[str], place: Place) -> None:
        if len(self._blocks) >= MAX_DEPTH:
            self._deeper += 1
            self._note(place, "This block is nested too deeply")
            return
        kind = words[0].lower() if words else ""
        if kind == "subnet" and len(words) > 3:
            with suppress(ValueError):
                self.subnets.append(ConfSubnet(IPv4Network(f"{words[1]}/{words[3]}", strict=False), place))
        self._blocks.append(_Block(kind, words[1].strip('"') if len(words) > 1 else "", place))

    def _leave(self, place: Place) -> None:
        if self._deeper:
            self._deeper -= 1
        elif self._blocks:
            self._close()
        else:
            self._note(place, "This brace closes nothing")

    def _close(self) -> None:
        block = self._blocks.pop()
        if block.kind == "host":
            around = [one.said for one in reversed(self._blocks) if one.kind == "group"]
            said = (block.said, *around)  # a group may say more after this host
            self.hosts.append(ConfHost(block.name, block.mac, tuple(block.addresses), block.place, said))
        if not block.denied >= {"known", "unknown"}:  # else dhcpd gives them to nobody
            self.ranges += block.ranges

    # -- statements ------------------------------------------------------------------------------------

    def _say(self, words: list[str], place: Place) -> None:
        """Takes a statement, up to its semicolon."""
        if not words:
            return
        block = self._blocks[-1] if self._blocks else None
        match [word.lower() for word in words]:
            case ["include", _]:
                self.include(Path(words[1].strip('"')), place)
            case ["omapi-port", port] if port.isdecimal():
                self.omapi_port = int(port)
            case ["hardware", "ethernet", *rest] if block is not None:
                with suppress(InvalidAddress):
                    block.mac = MacAddress.parse("".join(rest))
                    return
                self._keep(block, words)
                self._note(place, "This hardware address is none of Ethernet")
            case ["fixed-address", *rest] if block is not None:
                self._fix(block, rest, place)
            case ["range", *rest] if block is not None:
                self._range(block, rest, place)
            case ["deny" | "ignore", *rest] if block is not None:
                who = "-".join(rest).lower().removesuffix("s").removesuffix("-client")
                block.denied |= {"known", "unknown"} if who == "all" else {who}
            case _ if block is not None and block.kind in ("host", "group"):
                self._keep(block, words)
            case _:
                pass

    def _keep(self, block: _Block, words: list[str]) -> None:
        if len(block.said) < MAX_SAID:
            block.said.append(words)

    def _fix(self, block: _Block, words: list[str], place: Place) -> None:
        for word in words:
            if word == ",":
                continue
            try:
                block.addresses.append(IPv4Address(word))
            except AddressValueError:
                self._keep(block, ["fixed-address", word])
                self._note(
                    place,
                    f"The host '{block.name}' has a name for an address, {word}, which is not looked up",
                )

    def _range(self, block: _Block, words: list[str], place: Place) -> None:
        ends = [word for word in words if word.lower() != "dynamic-bootp"]
        try:
            low, high = IPv4Address(ends[0]), IPv4Address(ends[-1])
        except (AddressValueError, IndexError):
            self._note(place, "This range cannot be read")
            return
        block.ranges.append(ConfRange(AddressRange(min(low, high), max(low, high)), place))

    def _note(self, place: Place, text: str) -> None:
        if len(self.notes) < MAX_NOTES:
            self.notes.append(Note(place, text))
