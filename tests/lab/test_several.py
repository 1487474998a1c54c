"""Several controllers on one PostgreSQL and one dhcpd: what a caller of each gets, and who takes over."""

import signal
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from labkit.farm import Farm
from labkit.several import DATABASE, DHCPD, SECOND_DHCPD, Several, cut_off, join, open_several
from labkit.wait import until
from macbind.core.errors import RegistryUnavailable

DEADLINE_S = 120.0


@pytest.fixture
def several() -> Iterator[Several]:
    """Two controllers; the first leads."""
    with open_directory() as place, open_several(place) as several:
        yield several
        assert [one.defects() for one in several.controllers] == [[], []]


@contextmanager
def open_directory() -> Iterator[Path]:
    """A directory with a short path, as sockets need."""
    with tempfile.TemporaryDirectory(prefix="macbind-", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o755)
        yield Path(name)


def state(one: Farm) -> str | None:
    """How a controller gets on with the first dhcpd; None while it does not know."""
    with suppress(RegistryUnavailable):
        now = one.status()
        return None if now is None else next(each.state for each in now.dhcpds if each.name == "main")
    return None


def serves(one: Farm, name: str) -> bool:
    """Whether a controller allocates a name, and releases it again."""
    with one.client(DEADLINE_S) as client:
        bound = client.allocate("farm", name).state == "bound"
        client.release(name)
    return bound


def test_every_controller_is_known_to_each(several: Several) -> None:
    """Where it runs, and what it leads; one that ends is gone at once, one that is killed is told of."""
    first, second = several.controllers
    for one in several.controllers:
        with one.client() as client:
            found = {each.socket: each for each in client.controllers()}
            assert found.keys() == {str(first.socket), str(second.socket)}
            assert [lead.dhcpd for lead in found[str(first.socket)].leads] == ["main"]
            assert found[str(second.socket)].leads == ()
            assert [each.socket for each in found.values() if each.is_asked] == [str(one.socket)]
            assert all(each.is_alive for each in found.values())
            expected = "serving" if one is first else "standby"
            until(lambda: state(one) == expected, DEADLINE_S, f"it to be {expected}")  # noqa: B023
        assert str(second.socket) in one.macbind("controllers")
        assert "CONTROLLER" in one.run("status").stdout
        assert (
            f'macbind_controller_leads{{host="{found[str(first.socket)].host}",socket="{first.socket}"}} 1.0'
            in (one.macbind("metrics"))
        )
    second.stop()
    with first.client() as client:
        assert [each.socket for each in client.controllers()] == [str(first.socket)]
        second.start()
        second.wait_answering(DEADLINE_S)
        second.kill()
        until(lambda: "controller_silent" in first.findings(), DEADLINE_S, "the silence to be noticed")
        assert [each.is_alive for each in client.controllers() if not each.is_asked] == [False]
        second.start()
        until(lambda: "controller_silent" not in first.findings(), DEADLINE_S, "it to be back")
        assert len(client.controllers()) == 2


def test_callers_of_all_controllers_are_answered_also_for_addresses_that_are_used_again_at_once(
    several: Several,
) -> None:
    """The lowest address that is free is taken first, so releases of one controller meet allocations of the other."""

    def use(one: Farm, user: int) -> None:
        with one.client(DEADLINE_S) as client:
            for number in range(25):
                name = f"{one.socket.stem}-{user}-{number}"
                client.allocate("farm", name)
                client.release(name)

    with ThreadPoolExecutor() as threads:
        done = [threads.submit(use, one, user) for one in several.controllers for user in range(3)]
        assert [one.result() for one in done] == [None] * len(done)


def test_a_killed_leader_is_succeeded(several: Several) -> None:
    """The other one leads, and does what is asked for; the killed one comes back and stands by."""
    first, second = several.controllers
    first.kill()
    assert serves(second, "vm")
    several.wait_leading(second, {"main": second})
    first.start()
    first.wait_answering(DEADLINE_S)
    assert serves(first, "vm")
    several.wait_leading(first, {"main": second})


def test_a_frozen_leader_is_succeeded_and_stands_by_when_it_goes_on(several: Several) -> None:
    """PostgreSQL ends its session; what it has to say later harms nobody."""
    first, second = several.controllers
    assert first.process is not None
    first.process.send_signal(signal.SIGSTOP)
    assert serves(second, "vm")
    first.process.send_signal(signal.SIGCONT)
    until(lambda: state(first) == "standby", DEADLINE_S, "the first to stand by")
    assert serves(first, "vm")


def test_a_leader_that_is_cut_off_from_the_database_is_succeeded(several: Several) -> None:
    """As where a cable is pulled; it stands by when the cable is back."""
    first, second = several.controllers
    cut_off(first, DATABASE)
    assert serves(second, "vm")
    join(first, DATABASE)
    until(lambda: state(first) == "standby", DEADLINE_S, "the first to stand by")
    assert serves(first, "vm")


def test_a_leader_that_loses_dhcpd_gives_the_lead_up_though_nobody_asks(several: Several) -> None:
    """Its callers are served by the other one, and its status says that it does not reach dhcpd."""
    first, second = several.controllers
    cut_off(first, DHCPD)
    until(lambda: state(second) == "serving", DEADLINE_S, "the second to serve")
    assert serves(first, "vm"), "the other one does it"
    assert "dhcpd_unavailable" in first.findings()
    several.wait_leading(first, {"main": second})
    join(first, DHCPD)
    until(lambda: state(first) == "standby", DEADLINE_S, "the first to stand by")
    assert "dhcpd_unavailable" not in first.findings()


def test_callers_of_a_leader_that_loses_dhcpd_in_the_middle_succeed(several: Several) -> None:
    """The same call is answered as soon as the other controller has done the work."""
    first, second = several.controllers
    cut_off(first, DHCPD)
    assert serves(first, "vm")
    several.wait_leading(second, {"main": second})


def test_news_are_heard_again_after_the_connection_broke(several: Several) -> None:
    """A controller whose listening connection is ended makes another one."""
    second = several.controllers[1]
    there = "FROM pg_stat_activity WHERE query = 'LISTEN macbind'"
    before = several.database.value(f"SELECT max(backend_start)::text {there}")
    listening = f"SELECT count(*) {there} AND backend_start > '{before}'"
    several.database.run(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query = 'LISTEN macbind'"
    )
    until(lambda: several.database.value(listening) == 2, DEADLINE_S, "both to listen again")
    assert serves(second, "vm")


def test_the_leads_of_two_dhcpds_come_together_again() -> None:
    """A controller that loses one of two gives it up, and has it back once it reaches it; callers notice nothing."""
    with open_directory() as place, open_several(place, with_second_dhcpd=True) as several:
        first, second = several.controllers
        cut_off(first, SECOND_DHCPD)
        several.wait_leading(second, {"main": first, "second": second})
        assert serves(first, "vm")
        assert serves(second, "vm")
        join(first, SECOND_DHCPD)
        several.wait_leading(second, {"main": first, "second": first})
        assert serves(first, "vm")
        assert serves(second, "vm")
