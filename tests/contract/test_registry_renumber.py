"""A name that is renumbered: two addresses are held, then one, whatever comes between."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from contract.book import Book, addresses, ip, make_pool
from macbind.core.allocation import SETTLE_AFTER_S, Renumbering
from macbind.core.dhcp_options import DhcpOptions
from macbind.core.domain import Domain, DomainState, Phase
from macbind.core.errors import AddressInUse, Conflict, InvalidRequest, MacbindError, NotFound, NotInPool
from macbind.core.pool import PoolMode
from macbind.registry import claims, evidence
from macbind.registry.audit import history
from macbind.registry.queries import renumberings
from macbind.registry.renumber import abort_renumber, begin_renumber, finish_renumber, lease_renumber
from macbind.registry.transaction import Transaction

OPTIONS = DhcpOptions.parse({"hostname": "vm"})


TOKEN = "token-of-the-first"


def begin(book: Book, name: str, to: str, lease_s: float = 60, token: str = TOKEN) -> Renumbering:
    """Begins a begun."""
    with book.write() as txn:
        return begin_renumber(txn, name, ip(to), token, lease_s)


def finish(book: Book, name: str, token: str | None = TOKEN) -> Renumbering:
    """Finishes it."""
    with book.write() as txn:
        return finish_renumber(txn, name, token)


def abort(book: Book, name: str, token: str | None = TOKEN) -> list[str]:
    """Ends it; returns the addresses released."""
    with book.write() as txn:
        return addresses(abort_renumber(txn, name, token))


def under_way(book: Book) -> list[tuple[str, str, str]]:
    """Name, old and new address of the renumberings under way."""
    with book.read() as view:
        return [(one.old.name, str(one.old.address), str(one.new.address)) for one in renumberings(view)]


@pytest.fixture
def farm(book: Book) -> Book:
    """A pool of 14, in which `vm` has 10.1.1.1 and dhcpd knows."""
    book.open(make_pool())
    book.allocate("vm", options=OPTIONS, group="g", expires_at=book.now + timedelta(hours=1))
    book.confirm()
    return book


def test_both_addresses_are_held_until_it_is_finished(farm: Book) -> None:
    """dhcpd is to serve both, each with its own MAC and the same options; afterwards the new one only."""
    before = farm.find(names=["vm"])[0]
    begun = begin(farm, "vm", "10.1.1.9")
    assert (begun.old, str(begun.new.address), str(begun.new.mac)) == (
        before,
        "10.1.1.9",
        "00:16:3e:01:01:09",
    )
    assert (begun.new.options, begun.new.renumbers_from) == (OPTIONS, before.address)
    farm.confirm()
    assert [farm.state(one) for one in ("10.1.1.1", "10.1.1.9")] == ["bound", "bound"]
    assert under_way(farm) == [("vm", "10.1.1.1", "10.1.1.9")]
    done = finish(farm, "vm")
    assert str(done.old.address) == "10.1.1.1"
    assert done.old.released_at == farm.now
    now = farm.find(names=["vm"])[0]
    assert now == done.new
    assert (str(now.address), now.generation, now.renumbers_from) == (
        "10.1.1.9",
        begun.new.generation,
        None,
    )
    assert (now.group, now.created_at, now.expires_at) == (before.group, before.created_at, before.expires_at)
    assert farm.state("10.1.1.9") == "bound", "dhcpd has to be told nothing of it"
    assert farm.state("10.1.1.1") == "releasing"
    farm.confirm()
    assert farm.state("10.1.1.1") == "free"
    assert under_way(farm) == []
    assert addresses(farm.allocate("next")) == ["10.1.1.1"]
    assert farm.history(address=ip("10.1.1.9")) == [
        ("tester", "renumber", "vm"),
        ("tester", "renumbered", "vm"),
    ]


def test_an_aborted_renumbering_leaves_everything_as_it_was(farm: Book) -> None:
    """The name keeps its allocation, and the other address is free again."""
    before = farm.find()
    begin(farm, "vm", "10.1.1.9")
    farm.confirm()
    assert abort(farm, "vm") == ["10.1.1.9"]
    assert farm.state("10.1.1.9") == "releasing"
    farm.confirm()
    assert (farm.find(released=True), farm.state("10.1.1.9"), under_way(farm)) == (before, "free", [])
    assert abort(farm, "vm") == []
    assert abort(farm, "vm") == abort(farm, "nobody") == []


def test_every_step_can_be_repeated(farm: Book) -> None:
    """Beginning finds what was begun and prolongs its lease; finishing what is finished says the same."""
    first = begin(farm, "vm", "10.1.1.9", 10)
    again = begin(farm, "vm", "10.1.1.9", 90)
    assert (again.new.generation, again.new.created_at) == (first.new.generation, first.new.created_at)
    assert (again.token, again.lease_until) == (TOKEN, farm.now + timedelta(seconds=90))
    assert again.new.expires_at == farm.now + timedelta(seconds=90 + SETTLE_AFTER_S)
    farm.confirm()
    once, twice = (finish(farm, "vm") for _ in range(2))
    assert (once.new, once.old.address) == (twice.new, twice.old.address)
    farm.confirm()
    assert finish(farm, "vm") == Renumbering(once.new, once.new)
    there = begin(farm, "vm", "10.1.1.9")
    assert there.old == there.new == once.new


def test_a_late_call_cannot_hurt_a_later_renumbering(farm: Book) -> None:
    """Finishing and aborting are of one lease, whose token no other has."""
    first = begin(farm, "vm", "10.1.1.9")
    abort(farm, "vm")
    farm.confirm()
    second = begin(farm, "vm", "10.1.1.9", token="token-of-the-second")
    assert second.new.generation > first.new.generation
    for late in (finish, abort):
        with pytest.raises(Conflict, match="No such renumbering"):
            late(farm, "vm", TOKEN)
    assert under_way(farm) == [("vm", "10.1.1.1", "10.1.1.9")]
    finish(farm, "vm", second.token)
    with pytest.raises(Conflict, match=r"is renumbered to 10\.1\.1\.9 already"):
        abort(farm, "vm", second.token)
    with pytest.raises(Conflict, match="No such renumbering"):
        finish(farm, "vm", TOKEN)


@pytest.mark.parametrize(
    ("name", "to", "kind", "sentence"),
    [
        ("nobody", "10.1.1.9", NotFound, "There is no allocation 'nobody'"),
        ("", "10.1.1.9", InvalidRequest, "cannot be a name"),
        ("vm", "10.1.1.2", AddressInUse, "10.1.1.2 is held by 'other'"),
        ("vm", "10.1.1.0", NotInPool, "network, broadcast or gateway address"),
        ("vm", "10.1.1.14", NotInPool, "network, broadcast or gateway address"),
        ("vm", "10.1.1.13", NotInPool, "No pool on 10.1.1.0/28 hands out 10.1.1.13"),
        ("vm", "10.1.2.2", NotInPool, "is not on the network of 'vm'"),
        ("vm", "10.1.1.11", Conflict, "static mode"),
        ("printer", "10.1.1.9", Conflict, "pinned to a MAC of its own, 00:80:77:00:00:01"),
        ("other", "10.1.1.8", Conflict, "'other' is being renumbered from 10.1.1.2 to 10.1.1.7 already"),
    ],
)
def test_what_is_not_possible_is_said_and_changes_nothing(
    book: Book, name: str, to: str, kind: type[MacbindError], sentence: str
) -> None:
    """Each with its own error; nothing is taken."""
    book.open(
        make_pool(ranges=["10.1.1.1-10.1.1.10"], gateways=["10.1.1.14"]),
        make_pool("fixed", ranges=["10.1.1.11-10.1.1.12"], gateways=["10.1.1.14"], mode=PoolMode.STATIC),
        make_pool("rest", subnet="10.1.2.0/28"),
    )
    book.allocate("vm", options=OPTIONS)
    book.one("other")
    begin(book, "other", "10.1.1.7")
    book.reserve("printer", "10.1.1.3", "00:80:77:00:00:01")
    book.confirm()
    before = book.find(released=True)
    with pytest.raises(kind, match=sentence):
        begin(book, name, to)
    assert book.find(released=True) == before


def test_another_pool_on_the_same_network_is_near_enough(book: Book) -> None:
    """The name is then the other pool's, also where dhcpd's configuration file has the reservation."""
    book.open(
        make_pool(ranges=["10.1.1.1-10.1.1.6"]),
        make_pool("shelf", ranges=["10.1.1.7-10.1.1.9"], prefix="52:54:00"),
        make_pool("fixed", ranges=["10.1.1.10-10.1.1.12"], mode=PoolMode.STATIC),
    )
    book.one("vm")
    book.confirm()
    for to, pool, mac in (
        ("10.1.1.8", "shelf", "52:54:00:01:01:08"),
        ("10.1.1.11", "fixed", "00:16:3e:01:01:0b"),
    ):
        begin(book, "vm", to)
        book.confirm()
        one = finish(book, "vm").new
        assert (one.pool, str(one.mac), str(one.state)) == (pool, mac, "bound")
        book.confirm()
    assert [book.state(one) for one in ("10.1.1.1", "10.1.1.8")] == ["free", "free"]


def test_a_pin_stays_a_pin(book: Book) -> None:
    """A pinned name is renumbered to any address that could be pinned, and is pinned there."""
    book.open(make_pool(ranges=["10.1.1.1-10.1.1.6"]))
    book.reserve("printer", "10.1.1.9")
    begin(book, "printer", "10.1.1.12")
    one = finish(book, "printer").new
    assert (str(one.address), one.pinned) == ("10.1.1.12", True)
    book.confirm()
    assert book.state("10.1.1.9") == "free"
    begin(book, "printer", "10.1.1.3")
    assert addresses(book.release("printer", pinned=True)) == ["10.1.1.3", "10.1.1.12"]
    book.confirm()
    assert book.find(released=True) == []


@pytest.mark.parametrize("how", [{"name": "vm"}, {"group": "g"}, {"address": ip("10.1.1.1")}, {}])
def test_a_release_ends_the_renumbering_with_it(farm: Book, how: dict[str, Any]) -> None:
    """By name, group, address or because its time is over: both addresses are free then, and nothing is left."""
    begin(farm, "vm", "10.1.1.9", 10**6)
    farm.confirm()
    if how:
        assert addresses(farm.release(**how)) == ["10.1.1.1", "10.1.1.9"]
    else:
        farm.later(3601)
        assert farm.expire() == ["vm", "vm"]
    farm.confirm()
    assert (farm.find(released=True), under_way(farm)) == ([], [])


def test_a_new_address_is_not_released_by_itself(farm: Book) -> None:
    """Neither by its address nor because the renumbering's time is over: that is decided by what the machine has."""
    begin(farm, "vm", "10.1.1.9", 10)
    with pytest.raises(Conflict, match=r"is being renumbered from 10\.1\.1\.1 to 10\.1\.1\.9"):
        farm.release(address=ip("10.1.1.9"))
    farm.later(10 + SETTLE_AFTER_S)
    assert farm.expire() == []
    assert under_way(farm) == [("vm", "10.1.1.1", "10.1.1.9")]


