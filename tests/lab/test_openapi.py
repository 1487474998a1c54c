"""The OpenAPI document is true: what it says is answered, and nothing else is, whatever is asked."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from schemathesis import BaseSchema, Case, GenerationMode
from schemathesis.specs.openapi import checks
from typing_extensions import override
from urllib3 import HTTPConnectionPool
from urllib3.connection import HTTPConnection

from labkit.farm import Farm
from labkit.rude import Rude

POOLS = """
[subnet."10.0.0.0/8"]
routers = ["10.0.0.1"]
dynamic = ["10.9.0.0-10.9.0.255"]

[pool.farm]
subnet = "10.0.0.0/8"
ranges = ["10.1.1.3-10.1.9.250"]
"""
OPERATIONS = [
    ("GET", "/metrics"),
    ("GET", "/v1/allocations"),
    ("POST", "/v1/allocations"),
    ("GET", "/v1/allocations/{name}"),
    ("GET", "/v1/configuration"),
    ("POST", "/v1/configuration"),
    ("GET", "/v1/controllers"),
    ("GET", "/v1/dhcp"),
    ("POST", "/v1/dhcp/in"),
    ("POST", "/v1/dhcp/out"),
    ("GET", "/v1/events"),
    ("GET", "/v1/history"),
    ("POST", "/v1/import"),
    ("POST", "/v1/recover"),
    ("GET", "/v1/renumberings"),
    ("POST", "/v1/renumberings"),
    ("POST", "/v1/renumberings/abort"),
    ("POST", "/v1/renumberings/finish"),
    ("POST", "/v1/renumberings/lease"),
    ("GET", "/v1/pools"),
    ("POST", "/v1/labels"),
    ("POST", "/v1/release"),
    ("POST", "/v1/release/labelled"),
    ("POST", "/v1/remarks"),
    ("POST", "/v1/reservations"),
    ("DELETE", "/v1/reservations/{name}"),
    ("GET", "/v1/status"),
    ("GET", "/v1/network-settings/{name}"),
    ("GET", "/v1/wait"),
    ("GET", "/v1/why"),
    ("GET", "/v1/pools/{name}/free"),
    ("GET", "/v1/pools/{name}/map"),
    ("GET", "/v1/pools/{name}/blocks"),
]
NOTHING_TO_GET_WRONG = {
    "/metrics",
    "/v1/allocations/{name}",
    "/v1/configuration",
    "/v1/controllers",
    "/v1/dhcp",
    "/v1/renumberings",
    "/v1/pools",
    "/v1/status",
    "/v1/network-settings/{name}",
}
"""Asked with GET, these have no parameter that a text could not be."""
ENDLESS, WAITING = "/v1/events", "/v1/wait"
"""What is asked of these as documented is answered without end, or late; `test_event_stream` asks them, too."""
CASES = [
    (method, path, mode)
    for method, path in OPERATIONS
    for mode in GenerationMode
    if mode.is_positive or (method, path) not in {("GET", one) for one in NOTHING_TO_GET_WRONG}
    if path != ENDLESS and (path, mode.is_positive) != (WAITING, True)
]
CHECKS = [
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
    checks.negative_data_rejection,
    checks.unsupported_method,
]
EXAMPLES = 60


class _Connection(HTTPConnection):
    """HTTP over a Unix socket, whose path is the host."""

    @override
    def connect(self) -> None:
        self.sock = Rude(Path(self.host)).socket


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _Adapter(requests.adapters.HTTPAdapter):
    def __init__(self, path: Path) -> None:
        super().__init__()
        self._pool = _Pool(str(path), maxsize=1)

    @override
    def get_connection_with_tls_context(self, *_: Any, **__: Any) -> HTTPConnectionPool:
        return self._pool

    @override
    def close(self) -> None:
        super().close()
        self._pool.close()


@pytest.fixture(scope="module")
def session(farm: Farm) -> Iterator[requests.Session]:
    """What schemathesis asks with."""
    with requests.Session() as session:
        session.mount("http://macbind", _Adapter(farm.socket))
        yield session


@pytest.fixture(scope="module")
def schema(farm: Farm, session: requests.Session) -> BaseSchema:
    """The document as the service tells it; a few allocations are there."""
    with farm.client() as client:
        client.allocate_group("farm", "group", 3)
        client.reserve("printer", "10.0.0.9")
    return schemathesis.openapi.from_dict(session.get("http://macbind/openapi.json").json())


def test_document_has_these_operations(schema: BaseSchema) -> None:
    """Each of them is asked below."""
    paths = schema.raw_schema["paths"]
    found = [(method.upper(), path) for path, methods in paths.items() for method in methods]
    assert sorted(found) == sorted(OPERATIONS)


@pytest.mark.parametrize(("method", "path", "mode"), CASES)
def test_answers_are_as_documented(
    schema: BaseSchema, session: requests.Session, method: str, path: str, mode: GenerationMode
) -> None:
    """Requests as the document allows, and such as it does not: no answer has another status, type or shape."""

    @seed(0)
    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(schema[path][method].as_strategy(mode))
    def ask(case: Case[Any]) -> None:
        response = case.call(base_url="http://macbind", session=session, timeout=60)
        assert response.status_code != 500, response.text
        case.validate_response(response, checks=CHECKS)

    ask()


OPTIONS = {"hostname": "vm", "routers": ["10.0.0.2"], "static_routes": ["10.9.0.0/16 via 10.0.0.3"]}
DONE: list[tuple[str, str, dict[str, Any]]] = [
    ("POST", "/v1/allocations", {"body": {"pool": "farm", "name": "vm", "ttl_s": 600, "options": OPTIONS}}),
    ("POST", "/v1/allocations", {"body": {"pool": "farm", "group": "g", "count": 2, "domain": "d"}}),
    (
        "POST",
        "/v1/reservations",
        {"body": {"name": "pin", "address": "10.0.0.8", "mac": "b8:27:eb:00:00:01"}},
    ),
    (
        "POST",
        "/v1/renumberings",
        {"body": {"name": "vm", "to": "10.1.9.9", "lease_s": 60.0, "token": "our-token"}},
    ),
    ("POST", "/v1/renumberings/lease", {"body": {"name": "vm", "token": "our-token"}}),
    ("GET", "/v1/renumberings", {}),
    ("GET", "/v1/allocations", {"query": {"limit": 2, "group": "g"}}),
    ("GET", "/v1/allocations/{name}", {"path_parameters": {"name": "vm"}}),
    ("GET", "/v1/allocations/{name}", {"path_parameters": {"name": "pin"}}),
    ("GET", "/v1/wait", {"query": {"names": "vm", "until": "bound"}}),
    ("GET", "/v1/events", {"query": {"after": 0, "follow": False}}),
    ("GET", "/v1/history", {"query": {"address": "10.0.0.8"}}),
    (
        "POST",
        "/v1/import",
        {"body": {"entries": [{"name": "pin", "addresses": ["10.0.0.8"], "line": 1}, {"name": "6"}]}},
    ),
    ("POST", "/v1/import", {"body": {"entries": [{"name": "in", "addresses": ["10.0.0.7"]}], "apply": True}}),
    ("POST", "/v1/recover", {"body": {"apply": True}}),
    ("GET", "/v1/network-settings/{name}", {"path_parameters": {"name": "vm"}}),
    ("GET", "/v1/pools", {}),
    ("GET", "/v1/pools/{name}/free", {"path_parameters": {"name": "farm"}, "query": {"limit": 1}}),
    ("GET", "/v1/pools/{name}/map", {"path_parameters": {"name": "farm"}, "query": {"limit": 1}}),
    ("GET", "/v1/pools/{name}/blocks", {"path_parameters": {"name": "farm"}, "query": {"most": 2}}),
    ("GET", "/v1/why", {"query": {"q": "10.0.0.8"}}),
    ("GET", "/v1/why", {"query": {"q": "vm"}}),
    ("GET", "/v1/controllers", {}),
    ("GET", "/v1/status", {}),
    ("GET", "/v1/configuration", {}),
    ("GET", "/v1/dhcp", {}),
    ("POST", "/v1/dhcp/in", {"body": {"name": "main"}}),
    ("GET", "/metrics", {}),
    ("POST", "/v1/renumberings/abort", {"body": {"name": "vm", "token": "our-token"}}),
    ("POST", "/v1/renumberings", {"body": {"name": "vm", "to": "10.1.9.10"}}),
    ("POST", "/v1/release", {"body": {"group": "g", "reason": "done"}}),
    ("POST", "/v1/release", {"body": {"name": "vm", "generation": 10**15}}),
    ("POST", "/v1/release", {"body": {"name": "vm"}}),
    ("DELETE", "/v1/reservations/{name}", {"path_parameters": {"name": "pin"}}),
    ("GET", "/v1/allocations", {"query": {"released": True}}),
]


def test_successes_are_as_documented(schema: BaseSchema, session: requests.Session) -> None:
    """What is found and done is told in the shape the document gives, and in no other."""
    for method, path, parts in DONE:
        response = (
            schema[path][method].Case(**parts).call(base_url="http://macbind", session=session, timeout=60)
        )
        assert response.status_code == 200, (method, path, response.text)
        schema[path][method].validate_response(response)
