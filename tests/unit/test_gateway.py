"""Gateways by rule: how a rule is written, which one a machine follows, and what dhcpd is told of it."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from macbind.config import Settings, load
from macbind.core.address_range import AddressRange
from macbind.core.dhcp_options import DhcpOptions
from macbind.core.errors import InvalidAddress
from macbind.core.gateway_rule import GatewayRule
from macbind.core.pool import Pool
from macbind.dhcp.isc import syntax
from macbind.dhcp.isc.config_test import check
from macbind.dhcp.isc.render import render
from macbind.guest.facts import GuestPool

SEED = IPv4Address("10.4.0.15")


def settings_of(directory: Path, text: str) -> Settings:
    """The settings of a configuration with these subnets and pools."""
    path = directory / "macbind.toml"
    path.write_text(f"[dhcpd.main]\n{text}", encoding="utf-8")
    return load(path)


def pool_of(directory: Path, subnet: str, pool: str) -> Pool:
    """A pool of 10.0.0.0/8, with these lines in its subnet's table and in its own."""
    text = f'[subnet."10.0.0.0/8"]\n{subnet}\n[pool.farm]\nsubnet = "10.0.0.0/8"\n{pool}\n'
    return settings_of(directory, text).pools["farm"]


@pytest.mark.parametrize(
    ("rule", "gateway"),
    [
        ("x.x.0.1", "10.4.0.1"),
        ("X.x.X.254", "10.4.0.254"),
        (" 10.x.0.1 ", "10.4.0.1"),
        ("10.0.0.1", "10.0.0.1"),
        ("x.9.x.7", "10.9.0.7"),
    ],
)
def test_rule_gives_each_machine_its_gateway(rule: str, gateway: str) -> None:
    """An x is the machine's own octet, a number stands for itself; the text comes back as it was meant."""
    read = GatewayRule.parse(rule)
    assert read.of(SEED) == IPv4Address(gateway)
    assert str(read) == rule.strip().lower()
    assert GatewayRule.parse(str(read)) == read


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "x.x.0",
        "x.x.0.1.1",
        "x.x.0.x",
        "x.x.0.256",
        "x.x.0.01",
        "x.x.0.-1",
        "x.y.0.1",
        "x.x.0.1/16",
        "x.x.0.²",
    ],
)
def test_what_is_no_rule_is_refused(text: str) -> None:
    """The last octet is a number, there are four, and each is x or a number as people write it."""
    with pytest.raises(InvalidAddress, match="is no rule for a gateway"):
        GatewayRule.parse(text)


@pytest.mark.parametrize(
    ("subnet", "pool", "own", "gateway"),
    [
        ('gateway = "x.x.0.1"', "", {}, "10.4.0.1"),
        ('gateway = "x.x.0.1"', 'gateway = "x.x.x.2"', {}, "10.4.0.2"),
        ('gateway = "x.x.0.1"', 'routers = ["10.0.0.9"]', {}, "10.0.0.9"),
        ('routers = ["10.0.0.9"]', 'gateway = "x.x.0.1"', {}, "10.4.0.1"),
        ('gateway = "x.x.0.1"', 'gateway = "x.x.x.2"', {"routers": ["10.0.0.8"]}, "10.0.0.8"),
        ('gateway = "x.x.0.1"', "", {"static_routes": ["10.9.0.0/16 via 10.0.0.7"]}, "10.4.0.1"),
        ('gateway = "x.x.0.1"', "", {"static_routes": ["0.0.0.0/0 via 10.0.0.7"]}, "10.0.0.7"),
        ('gateway = "x.x.0.1"', 'static_routes = ["0.0.0.0/0 via 10.0.0.7"]', {}, "10.0.0.7"),
        (
            'gateway = "x.x.0.1"',
            'static_routes = ["0.0.0.0/0 via 10.0.0.7"]',
            {"routers": ["10.0.0.8"]},
            "10.0.0.7",
        ),
        ('routers = ["10.0.0.9"]', "", {}, "10.0.0.9"),
        ("", "", {}, None),
    ],
)
def test_what_is_said_nearest_to_the_machine_counts(
    tmp_path: Path, subnet: str, pool: str, own: dict[str, object], gateway: str | None
) -> None:
    """The machine's own routers, then the pool's gateway or routers, then the subnet's; a default route above all."""
    made, options = pool_of(tmp_path, subnet, pool), DhcpOptions.parse(own)
    wanted = None if gateway is None else IPv4Address(gateway)
    assert made.gateway_of(SEED, options) == wanted
    assert made.effective_options(SEED, options).gateway == wanted
    if not own:
        assert (made.default_gateway_rule and made.default_gateway_rule.of(SEED)) == wanted
        assert GuestPool.of(made).gateway == made.default_gateway_rule


