"""What is counted: labels are closed sets, states add up, and releases are timed once."""

from datetime import UTC, datetime

from prometheus_client.parser import text_string_to_metric_families

from docs.metrics import SAMPLE
from labkit.prometheus import families
from macbind.core.errors import RegistryUnavailable
from macbind.core.findings import CODES, Finding, Status
from macbind.core.pool import PoolStates
from macbind.core.release_cause import ReleaseCause
from macbind.http.metrics import Metrics, Now
from macbind.registry.under_way import Begun, UnderWay
from macbind.service.meters import GONE, OK, Meters


def values(text: str) -> dict[tuple[str, ...], float]:
    """The value of each series: its name, then the values of its labels in the order of their names."""
    return {
        (one.name, *(value for _, value in sorted(one.labels.items()))): one.value
        for family in text_string_to_metric_families(text)
        for one in family.samples
    }


def now_with(status: Status, pools: list[PoolStates]) -> Now:
    """A moment with this status."""
    return Now(lambda: status, lambda: pools, set, lambda: 3, lambda: 2, lambda: {"http": 0.5})


def shown(meters: Meters, now: Now) -> dict[tuple[str, ...], float]:
    """What Prometheus is told."""
    return values(Metrics(meters, now).exposition().decode())


def empty_status(*findings: Finding) -> Status:
    """A status without peers and pools."""
    return Status("1", datetime.now(UTC), "x", (), (), findings)


def test_requests_are_counted_by_code_and_timed() -> None:
    """A counter for each code that came, one at 0 for success before anything came, and a histogram."""
    meters = Meters()
    meter = meters.request("POST /v1/release")
    before = shown(meters, now_with(empty_status(), []))
    assert before["macbind_requests_total", "ok", "POST /v1/release"] == 0
    meter(OK, 0.002)
    meter("conflict", 0.004)
    meter(GONE, 3)
    found = shown(meters, now_with(empty_status(), []))
    for code in (OK, "conflict", GONE):
        assert found["macbind_requests_total", code, "POST /v1/release"] == 1
    assert found["macbind_request_seconds_count", "POST /v1/release"] == 3
    assert found["macbind_request_seconds_bucket", "0.0025", "POST /v1/release"] == 1
    assert not any(name[0].endswith("_created") for name in found)


def test_streams_are_not_timed() -> None:
    """How long somebody read the events says nothing of the service."""
    meters = Meters()
    meters.request("GET /v1/events", timed=False)(OK, 1e5)
    found = shown(meters, now_with(empty_status(), []))
    assert found["macbind_requests_total", "ok", "GET /v1/events"] == 1
    assert ("macbind_request_seconds_count", "GET /v1/events") not in found


def test_every_known_finding_and_reason_is_there_from_the_start() -> None:
    """An alert can be written before anything has happened: what may come is 0, what is there is counted."""
    two = Finding("shared_mac", "a"), Finding("shared_mac", "b")
    found = shown(Meters(), now_with(empty_status(*two), []))
    for code in CODES:
        assert found["macbind_findings", code] == (2 if code == "shared_mac" else 0)
    for cause in ReleaseCause:
        assert found["macbind_release_seconds_count", cause.value] == 0


def test_states_of_a_pool_add_up_to_its_size() -> None:
    """Each address is counted once; what the pool does not hand out is apart."""
    pool = PoolStates("p", 100, free=60, allocated=20, reserved=10, releasing=7, used_by_others=3, outside=9)
    found = shown(Meters(), now_with(empty_status(), [pool]))
    states = [value for name, value in found.items() if name[0] == "macbind_pool_addresses"]
    assert sum(states) == found["macbind_pool_size_addresses", "p"] == 100
    assert found["macbind_pool_outside_addresses", "p"] == 9


def test_without_the_registry_the_rest_is_told() -> None:
    """Counters and the parts' progress are there while the registry is not, and it is said that it is not."""

    def away() -> Status:
        raise RegistryUnavailable("The registry is away.")

    meters = Meters()
    meters.request("GET /v1/status")("registry_unavailable", 5.0)
    found = shown(meters, Now(away, list, set, lambda: 3, lambda: 2, lambda: {"http": 0.5}))
    assert found["macbind_registry_available",] == 0
    assert found["macbind_requests_total", "registry_unavailable", "GET /v1/status"] == 1
    assert found["macbind_requests_waiting",] == 3
    assert found["macbind_task_silent_seconds", "http"] == 0.5
    assert not any(name[0] == "macbind_findings" for name in found)


def test_names_have_their_units() -> None:
    """Every metric is ours by its prefix, counters end in _total, and times are in seconds."""
    for name, kind in families(SAMPLE).items():
        assert name.startswith("macbind_")
        assert name.endswith("_total") == (kind == "counter")
        assert kind != "histogram" or name.endswith("_seconds")


def test_releases_under_way_are_remembered_until_they_end() -> None:
    """A release ends once; a generation of the address that came later is another one."""
    begun = UnderWay()
    begun.begin(7, 1, Begun(5.0, ReleaseCause.ASKED))
    assert begun.end(7, 2) is None
    assert begun.end(7, 1) == Begun(5.0, ReleaseCause.ASKED)
    assert begun.end(7, 1) is None


def test_releases_that_nobody_ends_are_forgotten_in_their_order() -> None:
    """Their number is bounded: the oldest go first."""
    begun = UnderWay(most=64)
    for ip in range(1000):
        begun.begin(ip, 1, Begun(float(ip), ReleaseCause.ASKED))
    known = [ip for ip in range(1000) if begun.end(ip, 1) is not None]
    assert known == list(range(known[0], 1000))
    assert 48 <= len(known) <= 64
