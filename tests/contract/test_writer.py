"""The writer between a real registry and a real dhcpd: through crashes, restarts, ghosts and refusals."""

import os
import resource
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from structlog.testing import capture_logs
from typing_extensions import override

from contract.dhcpd_site import Site, mac_of, open_site, pool_of
from contract.relay import Relay
from contract.test_dhcpd import fill, small_disk
from contract.writing import DEADLINE_S, Controller, hosts_named
from labkit.dhcp import expect_silence
from labkit.wait import until
from macbind.core.allocation import State
from macbind.core.binding_plan import Change
from macbind.core.errors import DhcpdRefused, DhcpdUnavailable, MacbindError
from macbind.core.findings import DhcpdState
from macbind.core.mac_address import MacAddress
from macbind.core.sizes import Sizes
from macbind.dhcp.isc.lease_file import parse
from macbind.dhcp.port import DhcpServer
from macbind.engine.confirmations import Waiter
from macbind.registry.allocate import Wanted, allocate

POOL = pool_of("10.1.1.0/24", "10.2.0.0/16")
OTHER_MAC = MacAddress.parse("00:16:3e:63:00:01")
WITNESS = MacAddress.parse("00:16:3e:63:00:09")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A dhcpd without a dynamic range, and a witness that is always served."""
    with open_site(tmp_path) as site:
        yield site


@pytest.fixture
def controller(tmp_path: Path, site: Site) -> Iterator[Controller]:
    """A registry and a writer that serves."""
    with Controller(tmp_path, POOL, site.server(), retry_refused_s=0.2) as controller:
        controller.wait_state(DhcpdState.SERVING)
        yield controller


# -- the way of one address --------------------------------------------------------------------------------


def test_allocation_becomes_bound_and_serves_then_goes(site: Site, controller: Controller) -> None:
    """What is allocated is served once it is bound; what is released is gone from dhcpd and registry."""
    made = controller.allocate("web")[0]
    assert made.state is State.PENDING
    until(lambda: controller.states() == {"web": State.BOUND}, DEADLINE_S, "the allocation to be bound")
    lease = site.machine(made.mac).dora()
    assert lease is not None
    assert lease.address == made.address
    controller.release("web")
    until(lambda: controller.states() == {}, DEADLINE_S, "the allocation to be gone")
    assert site.held(made.mac) is None


def test_waiters_are_told_by_the_writer(controller: Controller) -> None:
    """Whoever waits for an allocation to be bound, and for it to be gone, is told at once."""
    bound, gone = Waiter(), Waiter()
    made = controller.allocate("web")[0]
    controller.confirmations.expect_bound(bound, made, ["main"])
    controller.writer.wake()
    controller.confirmations.recheck(controller.registry)  # it may have happened before we waited
    bound.future.result(DEADLINE_S)
    controller.confirmations.expect_gone(gone, made, ["main"])
    controller.release("web")
    gone.future.result(DEADLINE_S)
    assert controller.all() == []


def test_released_and_allocated_again_at_once(site: Site, controller: Controller) -> None:
    """An address that changes hands all the time ends with its last holder, whatever was on its way."""
    for number in range(30):
        controller.allocate(f"vm{number}")
        if number % 2:
            controller.release(f"vm{number}", f"vm{number - 1}")
    controller.allocate("last")
    controller.wait_settled()
    assert set(controller.states()) == {"last"}
    assert controller.agrees_with(site)


# -- dhcpd goes and comes ----------------------------------------------------------------------------------


@pytest.mark.invariant(8)
def test_everything_is_served_again_after_dhcpd_lost_its_leases(site: Site, controller: Controller) -> None:
    """A dhcpd that is killed and starts with an empty lease file holds all reservations again by itself."""
    made = controller.allocate(*hosts_named(300))
    controller.wait_settled()
    site.dhcpd.kill()
    site.dhcpd.restart(keep_leases=False)
    until(lambda: site.held(made[-1].mac) is not None, DEADLINE_S, "the last reservation to be back")
    controller.wait_settled()
    assert controller.agrees_with(site)
    assert site.machine(made[123].mac).dora() is not None


def test_what_is_asked_for_while_dhcpd_is_away_happens_when_it_is_back(
    site: Site, controller: Controller
) -> None:
    """Without dhcpd nothing becomes bound or free; when it is back, everything does."""
    controller.allocate("old", "stays")
    controller.wait_settled()
    site.dhcpd.kill()
    controller.wait_state(DhcpdState.UNAVAILABLE)
    controller.allocate("new")
    controller.release("old")
    assert controller.states() == {"old": State.RELEASING, "stays": State.BOUND, "new": State.PENDING}
    until(
        lambda: "cannot be reached" in controller.writer.status().problem,
        DEADLINE_S,
        "the reason to be shown",
    )
    site.dhcpd.restart()
    controller.wait_settled()
    assert controller.states() == {"stays": State.BOUND, "new": State.BOUND}
    assert controller.agrees_with(site)


def test_frozen_dhcpd_is_unavailable_until_it_is_thawed(tmp_path: Path, site: Site) -> None:
    """While dhcpd is stopped the writer says so; thawed, it is brought up to date."""
    with Controller(tmp_path, POOL, site.server(timeout_s=0.3)) as controller:
        controller.wait_state(DhcpdState.SERVING)
        site.dhcpd.freeze()
        controller.allocate("web")
        controller.wait_state(DhcpdState.UNAVAILABLE)
        assert "did not answer" in controller.writer.status().problem
        site.dhcpd.thaw()
        controller.wait_settled()
        assert controller.agrees_with(site)


def test_wrong_key_is_shown_and_its_correction_noticed(tmp_path: Path, site: Site) -> None:
    """With a wrong key the writer says so and keeps trying; with the right one it serves."""
    server = site.server()
    right, wrong = server.open_client, lambda: site.client(secret=b"wrong")
    server.open_client = wrong
    with Controller(tmp_path, POOL, server) as controller:
        controller.wait_state(DhcpdState.UNAVAILABLE)
        assert "secrets differ" in controller.writer.status().problem
        server.open_client = right
        controller.wait_state(DhcpdState.SERVING)
        assert controller.writer.status().problem == ""


def test_periodic_comparison_mends_what_somebody_else_broke(tmp_path: Path, site: Site) -> None:
    """A reservation that somebody deletes behind our back is back after the next comparison."""
    with Controller(tmp_path, POOL, site.server(), resync_s=0.2) as controller:
        made = controller.allocate("web")[0]
        controller.wait_settled()
        site.dhcpd.omshell(
            f"new host\nset hardware-address = {made.mac}\nset hardware-type = 1\nopen\nremove\n"
        )
        until(lambda: site.held(made.mac) is not None, DEADLINE_S, "the reservation to be back")


# -- ghosts ------------------------------------------------------------------------------------------------


@pytest.mark.invariant(6)
def test_ghosts_are_removed_and_foreign_hosts_left(tmp_path: Path, site: Site) -> None:
    """Hosts of ours that no allocation accounts for go when the writer connects; others' stay."""
    with Controller(tmp_path, POOL, site.server()) as controller:
        before = controller.allocate("before-1", "before-2", "before-3")[0].generation
        controller.release("before-1", "before-2", "before-3")
        controller.wait_settled()
        web, db = controller.allocate("web", "db")
        controller.wait_settled()
    ghost, pinned, foreign = db.address + 1, web.address, IPv4Address("10.1.1.201")
    site.add_host(f"macbind-{ghost}-g{before}", mac_of(ghost), ghost)
    site.add_host(f"macbind-{pinned}-g{before}", OTHER_MAC, pinned)  # the MAC this address was once pinned to
    site.add_host(f"macbind-{db.address}-g{before}", WITNESS, None)  # torn
    site.add_host("printer", mac_of(foreign), foreign)
    site.add_host("macbind-static-10.1.1.202", mac_of(IPv4Address("10.1.1.202")), IPv4Address("10.1.1.202"))
    with Controller(tmp_path, POOL, site.server()) as controller:
        controller.wait_state(DhcpdState.SERVING)
        assert [site.held(mac) for mac in (mac_of(ghost), OTHER_MAC, WITNESS)] == [None, None, None]
        assert site.held(mac_of(foreign)) == "printer"
        assert site.held(mac_of(IPv4Address("10.1.1.202"))) == "macbind-static-10.1.1.202"
        assert [site.held(one.mac) is not None for one in (web, db)] == [True, True]


