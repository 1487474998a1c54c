"""Watching hypervisors that do not answer: libvirt's own client against a socket that says nothing."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from contract.domain_site import DEADLINE_S, Bench, until_connected
from labkit.wait import until
from macbind.config.tables import HypervisorSettings
from macbind.core.errors import HypervisorUnavailable
from macbind.virt.session import OPEN_S
from macbind.virt.watcher import Watcher

SOON_S = 60.0


@pytest.fixture
def silent(tmp_path: Path) -> Iterator[str]:
    """The URI of a libvirtd that takes connections and says nothing."""
    path = tmp_path / "silent"
    taken: list[socket.socket] = []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def take() -> None:
            try:
                while True:
                    taken.append(listener.accept()[0])
            except OSError:
                return  # the end

        thread = threading.Thread(target=take)
        thread.start()
        yield f"qemu+unix:///system?socket={path}"
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
    for one in taken:
        one.close()


def test_a_hypervisor_that_says_nothing_is_told_and_holds_nobody_up(tmp_path: Path, silent: str) -> None:
    """Within seconds; meanwhile a machine of another ends as quickly as ever, and so does the service."""
    bench = Bench(tmp_path, others={"silent": HypervisorSettings(uri=silent)})
    try:
        vm = bench.allocate("vm")
        domain = bench.driver.createXML(bench.xml("vm", vm.mac), 0)
        bench.until_used("vm")
        ended_at = time.monotonic()
        domain.destroy()
        bench.until_free("vm")
        assert time.monotonic() - ended_at < OPEN_S, "the silent one was waited for"
        (status,) = until(
            lambda: [one for one in bench.warden.status() if one.problem], SOON_S, "the problem to be told"
        )
        assert status.name == "silent"
        assert "does not answer" in status.problem
        with pytest.raises(HypervisorUnavailable):
            bench.warden.watchers["silent"].look("u")
    finally:
        began_at = time.monotonic()
        bench.warden.close()
        assert time.monotonic() - began_at < OPEN_S
        bench.close()


def test_a_watcher_ends_while_it_waits_for_an_answer(bench: Bench, silent: str) -> None:
    """Also in the middle of connecting, and without leaving anything that is joined for ever."""
    watchers = [Watcher(f"silent-{number}", silent, bench.warden) for number in range(5)]
    for one in watchers:
        one.start()
    began_at = time.monotonic()
    with ThreadPoolExecutor(len(watchers)) as pool:
        list(pool.map(lambda one: one.close(), watchers))
    assert time.monotonic() - began_at < OPEN_S


def test_status_counts_the_domains_that_there_are(bench: Bench) -> None:
    """Not those that the last scan found."""
    before = bench.warden.status()[0].domains
    vm = bench.allocate("vm")
    domain = bench.driver.createXML(bench.xml("vm", vm.mac), 0)
    bench.until_used("vm")
    assert bench.warden.status()[0].domains == before + 1
    domain.destroy()
    bench.until_free("vm")
    assert bench.warden.status()[0].domains == before


def test_the_first_list_comes_before_the_service_answers(bench: Bench) -> None:
    """What runs unallocated when the service starts is evidence when its start is over."""
    mac = bench.allocate("vm").mac
    bench.release("vm")
    bench.warden.close()
    bench.driver.createXML(bench.xml("stranger", mac), 0)
    bench.warden = bench.tracker()
    bench.warden.start()
    bench.warden.wait_until_seen(DEADLINE_S)
    assert bench.allocate("next").mac != mac
    until_connected(bench.warden)


def test_one_unreadable_domain_is_a_finding_and_all_others_go_on(bench: Bench) -> None:
    """A definition that is too large to be read: it is named, and machines beside it come and go as ever."""
    vm, big = bench.allocate("vm"), bench.allocate("big")
    large = "<metadata><e:x xmlns:e='urn:evil'>" + "x" * (9 * 1024**2) + "</e:x></metadata>"
    xml = bench.xml("big", big.mac).replace("<os>", f"{large}<os>")
    unreadable = bench.driver.defineXML(xml)
    domain = bench.driver.createXML(bench.xml("vm", vm.mac), 0)
    bench.until_used("vm")
    until(bench.warden.findings, DEADLINE_S, "the finding")
    (finding,) = bench.warden.findings()
    assert finding.code == "domain_unreadable"
    assert "'big' (test)" in finding.message
    bench.restart_watching()
    assert [one.code for one in bench.warden.findings()] == ["domain_unreadable"]
    domain.destroy()
    bench.until_free("vm")
    unreadable.undefine()
    until(lambda: not bench.warden.findings(), DEADLINE_S, "the finding to end")
