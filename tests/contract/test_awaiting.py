"""Waiting for names on both databases: answered when it has happened, whoever made it happen."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import pytest

from contract.book import Book, ip, make_pool
from macbind.core.errors import MacbindError, NotFound, NotYet
from macbind.registry.awaited import Until
from macbind.service import awaiting
from macbind.service.awaiting import Awaiting
from macbind.service.events import Changed
from macbind.service.waiting import Deadline

_T = TypeVar("_T")
LONG_S = 60.0
BRIEF_S = 0.3
"""How long is waited for what does not happen."""


def run(work: Callable[[Awaiting, Changed], Awaitable[_T]], book: Book) -> _T:
    """The result of what somebody does who waits."""

    async def within() -> _T:
        changed = Changed()
        return await asyncio.wait_for(
            asyncio.ensure_future(work(Awaiting(book.registry, changed), changed)), LONG_S
        )

    return asyncio.run(within())


def told(
    book: Book,
    *names: str,
    until: Until = Until.BOUND,
    generation: int | None = None,
    is_any: bool = False,
    within_s: float = LONG_S,
) -> list[str] | MacbindError:
    """What somebody is told."""

    async def ask(awaiting: Awaiting, _: Changed) -> list[str] | MacbindError:
        try:
            meant = [(name, generation) for name in names]
            return await awaiting.wait(meant, until, Deadline(within_s), is_any=is_any)
        except MacbindError as error:
            return error

    return run(ask, book)


def test_what_has_happened_is_told_at_once(book: Book) -> None:
    """Bound when every dhcpd has confirmed, free when none holds it any more."""
    book.open(make_pool())
    assert told(book, "a", until=Until.FREE) == ["a"]
    assert isinstance(told(book, "a", within_s=BRIEF_S), NotYet)
    book.one("a")
    pending = told(book, "a", within_s=BRIEF_S)
    assert isinstance(pending, NotYet)
    assert (pending.message, pending.details) == ("a is not bound yet.", {"names": ["a"]})
    book.confirm()
    assert told(book, "a") == ["a"]
    assert isinstance(told(book, "a", until=Until.FREE, within_s=BRIEF_S), NotYet)
    book.release("a")
    assert isinstance(told(book, "a", until=Until.FREE, within_s=BRIEF_S), NotYet)
    book.confirm()
    assert told(book, "a", until=Until.FREE) == ["a"]


def test_an_address_that_rests_is_free(book: Book) -> None:
    """Nobody holds it, whatever its pool does with it next."""
    book.open(make_pool(cooldown_s=600))
    book.one("a")
    book.confirm()
    book.release("a")
    book.confirm()
    assert book.state("10.1.1.1") == "cooling"
    assert told(book, "a", until=Until.FREE) == ["a"]


def test_of_several_all_or_any(book: Book) -> None:
    """The answer names those for which it has happened."""
    book.open(make_pool())
    book.one("a")
    book.confirm()
    book.one("b")
    assert told(book, "a", "b", is_any=True) == ["a"]
    missing = told(book, "a", "b", within_s=BRIEF_S)
    assert isinstance(missing, NotYet)
    assert missing.details == {"names": ["b"]}
    book.confirm()
    assert told(book, "b", "a") == ["b", "a"]


def test_a_generation_is_one_holder(book: Book) -> None:
    """Its end is not put off by who has the name next, and a later holder is not taken for it."""
    book.open(make_pool())
    first = book.one("a")
    book.confirm()
    book.release("a")
    book.confirm()
    second = book.one("a")
    book.confirm()
    assert second.generation > first.generation
    assert told(book, "a", until=Until.FREE, generation=first.generation) == ["a"]
    assert isinstance(
        told(book, "a", until=Until.FREE, generation=second.generation, within_s=BRIEF_S), NotYet
    )
    assert told(book, "a", generation=second.generation) == ["a"]
    gone = told(book, "a", generation=first.generation)
    assert isinstance(gone, NotFound)
    assert f"generation {first.generation} is not allocated any more" in gone.message


def test_a_new_generation_by_the_configuration_is_the_same_holder(book: Book) -> None:
    """Other options give every binding a new generation; its machine has the address as before."""
    book.open(make_pool())
    made = book.one("a")
    book.confirm()
    book.open(make_pool(gateways=["10.1.1.14"], gateway="10.1.1.14"))
    renewed = book.find(addresses=[ip("10.1.1.1")])[0]
    assert renewed.generation > made.generation, "the configuration changed nothing"
    book.confirm()
    assert isinstance(told(book, "a", until=Until.FREE, generation=made.generation, within_s=BRIEF_S), NotYet)
    assert told(book, "a", generation=made.generation) == ["a"]


def test_a_word_is_enough(book: Book, monkeypatch: pytest.MonkeyPatch) -> None:
    """Told of a commit, whoever waits is answered, though nobody looks at the registry without a reason."""
    monkeypatch.setattr(awaiting, "_LOOK_S", 3600.0)
    book.open(make_pool())

    async def wait(awaiting: Awaiting, changed: Changed) -> None:
        for number in range(5):
            name = f"vm-{number}"
            waiting = asyncio.ensure_future(
                awaiting.wait([(name, None)], Until.BOUND, Deadline(LONG_S), is_any=False)
            )
            await asyncio.to_thread(book.one, name)
            await asyncio.to_thread(book.confirm)
            changed.notify()
            assert await waiting == [name]

    run(wait, book)


def test_without_a_word_it_is_found_out(book: Book) -> None:
    """As where another controller has done it; many may wait for different things."""
    book.open(make_pool())
    held = book.one("b")
    book.confirm()

    async def wait(awaiting: Awaiting, _: Changed) -> list[list[str]]:
        waiting = asyncio.gather(
            awaiting.wait([("a", None)], Until.BOUND, Deadline(LONG_S), is_any=False),
            awaiting.wait([("b", held.generation)], Until.FREE, Deadline(LONG_S), is_any=False),
            awaiting.wait([("c", None), ("a", None)], Until.BOUND, Deadline(LONG_S), is_any=True),
        )
        await asyncio.to_thread(book.one, "a")
        await asyncio.to_thread(book.release, "b")
        await asyncio.to_thread(book.confirm)
        return [*await waiting]

    assert run(wait, book) == [["a"], ["b"], ["a"]]


def test_the_history_is_found_by_what_is_known_of_it(book: Book) -> None:
    """By pool, actor, action and time; the name of a user stands for all its processes."""
    book.open(make_pool(), make_pool("other", subnet="10.1.2.0/28"))
    book.allocate("a", actor="ann (uid 7, pid 1)")
    book.allocate("b", pool="other", actor="anna (uid 8, pid 2)")
    book.later(100)
    middle = book.now
    book.release("a")
    assert book.history(pool="other") == [("anna (uid 8, pid 2)", "allocate", "b")]
    assert book.history(actor="ann") == [("ann (uid 7, pid 1)", "allocate", "a")]
    assert book.history(actor="a%") == []
    assert book.history(action="release", since=middle) == [("tester", "release", "a")]
    assert book.history(since=middle, pool="other") == []