def test_ghost_of_an_address_at_rest_is_removed(tmp_path: Path, site: Site) -> None:
    """A released address that rests serves nobody, though dhcpd came back with its old lease file."""
    pool = pool_of("10.1.1.0/24", cooldown_s=3600.0)
    with Controller(tmp_path, pool, site.server()) as controller:
        made = controller.allocate("web")[0]
        controller.wait_settled()
        before = site.dhcpd.leases.read_bytes()
        controller.release("web")
        controller.wait_settled()
        assert controller.states() == {"web": State.COOLING}
        site.dhcpd.kill()
        controller.wait_state(DhcpdState.UNAVAILABLE)
        site.dhcpd.leases.write_bytes(before)
        site.dhcpd.restart()
        controller.wait_settled()
        assert site.held(made.mac) is None


@pytest.mark.parametrize("left", ["", "  hardware ethernet 00:16:3e;\n"], ids=["none", "half"])
def test_half_a_host_is_removed_or_made_whole(tmp_path: Path, site: Site, left: str) -> None:
    """What a torn lease file left of our hosts, with no MAC to find them by, goes by name and is no foreign host."""
    with Controller(tmp_path, POOL, site.server()) as controller:
        gone, web = controller.allocate("gone", "web")
        controller.wait_settled()
        controller.release("gone")
        controller.wait_settled()
    site.dhcpd.stop()
    names = [f"macbind-{one.address}-g{one.generation}" for one in (gone, web)]
    site.dhcpd.leases.write_text(
        "".join(f"host {name} {{\n  dynamic;\n{left}  fixed-address 10.1.1.200;\n}}\n" for name in names)
    )
    site.dhcpd.restart()
    with Controller(tmp_path, POOL, site.server()) as controller:
        controller.wait_settled()
        assert finding_codes(controller) == set()
        assert controller.agrees_with(site)
    site.dhcpd.restart()
    on_disk = parse(site.dhcpd.leases.read_bytes())
    assert set(on_disk.hosts) == {names[1]}