def test_gateways_by_rule_are_never_handed_out(tmp_path: Path) -> None:
    """Neither those of the subnet's rule, nor those of any pool's, in any pool of the subnet."""
    settings = settings_of(
        tmp_path,
        '[subnet."10.0.0.0/8"]\ngateway = "x.x.0.1"\n'
        '[pool.a]\nsubnet = "10.0.0.0/8"\nranges = ["10.1.255.250-10.2.0.2"]\n'
        '[pool.b]\nsubnet = "10.0.0.0/8"\nranges = ["10.3.0.0-10.3.1.3"]\ngateway = "x.x.x.2"\n',
    )
    a, b = (settings.pools[name].plan for name in "ab")
    assert a.assignable == tuple(AddressRange.parse(text) for text in ("10.1.255.250-10.2.0.0",))
    assert b.assignable == tuple(
        AddressRange.parse(text) for text in ("10.3.0.0", "10.3.0.3-10.3.1.1", "10.3.1.3")
    )
    for text in ("10.77.0.1", "10.77.5.2", "10.0.0.0", "10.255.255.255"):
        assert a.forbids(IPv4Address(text)), text
    assert not a.forbids(IPv4Address("10.77.5.1"))


@pytest.mark.parametrize("network", ["0.0.0.0/8", "255.255.255.0/24"])
def test_the_ends_of_all_addresses_have_no_neighbour(tmp_path: Path, network: str) -> None:
    """A rule on the first or the last of all subnets is checked like any other."""
    text = f'[subnet."{network}"]\n[pool.farm]\nsubnet = "{network}"\ngateway = "x.x.x.9"\n'
    assert settings_of(tmp_path, text).pools["farm"].gateway_rule == GatewayRule.parse("x.x.x.9")


def test_a_host_is_told_the_gateway_of_its_own_address(tmp_path: Path) -> None:
    """The reservation carries the router of the rule, and the default route if there are static routes."""
    plain = pool_of(tmp_path, 'gateway = "x.x.0.1"', "")
    assert syntax.line(plain.binding_options(SEED)) == "option routers 10.4.0.1;"
    assert syntax.line(plain.binding_options(IPv4Address("10.5.1.1"))) == "option routers 10.5.0.1;"
    routed = pool_of(tmp_path, 'gateway = "x.x.0.1"\nstatic_routes = ["10.9.0.0/16 via 10.0.0.7"]', "")
    assert syntax.line(routed.binding_options(SEED)) == (
        "option routers 10.4.0.1; option unknown-121 = 10:0a:09:0a:00:00:07:00:0a:04:00:01; "
        "option unknown-249 = config-option unknown-121;"
    )
    same = pool_of(tmp_path, 'routers = ["10.4.0.1"]', 'gateway = "x.x.0.1"')
    assert syntax.line(same.binding_options(SEED)) == "", "the subnet says it already"
    assert syntax.line(same.binding_options(IPv4Address("10.5.1.1"))) == "option routers 10.5.0.1;"


