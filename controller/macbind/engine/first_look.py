"""A look at the files of DHCP servers before the first address of a configuration is handed out.

The comparison comes when a server is connected, which may be later than the first request. What a look shows is
added. It withdraws nothing: that is left to comparisons.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import replace

import structlog

from macbind.core.pool import Pool
from macbind.dhcp.port import DhcpServer
from macbind.engine.evidence_intake import EvidenceIntake
from macbind.engine.own_bindings import set_apart
from macbind.registry.store import Registry

_log = structlog.get_logger()

WITHIN_S = 10.0
"""So long may all looks together take, in seconds: requests wait."""


class _TooLong(Exception):
    """There is no more time."""


def look_first(
    dhcpds: Iterable[DhcpServer],
    pools: Mapping[str, Pool],
    registry: Registry,
    within_s: float = WITHIN_S,
) -> None:
    """Takes what the files of these servers show of others in these pools, which need not be in use yet.

    Args:
        dhcpds: The servers; they need not be connected.
        pools: The pools.
        registry: The registry.
        within_s: How long it may take, in seconds.
    """
    until = time.monotonic() + within_s

    def pause(_: float) -> bool:
        if time.monotonic() > until:
            raise _TooLong
        return False

    for dhcpd in dhcpds:
        plans = [pool.plan for pool in pools.values() if dhcpd.name in pool.dhcpds]
        try:
            audit = dhcpd.audit(plans, pause)
        except _TooLong:
            _log.warning("the first look at dhcpd took too long", dhcpd=dhcpd.name)
            return
        if audit is not None:
            audit = set_apart(audit, dhcpd.name, plans, registry)
            shown = replace(audit, looked=frozenset(), ended=())
            EvidenceIntake(dhcpd.name, registry).take(shown, lambda: True)
