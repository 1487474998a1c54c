"""A name that moves from one address to another: two are held, then one, whatever comes between."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from contract.book import Book, addresses, ip, make_pool
from macbind.errors import AddressInUse, Conflict, InvalidRequest, MacbindError, NotFound, NotInPool
from macbind.model import Domain, DomainState, Move, Phase, PoolMode
from macbind.options import DhcpOptions
from macbind.registry import claims
from macbind.registry.moving import Mover
from macbind.registry.transaction import Transaction

OPTIONS = DhcpOptions.parse({"hostname": "vm"})


def begin(book: Book, name: str, to: str, deadline_s: float = 60) -> Move:
    """Begins a move."""
    with book.write() as txn:
        return txn.begin_move(name, ip(to), book.now + timedelta(seconds=deadline_s))


def finish(book: Book, name: str, generation: int) -> Move:
    """Finishes it."""
    with book.write() as txn:
        return txn.finish_move(name, generation)


def abort(book: Book, name: str, generation: int | None = None) -> list[str]:
    """Gives it up; returns the addresses released."""
    with book.write() as txn:
        return addresses(txn.abort_move(name, generation))


def moving(book: Book) -> list[tuple[str, str, str]]:
    """Name, old and new address of the moves under way."""
    with book.read() as view:
        return [(one.old.name, str(one.old.address), str(one.new.address)) for one in view.moves()]


@pytest.fixture
def farm(book: Book) -> Book:
    """A pool of 14, in which `vm` has 10.1.1.1 and dhcpd knows."""
    book.open(make_pool())
    book.allocate("vm", options=OPTIONS, group="g", expires_at=book.now + timedelta(hours=1))
    book.confirm()
    return book


def test_both_addresses_are_held_until_the_move_is_finished(farm: Book) -> None:
    """dhcpd is to serve both, each with its own MAC and the same options; afterwards the new one only."""
    before = farm.find(names=["vm"])[0]
    move = begin(farm, "vm", "10.1.1.9")
    assert (move.old, str(move.new.address), str(move.new.mac)) == (before, "10.1.1.9", "00:16:3e:01:01:09")
    assert (move.new.options, move.new.moves_from) == (OPTIONS, before.address)
    farm.confirm()
    assert [farm.state(one) for one in ("10.1.1.1", "10.1.1.9")] == ["bound", "bound"]
    assert moving(farm) == [("vm", "10.1.1.1", "10.1.1.9")]
    done = finish(farm, "vm", move.new.generation)
    assert str(done.old.address) == "10.1.1.1"
    assert done.old.released_at == farm.now
    now = farm.find(names=["vm"])[0]
    assert now == done.new
    assert (str(now.address), now.generation, now.moves_from) == ("10.1.1.9", move.new.generation, None)
    assert (now.group, now.created_at, now.expires_at) == (before.group, before.created_at, before.expires_at)
    assert farm.state("10.1.1.9") == "bound", "dhcpd has to be told nothing of it"
    assert farm.state("10.1.1.1") == "releasing"
    farm.confirm()
    assert farm.state("10.1.1.1") == "free"
    assert moving(farm) == []
    assert addresses(farm.allocate("next")) == ["10.1.1.1"]
    assert farm.history(address=ip("10.1.1.9")) == [("tester", "move", "vm"), ("tester", "moved", "vm")]


def test_a_move_given_up_leaves_everything_as_it_was(farm: Book) -> None:
    """The name keeps its allocation, and the other address is free again."""
    before = farm.find()
    move = begin(farm, "vm", "10.1.1.9")
    farm.confirm()
    assert abort(farm, "vm", move.new.generation) == ["10.1.1.9"]
    assert farm.state("10.1.1.9") == "releasing"
    farm.confirm()
    assert (farm.find(released=True), farm.state("10.1.1.9"), moving(farm)) == (before, "free", [])
    assert abort(farm, "vm", move.new.generation) == []
    assert abort(farm, "vm") == abort(farm, "nobody") == []


def test_every_step_can_be_repeated(farm: Book) -> None:
    """Beginning finds what was begun and renews its deadline; finishing what is finished says the same."""
    first = begin(farm, "vm", "10.1.1.9", 10)
    again = begin(farm, "vm", "10.1.1.9", 90)
    assert (again.new.generation, again.new.created_at) == (first.new.generation, first.new.created_at)
    assert again.new.expires_at == farm.now + timedelta(seconds=90)
    farm.confirm()
    once, twice = (finish(farm, "vm", first.new.generation) for _ in range(2))
    assert (once.new, once.old.address) == (twice.new, twice.old.address)
    farm.confirm()
    assert finish(farm, "vm", first.new.generation) == Move(once.new, once.new)
    there = begin(farm, "vm", "10.1.1.9")
    assert there.old == there.new == once.new


def test_a_late_call_cannot_hurt_a_later_move(farm: Book) -> None:
    """Finishing and giving up are of one generation of the address moved to."""
    first = begin(farm, "vm", "10.1.1.9")
    abort(farm, "vm")
    farm.confirm()
    second = begin(farm, "vm", "10.1.1.9")
    assert second.new.generation > first.new.generation
    with pytest.raises(Conflict, match="no such move"):
        finish(farm, "vm", first.new.generation)
    assert abort(farm, "vm", first.new.generation) == []
    assert moving(farm) == [("vm", "10.1.1.1", "10.1.1.9")]
    finish(farm, "vm", second.new.generation)
    with pytest.raises(Conflict, match=r"has moved to 10\.1\.1\.9 already"):
        abort(farm, "vm", second.new.generation)


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
        ("other", "10.1.1.8", Conflict, "'other' is moving from 10.1.1.2 to 10.1.1.7 already"),
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
        move = begin(book, "vm", to)
        book.confirm()
        one = finish(book, "vm", move.new.generation).new
        assert (one.pool, str(one.mac), str(one.state)) == (pool, mac, "bound")
        book.confirm()
    assert [book.state(one) for one in ("10.1.1.1", "10.1.1.8")] == ["free", "free"]


def test_a_pin_stays_a_pin(book: Book) -> None:
    """A pinned name moves to any address that could be pinned, and is pinned there."""
    book.open(make_pool(ranges=["10.1.1.1-10.1.1.6"]))
    book.reserve("printer", "10.1.1.9")
    move = begin(book, "printer", "10.1.1.12")
    one = finish(book, "printer", move.new.generation).new
    assert (str(one.address), one.pinned) == ("10.1.1.12", True)
    book.confirm()
    assert book.state("10.1.1.9") == "free"
    begin(book, "printer", "10.1.1.3")
    assert addresses(book.release("printer", pinned=True)) == ["10.1.1.3", "10.1.1.12"]
    book.confirm()
    assert book.find(released=True) == []


@pytest.mark.parametrize("how", [{"name": "vm"}, {"group": "g"}, {"address": ip("10.1.1.1")}, {}])
def test_a_release_ends_the_move_with_it(farm: Book, how: dict[str, Any]) -> None:
    """By name, group, address or because its time is over: both addresses are free then, and nothing is left."""
    begin(farm, "vm", "10.1.1.9", 10**6)
    farm.confirm()
    if how:
        assert addresses(farm.release(**how)) == ["10.1.1.1", "10.1.1.9"]
    else:
        farm.later(3601)
        assert farm.expire() == ["vm", "vm"]
    farm.confirm()
    assert (farm.find(released=True), moving(farm)) == ([], [])


def test_what_is_moved_to_is_not_released_by_itself(farm: Book) -> None:
    """Neither by its address nor because the move's time is over: that is decided by what the machine has."""
    begin(farm, "vm", "10.1.1.9", 10)
    with pytest.raises(Conflict, match=r"is moving from 10\.1\.1\.1 to 10\.1\.1\.9"):
        farm.release(address=ip("10.1.1.9"))
    farm.later(60)
    assert farm.expire() == []
    assert moving(farm) == [("vm", "10.1.1.1", "10.1.1.9")]


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
    """Its record is of the old allocation while it moves, whichever MAC the domain has, and of the new one after."""
    move = begin(farm, "vm", "10.1.1.9")
    domain = Domain(
        "u-1", "vm", "one", DomainState.ACTIVE, frozenset({move.new.mac}), frozenset({move.new.mac})
    )
    with farm.write() as txn:
        (claim,) = claims.of_macs(txn, [move.new.mac])
        assert (claim.address, claim.moves_to) == (move.old.address, move.new.mac)
        assert claims.record(txn, claim, domain, Phase.RUNNING)
        assert [one.address for one in claims.of_hypervisor(txn, "one")] == [move.old.address]
        assert [one.address for one in claims.of_macs(txn, [move.old.mac, move.new.mac])] == [
            move.old.address
        ]
    finish(farm, "vm", move.new.generation)
    with farm.read() as view:
        (claim,) = claims.of_hypervisor(view, "one")
        assert (claim.address, claim.uuid, claim.phase) == (move.new.address, "u-1", Phase.RUNNING)
        assert not claims.was_last_used_by(view, move.old.address, "u-1"), "it may come back there"


