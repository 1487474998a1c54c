"""The lease file reader against random histories, random damage, and dhcpd's own reading of the same file."""

import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

from hypothesis import example, given, settings
from hypothesis import strategies as st

from macbind.core.binding import Lease
from macbind.core.mac_address import MacAddress
from macbind.dhcp.isc.lease_file import HostRecord, LeaseFile, parse

STATIC = "from-config"
HEADER = b"""# The format of this file is documented in the dhcpd.leases(5) manual page.
# This lease file was written by isc-dhcp-4.4.3-P1

# authoring-byte-order entry is generated, DO NOT DELETE
authoring-byte-order little-endian;

"""
CONFIG = f"""authoritative;
host {STATIC} {{ hardware ethernet 00:16:3e:ff:ff:ff; fixed-address 10.3.3.3; }}
subnet 10.0.0.0 netmask 255.0.0.0 {{ range 10.9.0.0 10.9.0.15; }}
"""
EXTRAS = (
    'supersede host-name = "web; } host {"',
    "supersede domain-name = 67:72:c3:bc:c3:9f:65",
    'supersede server.filename = "pxe #1/{arch}.0"',
    "supersede unknown-121 = 18:0a:0a:0a:0a:00:00:01",
    'if option host-name = "b" {\n          supersede routers = 0a:00:00:01;\n        }',
    'on commit {\n          set x = "lease 10.9.0.1 {" ;\n        }',
)


@dataclass(frozen=True)
class Made:
    """dhcpd wrote down a host."""

    record: HostRecord
    extras: tuple[str, ...] = ()

    def text(self) -> bytes:
        """The record, as dhcpd writes it."""
        lines = [f"host {self.record.name} {{"]
        if self.record.dynamic:
            lines.append("  dynamic;")
        if self.record.mac is not None:
            lines.append(f"  hardware ethernet {self.record.mac};")
        if self.record.addresses:
            lines.append(f"  fixed-address {','.join(map(str, self.record.addresses))};")
        lines += ["        " + extra + ("" if extra.endswith("}") else ";") for extra in self.extras]
        return "\n".join([*lines, "}\n"]).encode()


@dataclass(frozen=True)
class Deleted:
    """dhcpd wrote down that a host is gone."""

    name: str
    dynamic: bool

    def text(self) -> bytes:
        """The record, as dhcpd writes it."""
        dynamic = "  dynamic;\n" if self.dynamic else ""
        return f"host {self.name} {{\n{dynamic}  deleted;\n}}\n".encode()


@dataclass(frozen=True)
class Leased:
    """dhcpd wrote down a lease."""

    lease: Lease
    uid: bytes
    local_time: bool = False

    def text(self) -> bytes:
        """The record, as dhcpd writes it."""
        ends = "never"
        if self.lease.ends is not None and self.local_time:
            ends = f"epoch {int(self.lease.ends.timestamp())}; # {self.lease.ends:%a %b %d %H:%M:%S %Y}"
        elif self.lease.ends is not None:
            ends = f"{self.lease.ends:%w %Y/%m/%d %H:%M:%S}"
        semicolon = "" if "#" in ends else ";"
        lines = [
            f"lease {self.lease.address} {{",
            f"  ends {ends}{semicolon}",
            f"  binding state {self.lease.state};",
        ]
        if self.lease.mac is not None:
            lines.append(f"  hardware ethernet {self.lease.mac};")
        quoted = "".join(chr(byte) if chr(byte) in SAFE else f"\\{byte:03o}" for byte in self.uid)
        lines.append(f'  uid "{quoted}";')
        return "\n".join([*lines, "}\n"]).encode()


@dataclass(frozen=True)
class Other:
    """dhcpd wrote down something that is not a host or lease."""

    raw: bytes

    def text(self) -> bytes:
        """The record, as dhcpd writes it."""
        return self.raw


Entry = Made | Deleted | Leased | Other
SAFE = "".join(map(chr, range(0x20, 0x7F))).replace('"', "").replace("\\", "")


