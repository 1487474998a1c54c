"""What `macbind init` reads of a site that is there already: interfaces and their owners, resolvers, a dhcpd."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path

import pytest

from macbind.cli.interfaces import Interface, candidates, dhcp_servers, libvirt_bridges
from macbind.cli.own_dhcpd import own_dhcpd
from macbind.cli.resolver import Resolver, resolver
from macbind.cli.site import Site, document, include, parse
from macbind.config import load
from macbind.core.errors import ConfigError
from macbind.dhcp.isc.config_test import check
from macbind.dhcp.isc.render import render, try_out

BR0 = Interface("br0", (IPv4Interface("10.0.0.1/8"),), None, bridge=True)
OWN = """
# omapi-port 1;
subnet 10.0.0.0 netmask 255.0.0.0 { # subnet 10.7.0.0 netmask 255.255.0.0 {
  range 10.0.9.1 10.0.9.99;
  pool { range dynamic-bootp 10.0.9.200; deny unknown-clients; }
  host a { hardware ethernet 00:00:00:00:00:01; fixed-address 10.0.8.8, printer.example.org; }
}
shared-network x {
  subnet
    10.20.0.0 netmask 255.255.0.0 { }
}
include "%s/more.conf";
"""


def test_bridges_of_others_are_named_and_not_proposed() -> None:
    """docker0, a libvirt network's bridge and one with its own DHCP server are others'; an uplink is no proposal."""
    docker = replace(BR0, name="docker0", owner="Docker")
    virbr = replace(BR0, name="virbr0", owner="libvirt's network 'default'", server="dnsmasq")
    served = replace(BR0, name="br5", server="dnsmasq")
    uplink = replace(BR0, name="eth0", bridge=False)
    assert candidates([docker, virbr, served, uplink, BR0]) == [BR0]
    assert str(virbr) == "virbr0 (10.0.0.1/8, of libvirt's network 'default', served by dnsmasq)"


def test_dhcp_servers_are_found_by_their_sockets() -> None:
    """Lines of ss: one bound to an interface, one to all, dhcpd itself, which is no other, and one without a name."""
    lines = [
        'UNCONN 0 0 0.0.0.0%virbr0:67 0.0.0.0:* users:(("dnsmasq",pid=907,fd=3))',
        'UNCONN 0 0 0.0.0.0:67 0.0.0.0:* users:(("dhcpd",pid=1,fd=7))',
        "UNCONN 0 0 0.0.0.0%br7:67 0.0.0.0:*",
    ]
    assert dhcp_servers(lines) == {"virbr0": "dnsmasq", "br7": "another program"}
    assert dhcp_servers(['UNCONN 0 0 0.0.0.0:67 0.0.0.0:* users:(("dnsmasq",pid=9,fd=3))']) == {"": "dnsmasq"}


def test_only_networks_that_libvirt_serves_are_its_own(tmp_path: Path) -> None:
    """A network that uses a bridge of the site does not own it; a file that is no XML is passed over."""
    (tmp_path / "default.xml").write_text(
        "<network><name>default</name><bridge name='virbr0'/><ip address='192.168.122.1'><dhcp/></ip></network>"
    )
    (tmp_path / "mine.xml").write_text(
        "<network><name>mine</name><forward mode='bridge'/><bridge name='br0'/></network>"
    )
    (tmp_path / "broken.xml").write_text("<network>")
    assert libvirt_bridges(tmp_path) == {"virbr0": "libvirt's network 'default'"}


def test_servers_behind_a_stub_are_proposed(tmp_path: Path) -> None:
    """Where resolv.conf has only this machine's stub, the upstream servers count; its domain is kept."""
    stub, upstream = tmp_path / "stub", tmp_path / "upstream"
    stub.write_text("nameserver 127.0.0.53\noptions edns0\nsearch farm.example.org other.example\n")
    upstream.write_text("nameserver 192.0.2.1\nnameserver 192.0.2.2\nsearch .\n")
    wanted = Resolver((IPv4Address("192.0.2.1"), IPv4Address("192.0.2.2")), "farm.example.org")
    assert resolver([stub, upstream]) == wanted
    assert resolver([stub, tmp_path / "none"]) == Resolver((), "farm.example.org")


def own(tmp_path: Path, defaults: str = "", more: str = "") -> Path:
    """An own configuration with an included file, and a file of defaults beside it."""
    (tmp_path / "dhcpd.conf").write_text(OWN % tmp_path)
    (tmp_path / "more.conf").write_text("subnet 10.30.0.0 netmask 255.255.0.0 { }\n" + more)
    (tmp_path / "defaults").write_text(defaults)
    return tmp_path / "dhcpd.conf"


def test_an_own_dhcpd_is_read_with_its_includes(tmp_path: Path) -> None:
    """Subnets wherever they stand, ranges, fixed addresses, and whether it has an OMAPI port; no comment counts."""
    path = own(tmp_path, 'INTERFACESv4="br0 br1" # both\n#DHCPDv4_CONF=/nowhere\n')
    found = own_dhcpd(tmp_path / "defaults", path, [])
    assert found is not None
    assert [str(one) for one in found.subnets] == ["10.0.0.0/8", "10.20.0.0/16", "10.30.0.0/16"]
    assert found.within(IPv4Network("10.0.0.0/8")) == ["10.0.8.8", "10.0.9.1-10.0.9.99", "10.0.9.200"]
    assert (found.interfaces, found.chosen, found.omapi_port) == (("br0", "br1"), False, None)
    own(tmp_path, f"DHCPDv4_CONF={path}\n", "omapi-port 7911;\n")
    found = own_dhcpd(tmp_path / "defaults", tmp_path / "nowhere", [])
    assert found is not None
    assert (found.path, found.chosen, found.omapi_port) == (path, True, 7911)


