"""Comparisons cut into pieces of any size: what they find, and whom they never hurt."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contract.book import Book
from contract.comparing import Shelf, Site, Story, play
from macbind.core.sizes import Sizes

_SMALL = (1, 2, 3, 7)
_MOST = 16
_REAL = Sizes()

patient = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@st.composite
def stories(draw: st.DrawFn) -> Story:
    """Some machines, what dhcpd has forgotten of them, and what happens while it is compared."""
    machines = draw(st.integers(1, _MOST))
    some = st.frozensets(st.integers(0, machines - 1))
    return Story(
        machines,
        lost=draw(some),
        masked=draw(some),
        behind=draw(st.integers(0, 8)),
        broken=draw(some),
        on_read=draw(some),
        on_look=draw(some),
        newcomers=draw(st.tuples(st.integers(0, 3), st.integers(0, 3))),
    )


sizes = st.builds(
    Sizes,
    slice=st.sampled_from([*_SMALL, _REAL.slice]),
    batch=st.sampled_from([*_SMALL, _REAL.batch]),
    rows=st.sampled_from([*_SMALL, _REAL.rows]),
    sweep=st.sampled_from([*_SMALL, _REAL.sweep]),
)


def _play(story: Story, cut: Sizes) -> None:
    with tempfile.TemporaryDirectory() as directory:
        book = Book(f"sqlite:///{Path(directory)}/registry.db")
        play(story, Site.open(book, Shelf(), cut))
        book.close()


@patient
@given(stories(), sizes)
@pytest.mark.invariant(9)
def test_no_size_of_the_pieces_costs_a_living_machine_its_reservation(story: Story, cut: Sizes) -> None:
    """Whatever is released or left over where, who is confirmed is served throughout, and leftovers go."""
    _play(story, cut)


@pytest.mark.parametrize(
    ("lost", "on_read"),
    [
        ({0}, set()),
        (set(), {0}),
        ({0, 499, 500, 1001}, {3, 998, 1049}),
        ({*range(600)}, {*range(601, 1100, 2)}),
        ({*range(400, 1100)}, {*range(1, 400, 2)}),
    ],
    ids=["one", "one released", "at the seams", "many before", "many behind"],
)
def test_populations_of_several_slices_are_compared_without_harm(lost: set[int], on_read: set[int]) -> None:
    """The same with the real sizes, and more machines and leftovers than slices and rows of them hold."""
    story = Story(1100, frozenset(lost), frozenset({1, 7, 700}), 520, on_read=frozenset(on_read))
    _play(story, _REAL)