# -- refusals ----------------------------------------------------------------------------------------------


def test_refused_address_blocks_nobody_and_is_tried_again(site: Site, controller: Controller) -> None:
    """An address whose MAC a foreign host holds stays pending, others are bound; it is bound once it is free."""
    blocked = mac_of(IPv4Address("10.1.1.1"))
    site.add_host("printer", blocked, IPv4Address("10.7.7.7"))
    waiter = Waiter()
    made = controller.allocate("a", "b", "c")
    controller.confirmations.expect_bound(waiter, made[1], ["main"])
    until(
        lambda: list(controller.states().values()).count(State.BOUND) == 2,
        DEADLINE_S,
        "the others to be bound",
    )
    assert controller.states()["b"] is State.PENDING
    # What was confirmed is recorded a moment before what was refused is told.
    until(lambda: "'printer'" in controller.writer.status().problem, DEADLINE_S, "the refusal to be told")
    with pytest.raises(DhcpdRefused, match="printer"):
        waiter.future.result(DEADLINE_S)
    controller.allocate("d")
    until(lambda: controller.states()["d"] is State.BOUND, DEADLINE_S, "a later one to be bound")
    site.dhcpd.omshell(f"new host\nset hardware-address = {blocked}\nset hardware-type = 1\nopen\nremove\n")
    controller.wait_settled()
    assert controller.states()["b"] is State.BOUND
    until(lambda: controller.writer.status().problem == "", DEADLINE_S, "the refusal to be forgotten")


