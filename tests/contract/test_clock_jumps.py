"""A clock that jumps forward ends nothing by itself: neither what expires nor what waits for its machine."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest

from contract.domain_site import Bench
from macbind.engine.confirmations import Confirmations
from macbind.engine.domains.life import Life
from macbind.engine.domains.waiting import Waiting
from macbind.registry.allocate import Wanted, allocate
from macbind.service.housekeeping import Housekeeping
from macbind.service.peers import Peers

HOUR_S = 3600.0


@dataclass
class Clocks:
    """The time of day, and a clock that never jumps."""

    now: datetime = field(default_factory=lambda: datetime.now(UTC))
    steady_s: float = 1000.0

    def go_on(self, seconds: float) -> None:
        """Time passes."""
        self.now += timedelta(seconds=seconds)
        self.steady_s += seconds

    def jump(self, seconds: float) -> None:
        """The host was suspended, or its clock set."""
        self.now += timedelta(seconds=seconds)


@pytest.fixture
def clocks() -> Clocks:
    """The clocks of one test."""
    return Clocks()


@pytest.fixture
def quiet(tmp_path: Path) -> Iterator[Bench]:
    """A registry whose hypervisor is not asked."""
    bench = Bench(tmp_path)
    bench.warden.close()
    yield bench
    bench.close()


def test_an_expiry_waits_after_a_jump(quiet: Bench, clocks: Clocks) -> None:
    """For as long as the clock has jumped: whoever renews it has the time to do so. Without one it ends at once."""
    housekeeping = Housekeeping(
        quiet.registry,
        quiet.committer,
        Confirmations(),
        Peers,
        now=lambda: clocks.now,
        clock=lambda: clocks.steady_s,
    )
    # The registry's own clock says now; so the allocations are over by that already when the other says so.
    for name, ends in (("soon", clocks.now), ("at-once", clocks.now)):
        wanted = Wanted("farm", (name,), expires_at=ends)
        quiet.committer.submit("test", partial(allocate, wanted=wanted)).result()
        clocks.go_on(-1)
        housekeeping.tend()
        clocks.go_on(1)
        if name == "soon":
            clocks.jump(HOUR_S)
            housekeeping.tend()
            assert quiet.is_held("soon")
            clocks.go_on(HOUR_S - 1)
            housekeeping.tend()
            assert quiet.is_held("soon")
        clocks.go_on(1)
        housekeeping.tend()
        assert not quiet.is_held(name)


def test_an_allocation_that_waits_for_its_machine_gets_its_time(quiet: Bench, clocks: Clocks) -> None:
    """The jump does not count; the time that passes does, and for what is made later it all counts."""
    quiet.allocate("vm")
    waiting = Waiting(
        quiet.registry,
        quiet.warden._sightings,
        Life(quiet.signs),
        lambda: clocks.steady_s,
        lambda: clocks.now,
    )
    assert waiting.abandoned() == []
    clocks.go_on(1)
    clocks.jump(100 * HOUR_S)
    assert waiting.abandoned() == []
    clocks.go_on(890)
    assert waiting.abandoned() == []
    clocks.go_on(20)
    assert [one.name for one in waiting.abandoned()] == ["vm"]
