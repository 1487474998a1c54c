"""The operations of reports: pools, status, metrics, history."""

from __future__ import annotations

from macbind.client import codec
from macbind.http import within
from macbind.http.metrics import CONTENT_TYPE, Metrics
from macbind.http.operation import Operation, Question
from macbind.http.queries import FreeQuery, HistoryQuery, WhyQuery, criteria
from macbind.http.schemas import Nothing
from macbind.service.addresses import Addresses
from macbind.service.status import StatusReport
from macbind.service.why import WhyReport


def operations(
    addresses: Addresses, report: StatusReport, why: WhyReport, metrics: Metrics
) -> list[Operation]:
    """The operations."""
    return [
        Question(
            "/v1/pools",
            "All pools in numbers",
            Nothing,
            codec.POOLS,
            lambda _: report.pools(),
            within=within.pools,
        ),
        Question(
            "/v1/pools/{name}/free",
            "The free space of a pool as ranges, in pages",
            FreeQuery,
            codec.FREE,
            lambda asked: report.free(asked.name, **dict(asked.given)),
            within=within.itself,
        ),
        Question(
            "/v1/status",
            "The service at a glance",
            Nothing,
            codec.STATUS,
            lambda _: report.status(),
            within=within.status,
        ),
        Question(
            "/v1/controllers",
            "All controllers that share the registry, and what each leads",
            Nothing,
            codec.CONTROLLERS,
            lambda _: report.controllers(),
        ),
        Question(
            "/v1/history",
            "The latest changes, newest first",
            HistoryQuery,
            codec.HISTORY,
            lambda asked: addresses.history(**criteria(asked.given), pools=asked.peer.pools),
            within=within.itself,
        ),
        Question(
            "/v1/why",
            "Why an address, MAC, name or domain is as it is",
            WhyQuery,
            codec.WHY,
            lambda asked: why.why(asked.given.q, asked.peer.pools),
            within=within.itself,
        ),
        Question("/metrics", "For Prometheus", Nothing, None, lambda _: metrics.exposition(), CONTENT_TYPE),
    ]