def test_the_name_and_the_address_are_taken_meanwhile(farm: Book) -> None:
    """Nobody else gets either address, or the name; who asks for the name again is told the old address."""
    begin(farm, "vm", "10.1.1.2")
    assert addresses(farm.allocate("vm", options=OPTIONS, group="g")) == ["10.1.1.1"]
    assert addresses(farm.allocate("next")) == ["10.1.1.3"]
    with pytest.raises(AddressInUse, match="held by 'vm'"):
        farm.one("late", address=ip("10.1.1.2"))
    with pytest.raises(Conflict):
        farm.reserve("vm", "10.1.1.2")


def test_the_domain_goes_with_the_name(farm: Book) -> None:
    """While it is renumbered, its record is of the old allocation, whichever MAC the domain has; then of the new."""
    begun = begin(farm, "vm", "10.1.1.9")
    domain = Domain(
        "u-1",
        "vm",
        "one",
        DomainState.ACTIVE,
        frozenset({begun.new.mac}),
        frozenset({begun.new.mac}),
    )
    with farm.write() as txn:
        (claim,) = claims.of_macs(txn, [begun.new.mac])
        assert (claim.address, claim.renumbers_to) == (begun.old.address, begun.new.mac)
        assert claims.record(txn, claim, domain, Phase.RUNNING)
        assert [one.address for one in claims.of_hypervisor(txn, "one")] == [begun.old.address]
        assert [one.address for one in claims.of_macs(txn, [begun.old.mac, begun.new.mac])] == [
            begun.old.address
        ]
    finish(farm, "vm")
    with farm.read() as view:
        (claim,) = claims.of_hypervisor(view, "one")
        assert (claim.address, claim.uuid, claim.phase) == (begun.new.address, "u-1", Phase.RUNNING)
        assert evidence.of_addresses(view, [begun.old.address]) == [], "it may come back there"


