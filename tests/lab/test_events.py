"""Events, waiting and history on a real farm: with a dhcpd that confirms, stops and comes back."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from labkit.farm import Farm
from macbind.client.client import Client
from macbind.core.errors import NotFound, NotYet
from macbind.core.event import Change, FindingsNow

POOLS = """
[subnet."10.0.0.0/8"]
routers = ["10.0.0.1"]

[pool.farm]
subnet = "10.0.0.0/8"
ranges = ["10.1.0.0/16"]

[pool.other]
subnet = "10.0.0.0/8"
ranges = ["10.2.0.0/16"]
"""


@pytest.fixture
def client(farm: Farm) -> Iterator[Client]:
    """The Python API."""
    with farm.client() as client:
        yield client


def last_id(client: Client) -> int:
    """The number of the last change."""
    return max((one.id for one in client.events(0, wait=False) if isinstance(one, Change)), default=0)


def test_filters_findings_and_the_end(farm: Farm, client: Client) -> None:
    """A stream of one name, group or pool has nothing else; the other one begins with the findings."""
    start = last_id(client)
    client.allocate("other", "mine", group="mine-group")
    client.allocate("farm", "theirs")
    client.release("mine")
    for stream in (
        client.events(start, name="mine", wait=False),
        client.events(start, group="mine-group", wait=False),
        client.events(start, pool="other", wait=False),
    ):
        found = [one for one in stream if isinstance(one, Change)]
        assert [(one.action, one.name) for one in found] == [("allocate", "mine"), ("release", "mine")]
    events = client.events()
    first = next(events)
    assert isinstance(first, FindingsNow)
    farm.dhcpd.stop()
    while "dhcpd_unavailable" not in {one.code for one in first.findings}:
        first = next(event for event in events if isinstance(event, FindingsNow))
    farm.dhcpd.start()
    while first.findings:
        first = next(event for event in events if isinstance(event, FindingsNow))


def test_whoever_waits_is_answered_as_soon_as_dhcpd_has_confirmed(farm: Farm, client: Client) -> None:
    """Bound, and free again; with a generation it is that allocation, whoever has the name after it."""
    with ThreadPoolExecutor(4) as threads:
        bound = threads.submit(client.wait_bound, "a", "b", timeout_s=60)
        first = threads.submit(client.wait_bound, "a", "b", any_of=True, timeout_s=60)
        made = client.allocate("farm", "a")
        assert list(first.result(60)) == ["a"]
        assert not bound.done()
        client.allocate("farm", "b")
        assert list(bound.result(60)) == ["a", "b"]
        waiting = threads.submit(client.wait_free, "a", generation=made.generation, timeout_s=60)
        assert not waiting.done()
        client.release("a")
        again = client.allocate("farm", "a")
        assert list(waiting.result(60)) == ["a"]
    with pytest.raises(NotYet) as not_yet:
        client.wait_free("a", generation=again.generation, timeout_s=0.2)
    assert not_yet.value.details["names"] == ["a"]
    with pytest.raises(NotFound):
        client.wait_bound("a", generation=made.generation)
    assert list(client.wait_bound("a", "b")) == ["a", "b"]
    assert farm.macbind("wait", "a", "b", "--for", "bound").splitlines() == ["a: bound", "b: bound"]
    assert farm.run("wait", "a", "--for", "free", "--timeout", "0.2").returncode == 5


def test_history_of_what_was_done(farm: Farm, client: Client) -> None:
    """By pool, action, actor and time, oldest first."""
    client.allocate("other", "told")
    client.release("told", reason="the end")
    lines = farm.macbind("history", "--pool", "other", "--name", "told", "--since", "1h", "--actor", "root")
    assert [line.split("  ")[1] for line in lines.splitlines()] == ["allocate", "release"]
    assert "(the end)  request " in lines.splitlines()[-1]
    (only,) = farm.macbind_json("history", "--action", "release", "--name", "told")
    assert only["detail"]["reason"] == "the end"
    assert farm.macbind("history", "--actor", "nobody") == ""