def test_full_disk_raises_an_alarm_and_serves_nothing_it_cannot_keep(tmp_path: Path) -> None:
    """What dhcpd cannot write is pending, served to nobody, and said in the status, until there is space."""
    with (
        small_disk(tmp_path / "disk") as disk,
        open_site(disk) as site,
        Controller(tmp_path, POOL, site.server(), retry_refused_s=0.2) as controller,
    ):
        site.add_host("witness", WITNESS, IPv4Address("10.3.9.9"))
        controller.wait_state(DhcpdState.SERVING)
        filler = fill(disk)
        made = controller.allocate(*hosts_named(100))
        until(lambda: "IO_ERROR" in controller.writer.status().problem, DEADLINE_S, "the alarm")
        assert controller.states()[made[-1].name] is State.PENDING
        filler.unlink()
        controller.wait_settled()
        assert set(controller.states().values()) == {State.BOUND}
        vm = site.machine(made[-1].mac)
        assert vm.dora() is not None
        controller.release(made[-1].name)
        controller.wait_settled()
        expect_silence(vm, site.machine(WITNESS))


def test_disk_that_has_space_again_leads_to_a_look_at_the_damage(tmp_path: Path) -> None:
    """The first reservation that can be written again has everything compared: the torn record is a finding."""
    with (
        small_disk(tmp_path / "disk") as disk,
        open_site(disk) as site,
        Controller(tmp_path, POOL, site.server(), retry_refused_s=0.2) as controller,
    ):
        controller.wait_state(DhcpdState.SERVING)
        filler = fill(disk)
        controller.allocate(*hosts_named(100))
        until(lambda: finding_codes(controller) == {"storage_failed"}, DEADLINE_S, "the alarm")
        filler.unlink()
        until(
            lambda: finding_codes(controller) == {"lease_file_damaged"}, DEADLINE_S, "the damage to be found"
        )
        controller.wait_settled()


@pytest.mark.invariant(8)
def test_registry_that_was_out_of_reach_is_compared_with_dhcpd_anew(
    tmp_path: Path, site: Site, controller: Controller
) -> None:
    """What the registry says after it was away may be an older state: all of it is compared at once."""
    controller.allocate("stays")
    controller.wait_settled()
    before = controller.writer.status().compared_at
    file, away = tmp_path / "registry.db", tmp_path / "away.db"
    with capture_logs() as said:
        file.rename(away)
        until(lambda: "registry" in {one["event"] for one in said}, DEADLINE_S, "the registry to be missed")
        away.rename(file)
        until(lambda: controller.writer.status().compared_at != before, DEADLINE_S, "the comparison")
    controller.wait_settled()
    assert controller.agrees_with(site)


def test_writer_whose_dhcpd_is_away_goes_on(tmp_path: Path, site: Site) -> None:
    """Every try to reach a dhcpd that is down is a sign of life: it is not the writer that hangs."""
    site.dhcpd.stop()
    beats: list[float] = []
    with Controller(tmp_path, POOL, site.server(), beat=lambda: beats.append(time.monotonic())) as controller:
        controller.wait_state(DhcpdState.UNAVAILABLE)
        so_far = len(beats)
        until(lambda: len(beats) >= so_far + 3, DEADLINE_S, "three more tries")


def test_refusal_is_forgotten_when_dhcpd_has_started_anew(tmp_path: Path) -> None:
    """What could not be written is no finding any more once dhcpd has written all of its lease file again."""
    with (
        small_disk(tmp_path / "disk") as disk,
        open_site(disk) as site,
        Controller(tmp_path, POOL, site.server(), retry_refused_s=0.2) as controller,
    ):
        controller.wait_state(DhcpdState.SERVING)
        filler = fill(disk)
        controller.allocate(*hosts_named(100))
        until(lambda: finding_codes(controller) == {"storage_failed"}, DEADLINE_S, "the alarm")
        controller.release(*hosts_named(100))
        controller.wait_settled()
        assert finding_codes(controller) == {"storage_failed"}
        filler.unlink()
        site.dhcpd.restart()
        until(lambda: not finding_codes(controller), DEADLINE_S, "nothing to be found")


