"""What the lease file reader makes of files as dhcpd writes them, and of files nobody should have written."""

from datetime import UTC, datetime
from ipaddress import IPv4Address

import pytest

from macbind.core.binding import Binding, Lease
from macbind.core.mac_address import MacAddress
from macbind.dhcp.isc.lease_file import MAX_PROBLEMS, HostRecord, LeaseFile, Problem, parse

# Written by dhcpd 4.4.3-P1: hosts made over OMAPI with options of every kind, a pool with clients, a failover
# peer, a spawned class, a deleted host of the configuration file.
REAL_FILE = rb"""# The format of this file is documented in the dhcpd.leases(5) manual page.
# This lease file was written by isc-dhcp-4.4.3-P1

# authoring-byte-order entry is generated, DO NOT DELETE
authoring-byte-order little-endian;

server-duid "\000\001\000\001/\"\\\303abc";

group farm {
  dynamic;
        supersede domain-name = "farm.example";
}
host from-config {
  deleted;
}
host macbind-10.1.1.3-g7 {
  dynamic;
  hardware ethernet 00:16:3e:01:01:03;
  fixed-address 10.1.1.3;
}
host with-options {
  dynamic;
  hardware ethernet 00:16:3e:01:01:04;
  uid "abc";
  fixed-address 10.1.1.4;
  group "farm";
        supersede host-name = "web; } host {";
        supersede domain-name = 67:72:c3:bc:c3:9f:65;
        supersede server.filename = "pxe #1/{arch}.0";
        supersede unknown-121 = 18:0a:0a:0a:0a:00:00:01;
        if option host-name = "b" {
          supersede routers = 0a:00:00:01;
        } else {
          on commit {
            set x = "fixed-address 10.66.66.66;" ;
          }
        }
}
host two-addresses {
  dynamic;
  hardware ethernet 00:16:3e:01:01:05;
  fixed-address 10.1.1.5,10.2.1.5;
}
host changed-static {
  hardware ethernet 00:16:3e:01:01:06;
  fixed-address 10.1.1.6;
}
subclass "allowed" 1:0:16:3e:1:1:3 {
  dynamic;
}
subclass "vendor" "a;b } {" {
  dynamic;
  lease limit 4;
}
class "spawned" {
  dynamic;
  match if option host-name = "x";
}
lease 10.9.0.3 {
  starts 1 2026/11/23 08:00:00;
  ends 1 2026/11/23 09:30:05;
  tstp 1 2026/11/23 09:30:05;
  cltt 1 2026/11/23 08:00:00;
  binding state active;
  next binding state free;
  rewind binding state free;
  hardware ethernet 00:16:3e:00:00:99;
  uid "\001\000\026>\"\\ ;{}#host x {";
  set vendor-class-identifier = "dhcpcd-9.4.1:Linux";
  option agent.circuit-id "eth0";
  client-hostname "we\"ird";
  on expiry or release {
    set a = "b" ;
  }
}
lease 10.9.0.4 {
  ends never;
  tstp never;
  binding state abandoned;
}
lease 10.9.0.5 {
  starts 4 1970/01/01 00:00:01;
  ends 4 1970/01/01 00:00:01;
  binding state free;
  hardware token-ring 00:16:3e:00:00:98;
}

failover peer "pair" state {
  my state normal at 1 2026/11/23 08:00:00;
  partner state communications-interrupted at 1 2026/11/23 08:00:00;
  mclt 60;
}
"""


def host(name: str, last: int, *, dynamic: bool = True, also: str = "") -> HostRecord:
    """The record of a host whose MAC and address end in ``last``."""
    addresses = [f"10.1.1.{last}", *also.split()]
    mac = MacAddress.parse(f"00:16:3e:01:01:{last:02x}")
    return HostRecord(name, mac, tuple(map(IPv4Address, addresses)), dynamic)


def whole(name: str, last: int) -> bytes:
    """The text dhcpd writes for such a host."""
    return (
        f"host {name} {{\n  dynamic;\n  hardware ethernet 00:16:3e:01:01:{last:02x};\n"
        f"  fixed-address 10.1.1.{last};\n}}\n"
    ).encode()


A, B, C = whole("a", 1), whole("b", 2), whole("c", 3)


