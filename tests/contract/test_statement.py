"""Statements that go to the driver directly: the same rows, values and failures as through SQLAlchemy."""

from __future__ import annotations

import random

import pytest
from sqlalchemy import JSON, bindparam, insert, literal, select, text

from contract.book import Book, make_pool
from labkit.postgres import Postgres
from macbind.core.dhcp_options import DhcpOptions
from macbind.core.errors import Conflict, InvariantViolation, RegistryUnavailable
from macbind.registry.allocate import Wanted, allocate
from macbind.registry.fast_sql import Statement, execute
from macbind.registry.tables import allocation as al
from macbind.registry.tables import dhcpd
from macbind.registry.transaction import Transaction

_QUERY = (
    select(al.c.name, al.c.ip, al.c.options, al.c.pinned, al.c.created_at, al.c.grp)
    .where(al.c.ip.in_(bindparam("ips", expanding=True)), al.c.pool_id == bindparam("pool"))
    .order_by(al.c.ip)
)
_FOUND = Statement(_QUERY)
_FIRST = Statement(_QUERY.limit(1))
_NEW_DHCPD = Statement(insert(dhcpd), keys=("name",))


def test_rows_are_those_of_sqlalchemy(book: Book) -> None:
    """With lists of every length, in any order and with repetitions; JSON, truth values, times, NULL."""
    book.open(make_pool(subnet="10.1.0.0/24"))
    book.allocate(*(f"vm{number}" for number in range(40)), options=DhcpOptions(domain_name="x"))
    book.reserve("pinned", "10.1.0.200")
    draw = random.Random(7)
    with book.read() as view:
        known = [*view.db.scalars(select(al.c.ip)), 1]
        for length in range(1, 70):
            where = {"ips": draw.choices(known, k=length), "pool": view.ids.pools["farm"]}
            expected = view.db.execute(_QUERY, where).all()
            found = _FOUND.all(view.db, where)
            assert [row._asdict() for row in found] == [row._asdict() for row in expected]
            assert [type(row.pinned) for row in found] == [bool] * len(found)
            first = _FIRST.first(view.db, where)
            assert first == (tuple(expected[0]) if expected else None)


def test_a_value_of_the_statement_itself_is_converted_as_its_type_says(book: Book) -> None:
    """A constant in the clause goes to the driver as a parameter would."""
    book.open(make_pool())
    constant = Statement(select(literal({"a": [1, None]}, JSON).label("it")))
    with book.read() as view:
        assert constant.first(view.db, {}).it == {"a": [1, None]}


def test_a_value_that_was_forgotten_is_not_null(book: Book) -> None:
    """A statement that lacks a value fails each time, not only when it is compiled."""
    book.open(make_pool(), make_pool("other", subnet="10.2.0.0/28"))
    with book.write() as txn:
        assert _FOUND.all(txn.db, {"ips": [1], "pool": 1}) == []
        with pytest.raises(KeyError, match="pool"):
            _FOUND.all(txn.db, {"ips": [1]})
        _NEW_DHCPD.run(txn.db, {"name": "d2"})
        with pytest.raises(KeyError, match="name"):
            _NEW_DHCPD.run_each(txn.db, [{"name": "d3"}, {}])


def test_a_part_that_was_undone_holds_nothing_that_follows(book: Book) -> None:
    """After a part was undone the next one is beside it, not within it; the rest of the transaction counts."""
    book.open(make_pool())

    def refused(txn: Transaction, name: str) -> None:
        with txn.undone_if_refused():
            allocate(txn, Wanted("farm", (name,)))
            raise Conflict("no")

    def work(*more: str) -> None:
        with book.write() as txn:
            for name in ("a", "b"):
                with pytest.raises(Conflict):
                    refused(txn, name)
            with txn.undone_if_refused():
                allocate(txn, Wanted("farm", ("c",)))
            for statement in more:
                execute(txn.db, statement)

    with pytest.raises(RegistryUnavailable, match=r"no such savepoint|does not exist"):
        work("RELEASE SAVEPOINT part")
    work()
    assert [(one.name, str(one.address)) for one in book.find()] == [("c", "10.1.1.1")]


def test_refused_by_a_constraint(book: Book) -> None:
    """Whichever way it is executed, a constraint's refusal is an invariant violated, and nothing is changed."""
    book.open(make_pool())
    for rows in ([{"name": "d1"}], [{"name": "new"}, {"name": "d1"}]):
        with pytest.raises(InvariantViolation), book.write() as txn:
            _NEW_DHCPD.run_each(txn.db, rows)
    with book.read() as view:
        assert list(view.db.scalars(select(dhcpd.c.name))) == ["d1"]


def test_a_session_that_was_ended_is_not_used_again(postgres: Postgres) -> None:
    """A connection lost in the middle of a transaction fails that transaction only."""
    book = Book(postgres.emptied())
    book.open(make_pool())

    def lose_it() -> None:
        with book.write() as txn, book.read() as other:
            victim = txn.db.scalar(text("SELECT pg_backend_pid()"))
            assert other.db.scalar(text("SELECT pg_terminate_backend(:victim, 5000)"), {"victim": victim})
            allocate(txn, Wanted("farm", ("vm1",)))

    with pytest.raises(RegistryUnavailable, match="terminating connection"):
        lose_it()
    assert book.find() == []
    assert book.one("vm1").name == "vm1"
    book.close()
