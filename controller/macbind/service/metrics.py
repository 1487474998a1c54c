"""The service in numbers, for Prometheus; computed when asked, kept nowhere."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from typing_extensions import override

from macbind.model import Status

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def exposition(status: Callable[[], Status]) -> bytes:
    """The metrics in Prometheus' text format."""
    registry = CollectorRegistry()
    registry.register(_StatusCollector(status))
    return generate_latest(registry)


class _StatusCollector(Collector):
    """Turns a status into metrics."""

    def __init__(self, status: Callable[[], Status]) -> None:
        self._status = status

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """Nothing in advance: registering must not ask for the status."""
        return iter(())

    @override
    def collect(self) -> Iterator[GaugeMetricFamily]:
        now = self._status()
        addresses = GaugeMetricFamily(
            "macbind_pool_addresses", "Addresses of a pool, by what they are.", labels=["pool", "state"]
        )
        for pool in now.pools:
            for state in ("size", "free", "allocated", "pinned", "releasing"):
                addresses.add_metric([pool.pool, state], getattr(pool, state))
        yield addresses
        serving = GaugeMetricFamily(
            "macbind_dhcpd_serving",
            "Whether a dhcpd holds what the registry says, and answers DHCP where it is asked to.",
            labels=["dhcpd"],
        )
        backlog = GaugeMetricFamily(
            "macbind_dhcpd_backlog", "Addresses a dhcpd has yet to confirm.", labels=["dhcpd"]
        )
        answered = GaugeMetricFamily(
            "macbind_dhcpd_answered_time_seconds",
            "When a dhcpd last answered a DHCP probe (Unix time).",
            labels=["dhcpd"],
        )
        for dhcpd in now.dhcpds:
            serving.add_metric([dhcpd.name], float(dhcpd.state.is_good))
            backlog.add_metric([dhcpd.name], dhcpd.backlog)
            if dhcpd.answered_at is not None:
                answered.add_metric([dhcpd.name], dhcpd.answered_at.timestamp())
        yield from (serving, backlog, answered)
        connected = GaugeMetricFamily(
            "macbind_hypervisor_connected", "Whether libvirt answers.", labels=["hypervisor"]
        )
        domains = GaugeMetricFamily(
            "macbind_hypervisor_domains", "Domains of a hypervisor.", labels=["hypervisor"]
        )
        for hypervisor in now.hypervisors:
            connected.add_metric([hypervisor.name], float(hypervisor.connected))
            domains.add_metric([hypervisor.name], hypervisor.domains)
        yield from (connected, domains)
        findings = GaugeMetricFamily(
            "macbind_findings", "What an admin should look at; `macbind status` tells.", labels=["code"]
        )
        for code, count in sorted(Counter(one.code for one in now.findings).items()):
            findings.add_metric([code], count)
        yield findings
        yield GaugeMetricFamily(
            "macbind_start_time_seconds", "When the service started (Unix time).", now.started_at.timestamp()
        )
