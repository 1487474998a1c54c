"""Controllers that share a registry: the table of who is there, and the news they tell each other."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import select, update

from contract import workers
from contract.book import Book, make_pool
from labkit.postgres import Postgres
from labkit.wait import until
from macbind.core.controllers import Said
from macbind.core.errors import RegistryUnavailable
from macbind.core.findings import ControllerStatus, DhcpdState, Finding, Lead
from macbind.engine.presence import Presence
from macbind.registry.controllers import KEPT_S, SILENT_S, Me, announce, controllers, forget, gone
from macbind.registry.news import Ear, News, can_hear, tell
from macbind.registry.tables import controller as co

ONE, TWO = Me("1", "alpha", "/run/one", "0.1"), Me("2", "beta", "/run/two", "0.2")
SAID = Said(
    (Lead("d1", DhcpdState.SERVING, datetime(2030, 1, 1, tzinfo=UTC), (Finding("leftover", "It stays."),)),),
    ("d2",),
)
OTHER = Said((Lead("d9", DhcpdState.SERVING, datetime(2030, 1, 1, tzinfo=UTC)),))
DEADLINE_S = 60.0


@pytest.fixture
def open_book(book: Book) -> Book:
    """A registry that is open."""
    book.open(make_pool())
    return book


@pytest.fixture
def ear(postgres: Postgres) -> Iterator[tuple[Book, Ear]]:
    """A registry in PostgreSQL, and somebody else who hears its news."""
    book = Book(postgres.emptied())
    book.open(make_pool())
    ear = Ear(book.url, "somebody")
    yield book, ear
    ear.close()
    book.close()


def found(book: Book, asked: str | None = None) -> list[ControllerStatus]:
    """All that are there."""
    with book.registry.read() as view:
        return controllers(view.db, asked)


def age(book: Book, me: Me, seconds: float) -> None:
    """Nothing was heard of one for so long."""
    with book.registry.aside() as db:
        heard = db.scalar(select(co.c.heard_at).where(co.c.id == me.id))
        assert heard is not None
        db.execute(update(co).where(co.c.id == me.id).values(heard_at=heard - seconds))


def say(book: Book, me: Me, said: Said = Said()) -> None:  # noqa: B008  # it is frozen
    """A controller says that it is there."""
    with book.registry.aside() as db:
        announce(db, me, said)


def test_what_controllers_say_is_read_by_all(open_book: Book) -> None:
    """Whole, and in the order of hosts; saying it again changes what is said, and when."""
    say(open_book, TWO)
    say(open_book, ONE, SAID)
    first, second = found(open_book, "2")
    assert (first.id, first.host, first.socket, first.version) == ("1", "alpha", "/run/one", "0.1")
    assert (first.leads, first.wants, first.is_alive, first.is_asked) == (SAID.leads, ("d2",), True, False)
    assert (second.leads, second.is_asked) == ((), True)
    say(open_book, ONE)
    again = found(open_book)[0]
    assert (again.leads, again.since) == ((), first.since)
    assert again.heard_at >= first.heard_at


def test_one_that_is_silent_leads_nothing_and_is_forgotten_later(open_book: Book) -> None:
    """It is shown for an hour, so that somebody sees it; one that says that it ends is gone at once."""
    say(open_book, ONE, SAID)
    say(open_book, TWO)
    age(open_book, ONE, SILENT_S + 1)
    first, second = found(open_book)
    assert (first.is_alive, first.leads, first.wants, second.is_alive) == (False, (), (), True)
    with open_book.registry.aside() as db:
        assert gone(db) == []
        forget(db, ["2"])
    assert [one.id for one in found(open_book)] == ["1"]
    age(open_book, ONE, KEPT_S)
    with open_book.registry.aside() as db:
        assert gone(db) == ["1"]


def test_one_that_was_killed_and_started_again_is_there_once(open_book: Book) -> None:
    """It is another one, in the same place of the same machine."""
    say(open_book, ONE)
    age(open_book, ONE, SILENT_S + 1)
    say(open_book, Me("3", ONE.host, ONE.socket, "0.2"))
    assert [one.id for one in found(open_book)] == ["3"]
    with open_book.registry.aside() as db:
        assert gone(db) == ["1"]


def test_what_a_newer_version_says_is_passed_over(open_book: Book) -> None:
    """It is there all the same."""
    say(open_book, ONE, SAID)
    with open_book.registry.aside() as db:
        db.execute(update(co).values(said={"leads": [{"dhcpd": "d1", "state": "unheard of"}]}))
    assert [(one.is_alive, one.leads) for one in found(open_book)] == [(True, ())]


def test_saying_so_waits_for_no_change(postgres: Postgres) -> None:
    """A controller is not taken for dead because somebody holds PostgreSQL's write lock for long."""
    book = Book(postgres.emptied())
    book.open(make_pool(), busy_timeout_s=0.1)
    with workers.process(workers.hold_write_lock, book.url) as (_, pipe):
        assert workers.say(pipe) == "held"
        say(book, ONE)
        assert [one.id for one in found(book)] == ["1"]
    book.close()


