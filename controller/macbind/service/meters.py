"""What the service counts: requests, exchanges with DHCP servers, releases, repairs.

A label has only values of a closed set: operations, codes of errors, causes, and names of the configuration. No
caller and no guest can make a series. Whoever counts often asks once for a meter with its labels, so that an event
costs a microsecond.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Histogram
from typing_extensions import override

from macbind.core.release_cause import ReleaseCause
from macbind.engine.meter import Meter
from macbind.service.rates import RateLog

OK, GONE = "ok", "client_gone"
"""Codes beside those of errors: answered as asked; the caller had gone."""
NO_OPERATION = "none"
"""Stands for every request that names no operation, or whose caller may not ask for it."""
REPAIRS = ("mended", "removed")

_REQUEST_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_OMAPI_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
_RELEASE_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)

prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]


class RequestMeter:
    """Counts the requests for one operation. Used in the event loop only.

    Args:
        count: Makes the counter of a code.
        observe: Takes how long a request has taken, in seconds; None where that says nothing.
    """

    def __init__(
        self, count: Callable[[str], Callable[[], None]], observe: Callable[[float], None] | None
    ) -> None:
        self._count, self._observe = count, observe
        self._by_code = {OK: count(OK)}

    def __call__(self, code: str, seconds: float) -> None:
        """A request was answered with this code: that of an error, OK or GONE."""
        try:
            increase = self._by_code[code]
        except KeyError:
            increase = self._by_code[code] = self._count(code)
        increase()
        if self._observe is not None:
            self._observe(seconds)


class Meters(Meter):
    """Counters and histograms of one service.

    Attributes:
        registry: Where they are collected.
        rates: What is kept of the last minutes.
        waiting: Says how many callers wait now.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.rates = RateLog()
        self.waiting: Callable[[], int] = lambda: 0
        self._requests = Counter(
            "macbind_requests_total",
            "Requests, by how they were answered.",
            ["operation", "code"],
            registry=self.registry,
        )
        self._request_s = Histogram(
            "macbind_request_seconds",
            "How long requests took, with their wait for DHCP servers.",
            ["operation"],
            buckets=_REQUEST_S,
            registry=self.registry,
        )
        self._omapi_s = Histogram(
            "macbind_omapi_seconds",
            "How long dhcpd took for the messages of one step, of one address or many.",
            ["dhcpd", "operation"],
            buckets=_OMAPI_S,
            registry=self.registry,
        )
        release_s = Histogram(
            "macbind_release_seconds",
            "From the reason of a release, such as libvirt's word that the machine ended, until every DHCP server "
            "has confirmed it.",
            ["reason"],
            buckets=_RELEASE_S,
            registry=self.registry,
        )
        self._release_s = {cause: release_s.labels(cause.value).observe for cause in ReleaseCause}
        self._repaired = Counter(
            "macbind_bindings_repaired_total",
            "Bindings that a comparison found missing or different (mended), and leftovers that it removed.",
            ["dhcpd", "repair"],
            registry=self.registry,
        )

    def request(self, operation: str, *, timed: bool = True) -> RequestMeter:
        """The meter of an operation."""
        return RequestMeter(
            lambda code: self._requests.labels(operation, code).inc,
            self._request_s.labels(operation).observe if timed else None,
        )

    def omapi(self, dhcpd: str, operations: Iterable[str]) -> Callable[[str, float], None]:
        """Takes how long dhcpd took for an operation, in seconds."""
        for repair in REPAIRS:
            self._repaired.labels(dhcpd, repair)
        observe = {one: self._omapi_s.labels(dhcpd, one).observe for one in operations}
        return lambda operation, seconds: observe[operation](seconds)

    @override
    def released(self, cause: ReleaseCause, seconds: float) -> None:
        self.rates.released()
        if cause is ReleaseCause.ENDED:
            self.rates.ended(seconds)
        self._release_s[cause](seconds)

    @override
    def repaired(self, dhcpd: str, *, mended: int, removed: int) -> None:
        for repair, number in zip(REPAIRS, (mended, removed), strict=True):
            self._repaired.labels(dhcpd, repair).inc(number)