def test_a_file_written_by_dhcpd_is_understood_entirely() -> None:
    """Every kind of record dhcpd writes is read or skipped without a complaint."""
    assert parse(REAL_FILE) == LeaseFile(
        hosts={
            "macbind-10.1.1.3-g7": host("macbind-10.1.1.3-g7", 3),
            "with-options": host("with-options", 4),
            "two-addresses": host("two-addresses", 5, also="10.2.1.5"),
            "changed-static": host("changed-static", 6, dynamic=False),
        },
        leases={
            IPv4Address("10.9.0.3"): Lease(
                IPv4Address("10.9.0.3"),
                "active",
                MacAddress.parse("00:16:3e:00:00:99"),
                datetime(2026, 11, 23, 9, 30, 5, tzinfo=UTC),
            ),
            IPv4Address("10.9.0.4"): Lease(IPv4Address("10.9.0.4"), "abandoned"),
            IPv4Address("10.9.0.5"): Lease(
                IPv4Address("10.9.0.5"), "free", None, datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)
            ),
        },
        tombstones=frozenset({"from-config"}),
        complete=True,
        problems=(),
    )


def test_an_empty_file_is_complete() -> None:
    """A file that dhcpd has not written to yet holds nothing, and that is no problem."""
    assert parse(b"") == LeaseFile({}, {}, frozenset(), complete=True, problems=())


def test_a_host_of_ours_becomes_a_reservation() -> None:
    """A record with one MAC and one address is the reservation that OMAPI made."""
    record = parse(whole("macbind-10.1.1.3-g1", 3)).hosts["macbind-10.1.1.3-g1"]
    assert record.binding == Binding(
        "macbind-10.1.1.3-g1", MacAddress.parse("00:16:3e:01:01:03"), IPv4Address("10.1.1.3")
    )
    assert record.binding.owner == (IPv4Address("10.1.1.3"), 1)


@pytest.mark.parametrize(
    "statements",
    [
        b"fixed-address 10.1.1.1;",
        b"hardware ethernet 00:16:3e; fixed-address 10.1.1.1;",
        b"hardware ethernet 00:16:3e:01:01:01:01; fixed-address 10.1.1.1;",
        b"hardware ethernet; fixed-address 10.1.1.1;",
        b"hardware unknown-0 00:16:3e:01:01:01; fixed-address 10.1.1.1;",
        b'hardware ethernet "\xff"; fixed-address 10.1.1.1;',
        b"hardware ethernet 00:16:3e:01:01:01; fixed-address 10.1.1.1,10.1.1.2;",
    ],
)
def test_a_host_that_is_no_reservation_is_listed_all_the_same(statements: bytes) -> None:
    """A host without one Ethernet MAC, or with several addresses, exists but makes no reservation."""
    record = parse(b"host a { dynamic; %b }" % statements).hosts["a"]
    assert record.addresses[0] == IPv4Address("10.1.1.1")
    assert record.binding is None


@pytest.mark.parametrize("value", [b"", b" ", b" 10.1.1", b" 999.1.1.1", b" gw.example", b' "\xff"', b" ,"])
def test_an_unusable_fixed_address_reads_as_none(value: bytes) -> None:
    """What dhcpd writes for an address of another length than four bytes is a host without address."""
    record = parse(
        b"host a { dynamic; hardware ethernet 00:16:3e:01:01:01; fixed-address%b; }" % value
    ).hosts["a"]
    assert record.addresses == ()
    assert record.binding == Binding("a", MacAddress.parse("00:16:3e:01:01:01"), None)


def test_the_last_record_of_a_name_wins() -> None:
    """The file is a log: later records replace earlier ones of their name, and only these."""
    changed = A.replace(b"10.1.1.1", b"10.1.1.77")
    assert parse(A + B + changed).hosts["a"].addresses == (IPv4Address("10.1.1.77"),)
    assert parse(changed + B + A).hosts == {"a": host("a", 1), "b": host("b", 2)}


def test_a_deleted_host_is_gone_until_it_is_made_again() -> None:
    """`deleted;` removes what came before it, not what comes after."""
    gone = b"host a {\n  dynamic;\n  deleted;\n}\n"
    assert parse(A + B + gone).hosts.keys() == {"b"}
    assert parse(A + gone + B + A).hosts.keys() == {"a", "b"}
    assert parse(A + gone).tombstones == frozenset()


