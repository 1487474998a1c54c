"""Allocating: which address, under which name, all or nothing."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from contract.book import Book, addresses, ip, make_pool
from macbind.core.allocation import State
from macbind.core.dhcp_options import DhcpOptions
from macbind.core.domain import Domain, DomainState, Phase
from macbind.core.errors import AddressInUse, Conflict, InvalidRequest, NotFound, NotInPool, PoolExhausted
from macbind.core.pool import PoolMode
from macbind.registry import claims
from macbind.registry.allocate import Wanted, allocate
from macbind.registry.audit import history, trim_audit
from macbind.registry.queries import usage
from macbind.registry.release import release
from macbind.registry.reserve import reserve


def test_the_first_unoccupied_address_is_taken(book: Book) -> None:
    """Allocations take the lowest free address, also when one in the middle becomes free."""
    book.open(make_pool())
    assert addresses(book.allocate("a", "b", "c", "d")) == ["10.1.1.1", "10.1.1.2", "10.1.1.3", "10.1.1.4"]
    book.confirm()
    book.release("b")
    book.release("c")
    book.confirm()
    assert addresses(book.allocate("e")) == ["10.1.1.2"]
    assert addresses(book.allocate("f", "g")) == ["10.1.1.3", "10.1.1.5"]


def test_names_and_addresses_are_paired_in_order(book: Book) -> None:
    """Several names get ascending addresses in the order in which they were asked for."""
    book.open(make_pool())
    made = book.allocate("z", "a", "m")
    assert [(one.name, str(one.address)) for one in made] == [
        ("z", "10.1.1.1"),
        ("a", "10.1.1.2"),
        ("m", "10.1.1.3"),
    ]


@pytest.mark.invariant(1)
def test_the_mac_is_the_image_of_the_address(book: Book) -> None:
    """An allocation carries the MAC that its pool's scheme gives its address."""
    book.open(make_pool(), make_pool("wide", subnet="10.2.0.0/24", prefix="0a:58"))
    assert str(book.one("a").mac) == "00:16:3e:01:01:01"
    assert str(book.one("b", pool="wide").mac) == "0a:58:0a:02:00:01"


def test_only_assignable_addresses_are_handed_out(book: Book) -> None:
    """Gateways, exclusions, network and broadcast address and the space between ranges are never given."""
    pool = make_pool(
        ranges=["10.1.1.1-10.1.1.4", "10.1.1.8-10.1.1.14"],
        exclude=["10.1.1.9-10.1.1.12"],
        gateways=["10.1.1.1", "10.1.1.14"],
    )
    book.open(pool)
    assert pool.plan.size == 5
    made = book.allocate(*(f"m{number}" for number in range(5)))
    assert addresses(made) == ["10.1.1.2", "10.1.1.3", "10.1.1.4", "10.1.1.8", "10.1.1.13"]
    with pytest.raises(PoolExhausted, match=r"^The pool 'farm' has no unoccupied address\. Release machines"):
        book.allocate("one-more")


def test_all_or_none(book: Book) -> None:
    """A pool that has too few addresses gives none, and nothing at all is left behind."""
    book.open(make_pool(ranges=["10.1.1.1-10.1.1.3"]))
    book.one("a")
    with pytest.raises(PoolExhausted, match="has 2 unoccupied addresses, 3 were asked for") as caught:
        book.allocate("b", "c", "d")
    numbers = {"asked": 3, "free": 2, "allocated": 1, "releasing": 0, "used_by_others": 0}
    assert caught.value.details == {"pool": "farm"} | numbers
    assert [one.name for one in book.find(released=True)] == ["a"]
    assert [str(item.address) for item in book.due()] == ["10.1.1.1"]
    assert book.history() == [("tester", "allocate", "a")]
    assert addresses(book.allocate("b", "c")) == ["10.1.1.2", "10.1.1.3"]


