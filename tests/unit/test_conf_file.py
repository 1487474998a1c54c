"""What the reader makes of dhcpd's configurations: as sites write them, damaged, and hostile."""

import os
from datetime import UTC, datetime
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from macbind.config import DhcpdSettings
from macbind.core.address_plan import AddressPlan
from macbind.core.address_range import AddressRange
from macbind.dhcp.isc.conf_file import MAX_NOTES, Conf, read_conf
from macbind.dhcp.isc.conf_look import ConfLook, Started, conf_in_force, look_at_conf

NOW = datetime(2026, 5, 1, tzinfo=UTC)
PLANS = [
    AddressPlan.build(
        IPv4Network("10.1.0.0/16"), "00:16:3e", ranges=[AddressRange.parse("10.1.1.3-10.1.1.9")]
    )
]
SITE = """
# the site's own
option domain-name "a { b } ; host x {";
ddns-update-style none; omapi-port 7911;
if exists agent.circuit-id { log ( info, concat( "x", "}" ) ); } else { set a = "b"; }
class "pxe" { match if substring (option vendor-class-identifier, 0, 9) = "PXEClient"; }
host Printer { hardware ethernet 0:11:22:33:44:55; fixed-address 10.1.1.4; option host-name "p"; }
HOST two{
  fixed-address 10.1.1.5 ,10.9.9.9,
     10.1.1.6;
  HARDWARE ETHERNET 00:11:22:33:44:66;
}
group {
  next-server 10.0.0.1;
  subnet 10.1.0.0 netmask 255.255.0.0 {
    range 10.1.200.1 10.1.200.9;
    range dynamic-bootp 10.1.1.8;
    pool { failover peer "x"; range 10.1.1.9 10.1.1.20; allow members of "pxe"; }
    pool { deny known-clients; deny unknown clients; range 10.1.1.1 10.1.1.250; }
    pool { deny all clients; range 10.1.1.1 10.1.1.250; }
    group { host inner { hardware ethernet 00:16:3e:01:01:07; } }
  }
}
shared-network both {
  subnet 10.2.0.0 netmask 255.255.0.0 { }
  pool { range 10.1.1.3; deny unknown-clients; }
}
"""


def read(tmp_path: Path, text: str | bytes, name: str = "dhcpd.conf") -> Conf:
    """The configuration in a file."""
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_conf(path)


def look(conf: Conf, masked: frozenset[str] = frozenset()) -> ConfLook:
    """What it gives to others of the pool."""
    return look_at_conf("main", conf, PLANS, masked, NOW)


def shown(conf: Conf) -> list[tuple[str, str, str]]:
    """Source, address and holder of each evidence."""
    return [(str(one.source), str(one.address), one.holder) for one in look(conf).evidence]


def test_hosts_and_ranges_are_found_wherever_they_stand(tmp_path: Path) -> None:
    """Nested, in any spelling, beside texts with braces; a range that dhcpd gives to nobody is none."""
    conf = read(tmp_path, SITE)
    assert [(one.name, str(one.mac), [*map(str, one.addresses)], one.place.line) for one in conf.hosts] == [
        ("Printer", "00:11:22:33:44:55", ["10.1.1.4"], 7),
        ("two", "00:11:22:33:44:66", ["10.1.1.5", "10.9.9.9", "10.1.1.6"], 8),
        ("inner", "00:16:3e:01:01:07", [], 21),
    ]
    assert [(str(one.addresses), one.place.line) for one in conf.ranges] == [
        ("10.1.1.9-10.1.1.20", 18),
        ("10.1.200.1-10.1.200.9", 16),
        ("10.1.1.8", 17),
        ("10.1.1.3", 26),
    ]
    assert [(str(one.network), one.place.line) for one in conf.subnets] == [
        ("10.1.0.0/16", 15),
        ("10.2.0.0/16", 25),
    ]
    assert (conf.omapi_port, conf.notes, conf.failed) == (7911, (), None)


def test_what_meets_a_pool_is_evidence_and_a_finding(tmp_path: Path) -> None:
    """By address and by a MAC of ours; file and line are named."""
    conf = read(tmp_path, SITE)
    where = tmp_path / "dhcpd.conf"
    assert shown(conf) == [
        ("host", "10.1.1.4", "Printer"),
        ("host", "10.1.1.5", "two"),
        ("host", "10.1.1.6", "two"),
        ("host", "10.1.1.7", "inner"),
        ("range", "10.1.1.9", f"the range 10.1.1.9-10.1.1.20 in {where} line 18"),
        ("range", "10.1.1.8", f"the range 10.1.1.8 in {where} line 17"),
        ("range", "10.1.1.3", f"the range 10.1.1.3 in {where} line 26"),
    ]
    seen = look(conf)
    assert [one.code for one in seen.findings] == ["foreign_host", "foreign_range"]
    assert f"'Printer' of dhcpd 'main' in {where} line 7 gives 10.1.1.4" in seen.findings[0].message
    assert seen.is_whole
    assert "Printer" not in [one.holder for one in look(conf, frozenset({"Printer"})).evidence]