def test_a_move_outlives_a_restart_with_another_configuration(farm: Book) -> None:
    """Opened again with other options, both are there, and the move is finished under its new generation."""
    first = begin(farm, "vm", "10.1.1.9")
    farm.open(make_pool(options=DhcpOptions.parse({"domain_name": "example.org"})))
    ((_, old, new),) = moving(farm)
    assert (old, new) == ("10.1.1.1", "10.1.1.9")
    with pytest.raises(Conflict, match="no such move"):
        finish(farm, "vm", first.new.generation)
    again = begin(farm, "vm", "10.1.1.9")
    assert str(finish(farm, "vm", again.new.generation).new.address) == "10.1.1.9"


def test_a_move_is_of_one_process_while_that_lives_and_has_time(farm: Book) -> None:
    """Another is refused whatever it asks for, until the first has ended or its time is over; itself never is."""
    ended: set[str] = set()
    first, second = (Mover(f"host/{pid}", ended.__contains__) for pid in (11, 22))

    def begun(mover: Mover | None) -> Move:
        with farm.write() as txn:
            return txn.begin_move("vm", ip("10.1.1.9"), farm.now + timedelta(seconds=60), mover)

    move = begun(first)
    assert begun(first).new == move.new
    calls: list[Callable[[Transaction], object]] = [
        lambda txn: txn.begin_move("vm", ip("10.1.1.9"), farm.now + timedelta(seconds=60), second),
        lambda txn: txn.finish_move("vm", move.new.generation, second),
        lambda txn: txn.abort_move("vm", mover=second),
    ]
    for call in calls:
        with pytest.raises(Conflict, match="Process 11 is moving 'vm'"), farm.write() as txn:
            call(txn)
    for other, place in (
        ("host/0", "A process in another container"),
        ("far/7", "Process 7 of another host"),
    ):
        assert first.names(other).startswith(place)
    farm.open(make_pool(), make_pool("other", subnet="10.1.2.0/28"))
    with pytest.raises(Conflict, match="Process 11 is moving 'vm'"):
        begun(second)
    farm.later(61)
    begun(second)
    with pytest.raises(Conflict, match="Process 22 is moving 'vm'"):
        begun(first)
    ended.add(second.key)
    with farm.write() as txn:
        assert txn.finish_move("vm", begun_generation(farm), first).new.address == ip("10.1.1.9")