def test_exhaustion_says_what_waits_for_dhcpd(book: Book) -> None:
    """The error of a full pool tells released addresses that wait for dhcpd from machines in use."""
    book.open(make_pool(ranges=["10.1.1.1-10.1.1.2"]))
    book.allocate("a", "b")
    book.confirm()
    book.release("a")
    with pytest.raises(PoolExhausted, match="1 released ones wait for dhcpd's confirmation") as caught:
        book.one("c")
    assert (caught.value.details["allocated"], caught.value.details["releasing"]) == (1, 1)


def test_a_big_allocation_spans_many_extents(book: Book) -> None:
    """Hundreds of addresses are taken in one transaction out of a fragmented pool, lowest first."""
    book.open(make_pool(subnet="10.8.0.0/20"))
    names = [f"m{number}" for number in range(1200)]
    book.allocate(*names)
    with book.write() as txn:
        for name in names[::2]:
            release(txn, name=name)
    book.confirm()
    made = book.allocate(*(f"n{number}" for number in range(700)))
    low = int(ip("10.8.0.1"))
    assert [int(one.address) for one in made] == [
        *range(low, low + 1200, 2),
        *range(low + 1200, low + 1300),
    ]


def test_a_wanted_address_is_given(book: Book) -> None:
    """A particular address is taken if it is free, wherever it lies in its extent."""
    book.open(make_pool())
    for text in ("10.1.1.7", "10.1.1.1", "10.1.1.14", "10.1.1.6", "10.1.1.8"):
        assert addresses(book.allocate(text, address=ip(text))) == [text]
        book.check()
    assert addresses(book.allocate("first")) == ["10.1.1.2"]


def test_a_wanted_address_in_use_names_its_holder(book: Book) -> None:
    """An address somebody holds is refused with the holder's name, a released one with the reason."""
    book.open(make_pool())
    book.one("a")
    with pytest.raises(AddressInUse, match=r"^10\.1\.1\.1 is held by 'a'\.") as caught:
        book.one("b", address=ip("10.1.1.1"))
    assert caught.value.details == {"address": "10.1.1.1", "holder": "a"}
    book.confirm()
    book.release("a")
    with pytest.raises(AddressInUse, match="was released by 'a', and dhcpd has yet to confirm it"):
        book.one("b", address=ip("10.1.1.1"))
    book.confirm()
    assert addresses(book.allocate("b", address=ip("10.1.1.1"))) == ["10.1.1.1"]


def test_a_wanted_address_outside_of_the_ranges_is_refused(book: Book) -> None:
    """Gateways, exclusions, network address and foreign addresses cannot be wanted; the hint shows the ranges."""
    book.open(make_pool(exclude=["10.1.1.9-10.1.1.9"], gateways=["10.1.1.1"]))
    for address in ("10.1.1.0", "10.1.1.1", "10.1.1.9", "10.1.1.15", "10.9.9.9"):
        with pytest.raises(
            NotInPool, match=rf"does not hand out {address}\. It hands out 10\.1\.1\.2-10\.1\.1\.8"
        ):
            book.one("a", address=ip(address))


def test_the_same_request_finds_what_it_made(book: Book) -> None:
    """A repeated request returns the same address, MAC and generation, and changes nothing."""
    book.open(make_pool())
    options = DhcpOptions(hostname="vm-a")
    first = book.one("a", group="g", options=options, domain="dom")
    book.later(10)
    assert book.one("a", group="g", options=options, domain="dom") == first
    assert book.one("a", group="g", options=options, domain="dom", address=first.address) == first
    several = book.allocate("b", "c", group="g")
    assert book.allocate("c", "b", group="g") == several[::-1]
    assert [entry[1:] for entry in book.history()] == [("allocate", name) for name in "abc"]