def test_a_renumbering_outlives_a_restart_with_another_configuration(farm: Book) -> None:
    """Opened again with other options, both are there under new generations, and the lease's token finishes it."""
    first = begin(farm, "vm", "10.1.1.9")
    farm.open(make_pool(options=DhcpOptions.parse({"domain_name": "example.org"})))
    ((_, old, new),) = under_way(farm)
    assert (old, new) == ("10.1.1.1", "10.1.1.9")
    done = finish(farm, "vm")
    assert done.new.generation > first.new.generation
    assert str(done.new.address) == "10.1.1.9"


def test_a_lease_keeps_others_away_until_it_expires(farm: Book) -> None:
    """Whatever they ask for, with a token or without, also after a restart; its own token is never refused."""
    assert begin(farm, "vm", "10.1.1.9", 60).token == TOKEN

    def refuse_all(token: str, wanted: str) -> None:
        calls: list[Callable[[Transaction], object]] = [
            lambda txn: begin_renumber(txn, "vm", ip("10.1.1.9"), token, 60),
            lambda txn: lease_renumber(txn, "vm", token, 60),
            lambda txn: finish_renumber(txn, "vm"),
            lambda txn: abort_renumber(txn, "vm"),
        ]
        for call in calls:
            with pytest.raises(Conflict, match=wanted), farm.write() as txn:
                call(txn)

    refuse_all("token-of-the-second", "'vm' is being renumbered from 10.1.1.1 to 10.1.1.9 by somebody else")
    farm.open(make_pool(), make_pool("other", subnet="10.1.2.0/28"))
    refuse_all("token-of-the-second", f"until {farm.now + timedelta(seconds=60):%H:%M:%S} UTC")
    farm.later(59)
    assert lease(farm, TOKEN, 60).lease_until == farm.now + timedelta(seconds=60)
    farm.later(59)
    refuse_all("token-of-the-second", "by somebody else")
    farm.later(1)
    assert lease(farm, "token-of-the-second", 60).token == "token-of-the-second"
    refuse_all(TOKEN, "by somebody else")
    for late in (finish, abort):
        with pytest.raises(Conflict, match="No such renumbering"):
            late(farm, "vm", TOKEN)
    assert finish(farm, "vm", "token-of-the-second").new.address == ip("10.1.1.9")