def test_presence_says_what_is_new_and_knows_the_others(open_book: Book) -> None:
    """It comes, leads something, hears of another, and leaves; a part that hangs meanwhile does not matter."""
    registry, said, changes = open_book.registry, [Said()], []
    presence = Presence(registry, ONE, lambda: said[0], lambda: changes.append(presence.others()))

    def is_noticed() -> bool:
        say(open_book, TWO, OTHER)  # as long as it takes: one that is silent is not there
        return presence.serves("d9") and bool(changes)

    presence.start()
    try:
        assert [one.id for one in found(open_book)] == ["1"]
        said[0] = SAID
        presence.look_soon()
        until(lambda: found(open_book)[0].leads == SAID.leads, DEADLINE_S, "the lead to be told")
        assert not presence.serves("d1"), "that is this one itself"
        until(is_noticed, DEADLINE_S, "the other to be noticed, and to be told of")
        assert [one.id for one in changes[-1]] == ["2"]
        assert presence.may_claim("d9")
        assert not presence.claims("d1")
        before = found(open_book)[0].heard_at
        until(lambda: found(open_book)[0].heard_at > before, DEADLINE_S, "it to say again that it is there")
    finally:
        presence.close()
    assert [one.id for one in found(open_book)] == ["2"]


def hear(ear: Ear) -> set[News]:
    """What is heard next."""
    return until(ear.heard, DEADLINE_S, "news")


def test_news_are_told_to_others_and_only_if_there_are_any(ear: tuple[Book, Ear]) -> None:
    """A change that is due, what was confirmed, and nothing for a repeat; one's own news are passed over."""
    book, other = ear
    own = Ear(book.url, book.registry.origin)
    book.one("vm")
    assert hear(other) == {News.DUE}
    book.confirm("d1")
    assert hear(other) == {News.DONE}
    book.one("vm")
    with book.registry.aside() as db:
        tell(db, "a third one", [News.WHO])
    assert hear(other) == {News.WHO}, "what was told before would have come before"
    assert hear(own) == {News.WHO}
    own.close()


def test_an_ear_that_hears_nothing_any_more_says_so(ear: tuple[Book, Ear], postgres: Postgres) -> None:
    """Its session was ended."""
    _, other = ear
    postgres.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query = 'LISTEN macbind'")

    def broken() -> bool:
        try:
            other.heard()
        except RegistryUnavailable:
            return True
        return False

    until(broken, DEADLINE_S, "the broken connection to be noticed")


def test_only_postgresql_has_news(url: str) -> None:
    """Controllers on one SQLite file look now and then."""
    assert can_hear(url) is url.startswith("postgresql")


def test_a_database_that_is_away_is_no_defect(tmp_path: Path) -> None:
    """Whoever wants to hear its news is told so, and tries again."""
    with pytest.raises(RegistryUnavailable, match=r"The registry .* cannot be used"):
        Ear(f"postgresql+psycopg://macbind:secret@/postgres?host={tmp_path}", "somebody")