def test_leftovers_without_number_are_removed_slice_by_slice(site: Site, controller: Controller) -> None:
    """A thousand leftovers of a restored lease file are gone after the comparison, and what is held stays."""
    held = controller.allocate("stays")[0]
    many = controller.allocate(*hosts_named(1100))
    controller.wait_settled()
    site.dhcpd.stop()
    backup = site.dhcpd.leases.read_bytes()
    site.dhcpd.start()
    site.dhcpd.wait_ready()
    controller.release(*hosts_named(1100))
    controller.wait_settled()
    site.dhcpd.stop()
    site.dhcpd.leases.write_bytes(backup)
    site.dhcpd.start()
    site.dhcpd.wait_ready()
    until(lambda: site.held(many[-1].mac) is None, DEADLINE_S, "the last leftover to be removed")
    controller.wait_settled()
    assert site.held(held.mac) is not None
    assert all(site.held(one.mac) is None for one in many[::100])


def test_lost_deletion_is_made_again_when_dhcpd_has_read_it(site: Site, controller: Controller) -> None:
    """A reservation that only the lease file still has is removed after dhcpd has started with it, and told."""
    made = controller.allocate("web")[0]
    controller.wait_settled()
    site.dhcpd.stop()
    with_host = site.dhcpd.leases.read_bytes()
    site.dhcpd.start()
    site.dhcpd.wait_ready()
    controller.wait_settled()
    controller.release("web")
    controller.wait_settled()
    site.dhcpd.stop()
    site.dhcpd.leases.write_bytes(with_host)
    site.dhcpd.start()
    site.dhcpd.wait_ready()
    until(lambda: site.held(made.mac) is None, DEADLINE_S, "the leftover to be removed")


def finding_codes(controller: Controller) -> set[str]:
    """The kinds of what an admin should look at."""
    return {one.code for one in controller.writer.status().findings}


# -- crashes -----------------------------------------------------------------------------------------------


class CrashError(Exception):
    """The process dies here."""


class Fragile(Relay):
    """A dhcpd behind which we die: before a batch, after a part of it, or before its result is recorded.

    Args:
        inner: The real one.
        part: How much of the fatal batch is carried out, from 0 to 1.
        at: The number of the batch that is fatal, from 0.
        error: What happens to us.
    """

    def __init__(self, inner: DhcpServer, part: float, at: int, error: type[Exception] = CrashError) -> None:
        super().__init__(inner)
        self._part, self._left, self._error = part, at, error

    @override
    def apply(self, changes: Sequence[Change]) -> list[MacbindError | None]:
        self._left -= 1
        if self._left >= 0:
            return self.inner.apply(changes)
        self.inner.apply(changes[: round(len(changes) * self._part)])
        raise self._error("killed")


@pytest.mark.parametrize("at", [0, 1])
@pytest.mark.parametrize("part", [0.0, 0.5, 1.0])
@pytest.mark.invariant(3)
def test_crash_between_dhcpd_and_registry_is_repaired_by_the_next_start(
    tmp_path: Path, site: Site, part: float, at: int
) -> None:
    """A writer that dies with any part of a batch done but not recorded leaves work the next one completes."""
    with Controller(tmp_path, POOL, site.server()) as controller:
        controller.allocate(*hosts_named(30, "old"))
        controller.wait_settled()
    dying = Controller(tmp_path, POOL, Fragile(site.server(), part, at), sizes=Sizes(batch=20))
    dying.release(*hosts_named(20, "old"))
    dying.allocate(*hosts_named(20, "new"))
    with dying:
        until(lambda: dying.defects, DEADLINE_S, "the crash")
        assert isinstance(dying.defects[0], CrashError)
    with Controller(tmp_path, POOL, site.server()) as controller:
        controller.wait_settled()
        assert set(controller.states()) == {*hosts_named(20, "new"), *hosts_named(30, "old")[20:]}
        assert controller.agrees_with(site)