@dataclass
class Model:
    """What a list of entries amounts to."""

    hosts: dict[str, HostRecord] = field(default_factory=dict)
    leases: dict[IPv4Address, Lease] = field(default_factory=dict)
    masked: set[str] = field(default_factory=set)

    def put(self, entry: Entry) -> None:
        """Takes one more entry into account."""
        match entry:
            case Made(record):
                self.hosts[record.name] = record
            case Deleted(name, dynamic):
                self.hosts.pop(name, None)
                if not dynamic:
                    self.masked.add(name)
            case Leased(lease):
                self.leases[lease.address] = lease

    @classmethod
    def of(cls, entries: list[Entry]) -> "Model":
        """The outcome of all these entries."""
        model = cls()
        for entry in entries:
            model.put(entry)
        return model

    def same(self, read: LeaseFile) -> bool:
        """Whether the reader came to the same outcome."""
        return (
            read.hosts == self.hosts
            and read.leases == self.leases
            and read.tombstones == self.masked - self.hosts.keys()
        )


macs = st.integers(0, 0xFFFFFF).map(lambda low: MacAddress(0x00163E000000 + low))
addresses = st.integers(0x0A010000, 0x0A0100FF).map(IPv4Address)
few_names = st.sampled_from(["a", "b.c", "macbind-10.1.1.3-g1", "macbind-10.1.1.3-g2", "x_y-z"])
hosts = st.builds(
    HostRecord,
    few_names,
    macs,
    st.lists(addresses, max_size=2).map(tuple),
    st.booleans() | st.just(value=True),
)
made = st.builds(Made, hosts, st.lists(st.sampled_from(EXTRAS), max_size=2).map(tuple))
deleted = st.builds(Deleted, few_names, st.booleans())
leased = st.builds(
    Leased,
    st.builds(
        Lease,
        st.integers(0x0A090000, 0x0A09000F).map(IPv4Address),
        st.sampled_from(["active", "free", "abandoned"]),
        st.none() | macs,
        st.none()
        | st.integers(1, 10**9).map(lambda s: datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=s)),
    ),
    st.binary(min_size=1, max_size=8),
    st.booleans(),
)
other = st.sampled_from(
    [
        Other(b'group g {\n  dynamic;\n        supersede domain-name = "x";\n}\n'),
        Other(b'subclass "c" 1:0:16:3e:1:1:3 {\n  dynamic;\n}\n\n'),
        Other(b'\nfailover peer "p" state {\n  my state normal at 1 2026/11/23 08:00:00;\n}\n'),
        Other(b'server-duid "\\000\\001\\"{";\n\n'),
    ]
)
STRING_WITH_A_BRACE = Made(HostRecord("b.c", MacAddress(0x00163E000001), (), dynamic=True), EXTRAS[:1])
histories = st.lists(made | made | deleted | leased | other, max_size=12)


def written(entries: list[Entry]) -> bytes:
    """The file that dhcpd has written after these."""
    return HEADER + b"".join(entry.text() for entry in entries)


def ends_of_records(entries: list[Entry]) -> list[int]:
    """For each entry the position behind its last character that counts."""
    ends, position = [], len(HEADER)
    for entry in entries:
        text = entry.text()
        ends.append(position + len(text.rstrip()))
        position += len(text)
    return ends


@given(histories)
def test_reading_is_replaying(entries: list[Entry]) -> None:
    """A file says what the sequence of additions, changes and deletions written to it amounts to."""
    read = parse(written(entries))
    assert Model.of(entries).same(read)
    assert read.complete
    assert read.problems == ()


@given(histories, st.data())
def test_a_file_cut_anywhere_says_what_its_whole_records_say(
    entries: list[Entry], data: st.DataObject
) -> None:
    """Of a torn file exactly the records before the cut count, and the tear is noticed."""
    text = written(entries)
    cut = data.draw(st.integers(0, len(text)))
    whole = [entry for entry, end in zip(entries, ends_of_records(entries), strict=True) if end <= cut]
    read = parse(text[:cut])
    assert Model.of(whole).same(read)
    known = len(written(whole)) if cut >= len(HEADER.rstrip()) else 0
    torn = re.sub(rb"#.*", b"", text[known:cut]).strip()
    assert read.complete == (not torn)
    assert len(read.problems) == bool(torn)


@given(histories, histories, st.integers(0, 1 << 16))
@example(  # torn behind a brace that closes nothing, as it stands in a string
    [Other(b'server-duid "\\000\\001\\"{";\n\n'), Deleted("a", dynamic=True), STRING_WITH_A_BRACE],
    [Deleted("a", dynamic=False)],
    381 - len(HEADER),
)
def test_records_behind_a_tear_are_found(before: list[Entry], after: list[Entry], place: int) -> None:
    """Records appended to a torn file are all found, except the one that shares a line with the tear."""
    text = written(before)
    cut = len(HEADER) + place % (len(text) - len(HEADER) + 1)
    ends = ends_of_records(before)
    whole = [entry for entry, end in zip(before, ends, strict=True) if end <= cut]
    read = parse(text[:cut] + b"".join(entry.text() for entry in after))
    assert Model.of(whole + after).same(read) or Model.of(whole + after[1:]).same(read)
    if text[:cut].endswith(b"\n") or cut in ends:  # nothing shares a line with something torn
        assert Model.of(whole + after).same(read)