def test_our_own_hosts_are_none_of_others(tmp_path: Path) -> None:
    """The hosts of a static pool and of the probe; a dynamic range of ours that meets a pool is still one."""
    static = "".join(
        f"  host macbind-static-10.1.1.{n} {{ hardware ethernet 00:16:3e:01:01:0{n}; fixed-address 10.1.1.{n}; }}\n"
        for n in range(3, 10)
    )
    probe = "host macbind-probe {\n  hardware ethernet 02:6d:62:00:00:01;\n  fixed-address 10.1.1.3;\n}\n"
    conf = read(tmp_path, f"{probe}group {{\n{static}}}\nhost a {{ fixed-address 10.1.1.4; }}\n")
    assert shown(conf) == [("host", "10.1.1.4", "a")]
    assert conf.hosts[-1].place.line == 14
    assert shown(read(tmp_path, "subnet x { pool { range 10.1.1.9 10.1.1.30; } }"))[0][1] == "10.1.1.9"


def test_included_files_are_read_where_they_are_included(tmp_path: Path) -> None:
    """Within a block, too; a file that includes itself, or cannot be read, stops nothing."""
    (tmp_path / "hosts").write_text('host a { fixed-address 10.1.1.4; }\ninclude "hosts";\n')
    (tmp_path / "inside").write_text("hardware ethernet 00:11:22:33:44:55;\n")
    text = f"""
group {{ include "{tmp_path}/hosts"; }}
include "{tmp_path}/missing";
host b {{ include "inside"; fixed-address 10.1.1.5; }}
"""
    (tmp_path / "dhcpd.conf").write_text(text)
    conf = read_conf(tmp_path / "dhcpd.conf", cwd=tmp_path)
    assert [(one.name, str(one.mac)) for one in conf.hosts] == [("a", "None"), ("b", "00:11:22:33:44:55")]
    assert ["includes itself" in one.text for one in conf.notes] == [True]
    seen = look(conf)
    assert not seen.is_whole
    codes = [one.code for one in seen.findings]
    assert codes == ["foreign_host", "conf_file_unreadable", "conf_file_unclear"]
    assert f"{tmp_path}/missing" in seen.findings[1].message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("host a { fixed-address printer.example.org; }", "The host 'a' has a name for an address"),
        ("host a { hardware ethernet 1:2; }", "This hardware address"),
        ("}", "This brace closes nothing"),
        ("subnet x { range low high; }", "This range cannot be read"),
        ("group {", "This block has no end"),
    ],
)
def test_a_fault_is_told_with_its_line_and_stops_nothing(tmp_path: Path, text: str, words: str) -> None:
    """What stands before and behind it is read."""
    before, behind = "host x { fixed-address 10.1.1.4; }\n", "\nhost y { fixed-address 10.1.1.5; }\n"
    conf = read(tmp_path, before + text + behind)
    assert {"x", "y"} <= {one.name for one in conf.hosts}
    (unclear,) = (one for one in look(conf).findings if one.code == "conf_file_unclear")
    assert "dhcpd.conf line 2, which" in unclear.message
    assert words in unclear.message


def test_files_that_nobody_should_have_written_cost_little(tmp_path: Path) -> None:
    """Pipes, devices, braces without end and includes without end are told, and end."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "endless").symlink_to("/dev/zero")
    for name in ("pipe", "endless"):
        failed = read_conf(tmp_path / name).failed
        assert failed is not None
        assert "ordinary" in str(failed)
    deep = read(tmp_path, "{" * 200_000 + "}" * 200_001 + "host a { fixed-address 10.1.1.4; }")
    assert len(deep.notes) == MAX_NOTES
    for number in range(40):
        read(tmp_path, f'include "{tmp_path}/{number + 1}"; host h{number} {{ }}', str(number))
    chain = read_conf(tmp_path / "0")
    assert "too deeply" in chain.notes[0].text
    assert chain.failed is None


@given(st.binary(max_size=400), st.integers(0, len(SITE)), st.binary(max_size=8))
def test_no_bytes_break_the_reading(noise: bytes, at: int, splice: bytes) -> None:
    """Whatever is in the file, and whatever has become of it, it is read to its end."""
    place = Path(os.environ.get("TMPDIR", "/tmp"), f"macbind-conf-{os.getpid()}")  # removed below
    try:
        for data in (noise, SITE[:at].encode() + splice + SITE[at + len(splice) :].encode()):
            place.write_bytes(data)
            look(read_conf(place))
    finally:
        place.unlink()


def test_the_configuration_that_opens_our_port_is_in_force(tmp_path: Path) -> None:
    """Of the dhcpds that run the one with our lease file or our port; else what macbind renders."""
    ours, own = tmp_path / "macbind.conf", tmp_path / "own.conf"
    ours.write_text("omapi-port 7911;\n")
    own.write_text('include "macbind.conf";\nhost a { fixed-address 10.1.1.4; }\n')
    (tmp_path / "else.conf").write_text("omapi-port 7912;\n")
    settings = DhcpdSettings().model_copy(update={"config_file": ours, "leases_file": tmp_path / "leases"})

    def chosen(*running: Started, **keys: object) -> Path | None:
        conf = conf_in_force(settings.model_copy(update=keys), lambda: running, lambda: None)
        return None if conf is None else conf.path

    elsewhere = Started(tmp_path / "else.conf", tmp_path / "other", tmp_path)
    mine = Started(own, tmp_path / "other", tmp_path)
    assert chosen(elsewhere, mine) == own
    assert chosen(Started(tmp_path / "else.conf", tmp_path / "leases", tmp_path)) == tmp_path / "else.conf"
    assert chosen(elsewhere) == ours
    assert chosen(elsewhere, conf_file=own) == own
    assert chosen(mine, host="192.0.2.1") is None
    assert chosen(port=7999) is None
    assert IPv4Address("10.1.1.4") in [one.address for one in look(read_conf(own, cwd=tmp_path)).evidence]
