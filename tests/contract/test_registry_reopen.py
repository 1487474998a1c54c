"""Opening a registry with a changed configuration: what is carried out, and what is refused."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, inspect, make_url, text

from contract.book import Book, addresses, ip, make_pool
from labkit.wait import until
from macbind.core.address_range import AddressRange
from macbind.core.allocation import Allocation
from macbind.core.binding_plan import Ensure, Remove
from macbind.core.dhcp_options import DhcpOptions
from macbind.core.errors import ConfigError
from macbind.core.pool import PoolMode
from macbind.dhcp.isc import syntax
from macbind.registry.queries import find, usage
from macbind.registry.servers import take_out
from macbind.registry.store import Registry
from macbind.registry.sync import PoolChange

TWO = ("d1", "d2")
_PRINTER = "52:54:00:02:00:05"


def test_nothing_changed_changes_nothing(book: Book) -> None:
    """Opening again with the same configuration keeps every allocation, record and mark as it is."""
    book.open(make_pool())
    made = book.allocate("a", "b", "c")
    book.confirm()
    book.release("b")
    before = book.find(released=True)
    book.open(make_pool())
    assert book.find(released=True) == before
    assert [(str(item.address), item.confirms) for item in book.due()] == [("10.1.1.2", None)]
    assert book.one("d").generation > max(one.generation for one in made)


def test_ranges_are_widened_and_narrowed(book: Book) -> None:
    """New ranges count at once; an allocation outside of them lives on and does not return to the pool."""
    book.open(make_pool(ranges=["10.1.1.4-10.1.1.6"]))
    book.allocate("a", "b", "c")
    book.confirm()
    book.open(make_pool(ranges=["10.1.1.2-10.1.1.5"]))
    assert addresses(book.allocate("d", "e")) == ["10.1.1.2", "10.1.1.3"]
    assert book.state("10.1.1.6") == "bound"
    book.release("c")
    book.confirm()
    assert book.state("10.1.1.6") == "free"
    book.release("a")
    book.confirm()
    assert addresses(book.allocate("f")) == ["10.1.1.4"]


def test_making_a_registry_touches_nothing(url: str) -> None:
    """Until a configuration is applied nothing is connected to; a SQLite file is not even made."""
    registry = Registry(url)
    assert (registry.pools, registry.ids.pools) == ({}, {})
    registry.close()
    if url.startswith("sqlite"):
        assert not Path(make_url(url).database or "").exists()


def dump(url: str) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every table."""
    engine = create_engine(url)
    with engine.connect() as db:
        found = {
            name: sorted((tuple(row) for row in db.execute(text(f"SELECT * FROM {name}"))), key=str)  # noqa: S608
            for name in inspect(db).get_table_names()
        }
    engine.dispose()
    return found


def test_a_preview_says_what_changes_and_changes_nothing(book: Book) -> None:
    """Ranges, renewed bindings and dhcpds are told as they will be; no row of any table changes."""
    book.open(make_pool(), make_pool("other", subnet="10.2.0.0/28", dhcpds=("d2",)), dhcpds=TWO)
    book.allocate("a", "b")
    before = dump(book.url)
    shall = {
        "farm": make_pool(ranges=["10.1.1.1-10.1.1.4"], options=DhcpOptions(domain_name="x.example")),
        "new": make_pool("new", subnet="10.3.0.0/28", dhcpds=("d3",)),
    }
    told = book.registry.preview(shall, ["d1", "d3"])
    assert told.pools == (
        PoolChange("farm", "kept", (), (AddressRange.parse("10.1.1.5-10.1.1.14"),), 2),
        PoolChange("new", "new", (AddressRange.parse("10.3.0.1-10.3.0.14"),)),
        PoolChange("other", "gone", (), (AddressRange.parse("10.2.0.1-10.2.0.14"),)),
    )
    assert (told.dhcpds_added, told.dhcpds_removed) == (("d3",), ("d2",))
    assert dump(book.url) == before
    assert addresses(book.allocate("c")) == ["10.1.1.3"]
    assert book.registry.apply(shall, ["d1", "d3"]).pools[0].renewed == 3
    assert book.registry.preview(shall, ["d1", "d3"]).pools == ()