def test_the_same_name_with_other_parameters_is_a_conflict(book: Book) -> None:
    """A name that is held with other parameters is refused, and the error says what differs."""
    book.open(make_pool(), make_pool("other", subnet="10.2.0.0/28"))
    book.one("a", group="g", domain="dom")
    for asked, difference in (
        ({"pool": "other"}, "pool 'farm', not 'other'"),
        ({"group": "h"}, "group 'g', not 'h'"),
        ({"group": None}, "group 'g', not None"),
        ({"options": DhcpOptions(hostname="x")}, r"options {}, not {'hostname': 'x'}"),
        ({"address": ip("10.1.1.5")}, "address '10.1.1.1', not '10.1.1.5'"),
        ({"domain": "other"}, "domain 'dom', not 'other'"),
    ):
        wanted: dict[str, Any] = {"group": "g", "domain": "dom", **asked}
        with pytest.raises(Conflict, match=rf"'a' is already allocated \(10\.1\.1\.1\) with {difference}"):
            book.allocate("a", **wanted)
    assert book.one("a", group="g").domain == "dom", "an unnamed domain is no difference"


def test_old_and_new_names_do_not_mix(book: Book) -> None:
    """A request for several names of which only some exist is refused as a whole."""
    book.open(make_pool())
    book.one("a")
    with pytest.raises(Conflict, match="'a' exists already but 'b' does not"):
        book.allocate("a", "b")
    assert [one.name for one in book.find()] == ["a"]


def test_a_name_is_free_again_after_release(book: Book) -> None:
    """A released name can be allocated at once, on another address, while the old one is being released."""
    book.open(make_pool())
    first = book.one("a")
    book.confirm()
    book.release("a")
    second = book.one("a", group="new")
    assert addresses([first, second]) == ["10.1.1.1", "10.1.1.2"]
    assert second.generation > first.generation
    assert addresses(book.find(names=["a"])) == ["10.1.1.2"]
    assert addresses(book.find(names=["a"], released=True)) == ["10.1.1.1", "10.1.1.2"]


def test_a_whole_group_is_asked_for_again_or_not_at_all(book: Book) -> None:
    """A group made as a whole is found again by the same members, and refused with more or fewer."""
    book.open(make_pool())
    three = book.allocate("g-1", "g-2", "g-3", group="g", whole_group=True)
    assert book.allocate("g-1", "g-2", "g-3", group="g", whole_group=True) == three
    with pytest.raises(Conflict, match="The group 'g' exists with 3 allocations, not 2"):
        book.allocate("g-1", "g-2", group="g", whole_group=True)
    with pytest.raises(Conflict, match="The group 'g' exists with 3 allocations, not 4"):
        book.allocate("g-1", "g-2", "g-3", "g-4", group="g", whole_group=True)
    assert addresses(book.allocate("late", group="g")) == ["10.1.1.4"], "members can be added one by one"
    assert len(book.release(group="g")) == 4
    book.confirm()
    assert len(book.allocate("g-1", "g-2", group="g", whole_group=True)) == 2


def test_names_that_cannot_be_names_are_refused(book: Book) -> None:
    """Names and groups outside the alphabet are refused before anything is looked at."""
    book.open(make_pool())
    for name in ("", " a", "a b", "-a", "a\x00", "ä", "a" * 129, "a;b", 'a"', "a\n"):
        with pytest.raises(InvalidRequest, match="cannot be a name"):
            book.one(name)
        with pytest.raises(InvalidRequest, match="cannot be a group"):
            book.one("a", group=name)
        with pytest.raises(InvalidRequest, match="cannot be a name"):
            book.reserve(name, "10.1.1.1")


@pytest.mark.parametrize(
    ("names", "address"), [((), None), (("a", "a"), None), (("a", "b"), "10.1.1.1")], ids=repr
)
def test_requests_that_make_no_sense_are_refused(names: tuple[str, ...], address: str | None) -> None:
    """No name, a name twice, or one address for several names cannot even be asked for."""
    with pytest.raises(InvalidRequest):
        Wanted("farm", names, address=None if address is None else ip(address))


def test_an_unknown_pool_names_those_there_are(book: Book) -> None:
    """Asking for a pool that is not configured says which pools are."""
    book.open(make_pool())
    with pytest.raises(NotFound, match=r"There is no pool 'fram'\. Pools are: farm\."):
        book.allocate("a", pool="fram")
    with book.read() as view, pytest.raises(NotFound, match="fram"):
        usage(view, "fram")
    with pytest.raises(NotFound, match="fram"):
        book.find(pool="fram")