@pytest.mark.parametrize("end", [finish, abort])
def test_who_has_no_token_ends_what_nobody_holds(farm: Book, end: Callable[..., object]) -> None:
    """When the lease has expired, anybody may finish or abort; the token may do so still."""
    for token in (None, TOKEN):
        begin(farm, "vm", "10.1.1.9", 10)
        farm.later(11)
        end(farm, "vm", token)
        assert under_way(farm) == []
        farm.confirm()
        if end is finish:
            begin(farm, "vm", "10.1.1.1", 10)
            finish(farm, "vm")
            farm.confirm()


def test_a_lease_is_of_a_renumbering_under_way(farm: Book) -> None:
    """To take it begins nothing: who comes too late is told so, however it has ended."""
    begin(farm, "vm", "10.1.1.9", 10)
    assert lease(farm, TOKEN, 90).lease_until == farm.now + timedelta(seconds=90)
    abort(farm, "vm")
    with pytest.raises(Conflict, match="No such renumbering"):
        lease(farm, TOKEN, 90)
    assert under_way(farm) == []
    farm.confirm()
    begin(farm, "vm", "10.1.1.9")
    finish(farm, "vm")
    with pytest.raises(Conflict, match="No such renumbering"):
        lease(farm, TOKEN, 90)


def test_a_token_is_told_to_its_holder_only(farm: Book) -> None:
    """Who lists what is under way sees until when the lease lives, and no token."""
    begun = begin(farm, "vm", "10.1.1.9")
    with farm.read() as view:
        (seen,) = renumberings(view)
    assert seen == replace(begun, token=None)


def lease(book: Book, token: str, lease_s: float) -> Renumbering:
    """Takes the lease of the renumbering of `vm`, or prolongs it."""
    with book.write() as txn:
        return lease_renumber(txn, "vm", token, lease_s)


def test_another_holder_of_the_lease_is_in_the_audit_log(farm: Book) -> None:
    """Who took over an address that another began to take, and when; to prolong one's own lease is no news."""
    begin(farm, "vm", "10.1.1.9", 10)
    lease(farm, TOKEN, 10)
    begin(farm, "vm", "10.1.1.9", 10)

    def entries() -> list[tuple[str, str | None, object]]:
        with farm.read() as view:
            found = history(view, address=ip("10.1.1.9"))
        return [(one.action, one.name, one.detail.get("from")) for one in found]

    assert [action for action, *_ in entries()] == ["renumber"]
    farm.later(11)
    lease(farm, "token-of-the-second", 10)
    lease(farm, "token-of-the-second", 10)
    assert entries()[0] == ("renumber_lease", "vm", "10.1.1.1")
    farm.later(11)
    with farm.write() as txn:
        begin_renumber(txn, "vm", ip("10.1.1.9"), "token-of-the-third", 10)
    assert [action for action, *_ in entries()] == ["renumber_lease", "renumber_lease", "renumber"]


@pytest.mark.invariant(1)
def test_the_database_forbids_two_renumberings_of_one_name(farm: Book) -> None:
    """The last line of defence: an address is left for one other only."""
    begin(farm, "vm", "10.1.1.9")
    farm.one("other")
    with pytest.raises(IntegrityError), farm.registry.engine.begin() as db:
        db.execute(
            text("UPDATE allocation SET renumbers_from = :left WHERE name = 'other'"),
            {"left": int(ip("10.1.1.1"))},
        )