@given(histories, histories, st.binary(max_size=60))
def test_garbage_never_changes_the_records_around_it(
    before: list[Entry], after: list[Entry], garbage: bytes
) -> None:
    """A stretch of random bytes on lines of its own hides no record, and invents none by chance."""
    read = parse(written(before) + garbage + b"\n" + b"".join(entry.text() for entry in after))
    assert Model.of(before + after).same(read)


LINES = rb"""host a
host b {
lease 10.9.0.1 {
group g {
subclass "x" 1:0 {
  dynamic;
  deleted;
  hardware ethernet 00:16:3e:01:01:01;
  fixed-address 10.1.1.1;
  binding state free;
  ends never;
  ends epoch 9;
  on commit {
}""".splitlines(keepends=True)
fragments = st.sampled_from([*LINES, *(bytes([byte]) for byte in b'{};\n "\\#a\0\xff')])


@given(st.binary(max_size=200) | st.lists(fragments, max_size=40).map(b"".join))
@settings(max_examples=500)
def test_no_bytes_make_the_reader_fail(data: bytes) -> None:
    """Whatever the bytes are, the reader answers; what it leaves unread it reports."""
    read = parse(data)
    assert read.complete or read.problems
    assert all(1 <= found.line <= data.count(b"\n") + 1 for found in read.problems)
    for name, record in read.hosts.items():
        assert name == record.name
        assert name.encode() in data


@given(histories)
def test_the_usual_form_and_any_other_form_read_the_same(entries: list[Entry]) -> None:
    """The short way for plain hosts is only faster: with another layout the same is read."""
    text = written(entries)
    assert parse(text.replace(b" {\n  dynamic;", b" {  \n  dynamic ;")) == parse(text)


def rewritten_by_dhcpd(text: bytes) -> bytes:
    """The lease file as dhcpd writes it anew after having read this one.

    dhcpd does so at every start, before it looks for its network interface, which does not exist here.
    """
    dhcpd = shutil.which("dhcpd")
    assert dhcpd, "install isc-dhcp-server"
    with tempfile.TemporaryDirectory() as directory:
        config, leases = Path(directory, "dhcpd.conf"), Path(directory, "dhcpd.leases")
        config.write_text(CONFIG)
        leases.write_bytes(text)
        files = ["-cf", str(config), "-lf", str(leases), "--no-pid"]
        run = subprocess.run([dhcpd, "-4", "-f", *files, "no-such-if"], capture_output=True, check=False)
        assert Path(directory, "dhcpd.leases~").exists(), run.stderr.decode()
        return leases.read_bytes()


def normal(read: LeaseFile) -> tuple[object, ...]:
    """What of a file survives dhcpd's rewriting: it forgets changes of hosts of the configuration file."""
    dynamic = {name: record for name, record in read.hosts.items() if record.dynamic}
    return dynamic, read.leases, read.complete, read.problems


def as_dhcpd_goes_on(entries: list[Entry]) -> list[Entry]:
    """The same history with only what a running dhcpd writes.

    It writes a change as a deletion and a new record, makes no second host of one MAC, and has no lease that
    is active beyond its end: it would end it while it reads the file.
    """
    live: dict[str, Made] = {}
    history: list[Entry] = []
    for entry in entries:
        match entry:
            case Made(record):
                if any(other.record.mac == record.mac for name, other in live.items() if name != record.name):
                    continue
                if record.name in live:
                    history.append(Deleted(record.name, live[record.name].record.dynamic))
                live[record.name] = entry
            case Deleted(name):
                live.pop(name, None)
            case Leased(lease) if lease.ends is not None and lease.state == "active":
                continue
        history.append(entry)
    return history


@given(histories.map(as_dhcpd_goes_on))
@settings(max_examples=60, deadline=None)
def test_dhcpd_reads_the_same(entries: list[Entry]) -> None:
    """dhcpd, started with the file, keeps exactly the dynamic hosts and the leases that we read in it."""
    text = written(entries)
    assert normal(parse(rewritten_by_dhcpd(text))) == normal(parse(text))
