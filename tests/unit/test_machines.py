"""Machines at libvirt's test driver: what is refused before anything is asked of the service."""

from __future__ import annotations

from ipaddress import IPv4Address

import pytest

from macbind.client.client import Client
from macbind.core.errors import InvalidRequest
from macbind.core.mac_address import MacAddress
from macbind.machines import Wait, launch
from macbind.machines.diagnosis import Cause, judge
from macbind.machines.reachability import lasting
from macbind.virt.connection import Hypervisor
from macbind.virt.nic_traffic import NicTraffic

TEST = "test:///default"
TEMPLATE = (
    "<domain type='test'><name>t</name><memory>1024</memory><os><type>hvm</type></os><devices>"
    "<interface type='network'><source network='default'/></interface></devices></domain>"
)
MAC, OURS, THEIRS = MacAddress.parse("00:16:3e:01:01:03"), IPv4Address("10.1.1.3"), IPv4Address("10.0.0.77")


def test_driver_without_network_filters_is_refused() -> None:
    """Anti-spoofing that would do nothing is refused first: there is not even a service to allocate from."""
    with Client("/nonexistent/s") as client, pytest.raises(InvalidRequest) as refused:
        launch(client, TEMPLATE, "farm", uri=TEST, anti_spoofing=True)
    assert "libvirt's driver TEST carries out no network filter" in refused.value.message
    assert refused.value.hint


def test_log_that_is_named_is_the_drivers_own() -> None:
    """A driver that keeps no log for its domains has none to name."""
    with Hypervisor(TEST) as hypervisor:
        assert hypervisor.driver == "TEST"
        assert hypervisor.log_of("web") is None


@pytest.mark.parametrize(
    ("wait", "pings"),
    [
        (Wait(), True),
        (Wait(tcp=22), False),
        (Wait(ping=True, tcp=22), True),
        (Wait(ping=False), False),
    ],
)
def test_ping_is_asked_for_unless_a_port_is(wait: Wait, pings: bool) -> None:
    """A port alone is enough where one is asked for."""
    assert wait.pings is pings


@pytest.mark.parametrize(
    ("traffic", "addresses", "cause", "said"),
    [
        (NicTraffic(0), set(), Cause.NEVER_ASKED, "never asked"),
        (NicTraffic(9), {OURS}, Cause.SILENT, "it has its address"),
        (NicTraffic(9), {THEIRS}, Cause.OTHER_SERVER, "it has 10.0.0.77"),
        (NicTraffic(9), {OURS, THEIRS}, Cause.SILENT, "it has its address"),
        (NicTraffic(9), set(), Cause.UNKNOWN, "it has sent 9 packets"),
        (NicTraffic(), set(), Cause.UNKNOWN, ""),
    ],
)
def test_silence_has_a_cause(
    traffic: NicTraffic, addresses: set[IPv4Address], cause: Cause, said: str
) -> None:
    """What was seen says why a machine does not answer, and what to do."""
    found = judge(traffic, frozenset(addresses), [], MAC, OURS)
    assert found.cause is cause
    assert said in found.sentence
    assert found.hint


def test_finding_about_the_machine_is_named() -> None:
    """What macbind has seen of this MAC is told with the error."""
    found = judge(NicTraffic(9), frozenset(), [f"{MAC} was offered 10.0.0.77."], MAC, OURS)
    assert f"macbind reports: {MAC} was offered 10.0.0.77." in found.hint


def test_end_must_last() -> None:
    """A machine between two lives runs still; one that has ended does not, nor one that stays between them."""
    seen: list[bool | None] = []
    patient, hasty = lasting(lambda: seen[-1], 60), lasting(lambda: seen[-1], 0)
    for looks, runs in ((None, True), (True, True), (False, False)):
        seen.append(looks)
        assert patient() is runs
    seen.append(None)
    assert not hasty()