def test_a_static_pool_takes_no_options_of_its_own(book: Book) -> None:
    """Machines of a static pool cannot have options of their own; dhcpd's file could not give them."""
    book.open(make_pool(mode=PoolMode.STATIC))
    with pytest.raises(Conflict, match="is in static mode"):
        book.one("a", options=DhcpOptions(hostname="x"))
    assert book.one("a").state is State.BOUND


def test_a_static_pool_asks_dhcpd_only_to_clear_leases(book: Book) -> None:
    """In static mode an allocation is bound at once, and a release still waits for the leases to be cleared."""
    book.open(make_pool(mode=PoolMode.STATIC))
    made = book.one("a")
    assert (made.state, book.due()) == (State.BOUND, [])
    book.release("a")
    (due,) = book.due()
    assert (str(due.address), due.confirms, getattr(due.change, "has_binding", None)) == (
        "10.1.1.1",
        None,
        False,
    )
    assert book.state("10.1.1.1") == "releasing"
    book.confirm()
    assert book.state("10.1.1.1") == "free"


def test_expiry_is_renewed_by_asking_again(book: Book) -> None:
    """A repeated request with another expiry renews it, one without leaves it, and the renewal is logged."""
    book.open(make_pool())
    soon = book.now + timedelta(seconds=60)
    assert book.one("a", expires_at=soon).expires_at == soon
    later = book.now + timedelta(seconds=90.25)
    assert book.one("a", expires_at=later).expires_at == later
    assert book.one("a").expires_at == later
    assert book.one("a", expires_at=later).expires_at == later
    assert [action for _, action, _ in book.history()] == ["allocate", "renew"]
    book.later(61)
    assert book.expire() == []
    book.later(30)
    assert book.expire() == ["a"]


@pytest.mark.invariant(5)
def test_generations_never_repeat(book: Book) -> None:
    """Whatever happens to an address, each of its generations is greater than all before."""
    book.open(make_pool(ranges=["10.1.1.1-10.1.1.2"]))
    seen: list[int] = []
    for turn in range(20):
        made = (
            book.reserve(f"m{turn}", "10.1.1.1")
            if turn % 3 == 0
            else book.one(f"m{turn}", address=ip("10.1.1.1"))
        )
        seen.append(made.generation)
        if turn % 2:
            book.confirm()
        book.release(f"m{turn}", pinned=made.pinned)
        book.confirm()
    assert seen == sorted(set(seen))


def test_usage_counts_addresses(book: Book) -> None:
    """A pool's numbers tell free, allocated, pinned and released addresses apart."""
    book.open(make_pool(cooldown_s=60, exclude=["10.1.1.14-10.1.1.14"]))
    book.allocate("a", "b", "c")
    book.confirm()
    book.reserve("p", "10.1.1.9")
    book.reserve("outside", "10.1.1.14")
    book.release("a")
    with book.read() as view:
        now = usage(view, "farm")
    assert (now.size, now.free, now.allocated, now.pinned, now.releasing) == (13, 9, 4, 2, 1)
    book.confirm()
    book.later(61)
    assert book.sweep() == 1
    with book.read() as view:
        now = usage(view, "farm")
    assert (now.free, now.allocated, now.releasing) == (10, 4, 0)


def test_listing_is_paged_and_filtered(book: Book) -> None:
    """Pages follow each other in the order of addresses, within a pool, a group, a MAC, or everything."""
    book.open(make_pool(), make_pool("other", subnet="10.2.0.0/28"))
    book.allocate(*(f"a{number}" for number in range(7)), group="g")
    book.allocate(*(f"b{number}" for number in range(5)), pool="other", group="g")
    book.release("a3")
    for which, expected in (({"pool": "farm"}, 6), ({"group": "g"}, 11), ({}, 11), ({"released": True}, 12)):
        pages, after = [], None
        while page := book.find(**which, after=after, limit=4):
            pages.append(page)
            after = page[-1].address
        found = [one for page in pages for one in page]
        assert [len(page) for page in pages[:-1]] == [4] * (len(pages) - 1)
        assert found == book.find(**which) == sorted(found, key=lambda one: one.address)
        assert len(found) == expected
    assert [one.name for one in book.find(mac=book.find(names=["b2"])[0].mac)] == ["b2"]
    assert [one.name for one in book.find(names=["b2", "a1", "none"])] == ["a1", "b2"]
    assert book.find(names=[]) == book.find(addresses=[]) == []