def test_a_tombstone_is_kept_apart_from_deleted_dynamic_hosts() -> None:
    """A deleted host of the configuration file stays masked, also behind a dynamic host of its name."""
    tombstone = b"host s {\n  deleted;\n}\n"
    made, gone = whole("s", 9), b"host s {\n  dynamic;\n  deleted;\n}\n"
    assert parse(tombstone).tombstones == {"s"}
    assert parse(tombstone + made).tombstones == frozenset()
    assert parse(tombstone + made + gone).tombstones == {"s"}
    assert parse(made + gone).tombstones == frozenset()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"ends never;", None),
        (b"ends 4 2026/11/23 08:00:00;", datetime(2026, 11, 23, 8, tzinfo=UTC)),
        (b"ends 1 2026/1/3 8:0:0;", datetime(2026, 1, 3, 8, tzinfo=UTC)),
        (b"ends 4 1970/01/01 00:00:00;", datetime(1970, 1, 1, tzinfo=UTC)),
        (b"ends epoch 0; # Thu Jan 01 00:00:00 1970\n", datetime(1970, 1, 1, tzinfo=UTC)),
        (b"ends epoch 1795420800; # Mon Nov 23 08:00:00 2026\n", datetime(2026, 11, 23, 8, tzinfo=UTC)),
        (b"", datetime(1970, 1, 1, tzinfo=UTC)),
    ],
)
def test_the_end_of_a_lease_is_read_in_every_spelling(text: bytes, expected: datetime | None) -> None:
    """Dates are UTC in both formats of `db-time-format`; a missing end is the epoch, only `never` is none."""
    lease = parse(b"lease 10.9.0.3 { %b binding state active; }" % text).leases[IPv4Address("10.9.0.3")]
    assert lease.ends == expected


@pytest.mark.parametrize(
    "record",
    [
        b"lease 10.9.0.300 { binding state free; }",
        b"lease host { binding state free; }",
        b"lease 10.9.0.3 { ends never; }",
        b"lease 10.9.0.3 { binding state confused; }",
        b"lease 10.9.0.3 { binding; }",
        b'lease 10.9.0.3 { binding "\xff"; }',
        b"lease 10.9.0.3 { binding state free; ends 4 2026/02/30 08:00:00; }",
        b"lease 10.9.0.3 { binding state free; ends 4 2026/11/23 25:00:00; }",
        b"lease 10.9.0.3 { binding state free; ends 4 0000/01/01 00:00:00; }",
        b"lease 10.9.0.3 { binding state free; ends epoch 99999999999999999999; }",
        b"lease 10.9.0.3 { binding state free; ends epoch -1; }",
        b"lease 10.9.0.3 { binding state free; ends; }",
        b"lease 10.9.0.3 { binding state free; ends soon; }",
    ],
)
def test_an_unusable_lease_is_reported_and_left_out(record: bytes) -> None:
    """A lease that cannot be told to be free or taken is damage, but ends nothing else."""
    read = parse(A + record + b"\n" + B)
    assert not read.leases
    assert read.hosts.keys() == {"a", "b"}
    assert [found.line for found in read.problems] == [6]
    assert read.complete


def test_layout_does_not_matter_within_a_record() -> None:
    """Comments, blank lines, tabs and carriage returns between the words change nothing."""
    spread = (
        b"\r\n# note\n\thost\ta # name\n{dynamic;;hardware\tethernet 0:16:3E:1:1:1 ;# mac\n"
        b"\n\nfixed-address\n10.1.1.1\n,10.1.1.2;}host b{}"
    )
    read = parse(spread)
    assert read.hosts == {"a": host("a", 1, also="10.1.1.2"), "b": HostRecord("b", None, (), dynamic=False)}
    assert read.problems == ()


@pytest.mark.parametrize("torn", [A[:cut] for cut in range(1, len(A) - 1)])
def test_a_torn_last_record_is_not_committed(torn: bytes) -> None:
    """A record counts from its closing brace on; before that the file is incomplete."""
    if torn.endswith(b"}"):
        assert parse(B + torn) == parse(B + A)
    else:
        read = parse(B + torn)
        assert read.hosts == {"b": host("b", 2)}
        assert not read.complete
        assert len(read.problems) == 1


@pytest.mark.parametrize("torn", [A[:cut] for cut in range(1, len(A) - 2)])
def test_records_appended_behind_a_torn_one_are_found(torn: bytes) -> None:
    """After a full disk dhcpd appends to the torn record: only the one glued to it is lost, and reported."""
    read = parse(torn + B + C)
    lost = set() if torn.endswith(b"\n") else {"b"}
    assert read.hosts.keys() == {"b", "c"} - lost
    assert len(read.problems) == 1
    assert read.problems[0].line in {1, torn.count(b"\n") + 1, torn.count(b"\n") + 2}
    assert read.complete


def test_a_record_glued_to_a_complete_one_is_found() -> None:
    """Nothing is lost when only the line break between two records is missing."""
    assert parse(A[:-1] + B).hosts == parse(A + B).hosts
    assert parse(A[:-1] + B).problems == ()


