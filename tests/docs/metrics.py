"""The metrics of a service with one of everything, for the table of them."""

from collections.abc import Iterator
from datetime import UTC, datetime

from prometheus_client.parser import text_string_to_metric_families

from macbind.core.findings import ControllerStatus, DhcpdState, DhcpdStatus, HypervisorStatus, Status
from macbind.core.pool import PoolStates
from macbind.dhcp.isc.server import OPERATIONS
from macbind.http.metrics import Metrics, Now
from macbind.service.meters import Meters


def _sample() -> str:
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    dhcpd = DhcpdStatus("main", DhcpdState.SERVING, moment, compared_at=moment, answered_at=moment)
    hypervisor = HypervisorStatus("local", "qemu:///system", connected=True, since=moment)
    controller = ControllerStatus("1", "host", "/s", "1", moment, moment, is_alive=True)
    status = Status("1", moment, "x", (dhcpd,), (), hypervisors=(hypervisor,), controllers=(controller,))
    meters = Meters()
    meters.omapi("main", OPERATIONS)
    meters.request("POST /v1/allocations")
    now = Now(
        lambda: status,
        lambda: [PoolStates("farm", 1, 1, 0, 0, 0, 0)],
        lambda: {"main"},
        lambda: 0,
        lambda: 0,
        lambda: {"http": 0.0},
    )
    return Metrics(meters, now).exposition().decode()


SAMPLE = _sample()
"""An exposition with a series of every metric."""


def rows() -> Iterator[tuple[str, str, str]]:
    """Name with labels, type and meaning of every metric, without the process's own."""
    types = {line.split(" ")[2]: line.split(" ")[3] for line in SAMPLE.splitlines() if line[:6] == "# TYPE"}
    for family in text_string_to_metric_families(SAMPLE):
        name = family.name + "_total" * (family.type == "counter")
        if name.startswith("macbind_process_"):
            continue
        labels = [label for label in family.samples[0].labels if label != "le"]
        yield (
            f"`{name}{'{' * bool(labels)}{','.join(labels)}{'}' * bool(labels)}`",
            types[name],
            family.documentation,
        )
