"""Gateways by rule in the registry: what each reservation says, and what becomes of it when the rule changes."""

from __future__ import annotations

from ipaddress import IPv6Address
from typing import Any

import pytest

from contract.book import Book, addresses, ip, make_pool
from macbind.core.binding_plan import Ensure
from macbind.core.dhcp_options import DhcpOptions
from macbind.core.errors import ConfigError, InvalidOption, NotInPool
from macbind.core.pool import Pool
from macbind.dhcp.isc import syntax
from macbind.registry.release import release
from macbind.registry.renumber import begin_renumber

RANGES = ["10.1.1.254-10.1.2.3"]
OWN = DhcpOptions(routers=(ip("10.1.0.9"),))
_UNREACHABLE = r"is not a machine's address on the subnet 10\.1\.0\.0/16"


def ruled(gateway: str | None = "x.x.x.1", **more: Any) -> Pool:
    """A pool around the boundary of two /24s."""
    return make_pool(subnet="10.1.0.0/16", ranges=RANGES, gateway=gateway, **more)


def told(book: Book) -> dict[str, str]:
    """What dhcpd is to be told of each address."""
    due = [item.change for item in book.due()]
    return {str(one.address): syntax.line(one.binding.options) for one in due if isinstance(one, Ensure)}


def test_each_reservation_carries_its_own_gateway(book: Book) -> None:
    """Machines on both sides of the boundary differ; the gateway between them is passed by; own routers count."""
    book.open(ruled())
    made = book.allocate("a", "b", "c", "d")
    assert addresses(made) == ["10.1.1.254", "10.1.1.255", "10.1.2.0", "10.1.2.2"]
    book.one("e", options=OWN)
    first, second = "option routers 10.1.1.1;", "option routers 10.1.2.1;"
    wanted = {
        "10.1.1.254": first,
        "10.1.1.255": first,
        "10.1.2.0": second,
        "10.1.2.2": second,
        "10.1.2.3": "option routers 10.1.0.9;",
    }
    assert told(book) == wanted
    book.confirm()
    assert {str(one.address): str(one.gateway) for one in book.find()} == {
        text: said.split()[-1].rstrip(";") for text, said in wanted.items()
    }


def test_a_changed_rule_renews_the_reservations(book: Book) -> None:
    """Machines that follow the rule get a new generation and are told; opening again changes nothing more."""
    book.open(ruled())
    book.allocate("a", "b")
    book.one("own", options=OWN)
    book.confirm()
    before = {one.name: one.generation for one in book.find()}
    book.open(ruled("x.x.0.1"))
    assert {text: said for text, said in told(book).items() if text < "10.1.2"} == dict.fromkeys(
        ["10.1.1.254", "10.1.1.255"], "option routers 10.1.0.1;"
    )
    after = {one.name: one.generation for one in book.find()}
    assert all(after[name] > before[name] for name in ("a", "b"))
    book.confirm()
    book.open(ruled("x.x.0.1"))
    assert told(book) == {}
    assert {one.name: one.generation for one in book.find()} == after
    book.open(ruled(None))
    assert told(book)["10.1.1.254"] == ""


def test_a_machine_cannot_become_a_gateway(book: Book) -> None:
    """A rule that makes an allocated or pinned address a gateway is refused, and carried out when it is released."""
    book.open(ruled(None))
    book.reserve("pin", "10.1.77.3")
    book.allocate("a", "b")
    for rule, held in (
        ("x.x.x.3", "10.1.77.3 a gateway of 10.1.0.0/16, but 'pin'"),
        ("x.x.x.254", "10.1.1.254"),
    ):
        with pytest.raises(ConfigError, match=f"The configuration makes {held}"):
            book.open(ruled(rule))
    book.open(ruled("x.x.x.1"))
    book.release("a")
    book.confirm()
    book.open(ruled("x.x.x.254"))
    assert addresses(book.find()) == ["10.1.1.255", "10.1.77.3"]


def test_a_gateway_cannot_be_reserved_by_hand(book: Book) -> None:
    """No address that is a gateway by the rule is anybody's, inside the ranges or outside."""
    book.open(ruled())
    for text in ("10.1.2.1", "10.1.99.1"):
        with pytest.raises(NotInPool, match="network, broadcast or gateway address"):
            book.reserve("pin", text)
        with pytest.raises(NotInPool):
            book.one("a", address=ip(text))
    assert str(book.reserve("pin", "10.1.99.2").gateway) == "10.1.99.1"