def test_beside_declares_no_second_subnet_and_changes_nothing_global(tmp_path: Path) -> None:
    """What the site hands out is left out of the pool; a binding says all it has to; dhcpd takes the whole."""
    path = own(tmp_path)
    found = own_dhcpd(tmp_path / "defaults", path, [])
    site = Site(interface="br0", subnet="10.0.0.0/8", gateways=["10.0.0.1"], beside=found)
    assert 'exclude = ["10.0.8.8", "10.0.9.1-10.0.9.99", "10.0.9.200"]' in document(site)
    settings = parse(site)
    text = render(settings, "main")
    for word in (
        "subnet",
        "authoritative",
        "ping-check",
        "ignore-client-uids",
        "dont-use-fsync",
        "unknown-clients",
    ):
        assert word not in text
    pool = settings.pools["farm"]
    told = pool.binding_options(IPv4Address("10.1.1.3"))
    assert told.routers == (IPv4Address("10.0.0.1"),)
    check(text, within=path)


def test_a_subnet_of_our_own_beside_others_keeps_its_manners_to_itself(tmp_path: Path) -> None:
    """What makes our machines' DHCP right stands in our subnet only."""
    found = own_dhcpd(tmp_path / "defaults", own(tmp_path), [])
    assert found is not None
    site = Site(interface="br0", subnet="11.0.0.0/8", beside=found)
    text = render(parse(site), "main")
    before, ours = text.split("subnet 11.0.0.0 netmask 255.0.0.0 {")
    assert "ping-check" not in before
    assert "  ping-check false;\n" in ours
    assert "  deny unknown-clients;\n" in ours
    check(text, within=found.path)


def test_dhcpds_refusal_names_the_sites_own_file(tmp_path: Path) -> None:
    """A fault in the site's own part is told as its own."""
    found = own_dhcpd(tmp_path / "defaults", own(tmp_path), [])
    assert found is not None
    text = render(parse(Site(interface="br0", subnet="11.0.0.0/8", beside=found)), "main")
    found.path.write_text(found.path.read_text() + "option no-such-option 1;\n")
    with pytest.raises(ConfigError, match=r"dhcpd refuses line \d+ of .*/dhcpd\.conf, with macbind's part: "):
        check(text, within=found.path)


def test_the_include_is_one_line_once(tmp_path: Path) -> None:
    """The file keeps its owner, mode and text; a second time changes nothing."""
    path = tmp_path / "dhcpd.conf"
    path.write_bytes(b"# caf\xe9\nsubnet")
    path.chmod(0o640)
    for _ in range(2):
        include(path, Path("/etc/dhcp/macbind.conf"))
    assert path.read_bytes() == b'# caf\xe9\nsubnet\ninclude "/etc/dhcp/macbind.conf"; # by macbind init\n'
    assert path.stat().st_mode & 0o777 == 0o640


def test_a_subnet_is_declared_once(tmp_path: Path) -> None:
    """Ours beside a subnet of the site's own that it overlaps, or that lies on the same wire, is refused."""
    found = own_dhcpd(tmp_path / "defaults", own(tmp_path), [])
    assert found is not None
    ours = Site(interface="br0", subnet="11.0.0.0/8", beside=found)
    settings = parse(ours)
    try_out(settings, "main", render(settings, "main"))
    overlapping = parse(replace(ours, subnet="10.20.0.0/24"))
    with pytest.raises(
        ConfigError, match=r"The subnet 10\.20\.0\.0/24 is declared in .*/dhcpd\.conf line 3, too, as 10\."
    ):
        try_out(overlapping, "main", render(overlapping, "main"))
    more = document(ours) + '[subnet."10.0.0.0/8"]\nrendered = false\n'
    (tmp_path / "macbind.toml").write_text(more)
    both = load(tmp_path / "macbind.toml")
    render(both, "main", {"br0": (IPv4Address("11.0.0.1"),), "br1": (IPv4Address("10.0.0.1"),)})
    with pytest.raises(ConfigError, match=r"11\.0\.0\.0/8 and 10\.0\.0\.0/8 lie on one wire"):
        render(both, "main", {"br0": (IPv4Address("11.0.0.1"), IPv4Address("10.0.0.1"))})


@pytest.mark.parametrize("key", ["dynamic = []", "lease_time_s = 60", 'shared_network = "x"'])
def test_what_only_a_rendered_subnet_can_say_is_refused(tmp_path: Path, key: str) -> None:
    """A key that would have no effect is a fault, with its line."""
    path = tmp_path / "macbind.toml"
    path.write_text(
        f'[dhcpd.main]\n[pool.farm]\nsubnet = "10.0.0.0/8"\n[subnet."10.0.0.0/8"]\nrendered = false\n{key}\n'
    )
    with pytest.raises(
        ConfigError, match=rf"line 6: .* {key.split(maxsplit=1)[0]} has no effect with rendered = false"
    ):
        load(path)