def test_a_static_pool_is_rendered_in_groups_of_one_gateway(tmp_path: Path) -> None:
    """The gateway stands once for all machines in a row that have it, however the gaps between them."""
    text = render(
        settings_of(
            tmp_path,
            '[pool.s]\nsubnet = "10.0.0.0/8"\nmode = "static"\ngateway = "x.x.x.1"\n'
            'ranges = ["10.1.1.254-10.1.2.2", "10.1.2.9"]\n',
        ),
        "main",
    )
    host = "  host macbind-static-{0} {{ hardware ethernet 00:16:3e:{1}; fixed-address {0}; }}\n"
    hosts = [("10.1.1.254", "01:01:fe"), ("10.1.1.255", "01:01:ff"), ("10.1.2.0", "01:02:00")]
    hosts += [("10.1.2.2", "01:02:02"), ("10.1.2.9", "01:02:09")]
    lines = [host.format(*one) for one in hosts]
    assert text.partition("# The pool 's'.\n")[2] == (
        f"group {{\n  option routers 10.1.1.1;\n  use-host-decl-names off;\n{''.join(lines[:2])}}}\n"
        f"group {{\n  option routers 10.1.2.1;\n  use-host-decl-names off;\n{''.join(lines[2:])}}}\n"
    )
    check(text)


def test_dynamic_ranges_are_cut_where_the_gateway_changes(tmp_path: Path) -> None:
    """A machine that macbind does not know gets the gateway of its address as well: dhcpd has a pool for each."""
    text = render(
        settings_of(
            tmp_path,
            '[subnet."10.0.0.0/8"]\ngateway = "x.x.0.1"\nstatic_routes = ["10.9.0.0/16 via 10.0.0.7"]\n'
            'dynamic = ["10.1.255.9-10.2.0.0", "10.3.0.5"]\n[pool.a]\nsubnet = "10.0.0.0/8"\nranges = ["10.7.0.5"]\n',
        ),
        "main",
    )
    also = "option unknown-249 = config-option unknown-121;"
    routes = f"option unknown-121 = 10:0a:09:0a:00:00:07:00:0a:0{{}}:00:01; {also}"
    pool = "  pool {{ option routers 10.{0}.0.1; {1} range {2}; }}\n"
    assert (
        "".join(
            pool.format(number, routes.format(number), span)
            for number, span in [
                (1, "10.1.255.9 10.1.255.255"),
                (2, "10.2.0.0 10.2.0.0"),
                (3, "10.3.0.5 10.3.0.5"),
            ]
        )
        in text
    )
    check(text)


def test_guests_are_told_few_ranges(tmp_path: Path) -> None:
    """What a guest can tell by a rule is not listed, whoever's the rule is: there may be thousands."""
    seed = GuestPool.of(pool_of(tmp_path, 'gateway = "x.x.0.1"', ""))
    assert seed.ranges == (AddressRange.parse("10.0.0.2-10.255.255.254"),)
    assert seed.forbidden == (IPv4Address("10.0.0.0"), IPv4Address("10.255.255.255"))
    other = GuestPool.of(pool_of(tmp_path, 'gateway = "x.x.0.1"', 'routers = ["10.0.0.9"]'))
    assert other.ranges == (
        AddressRange.parse("10.0.0.2-10.0.0.8"),
        AddressRange.parse("10.0.0.10-10.255.255.254"),
    )
    assert len(other.forbidden) == 2 + 1
    assert other.others == (GatewayRule.parse("x.x.0.1"),)


def test_the_largest_rule_is_known_at_once(tmp_path: Path) -> None:
    """A gateway for each /24 of a /8: one gap in 256, and still every question is answered by a look or two."""
    made = pool_of(tmp_path, 'gateway = "x.x.x.1"', "")
    assert made.plan.size == (1 << 24) - (1 << 16) - 2
    assert made.plan.forbids(IPv4Address("10.200.3.1"))
    assert IPv4Address("10.200.3.1") not in made.plan
    assert IPv4Address("10.200.3.2") in made.plan
    assert IPv4Network("10.0.0.0/8") == made.subnet.network