def test_a_preview_of_a_new_registry_leaves_none_behind(url: str) -> None:
    """Where there are no tables yet everything is new, and afterwards there are no tables either."""
    registry = Registry(url)
    told = registry.preview({"farm": make_pool()}, ["d1"])
    registry.close()
    assert [(one.pool, one.state) for one in told.pools] == [("farm", "new")]
    assert told.dhcpds_added == ("d1",)
    assert dump(url) == {}


def test_a_configuration_is_applied_while_the_registry_is_read(book: Book) -> None:
    """Whoever reads sees pools and tables of one configuration, however often it changes meanwhile."""
    book.open(make_pool("a"))
    one = book.one("x", pool="a")
    stop, looks = threading.Event(), [0, 0]

    def look(number: int) -> None:
        while not stop.is_set():
            with book.read() as view:
                (found,) = find(view, names=["x"])
                assert [usage(view, name).allocated for name in view.pools] == [1]
                assert found.pool in view.pools
            looks[number] += 1

    with ThreadPoolExecutor(2) as threads:
        looking = [threads.submit(look, number) for number in range(2)]
        try:
            until(lambda: all(looks), 60, "both to look")
            for turn in range(20):
                name = "ba"[turn % 2]
                book.registry.apply({name: make_pool(name)}, ["d1"])
        finally:
            stop.set()
        for looked in looking:
            looked.result(60)
    assert book.find()[0].address == one.address


def test_a_resting_address_survives_a_change_of_ranges(book: Book) -> None:
    """What rests goes on resting when the ranges around it change."""
    book.open(make_pool(cooldown_s=60))
    book.one("a")
    book.confirm()
    book.release("a")
    book.confirm()
    book.open(make_pool(cooldown_s=60, exclude=["10.1.1.2-10.1.1.2"]))
    assert addresses(book.allocate("b")) == ["10.1.1.3"]
    book.later(61)
    assert addresses(book.allocate("c")) == ["10.1.1.1"]


def test_a_pool_with_allocations_cannot_be_removed(book: Book) -> None:
    """The error counts the allocations, names one, and says how to get out; nothing has changed."""
    book.open(make_pool(), make_pool("other", subnet="10.2.0.0/28"))
    book.allocate("a", "b", pool="other")
    with pytest.raises(ConfigError) as caught:
        book.open(make_pool())
    assert str(caught.value) == (
        "The pool 'other' is no longer configured but still has 2 allocations, e.g. 'a'. "
        "Put [pool.other] back and release them first (pools now: farm)."
    )
    book.open(make_pool(), make_pool("other", subnet="10.2.0.0/28"))
    assert len(book.find()) == 2


def test_a_pool_dhcpd_still_serves_cannot_be_removed(book: Book) -> None:
    """Released addresses that no dhcpd has confirmed keep their pool, unless that dhcpd is forgotten."""
    both = [make_pool(), make_pool("other", subnet="10.2.0.0/28", dhcpds=TWO, cooldown_s=60)]
    book.open(*both, dhcpds=TWO)
    book.one("a", pool="other")
    book.confirm(*TWO)
    book.release("a")
    book.confirm("d1")
    with pytest.raises(ConfigError) as caught:
        book.open(make_pool(), dhcpds=TWO)
    assert str(caught.value) == (
        "The pool 'other' is no longer configured but 1 of its released addresses wait for dhcpd's "
        "confirmation. Put [pool.other] back and run macbind until `macbind status` shows no backlog, or "
        "forget that dhcpd: `macbind dhcp out NAME --forget`."
    )
    with pytest.raises(ConfigError, match=r"\[dhcpd\.d2\] is no longer configured, but holds 1 bindings"):
        book.open(make_pool(), dhcpds=["d1"])
    book.open(*both, dhcpds=TWO)
    with book.write() as txn:
        take_out(txn, "d2", both, forget=True)
    book.open(make_pool(), dhcpds=["d1"])
    assert book.find(released=True) == []


def test_a_pool_comes_back(book: Book) -> None:
    """A pool that was removed and returns has all its addresses, and generations above all it ever had."""
    other = make_pool("other", subnet="10.2.0.0/28")
    book.open(make_pool(), other)
    first = book.one("a", pool="other")
    book.confirm()
    book.release("a")
    book.confirm()
    book.open(make_pool())
    book.open(make_pool(), other)
    again = book.one("a", pool="other")
    assert again.address == first.address
    assert again.generation > first.generation


