"""Pinned reservations: what an admin may pin, and what it is safe from."""

from __future__ import annotations

import pytest

from contract.book import Book, addresses, ip, make_pool
from macbind.core.allocation import State
from macbind.core.dhcp_options import DhcpOptions
from macbind.core.errors import AddressInUse, Conflict, NotInPool, PoolExhausted
from macbind.core.pool import PoolMode
from macbind.registry.release import release
from macbind.registry.reserve import reserve
from macbind.registry.resting import put_aside

_PRINTER = "00:80:77:31:01:07"


def test_a_pin_has_the_addresss_own_mac(book: Book) -> None:
    """Without a MAC a pinned address is bound to its own, which is also what its machine would have."""
    book.open(make_pool())
    made = book.reserve("dns", "10.1.1.3")
    assert (str(made.mac), made.pinned, made.state) == ("00:16:3e:01:01:03", True, State.PENDING)
    book.confirm()
    assert book.state("10.1.1.3") == "bound"


def test_a_pin_may_have_a_foreign_mac(book: Book) -> None:
    """A MAC that no pool could ever give can be bound to an address."""
    book.open(make_pool())
    assert str(book.reserve("printer", "10.1.1.3", _PRINTER).mac) == _PRINTER
    (due,) = book.due()
    assert due.change is not None
    assert str(due.change.mac) == _PRINTER


def test_allocate_passes_pins_by(book: Book) -> None:
    """Pinned addresses are skipped by the first unoccupied, and refused when wanted."""
    book.open(make_pool(ranges=["10.1.1.1-10.1.1.5"]))
    book.reserve("p1", "10.1.1.1")
    book.reserve("p3", "10.1.1.3")
    assert addresses(book.allocate("a", "b", "c")) == ["10.1.1.2", "10.1.1.4", "10.1.1.5"]
    with pytest.raises(AddressInUse, match=r"10\.1\.1\.3 is held by 'p3'"):
        book.one("d", address=ip("10.1.1.3"))
    with pytest.raises(Conflict, match=r"'p1' is already allocated .* pinned True, not False"):
        book.one("p1")


def test_a_pin_outside_of_the_ranges_never_becomes_allocatable(book: Book) -> None:
    """An address between the ranges or excluded can be pinned, and does not join the pool when it is given up."""
    book.open(make_pool(ranges=["10.1.1.1-10.1.1.2", "10.1.1.5-10.1.1.6"], exclude=["10.1.1.6-10.1.1.6"]))
    for text in ("10.1.1.3", "10.1.1.6", "10.1.1.14"):
        book.reserve(text, text)
    book.confirm()
    for text in ("10.1.1.3", "10.1.1.6", "10.1.1.14"):
        book.release(text, pinned=True)
    book.confirm()
    assert [book.state(text) for text in ("10.1.1.3", "10.1.1.6", "10.1.1.14")] == ["free"] * 3
    assert addresses(book.allocate("a", "b", "c")) == ["10.1.1.1", "10.1.1.2", "10.1.1.5"]


def test_the_same_pin_is_found_again(book: Book) -> None:
    """A repeated reservation returns what it made; the name with other parameters is a conflict."""
    book.open(make_pool())
    first = book.reserve("printer", "10.1.1.3", _PRINTER, DhcpOptions(hostname="lp"))
    assert book.reserve("printer", "10.1.1.3", _PRINTER, DhcpOptions(hostname="lp")) == first
    for address, mac, options in (
        ("10.1.1.4", _PRINTER, DhcpOptions(hostname="lp")),
        ("10.1.1.3", None, DhcpOptions(hostname="lp")),
        ("10.1.1.3", _PRINTER, DhcpOptions()),
    ):
        with pytest.raises(Conflict, match=rf"'printer' already names 10\.1\.1\.3 with {_PRINTER}"):
            book.reserve("printer", address, mac, options)
    book.one("machine")
    with pytest.raises(Conflict, match="'machine' already names"):
        book.reserve("machine", "10.1.1.1")


def test_a_taken_address_names_its_holder(book: Book) -> None:
    """An address somebody holds cannot be pinned; the error says who has it."""
    book.open(make_pool())
    book.one("a")
    with pytest.raises(AddressInUse, match=r"10\.1\.1\.1 is held by 'a'"):
        book.reserve("p", "10.1.1.1")


def test_a_taken_mac_names_its_holder(book: Book) -> None:
    """A MAC has one address; the error says whose it is, and while dhcpd still has it."""
    book.open(make_pool(cooldown_s=3600))
    book.reserve("printer", "10.1.1.3", _PRINTER)
    with pytest.raises(
        AddressInUse, match=rf"The MAC {_PRINTER} belongs to 'printer' \(10\.1\.1\.3\)\. One MAC"
    ):
        book.reserve("other", "10.1.1.4", _PRINTER)
    book.confirm()
    book.release("printer", pinned=True)
    with pytest.raises(AddressInUse, match="dhcpd has yet to confirm its release"):
        book.reserve("printer", "10.1.1.4", _PRINTER)


def test_a_device_can_move_while_its_old_address_rests(book: Book) -> None:
    """A MAC that is gone from every dhcpd can be pinned elsewhere, whatever its old address's cool-down."""
    book.open(make_pool(cooldown_s=3600), make_pool("other", subnet="10.2.0.0/28", cooldown_s=3600))
    book.reserve("printer", "10.1.1.3", _PRINTER)
    book.confirm()
    book.release("printer", pinned=True)
    book.confirm()
    assert book.state("10.1.1.3") == "cooling"
    assert str(book.reserve("printer", "10.2.0.4", _PRINTER).address) == "10.2.0.4"
    assert book.state("10.1.1.3") == "free"