@pytest.mark.parametrize(
    "poison",
    [
        b'supersede host-name = "a"b";',
        b'supersede host-name = "a\\";',
        b'supersede unknown-121 = " AB"CDEFG";',
        b'supersede host-name = "a\nb";',
        b"supersede \x00 = 1;",
        b"supersede \xc3\xbc = 1;",
        b'supersede x = "',
        b"} }",
        b"{",
        b"}",
        b"dynamic",
        b"dynamic;",
        b"hardware ethernet 00:16:3e:01:01:01;",
    ],
)
def test_a_poisoned_record_takes_no_other_record_with_it(poison: bytes) -> None:
    """Where dhcpd would drop every host after an unreadable value, reading goes on with the next record."""
    read = parse(A + B.replace(b"\n}", b"\n        " + poison + b"\n}") + C)
    assert {"a", "c"} <= read.hosts.keys()
    assert len(read.problems) == 1
    assert read.complete


@pytest.mark.parametrize(
    "garbage",
    [
        b"\0" * 4096,
        b"}\n}\n",
        b"something else;\n",
        b"something { else; }\n",
        b";\n",
        b'host "quoted" {\n  dynamic;\n}\n',
        b"host two words {\n  dynamic;\n}\n",
        b"host semi;colon {\n  dynamic;\n}\n",
        b"host ha#sh {\n  dynamic;\n}\n",
        b"host bra{ce {\n  dynamic;\n}\n",
        b"host {\n  dynamic;\n}\n",
        b"host a;\n",
        b"group a b {\n}\n",
        b"failover peer host b {\n}\n",
        b"authoring-byte-order little-endian {\n}\n",
        b"one two three four five six seven eight nine ten;\n",
        b"# The format of thhost b {\n  dynamic;\n}\n",
    ],
)
def test_garbage_between_records_is_reported_and_skipped(garbage: bytes) -> None:
    """Whatever stands between two records, both are found and the line of the garbage is named."""
    read = parse(A + garbage + C)
    assert read.hosts == {"a": host("a", 1), "c": host("c", 3)}
    assert [found.line for found in read.problems] == [6]
    assert read.complete


def test_a_comment_that_swallows_the_start_of_a_record_is_not_believed() -> None:
    """A lease torn within the comment of its date never gets the statements of the record behind it."""
    torn = b"lease 10.9.0.3 {\n  binding state active;\n  ends epoch 1795420800; # Mon Nov 2"
    read = parse(torn + B + C)
    assert not read.leases
    assert read.hosts.keys() == {"c"}
    assert len(read.problems) == 1


def test_problems_name_line_and_text() -> None:
    """A problem says where it is and shows the beginning of it, in printable characters."""
    torn, escape = parse(A + B[:20] + b"\n" + C + b"\x1b[2J;\n").problems
    assert torn == Problem(6, "This record is cut off: 'host b {'")
    assert escape == Problem(14, "This cannot be read: '\\x1b[2J;'")


def test_the_list_of_problems_is_bounded() -> None:
    """A file full of damage does not fill the memory with complaints about it."""
    read = parse(b"host x\n" * (MAX_PROBLEMS * 3) + A)
    assert [found.line for found in read.problems] == list(range(1, MAX_PROBLEMS + 1))
    assert read.hosts.keys() == {"a"}


@pytest.mark.parametrize(
    "hostile",
    [
        b"{",
        b"host a {",
        b"host a { x {",
        b"host a { x {}",
        b"host a { x",
        b"host a { x ",
        b"}",
        b";",
        b'"',
        b'host a { x "\\"',
        b'"a" ',
        b"subclass ",
        b"host a\n",
        b"host a {\n",
        b"\nhost",
        b"#{\n",
        b"#",
        b"\n",
        b"\0",
        b"lease 1.1.1.1 {}\n",
        b"host a {dynamic;}\n",
    ],
)
@pytest.mark.timeout(120)
def test_hostile_input_takes_linear_time(hostile: bytes) -> None:
    """A megabyte of anything is read in a moment; quadratic work or recursion would never end."""
    parse(hostile * (1_000_000 // len(hostile)))


@pytest.mark.timeout(120)
def test_a_large_farm_is_read_in_seconds() -> None:
    """The 20 MB that a hundred thousand machines leave behind are read within seconds."""
    records = []
    for number in range(100_000):
        address = IPv4Address(0x0A010000 + number)
        mac = MacAddress(0x00163E010000 + number)
        records.append(
            f"host macbind-{address}-g1 {{\n  dynamic;\n  hardware ethernet {mac};\n"
            f"  fixed-address {address};\n}}\n"
            f"host macbind-{address}-g0 {{\n  dynamic;\n  deleted;\n}}\n"
        )
    read = parse("".join(records).encode())
    assert len(read.hosts) == 100_000
    assert read.hosts["macbind-10.2.134.159-g1"].mac == MacAddress.parse("00:16:3e:02:86:9f")
    assert read.complete