def test_what_no_domain_uses_is_found(book: Book) -> None:
    """A core that ended before it started its machines leaves allocations that can be found and given back."""
    book.open(make_pool())
    book.allocate("used", "left", group="g")
    book.reserve("printer", "10.1.1.9")
    with book.write() as txn:
        claim = next(
            one for one in claims.unused_since(txn, txn.now + timedelta(seconds=1)) if one.name == "used"
        )
        seen = Domain("u-1", "d", "local", DomainState.ACTIVE, claim.macs, claim.macs)
        assert claims.record(txn, claim, seen, Phase.RUNNING)
    book.allocate("gone")
    book.release("gone")
    assert [one.name for one in book.find(unclaimed=True)] == ["left"]
    assert book.find(unclaimed=True, addresses=[ip("10.1.1.1")]) == []
    assert [one.name for one in book.find(unclaimed=True, group="g", pool="farm")] == ["left"]


def test_the_audit_log_names_everybody(book: Book) -> None:
    """Each change is recorded with its actor, and found by address and by name, newest first."""
    book.open(make_pool())
    book.allocate("a", actor="uid 7")
    book.reserve("p", "10.1.1.9")
    book.release("a", reason="domain gone")
    book.release("p", pinned=True)
    assert book.history() == [
        ("uid 7", "allocate", "a"),
        ("tester", "reserve", "p"),
        ("tester", "release", "a"),
        ("tester", "unreserve", "p"),
    ]
    with book.read() as view:
        newest = history(view, address=ip("10.1.1.1"))[0]
        assert (newest.at, newest.action, newest.detail) == (
            book.now,
            "release",
            {"pool": "farm", "reason": "domain gone"},
        )
        assert [entry.action for entry in history(view, name="p")] == ["unreserve", "reserve"]
        assert len(history(view, limit=3)) == 3
    book.later(100)
    with book.write() as txn:
        assert trim_audit(txn, book.now) == 3
    assert book.history() == [("tester", "unreserve", "p")]  # else SQLite would give its number again


def test_a_transaction_that_fails_leaves_nothing(book: Book) -> None:
    """An error anywhere in a transaction undoes all of it."""
    book.open(make_pool())

    def work() -> None:
        with book.write() as txn:
            allocate(txn, Wanted("farm", ("a", "b")))
            reserve(txn, "p", ip("10.1.1.9"))
            _ = 1 // 0

    with pytest.raises(ZeroDivisionError):
        work()
    assert (book.find(released=True), book.due(), book.history()) == ([], [], [])
    assert addresses(book.allocate("c")) == ["10.1.1.1"]


def test_a_host_name_is_for_one_machine() -> None:
    """A group whose members would all be called the same is refused; one machine may be called so."""
    options = DhcpOptions(hostname="web")
    with pytest.raises(InvalidRequest, match="all 3 machines would be called 'web'"):
        Wanted("farm", ("web-1", "web-2", "web-3"), group="web", options=options)
    assert Wanted("farm", ("web-1",), group="web", options=options).options.hostname == "web"


def test_a_pattern_numbers_a_name_once(book: Book) -> None:
    """A name that gets another address later, apart from its group, keeps its number."""
    book.open(make_pool())
    wanted = Wanted(
        "farm", ("a", "b", "c"), group="g", options=DhcpOptions(hostname="vm-{n}"), whole_group=True
    )
    with book.write() as txn:
        others = allocate(txn, wanted.only(["b", "c"]).only(["c"]))
    assert [(one.name, one.options.hostname) for one in others] == [("c", "vm-3")]
