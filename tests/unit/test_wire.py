"""The API's bodies: what is read means what was written, and the client reads what the service writes."""

import json
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from macbind.core.allocation import Allocation, AuditEntry, Released, State
from macbind.core.dhcp_options import DhcpOptions
from macbind.core.errors import InvalidOption, InvalidRequest
from macbind.core.findings import DhcpdState, DhcpdStatus, Finding, Status
from macbind.core.mac_address import MacAddress
from macbind.core.pool import PoolUsage
from macbind.http import schemas

NOW = datetime(2024, 2, 29, 23, 59, 59, 123456, tzinfo=UTC)
ALLOCATION = Allocation(
    address=IPv4Address("10.1.1.3"),
    mac=MacAddress.parse("00:16:3e:01:01:03"),
    name="vm",
    pool="farm",
    generation=2**40,
    state=State.RELEASING,
    created_at=NOW,
    group="speck-7",
    options=DhcpOptions.parse(
        {
            "hostname": "vm",
            "routers": ["10.0.0.1", "10.0.0.2"],
            "next_server": "10.0.0.69",
            "static_routes": ["10.9.0.0/16 via 10.1.0.2"],
        }
    ),
    domain="büro-7",
    pinned=True,
    expires_at=NOW + timedelta(microseconds=1),
    released_at=NOW,
)
USAGE = PoolUsage("farm", 2**24, 2**24 - 3, 2, 1, 1)
FINDING = Finding("pool_exhausted", "The pool 'farm' is full.", "Release something.")
STATUS = Status(
    version="1.2.3",
    started_at=NOW,
    registry="sqlite:////var/lib/macbind/registry.db",
    dhcpds=(
        DhcpdStatus("main", DhcpdState.UNAVAILABLE, NOW, 7, "it does not answer", None, NOW, (FINDING,)),
    ),
    pools=(USAGE,),
    findings=(FINDING,),
)
ENTRY = AuditEntry(NOW, "root (uid 0, pid 1)", "trim", None, None, None, {"pool": "farm", "n": 1})


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (Allocation, ALLOCATION),
        (Released, Released((ALLOCATION,), already_gone=False)),
        (Released, Released((), already_gone=True)),
        (list[PoolUsage], [USAGE]),
        (Status, STATUS),
        (list[AuditEntry], [ENTRY]),
    ],
    ids=["allocation", "released", "already gone", "pools", "status", "history"],
)
def test_value_survives_the_wire(kind: Any, value: Any) -> None:
    """What the service writes as JSON the client reads as an equal value of the same types."""
    adapter: TypeAdapter[Any] = TypeAdapter(kind)
    read = adapter.validate_python(json.loads(adapter.dump_json(value)))
    assert read == value
    assert adapter.dump_json(read) == adapter.dump_json(value)


def wanted(**body: Any) -> Any:
    """The registry's view of an allocation's body."""
    return schemas.AllocateBody.model_validate({"pool": "farm"} | body).wanted()


def test_count_names_the_members_of_a_group() -> None:
    """A group with a count is a whole group of numbered names; names are just these names."""
    counted = wanted(group="speck", count=3)
    assert (counted.names, counted.whole_group) == (("speck-1", "speck-2", "speck-3"), True)
    named = wanted(group="speck", names=["a", "b"])
    assert (named.names, named.whole_group, named.group) == (("a", "b"), False, "speck")
    assert wanted(name="vm").names == ("vm",)