def test_addresses_that_nobody_may_have(book: Book) -> None:
    """Gateway, network, broadcast, dynamic and foreign addresses cannot be pinned."""
    book.open(
        make_pool(gateways=["10.1.1.1"], ranges=["10.1.1.1-10.1.1.11"], dynamic=["10.1.1.12-10.1.1.13"])
    )
    for address, reason in (
        ("10.1.1.0", "is the network, broadcast or gateway address of 10.1.1.0/28"),
        ("10.1.1.15", "is the network, broadcast or gateway address of 10.1.1.0/28"),
        ("10.1.1.1", "is the network, broadcast or gateway address of 10.1.1.0/28"),
        ("10.1.1.12", "lies in the dynamic range 10.1.1.12-10.1.1.13"),
        ("10.3.0.1", "is in no pool's subnet. Subnets are 10.1.1.0/28."),
    ):
        with pytest.raises(NotInPool) as caught:
            book.reserve("p", address)
        assert str(caught.value).startswith(f"{address} {reason}")
    assert book.find() == []


def test_macs_that_cannot_be_pinned(book: Book) -> None:
    """A group MAC, none, or one that a pool would give to another address cannot be bound."""
    book.open(make_pool(), make_pool("other", subnet="10.2.0.0/28", prefix="52:54:00"))
    for mac, reason in (
        ("01:00:5e:00:00:01", "is not the MAC of a network card"),
        ("ff:ff:ff:ff:ff:ff", "is not the MAC of a network card"),
        ("00:00:00:00:00:00", "is not the MAC of a network card"),
        ("00:16:3e:01:01:05", "is the MAC of 10.1.1.5 in the pool 'farm'"),
        ("52:54:00:02:00:09", "is the MAC of 10.2.0.9 in the pool 'other'"),
    ):
        with pytest.raises(Conflict) as caught:
            book.reserve("p", "10.1.1.3", mac)
        assert str(caught.value).startswith(f"{mac} {reason}")
    assert book.find() == []


def test_a_static_pool_pins_only_what_its_file_says(book: Book) -> None:
    """In static mode an address of the file keeps its own MAC and options; others are pinned over OMAPI."""
    book.open(make_pool(mode=PoolMode.STATIC, ranges=["10.1.1.1-10.1.1.4"]))
    with pytest.raises(Conflict, match=r"10\.1\.1\.3 is bound to 00:16:3e:01:01:03 by dhcpd's configuration"):
        book.reserve("p", "10.1.1.3", _PRINTER)
    with pytest.raises(Conflict, match="static mode"):
        book.reserve("p", "10.1.1.3", options=DhcpOptions(hostname="x"))
    assert book.reserve("p", "10.1.1.3").state is State.BOUND
    made = book.reserve("printer", "10.1.1.9", _PRINTER, DhcpOptions(hostname="lp"))
    assert made.state is State.PENDING
    book.confirm()
    assert book.state("10.1.1.9") == "bound"


def test_a_pin_ends_only_by_being_ended_as_a_pin(book: Book) -> None:
    """Release refuses a reservation and unreserve refuses an allocation, by name and by address."""
    book.open(make_pool())
    book.reserve("p", "10.1.1.3")
    book.one("a")
    for which in ({"name": "p"}, {"address": ip("10.1.1.3")}):
        with pytest.raises(Conflict, match=r"'p' \(10\.1\.1\.3\) is a reservation\. Use `macbind unres"):
            book.release(**which)
    with pytest.raises(Conflict, match=r"'a' \(10\.1\.1\.1\) is an ordinary allocation"):
        book.release("a", pinned=True)
    assert addresses(book.release("p", pinned=True)) == ["10.1.1.3"]
    assert addresses(book.release("a")) == ["10.1.1.1"]


def test_a_resting_address_can_be_pinned(book: Book) -> None:
    """A rest is cut short for an admin who wants the address, with any MAC."""
    book.open(make_pool(cooldown_s=3600))
    book.one("a")
    book.confirm()
    book.release("a")
    with pytest.raises(AddressInUse, match="was released by 'a'"):
        book.reserve("p", "10.1.1.1", _PRINTER)
    book.confirm()
    assert book.state("10.1.1.1") == "cooling"
    assert str(book.reserve("p", "10.1.1.1", _PRINTER).mac) == _PRINTER


def test_the_pool_that_hands_an_address_out_is_the_one_that_pins_it(book: Book) -> None:
    """Of two pools on one subnet the one whose ranges hold the address decides its MAC."""
    book.open(
        make_pool("a", ranges=["10.1.1.1-10.1.1.4"]),
        make_pool("b", ranges=["10.1.1.5-10.1.1.8"], prefix="52:54:00"),
    )
    assert (book.reserve("p", "10.1.1.6").pool, str(book.find(names=["p"])[0].mac)) == (
        "b",
        "52:54:00:01:01:06",
    )
    assert book.reserve("q", "10.1.1.12").pool == "a"


def test_address_outside_of_the_ranges_that_rests_is_not_handed_out_when_the_pool_runs_short(
    book: Book,
) -> None:
    """A pin that was withdrawn and put aside rests; a pool that is full says so and does not give it to anybody."""
    book.open(make_pool(ranges=["10.1.1.1-10.1.1.2"]))
    with book.write() as txn:
        reserve(txn, "pin", ip("10.1.1.9"))
    book.confirm("d1")
    with book.write() as txn:
        release(txn, name="pin", pinned=True)
        put_aside(txn, ip("10.1.1.9"), 300)
    book.confirm("d1")
    assert book.state("10.1.1.9") == "cooling"
    book.allocate("a", "b")
    with pytest.raises(PoolExhausted):
        book.allocate("c")
    assert book.state("10.1.1.9") == "cooling"
