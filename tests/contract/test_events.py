"""The event feed on both databases: everything, in order, whoever reads from wherever."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TypeVar

import pytest

from contract.book import Book, make_pool
from macbind.core.allocation import Allocation
from macbind.core.errors import InvalidRequest
from macbind.core.event import Change, Gap
from macbind.core.findings import Finding
from macbind.registry.audit import trim_audit
from macbind.registry.changes import changes, newest
from macbind.registry.store import Registry
from macbind.service.events import Changed, EventFeed, Pace, Reader

_T = TypeVar("_T")
DEADLINE_S = 120.0
PACE = Pace()


@dataclass
class Model:
    """The registry as somebody knows it who has only read events."""

    held: dict[str, tuple[object, ...]] = field(default_factory=dict)
    position: int = 0

    def take(self, found: Iterable[Change]) -> None:
        """Learns."""
        for one in found:
            assert one.id > self.position, "a change came twice, or in the wrong order"
            self.position = one.id
            if one.action in ("allocate", "reserve", "renumber"):
                mac = one.detail["mac"]
                self.held[str(one.address)] = (one.name, mac, one.generation, one.pool, one.group)
            elif one.action in ("release", "unreserve"):
                known = self.held.pop(str(one.address))
                assert known[2] == one.generation


def as_it_is(found: Iterable[Allocation]) -> dict[str, tuple[object, ...]]:
    """The registry in the words of the model."""
    return {str(one.address): (one.name, str(one.mac), one.generation, one.pool, one.group) for one in found}


def feed_of(
    registry: Registry, findings: Callable[[], tuple[Finding, ...]] = tuple, pace: Pace = PACE
) -> EventFeed:
    """A feed that nobody tells of commits, as where another controller writes."""
    return EventFeed(registry, findings, Changed(), pace)


def run(work: Awaitable[_T]) -> _T:
    """The result, which must come in time."""

    async def within() -> _T:
        return await asyncio.wait_for(asyncio.ensure_future(work), DEADLINE_S)

    return asyncio.run(within())


async def read_to(reader: Reader, model: Model, last: int) -> None:
    """Reads until the change of this number."""
    while reader.position < last:
        model.take((await reader.next(1.0)).changes)


def churn(book: Book, chance: random.Random, count: int) -> None:
    """Makes so many changes, and confirms now and then."""
    for number in range(count):
        held = [one for one in book.find() if not one.pinned]
        if held and (chance.random() < 0.45 or len(held) > 9):
            book.release(chance.choice(held).name)
        else:
            book.one(f"vm-{chance.random()}", group=chance.choice([None, "g"]))
        if number % 3 == 0:
            book.confirm()


def test_a_reader_learns_the_registry_whenever_it_begins_anew(book: Book) -> None:
    """Broken off at random, with pages and a memory of any size; another process's changes come, too."""
    chance = random.Random(5)
    book.open(make_pool())
    churn(book, chance, 30)
    model = Model()

    async def follow() -> None:
        feed = feed_of(book.registry, pace=Pace(latest=4, page=3, look=2))
        for _ in range(8):
            position = await feed.start(model.position)
            with feed.reader(position, findings=False) as reader:
                for _ in range(chance.randrange(4)):
                    model.take((await reader.next(0.01)).changes)
                await asyncio.to_thread(churn, book, chance, 10)
        with feed.reader(model.position, findings=False) as reader:
            with book.read() as view:
                last = newest(view)
            await read_to(reader, model, last)

    run(follow())
    assert model.held == as_it_is(book.find())


def test_what_is_trimmed_is_told(book: Book) -> None:
    """A gap before the first change that is left; the last one is never trimmed, so no number comes twice."""
    book.open(make_pool())
    book.one("a")
    book.release("a")
    book.confirm()
    book.later(3600)
    with book.write() as txn:
        trim_audit(txn, book.now + timedelta(days=1))
    with book.read() as view:
        log = changes(view, 0, 100)
        last = newest(view)
    assert [one.action for one in log.changes] == ["release"]
    assert log.gap == Gap(0, last)
    made = book.one("b")
    with book.read() as view:
        later = changes(view, last, 100)
    assert later.gap is None
    assert [(one.id, one.name, one.address) for one in later.changes] == [(last + 1, "b", made.address)]


def test_a_number_that_was_not_given_yet_is_refused(book: Book) -> None:
    """Whoever has it has read another registry."""
    book.open(make_pool())
    book.one("a")
    feed = feed_of(book.registry)
    with pytest.raises(InvalidRequest, match="no change 1000 yet; the last one is 1"):
        run(feed.start(1000))
    assert run(feed.start(None)) == 1
    assert run(feed.start(0)) == 0


def test_a_commit_wakes_a_reader(book: Book) -> None:
    """Though nobody looks at the registry without a reason."""
    book.open(make_pool())

    async def follow() -> None:
        changed = Changed()
        feed = EventFeed(book.registry, tuple, changed, Pace(look_s=3600))
        with feed.reader(0, findings=False) as reader:
            for number in range(5):
                waiting = asyncio.ensure_future(reader.next(DEADLINE_S))
                await asyncio.to_thread(book.one, f"vm-{number}")
                changed.notify()
                assert (await waiting).changes

    run(follow())


def test_findings_come_at_first_and_whenever_they_change(book: Book, monkeypatch: pytest.MonkeyPatch) -> None:
    """To every reader that wants them, all that there are."""
    book.open(make_pool())
    there: list[Finding] = [Finding("disk_low", "It is full.")]

    async def follow() -> list[tuple[Finding, ...]]:
        told: list[tuple[Finding, ...]] = []
        feed = feed_of(book.registry, lambda: tuple(there), Pace(look_s=0.01, findings_s=0.01))
        with feed.reader(0, findings=True) as reader, feed.reader(0, findings=False) as other:
            for _ in range(3):
                while (batch := await reader.next(1.0)).findings is None:
                    pass
                told.append(batch.findings)
                there[:] = [] if there else [Finding("two_dhcpds", "Two of them.")]
            assert (await other.next(0.05)).findings is None
        return told

    assert [[one.code for one in found] for found in run(follow())] == [["disk_low"], [], ["two_dhcpds"]]


def test_every_change_names_pool_and_group(book: Book) -> None:
    """So a reader can ask for one of them, for what is gone, too."""
    book.open(make_pool())
    book.one("a", group="g")
    book.one("b")
    book.release("a")
    book.put_aside("10.1.1.1", 300)
    with book.read() as view:
        found = changes(view, 0, 100).changes
    assert [(one.action, one.pool, one.group) for one in found] == [
        ("allocate", "farm", "g"),
        ("allocate", "farm", None),
        ("release", "farm", "g"),
        ("put aside", "farm", "g"),
    ]