@pytest.mark.parametrize("part", [0.0, 0.5, 1.0])
def test_broken_connection_after_a_part_of_a_batch_is_repaired_at_once(
    tmp_path: Path, site: Site, part: float
) -> None:
    """When the connection breaks and nobody knows what dhcpd did, the writer looks and completes it itself."""
    server = site.server()
    fragile = Fragile(server, part, 1, DhcpdUnavailable)
    with Controller(tmp_path, POOL, fragile) as controller:
        controller.wait_state(DhcpdState.SERVING)
        controller.allocate(*hosts_named(10, "old"))
        until(lambda: State.BOUND in controller.states().values(), DEADLINE_S, "the first batch")
        controller.release(*hosts_named(10, "old"))
        controller.wait_state(DhcpdState.UNAVAILABLE)
        fragile._left = 1_000_000
        controller.allocate("new")
        controller.wait_settled()
        assert set(controller.states()) == {"new"}
        assert controller.agrees_with(site)


class Flapping(Fragile):
    """A dhcpd whose connection is gone as soon as it was compared, e.g. behind a broken proxy."""

    def __init__(self, inner: DhcpServer) -> None:
        super().__init__(inner, 0.0, 1_000_000)
        self.connects = 0
        self._ended, other = os.pipe()
        os.close(other)

    @override
    def connect(self) -> None:
        self.connects += 1
        super().connect()

    @override
    def fileno(self) -> int:
        return self._ended


def test_connection_that_never_lasts_is_not_hammered(tmp_path: Path, site: Site) -> None:
    """When every connection ends at once, the pause before the next one grows."""
    flapping = Flapping(site.server())
    began = time.monotonic()
    with Controller(tmp_path, POOL, flapping) as controller:
        until(lambda: flapping.connects >= 5, DEADLINE_S, "the fifth connection")
        assert time.monotonic() - began > 0.7
        assert controller.defects == []
    os.close(flapping._ended)


