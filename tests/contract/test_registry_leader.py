"""Who may write to a dhcpd: one process at a time, and soon another when that one is gone."""

from __future__ import annotations

import os
import signal
from contextlib import ExitStack
from multiprocessing.connection import Connection, wait
from pathlib import Path

import pytest

from contract import workers
from labkit.postgres import Postgres
from labkit.wait import until
from macbind.core.errors import RegistryUnavailable
from macbind.registry.leader import AdvisoryLeader, leader_for


def test_one_of_several_leads_and_another_follows(url: str) -> None:
    """Of three processes one leads; each time it is killed exactly one other takes over."""
    with ExitStack() as stack:
        rivals = [stack.enter_context(workers.process(workers.lead, url, 7)) for _ in range(3)]
        while rivals:
            (pipe, *others) = wait([pipe for _, pipe in rivals], timeout=60)
            assert not others, "two lead at once"
            assert isinstance(pipe, Connection)
            assert workers.say(pipe) == "leads"
            assert wait([pipe for _, pipe in rivals], timeout=0.3) == [], "two lead at once"
            leader = next(one for one in rivals if one[1] is pipe)
            leader[0].kill()
            rivals.remove(leader)


def test_each_dhcpd_has_its_own_leader(url: str) -> None:
    """Leading for one dhcpd says nothing about another one."""
    first, second, rival = leader_for(url, 1), leader_for(url, 2), leader_for(url, 1)
    assert first.acquire()
    assert first.acquire(), "asking again is harmless"
    assert second.acquire()
    assert not rival.acquire()
    first.check()
    with pytest.raises(RegistryUnavailable, match="not held"):
        rival.check()
    first.release()
    first.release()
    until(rival.acquire, 30, "PostgreSQL to end the session that held the lock")
    with pytest.raises(RegistryUnavailable, match="not held"):
        first.check()
    rival.release()
    second.release()


def test_leading_waits_for_nobodys_transaction(url: str) -> None:
    """Leadership is taken while another process holds the registry's write lock."""
    leader = leader_for(url, 1)
    with workers.process(workers.hold_write_lock, url) as (_, pipe):
        assert workers.say(pipe) == "held"
        assert leader.acquire()
        leader.check()
    leader.release()


def test_a_stopped_leader_is_succeeded_and_learns_it(postgres: Postgres) -> None:
    """PostgreSQL ends a stopped leader's session; when it continues, its first check says so."""
    url = postgres.emptied()
    with workers.process(workers.lead, url, 7) as (old, old_pipe):
        assert workers.say(old_pipe) == "leads"
        assert old.pid is not None
        os.kill(old.pid, signal.SIGSTOP)
        with workers.process(workers.lead, url, 7) as (_, new_pipe):
            assert workers.say(new_pipe, deadline_s=60) == "leads"
            os.kill(old.pid, signal.SIGCONT)
            assert workers.say(old_pipe) == "lost"
            assert not new_pipe.poll(0.2), "the new leader has lost as well"


def test_a_broken_session_is_found_by_the_next_check(postgres: Postgres) -> None:
    """After a restart of PostgreSQL the check fails typed, and leadership can be taken again."""
    leader = leader_for(postgres.emptied(), 7)
    assert isinstance(leader, AdvisoryLeader)
    assert leader.acquire()
    postgres.stop()
    try:

        def lost() -> bool:
            try:
                leader.check()
            except RegistryUnavailable:
                return True
            return False

        until(lost, 30, "the heartbeat to fail")
        with pytest.raises(RegistryUnavailable, match="cannot be used") as caught:
            leader.acquire()
        assert caught.value.hint == "Check that the database server runs and is reachable."
        assert postgres.password not in str(caught.value)
    finally:
        postgres.start()
    assert leader.acquire()
    leader.check()
    leader.release()


def test_a_lock_file_that_cannot_be_made(tmp_path: Path) -> None:
    """A directory that is missing is reported with the file's name."""
    leader = leader_for(f"sqlite:///{tmp_path}/missing/registry.db", 3)
    with pytest.raises(RegistryUnavailable, match=r"registry\.db\.writer-3\.lock cannot be opened"):
        leader.acquire()
