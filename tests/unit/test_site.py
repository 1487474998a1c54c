"""What `macbind init` makes of its answers, and what it proposes; no file and no interface is touched."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from macbind.cli.resolver import read_resolver
from macbind.cli.site import Site, document, parse
from macbind.core.errors import InvalidRequest

SITE = Site(interface="br0", subnet="10.1.0.0/16", own=[IPv4Address("10.1.0.1")], gateways=["10.1.0.1"])


def altered(**changes: object) -> Site:
    """The site with other answers."""
    known = {name: getattr(SITE, name) for name in Site.__dataclass_fields__}
    return Site(**{**known, **changes})


def test_smallest_site_serves_the_whole_subnet() -> None:
    """Interface and subnet are enough: every address but the network's own, the broadcast and the gateway."""
    settings = parse(SITE)
    pool = settings.pools["farm"]
    assert pool.plan.size == 2**16 - 3
    assert IPv4Address("10.1.0.1") not in pool.plan
    dhcpd = settings.dhcpds["main"]
    assert (dhcpd.probe, dhcpd.log) == ("br0", "journal:isc-dhcp-server.service")
    assert settings.service.socket_group == "macbind-users"


def test_own_addresses_are_never_handed_out() -> None:
    """An interface with an address that is neither gateway nor DNS server keeps it."""
    site = altered(own=[IPv4Address("10.1.0.7"), IPv4Address("10.1.0.8")], name_servers=["10.1.0.8"])
    plan = parse(site).pools["farm"].plan
    assert IPv4Address("10.1.0.7") not in plan
    assert IPv4Address("10.1.0.8") not in plan
    assert 'exclude = ["10.1.0.7"]' in document(site)


def test_a_gateway_may_be_a_rule() -> None:
    """The answer x.x.0.1 is the subnet's rule; what is wrong with one is said as of any other answer."""
    site = altered(gateways=["x.x.0.1"], own=[IPv4Address("10.1.0.7")])
    assert str(parse(site).pools["farm"].gateway_rule) == "x.x.0.1"
    assert IPv4Address("10.1.0.7") not in parse(site).pools["farm"].plan
    with pytest.raises(
        InvalidRequest, match=r"gateway: The rule x\.2\.0\.1 gives 10\.1\.0\.1 the gateway 10\.2\.0\.1"
    ):
        parse(altered(gateways=["x.2.0.1"]))


def test_hypervisors_are_named_after_their_hosts() -> None:
    """One on this machine is local; others have their host's name; of one name they are numbered."""
    uris = ["qemu:///system", "qemu+ssh://root@hv1.example.org/system", "qemu+tls://HV1/system", "xen:///"]
    found = {name: one.uri for name, one in parse(altered(hypervisors=uris)).hypervisors.items()}
    assert found == dict(zip(["local", "hv1", "hv1-2", "local-2"], uris, strict=True))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"ranges": ["10.2.0.0/24"]}, "[pool.farm] ranges"),
        ({"gateways": ["10.2.0.1"]}, '[subnet."10.1.0.0/16"] routers'),
        ({"pool": "no good"}, "has a name that cannot be used"),
        ({"domain_name": "a b"}, "domain_name"),
        ({"hypervisors": ["nonsense"]}, "must be a libvirt URI"),
    ],
)
def test_fault_is_told_without_the_drafts_name(changes: dict[str, object], sentence: str) -> None:
    """What the parser refuses is the user's answer, not a line of a file that nobody has written."""
    with pytest.raises(InvalidRequest) as refused:
        parse(altered(**changes))
    assert refused.value.message.startswith("These answers make no configuration: ")
    assert sentence in refused.value.message
    assert "macbind-init-" not in str(refused.value)


@given(
    text=st.text(st.characters(codec="utf-8"), max_size=40),
    where=st.sampled_from(
        ["pool", "ranges", "gateways", "name_servers", "domain_name", "hypervisors", "interface"]
    ),
)
def test_no_answer_becomes_another_key(text: str, where: str) -> None:
    """Whatever is typed stays one value: it is refused, or the configuration has one subnet, one pool, one dhcpd."""
    site = altered(**{where: text if where in {"pool", "domain_name", "interface"} else [text]})
    try:
        settings = parse(site)
    except InvalidRequest:
        return
    assert list(settings.subnets) == [IPv4Network("10.1.0.0/16")]
    assert list(settings.dhcpds) == ["main"]
    assert list(settings.pools) == [site.pool]
    assert settings.registry.url == "sqlite:////var/lib/macbind/registry.db"


def test_name_servers_that_only_this_machine_can_reach_are_not_proposed() -> None:
    """A stub resolver on loopback, IPv6 and comments are passed over; the order stays."""
    lines = [
        "# nameserver 192.0.2.9",
        "nameserver 127.0.0.53",
        "nameserver 192.0.2.1",
        "nameserver fe80::1%eth0",
        "search example.org",
        "nameserver",
        "nameserver 192.0.2.2 # second",
    ]
    found = read_resolver(lines)
    assert found.servers == (IPv4Address("192.0.2.1"), IPv4Address("192.0.2.2"))
    assert found.domain == "example.org"