def test_to_go_on_with_a_move_is_not_to_begin_one(farm: Book) -> None:
    """Who knows its generation gets more time for it, and is told when it has ended, however it did."""
    first = begin(farm, "vm", "10.1.1.9", 10)

    def go_on() -> Move:
        until = farm.now + timedelta(seconds=90)
        with farm.write() as txn:
            return txn.begin_move("vm", ip("10.1.1.9"), until, generation=first.new.generation)

    assert go_on().new.expires_at == farm.now + timedelta(seconds=90)
    abort(farm, "vm")
    for before in ([], [("vm", "10.1.1.1", "10.1.1.9")]):
        with pytest.raises(Conflict, match="no such move"):
            go_on()
        assert moving(farm) == before
        farm.confirm()
        second = begin(farm, "vm", "10.1.1.9")
    finish(farm, "vm", second.new.generation)
    with pytest.raises(Conflict, match="no such move"):
        go_on()


def begun_generation(book: Book) -> int:
    """The generation of what is moved to."""
    with book.read() as view:
        return view.moves()[0].new.generation


def test_the_database_forbids_two_moves_of_one_name(farm: Book) -> None:
    """The last line of defence: an address is left for one other only."""
    begin(farm, "vm", "10.1.1.9")
    farm.one("other")
    with pytest.raises(IntegrityError), farm.registry.engine.begin() as db:
        db.execute(
            text("UPDATE allocation SET moves_from = :left WHERE name = 'other'"),
            {"left": int(ip("10.1.1.1"))},
        )
