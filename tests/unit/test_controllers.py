"""Who of several controllers leads, and who should."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from macbind.core.controllers import claimant, leader_of, may_claim
from macbind.core.findings import ControllerStatus, DhcpdState, Lead

START = datetime(2030, 1, 1, tzinfo=UTC)


def make(name: str, *leads: str, age: int = 0, wants: str = "", state: str = "serving") -> ControllerStatus:
    """A controller that is alive, and started so many seconds before the start of 2030."""
    since = START - timedelta(seconds=age)
    led = tuple(Lead(one, DhcpdState(state), since) for one in leads)
    wanted = tuple(wants.split())
    return ControllerStatus(name, name, "/s", "1", since, START, is_alive=True, leads=led, wants=wanted)


def test_the_leader_is_the_one_that_says_so() -> None:
    """Where two say so, because one has just lost it, the one that gets on with the server counts."""
    lost, gained = make("a", "d1", state="unavailable"), make("b", "d1")
    assert leader_of([lost, gained], "d1") is gained
    assert leader_of([gained, lost], "d1") is gained
    assert leader_of([lost, gained], "d2") is None


@pytest.mark.parametrize(
    ("me", "other", "may"),
    [
        (make("a", "d1", "d3"), make("b", "d2"), True),
        (make("a", "d1"), make("b", "d2", "d3"), False),
        (make("a", "d1", age=5), make("b", "d2"), True),
        (make("a", "d1"), make("b", "d2", age=5), False),
        (make("a", "d1"), make("b", "d2"), True),
        (make("b", "d1"), make("a", "d2"), False),
        (make("a", age=5), make("b", "d2"), False),
        (make("a", "d1", age=5), make("b"), False),
    ],
    ids=[
        "more",
        "less",
        "older",
        "younger",
        "same age",
        "same age, later",
        "leads nothing",
        "nobody leads it",
    ],
)
def test_who_leads_most_may_claim_the_rest(me: ControllerStatus, other: ControllerStatus, may: bool) -> None:
    """Of two that lead as many the one that is there longer; one that leads nothing takes nothing away."""
    assert may_claim([me, other], "d2", me) is may
    assert may_claim([other], "d2", me) is may


def test_a_claim_counts_if_it_comes_from_somebody_who_may() -> None:
    """Never one of our own, and never for another server."""
    me, older, younger = (
        make("me", "d2", age=5),
        make("a", "d1", age=9, wants="d2"),
        make("b", "d3", wants="d2"),
    )
    assert claimant([me, older], "d2", me)
    assert not claimant([me, older], "d1", me)
    assert not claimant([me, younger], "d2", me)
    assert not claimant([make("me", "d2", age=5, wants="d2")], "d2", me)