def test_locked_registry_delays_and_breaks_nothing(tmp_path: Path, site: Site) -> None:
    """While another process holds the registry's write lock nothing is lost; afterwards work goes on."""
    with Controller(tmp_path, POOL, site.server(), busy_timeout_s=0.05) as controller:
        controller.wait_state(DhcpdState.SERVING)
        made = controller.allocate("web")[0]
        other = sqlite3.connect(tmp_path / "registry.db", timeout=DEADLINE_S, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        until(lambda: site.held(made.mac) is not None, DEADLINE_S, "dhcpd to be told")
        controller.writer.wake()
        other.execute("COMMIT")
        other.close()
        controller.wait_settled()
        assert controller.states() == {"web": State.BOUND}
        assert controller.defects == []


# -- life --------------------------------------------------------------------------------------------------


def ends(controller: Controller) -> bool:
    """Whether closing comes to an end in good time."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(controller.close).result(DEADLINE_S)
    return not any(thread.name == "writer-main" for thread in threading.enumerate())


def leave_idle(controller: Controller, site: Site) -> None:
    """The writer waits for something to do."""
    controller.wait_state(DhcpdState.SERVING)


def leave_busy(controller: Controller, site: Site) -> None:
    """The writer is in the middle of thousands of reservations."""
    controller.wait_state(DhcpdState.SERVING)
    made = controller.allocate(*hosts_named(3000))
    until(lambda: site.held(made[0].mac) is not None, DEADLINE_S, "the first reservation")


def leave_without_dhcpd(controller: Controller, site: Site) -> None:
    """The writer waits for dhcpd to come back."""
    site.dhcpd.kill()
    controller.wait_state(DhcpdState.UNAVAILABLE)


def leave_frozen(controller: Controller, site: Site) -> None:
    """The writer waits for an answer."""
    controller.wait_state(DhcpdState.SERVING)
    site.dhcpd.freeze()
    controller.allocate("web")


@pytest.mark.parametrize("leave", [leave_idle, leave_busy, leave_without_dhcpd, leave_frozen])
def test_writer_stops_cleanly(tmp_path: Path, site: Site, leave: Callable[[Controller, Site], None]) -> None:
    """Whatever the writer is at, closing it ends its thread; what is left is done by the next one."""
    controller = Controller(tmp_path, POOL, site.server(timeout_s=1.0))
    controller.writer.start()
    leave(controller, site)
    assert ends(controller)
    assert controller.defects == []
    if not site.dhcpd.alive:
        site.dhcpd.restart()
    site.dhcpd.thaw()
    with Controller(tmp_path, POOL, site.server()) as following:
        following.wait_settled()
        assert following.agrees_with(site)


def test_second_writer_stands_by_and_takes_over(tmp_path: Path, site: Site) -> None:
    """Of two controllers one writes; when it is closed the other compares, and goes on with its backlog."""
    first = Controller(tmp_path, POOL, site.server())
    first.writer.start()
    first.wait_state(DhcpdState.SERVING)
    with Controller(tmp_path, POOL, site.server()) as second:
        second.wait_state(DhcpdState.STANDBY)
        second.allocate("one")  # only the first may tell dhcpd, and it notices without being woken
        until(lambda: second.states() == {"one": State.BOUND}, DEADLINE_S, "the first to do it")
        assert second.writer.state is DhcpdState.STANDBY
        first.close()
        second.allocate("two")
        second.wait_settled()
        assert second.states() == {"one": State.BOUND, "two": State.BOUND}
        assert second.agrees_with(site)


class Unreached(Relay):
    """A dhcpd that one controller reaches only while it is told so."""

    def __init__(self, inner: DhcpServer) -> None:
        super().__init__(inner)
        self.is_reached = True

    @override
    def connect(self) -> None:
        self._look()
        super().connect()

    @override
    def apply(self, changes: Sequence[Change]) -> list[MacbindError | None]:
        self._look()
        return super().apply(changes)

    def _look(self) -> None:
        if not self.is_reached:
            raise DhcpdUnavailable("It cannot be reached from here.")


def test_writer_that_loses_dhcpd_leaves_it_to_one_that_reaches_it(tmp_path: Path, site: Site) -> None:
    """It takes the lead again only when it reaches dhcpd again; until then what the other one records counts."""
    lost = Unreached(site.server())
    with (
        Controller(tmp_path, POOL, lost) as first,
        Controller(tmp_path, POOL, site.server()) as second,
    ):
        first.wait_state(DhcpdState.SERVING)
        second.wait_state(DhcpdState.STANDBY)
        first.confirmations.is_served_elsewhere = lambda _: second.writer.state is DhcpdState.SERVING
        lost.is_reached = False
        waiter = Waiter()
        with first.registry.write("test") as txn:
            made = allocate(txn, Wanted(POOL.name, ("vm",)))[0]
            first.confirmations.expect_bound(waiter, made, ["main"])
        first.writer.wake()
        second.wait_settled()
        first.confirmations.recheck(first.registry)
        assert waiter.future.done(), "the other one has done it"
        # The lock is free a moment before its last holder says so.
        until(lambda: not first.writer.leads, DEADLINE_S, "the first to have given the lead up")
        assert (first.writer.state, second.writer.leads) == (DhcpdState.UNAVAILABLE, True)
        lost.is_reached = True
        first.wait_state(DhcpdState.STANDBY)
        assert second.agrees_with(site)


def test_writer_works_in_a_process_with_thousands_of_connections(tmp_path: Path, site: Site) -> None:
    """File numbers above a thousand, as a busy service has them, do not stop the writer."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(4096, before[0]), max(4096, before[1])))
    many = [os.open("/dev/null", os.O_RDONLY) for _ in range(1100)]
    try:
        with Controller(tmp_path, POOL, site.server()) as controller:
            controller.allocate("web")
            controller.wait_settled()
            controller.allocate("db")
            controller.wait_settled()
            assert controller.defects == []
    finally:
        for number in many:
            os.close(number)
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