def test_a_pool_is_renamed_with_its_allocations(book: Book) -> None:
    """Allocations follow their addresses into a pool of another name."""
    book.open(make_pool("old"))
    (first,) = book.allocate("a", pool="old")
    book.confirm()
    book.open(make_pool("new"))
    (found,) = book.find()
    assert (found.pool, found.address, found.mac) == ("new", first.address, first.mac)
    assert book.allocate("a", pool="new") == [found]
    assert addresses(book.allocate("b", pool="new")) == ["10.1.1.2"]


def test_addresses_move_between_pools(book: Book) -> None:
    """An allocated address that another pool's ranges hold now belongs to it, with a new generation."""
    book.open(make_pool("a", ranges=["10.1.1.1-10.1.1.4"]), make_pool("b", ranges=["10.1.1.5-10.1.1.8"]))
    for turn in range(3):  # generations of both pools have to grow apart
        book.allocate(f"b{turn}", pool="b")
    old = book.allocate("x", "y", pool="a")
    book.confirm()
    options = DhcpOptions(domain_name="b.example")
    book.open(
        make_pool("a", ranges=["10.1.1.1-10.1.1.1"]),
        make_pool("b", ranges=["10.1.1.2-10.1.1.8"], options=options),
    )
    x, y = book.find(names=["x", "y"])
    assert (x.pool, y.pool) == ("a", "b")
    assert x.generation == old[0].generation
    assert y.generation > old[1].generation
    (due,) = [item for item in book.due() if str(item.address) == "10.1.1.2"]
    assert isinstance(due.change, Ensure)
    assert syntax.line(due.change.binding.options) == 'option domain-name "b.example";'
    book.confirm()
    book.release("y")
    book.confirm()
    (back,) = book.allocate("z", pool="b")
    assert (back.address, back.generation > y.generation) == (y.address, True)


def test_generations_grow_when_an_address_is_pinned_by_another_pool(book: Book) -> None:
    """The order of pools in the configuration decides who pins a spare address; its generations only grow."""
    busy, idle = (
        make_pool("busy", ranges=["10.1.1.1-10.1.1.2"]),
        make_pool("idle", ranges=["10.1.1.5-10.1.1.6"]),
    )
    book.open(busy, idle)
    for turn in range(5):
        book.one(f"m{turn}", pool="busy")
        book.confirm()
        book.release(f"m{turn}")
        book.confirm()
    first = book.reserve("p", "10.1.1.9")
    book.confirm()
    book.release("p", pinned=True)
    book.confirm()
    book.open(idle, busy)
    second = book.reserve("p", "10.1.1.9")
    assert (first.pool, second.pool) == ("busy", "idle")
    assert second.generation > first.generation


_FIRST = {"subnet": "10.1.1.0/28"}


@pytest.mark.parametrize(
    ("after", "sentence"),
    [
        ({"subnet": "10.1.2.0/28"}, "made under another subnet or mac_prefix, e.g. 'a'. Undo the change,"),
        ({"prefix": "52:54:00"}, "made under another subnet or mac_prefix, e.g. 'a'. Undo the change,"),
        ({"mode": PoolMode.STATIC}, "moves 10.1.1.1 into dhcpd's configuration file (static mode), but 'a'"),
    ],
)
def test_a_change_that_contradicts_allocations_is_refused(
    book: Book, after: dict[str, Any], sentence: str
) -> None:
    """Another subnet, prefix or mode is refused while there are allocations, and carried out without."""
    book.open(make_pool())
    book.one("a")
    with pytest.raises(ConfigError) as caught:
        book.open(make_pool(**after))
    assert sentence in str(caught.value)
    book.open(make_pool())
    assert addresses(book.find()) == ["10.1.1.1"], "a refused change has changed nothing"
    book.release("a")
    book.confirm()
    book.open(make_pool(**after))
    assert book.one("b").address == make_pool(**after).plan.assignable[0].lo


def test_a_move_to_another_prefix_is_refused(book: Book) -> None:
    """An allocated address cannot move to a pool whose scheme gives it another MAC."""
    book.open(
        make_pool("a", ranges=["10.1.1.1-10.1.1.4"]),
        make_pool("b", ranges=["10.1.1.5-10.1.1.8"], prefix="52:54:00"),
    )
    book.one("x", pool="a")
    with pytest.raises(
        ConfigError, match="The pool 'b' has allocations made under another subnet or mac_prefix"
    ):
        book.open(
            make_pool("a", ranges=["10.1.1.2-10.1.1.4"]),
            make_pool("b", ranges=["10.1.1.1-10.1.1.1", "10.1.1.5-10.1.1.8"], prefix="52:54:00"),
        )


