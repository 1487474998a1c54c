"""Imports of random lists into random registries: an export is the same again, and twice is once."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from contract.book import Book, make_pool
from macbind.cli.columns import Table
from macbind.cli.formats import Form
from macbind.cli.import_tables import EXPORTED
from macbind.cli.show import Show
from macbind.core.allocation import Allocation
from macbind.core.dhcp_options import DhcpOptions
from macbind.core.import_plan import ImportEntry, ImportPlan, ImportVerdict
from macbind.importing.forms import ListForm, read_list
from macbind.importing.own import exported
from macbind.registry.imports import import_entries

_NAMES = st.sampled_from(["a", "b.example.org", "c-3", "d:4", "e/5", "reservations"])
_ADDRESSES = st.sampled_from(
    [f"10.1.1.{number}" for number in (0, 1, 3, 4, 5, 9, 11, 12, 15)] + ["192.0.2.1"]
)
_MACS = st.sampled_from([None, None, "00:80:77:00:00:01", "0080.7700.0002", "00:16:3e:01:01:03", "zz"])
_TEXTS: list[dict[str, Any]] = [
    {},
    {},
    {"hostname": "h"},
    {"filename": "a b#c", "mtu": 1400},
    {"raw": {"252": "hex:0a"}, "boot": {"bios": "x"}},
]
_OPTIONS = st.sampled_from([DhcpOptions.parse(one) for one in _TEXTS])
_LABELS = st.dictionaries(
    st.sampled_from(["k", "owner", "reservations"]), st.text("a\"'\n #é,\\", max_size=5)
)
_ENTRIES = st.builds(
    ImportEntry,
    name=_NAMES,
    addresses=st.lists(_ADDRESSES, min_size=1, max_size=2).map(tuple),
    mac=_MACS,
    line=st.integers(1, 99),
    options=_OPTIONS,
    labels=_LABELS,
    group=st.sampled_from([None, None, "g"]),
    pinned=st.booleans(),
)
_LISTS = st.lists(_ENTRIES, max_size=6)


@contextmanager
def opened() -> Iterator[Book]:
    """An empty registry with a pool and a gateway."""
    with tempfile.TemporaryDirectory() as place:
        book = Book(f"sqlite:///{Path(place)}/registry.db")
        book.open(make_pool(ranges=["10.1.1.1-10.1.1.10"], gateways=["10.1.1.9"], dynamic=["10.1.1.12"]))
        yield book
        book.close()


def imported(book: Book, entries: Sequence[ImportEntry]) -> ImportPlan:
    """Imports what can be."""
    with book.write() as txn:
        return import_entries(txn, entries, apply=True, skip_conflicts=True)[0]


def of_one(found: Sequence[Allocation]) -> list[object]:
    """What an export has of allocations."""
    return exported(found)["allocations"]  # type: ignore[no-any-return]


def written(found: Sequence[Allocation], form: ListForm, table: Table = EXPORTED) -> bytes:
    """An export as `macbind export` prints it."""
    if form is ListForm.MACBIND:
        return json.dumps(exported(found), indent=2).encode()
    return "\n".join(Show(table, Form.CSV).lines(found)).encode()


@given(_LISTS, _LISTS, st.sampled_from([ListForm.MACBIND, ListForm.CSV]))
@settings(max_examples=25, deadline=None)
def test_an_export_is_the_same_again(
    first: list[ImportEntry], second: list[ImportEntry], form: ListForm
) -> None:
    """In its own registry nothing is to do, and nothing is done; in an empty one the JSON makes the same."""
    with opened() as book, opened() as other:
        imported(book, first)
        imported(book, second)
        before = book.find()
        if not before and form is ListForm.CSV:
            return  # a header and nothing else
        recognised, found = read_list(written(before, form), Path("/nowhere"))
        assert recognised is form
        assert {one.verdict for one in imported(book, found.entries).rows} <= {ImportVerdict.SAME}
        assert book.find() == before
        rows = imported(other, found.entries).rows
        assert {one.verdict for one in rows} <= {ImportVerdict.NEW}
        if form is ListForm.MACBIND:
            assert of_one(other.find()) == of_one(before)


@given(_LISTS, _LISTS)
@settings(max_examples=25, deadline=None)
def test_twice_is_once(first: list[ImportEntry], second: list[ImportEntry]) -> None:
    """A second import changes nothing, and finds the same conflicts; a plan is what an import then does."""
    with opened() as book:
        imported(book, first)
        with book.write() as txn:
            plan = import_entries(txn, second)[0]
        done = imported(book, second)
        assert done.rows == plan.rows
        before = book.find()
        again = imported(book, second)
        assert book.find() == before
        for one, other in zip(done.rows, again.rows, strict=True):
            assert other.verdict is (ImportVerdict.SAME if one.verdict.is_done else one.verdict), (one, other)
        assert {one.address for one in before} <= {IPv4Address(f"10.1.1.{number}") for number in range(1, 15)}
