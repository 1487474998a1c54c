"""The service in numbers, for Prometheus: what was counted, and the status of this moment.

Names and labels follow Prometheus' rules: units in the name, states that add up, a series at 0 for what may happen.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from typing_extensions import override

from macbind import __version__
from macbind.core.errors import PeerError
from macbind.core.findings import (
    CODES,
    ControllerStatus,
    DhcpdState,
    DhcpdStatus,
    HypervisorStatus,
    Status,
)
from macbind.core.pool import PoolStates
from macbind.service.meters import Meters

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_STATES = ("free", "allocated", "reserved", "releasing", "used_by_others")


@dataclass(frozen=True, slots=True)
class Now:
    """What is asked for at each collection.

    Attributes:
        status: The service at a glance; may raise a PeerError.
        pools: Each pool's addresses; may raise a PeerError.
        leads: The DHCP servers that this controller writes to.
        waiting: How many requests wait for DHCP servers or the registry.
        readers: How many read the events.
        silent_s: For how many seconds each part of the service has shown no progress while it had something to do.
    """

    status: Callable[[], Status]
    pools: Callable[[], list[PoolStates]]
    leads: Callable[[], set[str]]
    waiting: Callable[[], int]
    readers: Callable[[], int]
    silent_s: Callable[[], Mapping[str, float]]


class Metrics:
    """Everything that Prometheus is told. Any thread may ask.

    Args:
        meters: What was counted.
        now: What is asked for.
    """

    def __init__(self, meters: Meters, now: Now) -> None:
        self._registries = (CollectorRegistry(), meters.registry)
        self._registries[0].register(_NowCollector(now))
        ProcessCollector(namespace="macbind", registry=self._registries[0])

    def exposition(self) -> bytes:
        """The metrics in Prometheus' text format."""
        return b"".join(map(generate_latest, self._registries))


class _NowCollector(Collector):
    """Turns this moment into metrics."""

    def __init__(self, now: Now) -> None:
        self._now = now

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """Nothing in advance: registering must not ask for the status."""
        return iter(())

    @override
    def collect(self) -> Iterator[GaugeMetricFamily]:
        build = _gauge("macbind_build_info", "The version of the service.", "version")
        build.add_metric([__version__], 1)
        yield build
        yield _plain(
            "macbind_requests_waiting",
            "Requests under way that wait for a DHCP server or the registry.",
            self._now.waiting(),
        )
        yield _plain("macbind_event_readers", "Who reads the events now.", self._now.readers())
        silent = _gauge(
            "macbind_task_silent_seconds",
            "For how long a part of the service has shown no progress while it had something to do.",
            "task",
        )
        for task, seconds in self._now.silent_s().items():
            silent.add_metric([task], seconds)
        yield silent
        try:
            status, pools, leads = self._now.status(), self._now.pools(), self._now.leads()
        except PeerError:
            yield _plain("macbind_registry_available", _AVAILABLE, 0)
            return
        yield _plain("macbind_registry_available", _AVAILABLE, 1)
        yield _plain(
            "macbind_start_time_seconds",
            "When the service started (Unix time).",
            status.started_at.timestamp(),
        )
        yield from _of_pools(pools)
        yield from _of_dhcpds(status.dhcpds, leads)
        yield from _of_hypervisors(status.hypervisors)
        yield from _of_controllers(status.controllers)
        findings = _gauge("macbind_findings", "What an admin should look at; `macbind status` tells.", "code")
        counts = Counter(one.code for one in status.findings)
        for code in sorted({*CODES, *counts}):
            findings.add_metric([code], counts[code])
        yield findings


_AVAILABLE = "Whether the registry can be read; if not, all that is read from it is missing here."


def _of_pools(pools: list[PoolStates]) -> Iterator[GaugeMetricFamily]:
    size = _gauge("macbind_pool_size_addresses", "Addresses that a pool hands out.", "pool")
    states = _gauge(
        "macbind_pool_addresses",
        "Addresses that a pool hands out, by what they are; the states add up to its size.",
        "pool",
        "state",
    )
    outside = _gauge(
        "macbind_pool_outside_addresses",
        "Allocations and reservations of addresses that their pool does not hand out.",
        "pool",
    )
    for one in pools:
        size.add_metric([one.pool], one.size)
        outside.add_metric([one.pool], one.outside)
        for state in _STATES:
            states.add_metric([one.pool, state], getattr(one, state))
    yield from (size, states, outside)


def _of_dhcpds(dhcpds: tuple[DhcpdStatus, ...], leads: set[str]) -> Iterator[GaugeMetricFamily]:
    serving = _gauge(
        "macbind_dhcpd_serving",
        "Whether a dhcpd holds what the registry says, and answers DHCP where it is asked to.",
        "dhcpd",
    )
    state = _gauge(
        "macbind_dhcpd_state", "How macbind gets on with a dhcpd: 1 for one state.", "dhcpd", "state"
    )
    leader = _gauge("macbind_dhcpd_leader", "Whether this controller is the one that writes to it.", "dhcpd")
    backlog = _gauge("macbind_dhcpd_backlog_addresses", "Addresses that a dhcpd has yet to confirm.", "dhcpd")
    compared = _gauge(
        "macbind_dhcpd_last_comparison_timestamp_seconds",
        "When all bindings were last compared with a dhcpd (Unix time).",
        "dhcpd",
    )
    answered = _gauge(
        "macbind_dhcpd_last_answer_timestamp_seconds",
        "When a dhcpd last answered a DHCP probe (Unix time).",
        "dhcpd",
    )
    for one in dhcpds:
        serving.add_metric([one.name], float(one.state.is_good))
        leader.add_metric([one.name], float(one.name in leads))
        backlog.add_metric([one.name], one.backlog)
        for each in DhcpdState:
            state.add_metric([one.name, each.value], float(each is one.state))
        for family, at in ((compared, one.compared_at), (answered, one.answered_at)):
            if at is not None:
                family.add_metric([one.name], at.timestamp())
    yield from (serving, state, leader, backlog, compared, answered)


def _of_hypervisors(hypervisors: tuple[HypervisorStatus, ...]) -> Iterator[GaugeMetricFamily]:
    connected = _gauge("macbind_hypervisor_connected", "Whether libvirt answers.", "hypervisor")
    domains = _gauge("macbind_hypervisor_domains", "Domains of a hypervisor.", "hypervisor")
    for one in hypervisors:
        connected.add_metric([one.name], float(one.connected))
        domains.add_metric([one.name], one.domains)
    yield from (connected, domains)


def _of_controllers(controllers: tuple[ControllerStatus, ...]) -> Iterator[GaugeMetricFamily]:
    labels = ("host", "socket")
    up = _gauge("macbind_controller_up", "Whether a controller was heard of by the registry lately.", *labels)
    leads = _gauge("macbind_controller_leads", "How many DHCP servers a controller writes to.", *labels)
    for one in controllers:
        up.add_metric([one.host, one.socket], float(one.is_alive))
        leads.add_metric([one.host, one.socket], len(one.leads))
    yield from (up, leads)


def _gauge(name: str, about: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, about, labels=labels)


def _plain(name: str, about: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, about, value=value)