@pytest.mark.parametrize("added", [True, False], ids=["a new pool", "another prefix"])
def test_a_prefix_that_meets_a_pinned_mac_is_refused(book: Book, added: bool) -> None:
    """A scheme that would give an address the MAC of a pinned device is refused before it can collide."""
    other = make_pool("other", subnet="10.2.0.0/28")
    book.open(*([make_pool()] if added else [make_pool(), other]))
    book.reserve("printer", "10.1.1.3", _PRINTER)
    with pytest.raises(ConfigError) as caught:
        book.open(make_pool(), make_pool("other", subnet="10.2.0.0/28", prefix="52:54:00"))
    assert str(caught.value) == (
        f"The pool 'other' would give 10.2.0.5 the MAC {_PRINTER}, which 'printer' has. "
        "Choose another mac_prefix, or end that reservation first."
    )


@pytest.mark.parametrize(
    ("before", "after", "way"),
    [
        (["10.1.1.1-10.1.1.4"], ["10.1.1.2-10.1.1.4"], "out of"),
        (["10.1.1.2-10.1.1.4"], ["10.1.1.1-10.1.1.4"], "into"),
    ],
)
def test_a_static_pools_ranges_change_around_its_allocations(
    book: Book, before: list[str], after: list[str], way: str
) -> None:
    """An address in use cannot enter or leave the configuration file: dhcpd would hold it twice."""
    book.open(make_pool(mode=PoolMode.STATIC, ranges=before))
    book.reserve("p", "10.1.1.1")
    with pytest.raises(
        ConfigError, match=rf"moves 10\.1\.1\.1 {way} dhcpd's configuration file .* 'p' has it"
    ):
        book.open(make_pool(mode=PoolMode.STATIC, ranges=after))
    book.open(make_pool(mode=PoolMode.STATIC, ranges=[*before, "10.1.1.8-10.1.1.9"]))
    book.open(
        make_pool(mode=PoolMode.STATIC, ranges=["10.1.1.8-10.1.1.9"]),
        make_pool("taken-over", mode=PoolMode.STATIC, ranges=before),
    )


def _told(book: Book) -> dict[str, str]:
    return {str(item.address): type(item.change).__name__ for item in book.due()}


def test_changed_options_renew_the_reservations(book: Book) -> None:
    """Options that every machine of a pool gets make new generations, which dhcpd is told; others do not."""
    book.open(make_pool(), make_pool("other", subnet="10.2.0.0/28"))
    old = book.allocate("a", "b")
    book.allocate("o", pool="other")
    book.confirm()
    book.release("b")
    book.open(
        make_pool(options=DhcpOptions(domain_name="farm.example")), make_pool("other", subnet="10.2.0.0/28")
    )
    (a,) = book.find(names=["a"])
    assert a.generation > old[0].generation
    assert _told(book) == {"10.1.1.1": "Ensure", "10.1.1.2": "Remove"}
    book.confirm()
    assert (book.state("10.1.1.1"), book.state("10.1.1.2")) == ("bound", "free")


@pytest.mark.invariant(4)
def test_a_look_that_began_before_new_options_does_not_answer_for_them(book: Book) -> None:
    """A mark that was there already is renewed when options change, so an older look cannot remove it."""
    book.open(make_pool())
    book.one("a")
    looked = book.due()
    book.open(make_pool(options=DhcpOptions(domain_name="farm.example")))
    book.confirm(done=looked)
    (due,) = book.due()
    assert isinstance(due.change, Ensure)
    assert syntax.line(due.change.binding.options) == 'option domain-name "farm.example";'


def _generations(book: Book) -> dict[str, Allocation]:
    return {one.name: one for one in book.find()}