def test_time_to_live_becomes_a_moment() -> None:
    """ttl_s counts from now; without it an allocation does not expire."""
    assert wanted(name="vm").expires_at is None
    before = datetime.now(UTC)
    expires_at = wanted(name="vm", ttl_s=60).expires_at
    assert before + timedelta(seconds=60) <= expires_at <= datetime.now(UTC) + timedelta(seconds=60)
    assert wanted(name="vm", ttl_s=schemas.MAX_TTL_S).expires_at.year >= before.year + 9


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"name": "a", "names": ["b"]},
        {"name": "a", "count": 1, "group": "g"},
        {"count": 2},
        {"names": ["a", "a"]},
        {"names": ["a", "b"], "address": "10.1.1.3"},
        {"group": "", "count": 2},
        {"group": "büro", "name": "a"},
    ],
)
def test_contradictions_are_refused(body: dict[str, Any]) -> None:
    """Parameters that contradict each other, and groups that are no names, are the caller's fault."""
    with pytest.raises(InvalidRequest):
        wanted(**body)


@pytest.mark.parametrize(
    "body",
    [
        {"name": 5},
        {"names": []},
        {"names": ["n"] * (schemas.MAX_COUNT + 1)},
        {"group": "g", "count": True},
        {"group": "g", "count": "2"},
        {"group": "g", "count": 2.5},
        {"group": "g", "count": 0},
        {"group": "g", "count": schemas.MAX_COUNT + 1},
        {"name": "a", "ttl_s": True},
        {"name": "a", "ttl_s": "60"},
        {"name": "a", "ttl_s": float("inf")},
        {"name": "a", "ttl_s": float("nan")},
        {"name": "a", "ttl_s": 1e300},
        {"name": "a", "address": 1},
        {"name": "a", "address": True},
        {"name": "a", "address": "10.1.1.3/32"},
        {"name": "a", "domain": "x\0"},
        {"name": "a", "domain": "x" * 256},
        {"name": "a", "domain": "\ud800"},
        {"name": "a", "timeout_s": 301},
        {"name": "a", "unknown": 1},
    ],
    ids=lambda body: str(body)[:40],
)
def test_types_are_those_of_the_document(body: dict[str, Any]) -> None:
    """Numbers are no addresses, texts no numbers, true is neither; what is unknown is refused."""
    with pytest.raises(ValidationError):
        wanted(**body)


@pytest.mark.parametrize(
    "options",
    [
        {"routers": [1]},
        {"routers": "10.0.0.1"},
        {"routers": 0},
        {"routers": None},
        {"routers": [None]},
        {"hostname": 5},
        {"next_server": True},
        {"static_routes": {"10.9.0.0/16": "10.1.0.2"}},
        {"router": "10.0.0.1"},
    ],
)
def test_options_are_texts_and_lists_of_texts(options: dict[str, Any]) -> None:
    """Option values of another type are refused, even those that are false."""
    with pytest.raises(InvalidOption):
        wanted(name="a", options=options)


def test_options_are_read_as_they_are_written() -> None:
    """The options in an answer can be sent again as they are, empty ones included."""
    for options in (ALLOCATION.options, DhcpOptions()):
        written = json.loads(TypeAdapter(DhcpOptions).dump_json(options))
        assert wanted(name="a", options=written).options == options
    assert wanted(name="a").options == DhcpOptions()


def test_release_names_exactly_one_thing() -> None:
    """A release without, with several, or with an impossible name is refused."""
    for body in ({"name": "vm"}, {"group": "speck"}, {"address": "10.1.1.3", "generation": 7}):
        schemas.ReleaseBody.model_validate(body).check()
    for body in ({}, {"name": "a", "group": "b"}, {"name": ""}, {"group": ""}, {"name": "a b"}):
        with pytest.raises(InvalidRequest):
            schemas.ReleaseBody.model_validate(body).check()


def test_reservation_takes_any_spelling_of_a_mac() -> None:
    """A MAC is read in every common spelling, and is none if it is no text."""
    body = {"name": "printer", "address": "10.0.0.9"}
    for text in ("B8-27-EB-00-00-01", "b827.eb00.0001", "b8:27:eb:0:0:1"):
        assert str(schemas.ReserveBody.model_validate(body | {"mac": text}).mac) == "b8:27:eb:00:00:01"
    with pytest.raises(ValidationError):
        schemas.ReserveBody.model_validate(body | {"mac": 0xB827EB000001})