def through(gateway: str) -> DhcpOptions:
    """Options of a machine with this gateway."""
    return DhcpOptions(routers=(ip("10.1.0.9"), ip(gateway)))


def test_a_gateway_of_its_own_must_be_within_reach(book: Book) -> None:
    """A router, or a route's gateway, on another subnet is refused, and so are the two ends of its own."""
    book.open(ruled())
    elsewhere = DhcpOptions.parse({"static_routes": ["10.9.0.0/16 via 10.2.0.1"]})
    for options in (through("10.2.0.1"), through("10.1.0.0"), through("10.1.255.255"), elsewhere):
        with pytest.raises(InvalidOption, match=_UNREACHABLE):
            book.one("a", options=options)
        with pytest.raises(InvalidOption, match=_UNREACHABLE):
            book.reserve("a", "10.1.7.7", options=options)
    assert book.find() == []


def test_a_machine_is_not_its_own_gateway(book: Book) -> None:
    """Neither when it is reserved nor when it is renumbered to that."""
    book.open(ruled())
    with pytest.raises(InvalidOption, match=r"routers: 10\.1\.7\.7 is the machine's own address"):
        book.reserve("a", "10.1.7.7", options=through("10.1.7.7"))
    book.reserve("a", "10.1.7.8", options=through("10.1.7.7"))
    with book.write() as txn, pytest.raises(InvalidOption, match="own address"):
        begin_renumber(txn, "a", ip("10.1.7.7"), "a-token", 60)


def test_no_machine_is_given_the_address_of_anothers_gateway(book: Book) -> None:
    """What a pool may still hand out is no gateway; held by a router it is one, and a repeated call finds its own."""
    book.open(ruled())
    wanted = through("10.1.2.2")
    unoccupied = r"routers: 10\.1\.2\.2 is an unoccupied address of the pool 'farm'"
    with pytest.raises(InvalidOption, match=unoccupied):
        book.one("a", options=wanted)
    with pytest.raises(InvalidOption, match=unoccupied):
        book.reserve("a", "10.1.7.7", options=wanted)
    book.reserve("router", "10.1.2.2", "b8:27:eb:00:00:01")
    made = book.one("a", options=wanted)
    with book.write() as txn:
        release(txn, name="router", pinned=True)
    assert book.one("a", options=wanted) == made


def test_a_renumbering_takes_the_gateway_of_the_new_address(book: Book) -> None:
    """By the rule, unless the machine has routers of its own, which go with it."""
    book.open(ruled())
    book.reserve("router", "10.1.2.0")
    book.allocate("a")
    book.one("own", options=through("10.1.2.0"))
    book.confirm()
    with book.write() as txn:
        begun = [
            begin_renumber(txn, name, ip(to), f"token-{name}", 60)
            for name, to in (("a", "10.1.2.2"), ("own", "10.1.2.3"))
        ]
    assert [(str(one.old.gateway), str(one.new.gateway)) for one in begun] == [
        ("10.1.1.1", "10.1.2.1"),
        ("10.1.0.9", "10.1.0.9"),
    ]
    assert told(book) == {
        "10.1.2.2": "option routers 10.1.2.1;",
        "10.1.2.3": "option routers 10.1.0.9, 10.1.2.0;",
    }
    for taken in ("x.x.x.2", "x.x.x.3"):  # an address that is only renumbered to is no less a machine's
        with pytest.raises(ConfigError, match=r"a gateway of 10\.1\.0\.0/16, but"):
            book.open(ruled(taken))
    book.open(ruled())


def test_ipv6_addresses_are_known_before_boot(book: Book) -> None:
    """The link-local address always, the other where the pool has a prefix, of the MAC that the machine has."""
    book.open(make_pool("six", ipv6_prefix="2001:db8:1::/64"), make_pool("four", subnet="10.2.0.0/28"))
    six, four = book.one("a", pool="six"), book.one("b", pool="four")
    assert six.ipv6 == IPv6Address("2001:db8:1:0:216:3eff:fe01:101")
    assert (four.ipv6, four.link_local) == (None, IPv6Address("fe80::216:3eff:fe02:1"))
    pinned = book.reserve("printer", "10.1.1.9", "b8:27:eb:00:00:01")
    assert pinned.ipv6 == IPv6Address("2001:db8:1:0:ba27:ebff:fe00:1")
    assert book.find(names=["a"]) == [six]
