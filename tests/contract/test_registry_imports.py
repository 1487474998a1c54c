"""Imports: all of a list or nothing, decided in one transaction; the plan is what the import does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from contract.book import Book, ip, make_pool
from macbind.core.allocation import Allocation
from macbind.core.dhcp_options import DhcpOptions
from macbind.core.errors import NotPermitted
from macbind.core.import_plan import ImportEntry, ImportPlan, ImportRow
from macbind.core.origin import Origin
from macbind.core.pool import Pool, PoolMode
from macbind.registry.audit import history
from macbind.registry.imports import import_entries
from macbind.registry.renumber import begin_renumber

PRINTER = "00:80:77:31:01:07"


def entry(name: str, *addresses: str, **given: Any) -> ImportEntry:
    """An entry."""
    return ImportEntry(name, addresses, **given)


def imported(
    book: Book, *entries: ImportEntry, actor: str = "tester", **how: Any
) -> tuple[ImportPlan, list[Allocation]]:
    """Imports in a transaction of its own."""
    with book.write(actor) as txn:
        return import_entries(txn, entries, **how)


def planned(book: Book, *entries: ImportEntry) -> Sequence[ImportRow]:
    """The plan; it changes nothing."""
    before = book.find(released=True)
    plan, made = imported(book, *entries)
    assert (plan.applied, made, book.find(released=True)) == (False, [], before)
    return plan.rows


def pools() -> list[Pool]:
    """Two pools: one with a gateway, a dynamic range and addresses that it does not hand out, one in static mode."""
    farm = make_pool(
        ranges=["10.1.1.1-10.1.1.8"], gateways=["10.1.1.9"], dynamic=["10.1.1.12-10.1.1.13"], cooldown_s=60
    )
    static = make_pool("still", subnet="10.1.2.0/28", mode=PoolMode.STATIC)
    return [farm, static]


LIST = (
    entry("dns", "10.1.1.3", line=1),
    entry("printer", "10.1.1.11", mac=PRINTER, line=2, options=DhcpOptions(hostname="p")),
    entry("own", "10.1.1.4", mac="00:16:3e:01:01:04", line=3, labels={"owner": "me"}),
    entry("vm", "10.1.1.5", pinned=False, group="g", line=4),
    entry("still", "10.1.2.3", line=5),
)


def test_a_list_is_planned_done_and_done(book: Book) -> None:
    """New, then the same; with other options and labels changed, and then the same again."""
    book.open(*pools())
    assert [one.verdict for one in planned(book, *LIST)] == ["new"] * 5
    plan, made = imported(book, *LIST, apply=True)
    assert plan.applied
    by_name = {one.name: one for one in made}
    assert {one.name: (str(one.mac), one.pinned, one.group) for one in made} == {
        "dns": ("00:16:3e:01:01:03", True, None),
        "printer": (PRINTER, True, None),
        "own": ("00:16:3e:01:01:04", True, None),
        "vm": ("00:16:3e:01:01:05", False, "g"),
        "still": ("00:16:3e:01:02:03", True, None),
    }
    assert [one.verdict for one in planned(book, *LIST)] == ["same"] * 5
    book.confirm()
    changed = entry("printer", "10.1.1.11", line=2, options=DhcpOptions(filename="x"), labels={"k": "v"})
    assert [one.verdict for one in planned(book, changed, LIST[0])] == ["changed", "same"]
    (printer,) = (one for one in imported(book, changed, LIST[0], apply=True)[1] if one.name == "printer")
    assert printer.options.to_dict() == {"hostname": "p", "filename": "x"}
    assert printer.labels == {"k": "v"}
    (due,) = book.due()
    assert due.change is not None
    assert due.change.generation == printer.generation > by_name["printer"].generation
    book.confirm()
    assert book.state("10.1.1.11") == "bound"
    assert [one.verdict for one in planned(book, changed, LIST[1])] == ["conflict", "conflict"]
    assert [one.verdict for one in planned(book, changed)] == ["same"]


def test_what_the_registry_refuses_is_a_row(book: Book) -> None:
    """What the registry refuses, with whom the conflict is, and a way to mend it; a plan leaves nothing behind."""
    book.open(*pools())
    book.one("taken", address=ip("10.1.1.1"))
    book.reserve("foreign", "10.1.1.10", PRINTER)
    book.one("gone", address=ip("10.1.1.2"))
    book.confirm()
    book.release("gone")
    book.show(book.seen("10.1.1.6"), book.seen("10.1.1.7", "mine", "aa:bb:cc:00:00:07"))
    found = planned(
        book,
        entry("a", "10.1.1.1"),
        entry("b", "10.1.1.11", mac=PRINTER),
        entry("c", "10.1.1.2"),
        entry("d", "10.1.1.6"),
        entry("e", "10.1.1.7", mac="aa:bb:cc:00:00:07"),
        entry("f", "10.1.1.8", mac="aa:bb:cc:00:00:01"),
        entry("g", "192.0.2.1"),
        entry("h", "10.1.1.9"),
        entry("i", "10.1.1.0"),
        entry("j", "10.1.1.15"),
        entry("k", "10.1.1.12"),
        entry("l", "10.1.1.3", mac="00:16:3e:01:01:05"),
        entry("m", "10.1.1.4", mac="01:00:5e:00:00:01"),
        entry("n", "10.1.2.4", mac="aa:bb:cc:00:00:09"),
        entry("o", "10.1.1.14", pinned=False),
        entry("p", "10.1.1.5", mac="aa:bb:cc:00:00:0a", pinned=False),
        entry("q", "10.1.1.13", options=DhcpOptions.parse({"routers": ["192.0.2.1"]})),
    )
    assert [(one.name, one.verdict.value, one.holder) for one in found] == [
        ("a", "conflict", "taken"),
        ("b", "conflict", "foreign"),
        ("c", "conflict", "gone"),
        ("d", "conflict", "printer"),
        ("e", "new", None),
        ("f", "conflict", "printer"),
        *((name, "impossible", None) for name in "ghijklmnopq"),
    ]
    for one in found:
        if one.verdict != "new":
            assert one.why
            assert one.mend
    assert "10.1.1.1 is held by 'taken'" in found[0].why
    assert "is in no pool's subnet" in found[6].why


def test_one_conflict_keeps_all_back(book: Book) -> None:
    """Nothing is done, unless the others are wanted without it; the row says so in either case."""
    book.open(*pools())
    book.one("taken", address=ip("10.1.1.1"))
    both = entry("a", "10.1.1.1"), entry("b", "10.1.1.3"), entry("c", "10.1.1.300")
    before = book.find()
    plan, made = imported(book, *both, apply=True)
    assert (plan.applied, made, book.find()) == (False, [], before)
    assert [one.verdict for one in plan.rows] == ["conflict", "new", "impossible"]
    plan, made = imported(book, *both, apply=True, skip_conflicts=True)
    assert plan.applied
    assert [one.name for one in made] == ["b"]
    assert [one.verdict for one in plan.rows] == ["conflict", "new", "impossible"]
    assert imported(book, apply=True) == (ImportPlan((), applied=True), [])


def test_a_name_that_is_renumbered_waits(book: Book) -> None:
    """Both addresses are its own; other options are refused until it has one."""
    book.open(*pools())
    book.reserve("dns", "10.1.1.3")
    book.confirm()
    with book.write() as txn:
        begin_renumber(txn, "dns", ip("10.1.1.4"), "token", 60.0)
    rows = planned(
        book, entry("dns", "10.1.1.3", options=DhcpOptions(hostname="d")), entry("other", "10.1.1.4")
    )
    assert [one.verdict for one in rows] == ["impossible", "conflict"]
    assert "is being renumbered" in rows[0].why


def test_a_router_may_come_later_in_the_list(book: Book) -> None:
    """A machine with a gateway of its own is taken after the reservations that the gateway may be."""
    book.open(*pools())
    routed = DhcpOptions.parse({"routers": ["10.1.1.8"]})
    both = entry("vm", "10.1.1.3", options=routed), entry("router", "10.1.1.8", mac=PRINTER)
    assert [one.verdict for one in planned(book, *both)] == ["new", "new"]
    plan, made = imported(book, *both, apply=True)
    assert plan.applied
    assert {one.name for one in made} == {"vm", "router"}
    assert [one.verdict for one in planned(book, *both)] == ["same", "same"]
    alone = entry("other", "10.1.1.4", options=DhcpOptions.parse({"routers": ["10.1.1.5"]}))
    assert [one.verdict for one in planned(book, alone)] == ["impossible"]


def test_the_audit_log_has_the_reason_and_the_request(book: Book) -> None:
    """Every entry that was done has one row, and all of them one request."""
    book.open(*pools())
    actor = Origin("tester", request="r-1", reason="moving in")
    imported(book, *LIST, actor=actor, apply=True)
    with book.read() as view:
        rows = history(view)
    assert {(one.request, one.detail["reason"]) for one in rows} == {("r-1", "moving in")}
    assert sorted(one.action for one in rows) == ["allocate", *["reserve"] * 4]


def test_who_is_limited_to_pools_imports_into_these(book: Book) -> None:
    """An address of another pool is refused, and so is a name that is held in one."""
    book.open(*pools())
    mine = Origin("tester", pools=frozenset({"farm"}))
    plan, _ = imported(book, entry("a", "10.1.1.3"), entry("b", "10.1.2.3"), actor=mine)
    assert [one.verdict for one in plan.rows] == ["new", "impossible"]
    book.reserve("b", "10.1.2.3")
    with pytest.raises(NotPermitted):
        imported(book, entry("b", "10.1.1.4"), actor=mine)