def test_subnet_options_renew_machines_with_options_of_their_own(book: Book) -> None:
    """A machine whose own option equalled the subnet's is told when the subnet's changes; others are left alone."""
    plain, named = DhcpOptions(domain_name="x.example"), DhcpOptions(domain_name="y.example")
    book.open(make_pool(subnet_options=plain))
    book.one("own", options=plain)
    book.one("none")
    book.confirm()
    before = _generations(book)
    book.open(make_pool(subnet_options=named))
    after = _generations(book)
    assert after["none"].generation == before["none"].generation
    assert after["own"].generation > before["own"].generation
    (due,) = book.due()
    assert isinstance(due.change, Ensure)
    assert syntax.line(due.change.binding.options) == 'option domain-name "x.example";'


def test_an_added_dhcpd_is_told_everything(book: Book) -> None:
    """Allocations are pending again until a newly required dhcpd has confirmed them, also in a static pool."""
    static: dict[str, Any] = {
        "mode": PoolMode.STATIC,
        "subnet": "10.2.0.0/28",
        "ranges": ["10.2.0.1-10.2.0.4"],
    }
    book.open(make_pool(), make_pool("static", **static))
    book.allocate("a", "b")
    book.allocate("s", pool="static")
    book.reserve("spare", "10.2.0.9", "00:80:77:31:01:07")
    book.confirm()
    book.release("b")
    book.open(make_pool(dhcpds=TWO), make_pool("static", dhcpds=TWO, **static), dhcpds=TWO)
    assert [book.state(text) for text in ("10.1.1.1", "10.2.0.1", "10.2.0.9")] == [
        "pending",
        "bound",
        "pending",
    ]
    due = book.due("d2")
    assert [str(item.address) for item in due if isinstance(item.change, Ensure)] == ["10.1.1.1", "10.2.0.9"]
    book.confirm("d2")
    assert [book.state(text) for text in ("10.1.1.1", "10.2.0.9")] == ["bound", "bound"]
    assert book.state("10.1.1.2") == "releasing", "d1 has yet to confirm, d2 never held it"


def test_a_removed_dhcpd_is_not_waited_for(book: Book) -> None:
    """What only a dhcpd that left the configuration had to confirm is done; if it returns, it is told all."""
    book.open(make_pool(dhcpds=TWO, cooldown_s=60), dhcpds=TWO)
    book.allocate("a", "b")
    book.confirm("d1")
    book.release("b")
    book.confirm("d1")
    assert [book.state(text) for text in ("10.1.1.1", "10.1.1.2")] == ["pending", "releasing"]
    book.open(make_pool(cooldown_s=60), dhcpds=["d1"])
    assert [book.state(text) for text in ("10.1.1.1", "10.1.1.2")] == ["bound", "cooling"]
    book.open(make_pool(dhcpds=TWO, cooldown_s=60), dhcpds=TWO)
    assert book.state("10.1.1.1") == "pending"
    assert [type(item.change) for item in book.due("d2")] == [Ensure]


def test_a_dhcpd_that_no_longer_serves_a_pool_is_told_so(book: Book) -> None:
    """A dhcpd that a pool no longer needs removes its reservations, and the addresses wait for it."""
    book.open(make_pool(dhcpds=TWO), dhcpds=TWO)
    book.allocate("a", "b")
    book.confirm(*TWO)
    book.open(make_pool(dhcpds=("d1",)), dhcpds=TWO)
    assert book.state("10.1.1.1") == "bound"
    assert [type(item.change) for item in book.due("d2")] == [Remove, Remove]
    book.release("b")
    book.confirm("d1")
    assert book.state("10.1.1.2") == "releasing"
    book.confirm("d2")
    assert (book.state("10.1.1.1"), book.state("10.1.1.2")) == ("bound", "free")


def test_a_range_of_addresses_that_was_pinned_joins_a_pool(book: Book) -> None:
    """A pinned address that the ranges now include counts as taken, and joins the pool when given up."""
    book.open(make_pool(ranges=["10.1.1.1-10.1.1.2"]))
    book.reserve("p", "10.1.1.4", "00:80:77:31:01:07")
    book.confirm()
    book.open(make_pool(ranges=["10.1.1.1-10.1.1.5"]))
    assert addresses(book.allocate("a", "b", "c", "d")) == [f"10.1.1.{last}" for last in (1, 2, 3, 5)]
    book.release("p", pinned=True)
    book.confirm()
    (made,) = book.allocate("e", address=ip("10.1.1.4"))
    assert str(made.mac) == "00:16:3e:01:01:04"
