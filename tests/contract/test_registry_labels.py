"""Labels: given with an allocation, changed later, found again, and gone with it."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from sqlalchemy import event

from contract.book import Book, addresses, ip, make_pool
from macbind.core.allocation import Allocation
from macbind.core.errors import Conflict, InvalidLabel, NotFound
from macbind.core.origin import Origin
from macbind.registry.audit import history
from macbind.registry.bulk import release_labelled
from macbind.registry.changes import changes
from macbind.registry.labels import relabel
from macbind.registry.renumber import begin_renumber, finish_renumber
from macbind.registry.reserve import reserve

JOB = {"job": "4711"}


def relabelled(book: Book, name: str, labels: Mapping[str, str], *removed: str) -> Allocation:
    """Changes labels in a transaction of its own."""
    with book.write() as txn:
        return relabel(txn, name, labels, removed)


def test_labels_are_kept_and_found(book: Book) -> None:
    """Every member of a request has them; equality and presence find it, all criteria together."""
    book.open(make_pool())
    book.allocate("a", "b", group="speck", labels={"job": "4711", "owner": "ci"})
    book.one("c", labels={"job": "4712"})
    book.one("d")
    assert [one.labels for one in book.find()] == [{"job": "4711", "owner": "ci"}] * 2 + [{"job": "4712"}, {}]
    found = {
        "job=4711": book.find(labels=JOB),
        "job": book.find(labels={"job": None}),
        "both": book.find(labels={"job": "4711", "owner": None}),
        "pool": book.find(labels=JOB, pool="farm"),
        "name": book.find(labels=JOB, names=["b", "c"]),
        "page": book.find(labels={"job": None}, after=ip("10.1.1.1"), limit=1),
        "none": book.find(labels={"job": "4711", "owner": "me"}),
    }
    assert {what: [one.name for one in some] for what, some in found.items()} == {
        "job=4711": ["a", "b"],
        "job": ["a", "b", "c"],
        "both": ["a", "b"],
        "pool": ["a", "b"],
        "name": ["b"],
        "page": ["b"],
        "none": [],
    }


def test_a_repeat_with_other_labels_is_a_conflict(book: Book) -> None:
    """Other labels than it was made with are refused; those that were added since, or none at all, are not."""
    book.open(make_pool())
    made = book.one("a", labels=JOB)
    assert book.one("a", labels=JOB) == made
    assert book.one("a").labels == JOB
    for other in ({"job": "1"}, {"job": "4711", "owner": "ci"}):
        with pytest.raises(Conflict, match=r"already allocated .* with labels"):
            book.one("a", labels=other)
    relabelled(book, "a", {"owner": "me"})
    assert book.one("a", labels=JOB).labels == {"job": "4711", "owner": "me"}
    with book.write() as txn:
        reserve(txn, "printer", ip("10.1.1.9"), labels={"room": "7"})
        assert reserve(txn, "printer", ip("10.1.1.9")).labels == {"room": "7"}
        with pytest.raises(Conflict, match="is reserved with the labels"):
            reserve(txn, "printer", ip("10.1.1.9"), labels={"room": "8"})


def test_labels_change_and_every_change_is_logged_once(book: Book) -> None:
    """A change says what they were; one that changes nothing writes nothing."""
    book.open(make_pool())
    book.one("a", labels=JOB)
    assert relabelled(book, "a", {"job": "4712", "owner": "ci"}).labels == {"job": "4712", "owner": "ci"}
    assert relabelled(book, "a", {"owner": "ci"}, "nothing").labels == {"job": "4712", "owner": "ci"}
    assert relabelled(book, "a", {}, "owner", "job").labels == {}
    with book.read() as view:
        logged = [one.detail for one in reversed(history(view, action="label"))]
        followed = changes(view, 0, 10).changes
    assert logged == [
        {"pool": "farm", "labels": {"job": "4712", "owner": "ci"}, "before": JOB},
        {"pool": "farm", "before": {"job": "4712", "owner": "ci"}},
    ]
    assert [one.action for one in followed if one.has_labels(JOB)] == ["allocate", "label"]
    assert [one.action for one in followed if one.has_labels({"owner": None})] == ["label", "label"]
    with pytest.raises(NotFound):
        relabelled(book, "b", JOB)


def test_too_many_or_no_labels_change_nothing(book: Book) -> None:
    """Sixteen is the end, whether they come at once or one by one; the pool has lost no address."""
    book.open(make_pool())
    many = {f"key-{number}": "" for number in range(17)}
    with pytest.raises(InvalidLabel, match="at most 16 labels, not 17"):
        book.one("a", labels=many)
    with pytest.raises(InvalidLabel, match="'Job' cannot be the key"):
        book.one("a", labels={"Job": "1"})
    assert book.find() == []
    book.one("a", labels=dict(list(many.items())[:16]))
    with pytest.raises(InvalidLabel, match="at most 16"):
        relabelled(book, "a", {"one-more": ""})
    assert len(relabelled(book, "a", {"one-more": ""}, "key-0").labels) == 16


def test_labels_end_with_their_allocation(book: Book) -> None:
    """A successor of the address has none of them, whether the address rested or not."""
    book.open(make_pool(ranges=["10.1.1.1-10.1.1.1"], cooldown_s=60))
    book.one("a", labels=JOB)
    book.release("a")
    assert [one.labels for one in book.find(released=True)] == [JOB]
    assert book.find(labels=JOB) == []
    book.confirm()
    assert book.one("b").labels == {}  # its rest was cut
    book.release("b")
    book.confirm()
    book.later(61)
    book.sweep()
    assert book.one("c").labels == {}


def test_labels_go_with_a_renumbered_name(book: Book) -> None:
    """The new address has them from the beginning, a change meanwhile included."""
    book.open(make_pool())
    book.one("a", labels=JOB)
    with book.write() as txn:
        begun = begin_renumber(txn, "a", ip("10.1.1.9"), "token-token", 60)
        assert begun.new.labels == JOB
    relabelled(book, "a", {"owner": "ci"})
    with book.write() as txn:
        finish_renumber(txn, "a", "token-token")
    (one,) = book.find(labels=JOB)
    assert (str(one.address), one.labels) == ("10.1.1.9", {"job": "4711", "owner": "ci"})


def test_release_by_labels_answers_for_each(book: Book) -> None:
    """Allocations are released, reservations are refused one by one, all others are left alone."""
    book.open(make_pool())
    book.allocate("a", "b", labels=JOB)
    book.one("other", labels={"job": "1"})
    with book.write() as txn:
        reserve(txn, "printer", ip("10.1.1.9"), labels=JOB)
    with book.write(Origin("tester", "req-1", "end of job")) as txn:
        items = release_labelled(txn, JOB)
    assert [(one.allocation.name, one.error and one.error["code"]) for one in items] == [
        ("a", None),
        ("b", None),
        ("printer", "conflict"),
    ]
    assert addresses(book.find()) == ["10.1.1.3", "10.1.1.9"]
    with book.read() as view:
        rows = history(view, request="req-1")
        assert [(one.name, one.detail["reason"], one.request) for one in rows] == [
            ("b", "end of job", "req-1"),
            ("a", "end of job", "req-1"),
        ]
        assert {one.name for one in history(view, labels=JOB)} == {"a", "b", "printer"}
        assert {one.name for one in history(view, labels={"job": None})} == {"a", "b", "printer", "other"}
    with book.write() as txn, pytest.raises(InvalidLabel, match="Say which labels"):
        release_labelled(txn, {})


def test_without_labels_no_statement_is_about_them(book: Book) -> None:
    """Allocating, listing and releasing what has no labels asks and changes no row of a label."""
    book.open(make_pool())
    said: list[str] = []
    connections = book.registry.engine
    if connections.dialect.name != "sqlite":
        book.one("a")
        with book.write() as txn:
            assert txn.db.exec_driver_sql("SELECT count(*) FROM label").scalar() == 0
        return

    def listen(connection: object, *_: object) -> None:
        connection.set_trace_callback(said.append)  # type: ignore[attr-defined]

    event.listen(connections, "checkout", listen)
    book.one("a")
    book.release("a")
    book.confirm()
    assert book.find(released=True) == []
    assert any("INSERT INTO allocation" in one for one in said)
    assert not any("label" in one.replace("labels", "") for one in said)
