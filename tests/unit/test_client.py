"""The client's connections and answers: each call gets the answer to its own question, or an error."""

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from labkit.scripted import Scripted
from macbind.client.client import Client
from macbind.core.errors import MacbindError, ServiceUnavailable

TOKEN = "t0ken"


def allocation(name: str = "vm", **other: Any) -> dict[str, Any]:
    """An allocation as the service tells it."""
    return {
        "address": "10.1.1.3",
        "mac": "00:16:3e:01:01:03",
        "name": name,
        "pool": "farm",
        "generation": 7,
        "state": "bound",
        "created_at": "2024-02-29T23:59:59Z",
        "group": None,
        **other,
    }


def page(*found: dict[str, Any]) -> dict[str, Any]:
    """An answer with allocations."""
    return {"allocations": list(found), "next": None}


def released(*found: dict[str, Any]) -> dict[str, Any]:
    """An answer with what was released."""
    return {"allocations": list(found), "already_gone": not found}


def renumbering(name: str = "vm", address: str = "10.1.1.9", token: str = TOKEN) -> dict[str, Any]:
    """A renumbering under way."""
    return {"old": allocation(name), "new": allocation(name, address=address), "token": token}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Where the service would listen."""
    return tmp_path / "s"


FOR_OTHERS: list[tuple[str, Callable[[Client], object], Any]] = [
    ("allocate", lambda c: c.allocate("farm", "vm"), page(allocation("other"))),
    ("allocate by itself", lambda c: c.allocate("farm"), page(allocation("vm-000000000000"))),
    ("pool", lambda c: c.allocate("lab", "vm"), page(allocation())),
    ("two", lambda c: c.allocate("farm", "vm"), page(allocation(), allocation("other"))),
    ("address", lambda c: c.allocate("farm", "vm", address="10.1.1.4"), page(allocation())),
    ("its group", lambda c: c.allocate("farm", "vm", group="g"), page(allocation(group="h"))),
    ("members", lambda c: c.allocate_group("farm", "g", 1), page(allocation("h-1", group="g"))),
    ("names", lambda c: c.allocate_group("farm", "g", names=["a"]), page(allocation("b", group="g"))),
    ("too few", lambda c: c.allocate_group("farm", "g", 2), page(allocation("g-1", group="g"))),
    ("group", lambda c: c.allocate_group("farm", "g", 1), page(allocation("g-1", group="h"))),
    ("reserve", lambda c: c.reserve("vm", "10.1.1.3"), allocation("other")),
    ("reserved address", lambda c: c.reserve("vm", "10.1.1.4"), allocation()),
    ("MAC", lambda c: c.reserve("vm", "10.1.1.3", mac="b8:27:eb:00:00:01"), allocation()),
    ("release", lambda c: c.release("vm"), released(allocation("other"))),
    (
        "its labels",
        lambda c: c.allocate("farm", "vm", labels={"a": "1"}),
        page(allocation(labels={"a": "2"})),
    ),
    ("label", lambda c: c.label("vm", {"a": "1"}), allocation()),
    ("labels of a list", lambda c: list(c.list(labels={"a": None})), page(allocation())),
    ("release of labels", lambda c: c.release_labelled({"a": "1"}), [{"allocation": allocation()}]),
    ("remark", lambda c: c.remark("vm", "why"), allocation("other")),
    ("release of address", lambda c: c.release(address="10.1.1.4"), released(allocation())),
    ("release of group", lambda c: c.release_group("g"), released(allocation(group="h"))),
    ("unreserve", lambda c: c.unreserve("vm"), released(allocation("other"))),
    ("get", lambda c: c.get("vm"), allocation("other")),
    (
        "settings",
        lambda c: c.network_settings("vm"),
        {"name": "other", "mac": "00:16:3e:01:01:03", "interface": "10.1.1.3/8", "options": {}},
    ),
    ("list", lambda c: list(c.list(group="g")), page(allocation(group="h"))),
    ("begin", lambda c: c.begin_renumber("vm", "10.1.1.9", token=TOKEN), renumbering("other")),
    ("target", lambda c: c.begin_renumber("vm", "10.1.1.8", token=TOKEN), renumbering()),
    ("token", lambda c: c.begin_renumber("vm", "10.1.1.9", token=TOKEN), renumbering(token="another")),
    ("lease", lambda c: c.lease_renumber("vm", TOKEN), renumbering("other")),
    ("finish", lambda c: c.finish_renumber("vm", TOKEN), renumbering("other")),
    ("abort", lambda c: c.abort_renumber("vm", TOKEN), released(allocation("other"))),
]


@pytest.mark.parametrize(
    ("call", "answer"), [one[1:] for one in FOR_OTHERS], ids=[one[0] for one in FOR_OTHERS]
)
def test_answer_to_another_question_is_an_error(
    place: Path, call: Callable[[Client], object], answer: dict[str, Any]
) -> None:
    """An answer for another name, address, group or token is never returned, and its connection not used again."""
    with Scripted(place, lambda *_: answer) as service, Client(place) as client:
        with pytest.raises(ServiceUnavailable, match="was asked for") as refused:
            call(client)
        assert refused.value.hint
        with pytest.raises(ServiceUnavailable):
            call(client)
        assert len(service.requests) == 2


def echo(method: str, path: str, body: Any) -> Any:
    """Answers every question about a name with that name."""
    return allocation(path.rpartition("/")[2])


def test_child_of_a_fork_opens_its_own_connection(place: Path) -> None:
    """Parent and child never wait for an answer on one connection."""
    with Scripted(place, echo) as service, Client(place) as client:
        client.get("before")
        child = os.fork()
        if child == 0:
            os._exit(0 if client.get("child").name == "child" else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert client.get("parent").name == "parent"
        seen = {path.rpartition("/")[2]: pid for pid, _, path, _ in service.requests}
        assert seen == {"before": os.getpid(), "child": child, "parent": os.getpid()}


def test_client_can_be_sent_to_another_process(place: Path) -> None:
    """Its copy has the same socket and patience, and none of its connections."""
    with Scripted(place, echo), Client(place, timeout_s=7) as client:
        client.get("first")
        copy: Client = pickle.loads(pickle.dumps(client))  # noqa: S301  # our own
        with copy:
            assert (copy.service, copy.timeout_s) == (place, 7)
            assert copy.get("second").name == "second"


def test_service_restarted_between_two_calls_is_asked_on_a_new_connection(place: Path) -> None:
    """A connection closed while idle costs nothing: the request goes out once, whatever it asks."""
    with Scripted(place, lambda *_: released()) as service, Client(place) as client:
        client.release("one")
        service.hang_up()
        assert client.release("two").already_gone
        assert [body["name"] for *_, body in service.requests] == ["one", "two"]


def test_answer_that_nobody_asked_for_is_not_taken_for_the_next(place: Path) -> None:
    """What comes on an idle connection makes it useless: the next question gets its own answer."""
    with Scripted(place, echo) as service, Client(place) as client:
        client.get("first")
        service.say(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        assert client.get("second").name == "second"


REPEATED: list[tuple[str, Callable[[Client], object], int]] = [
    ("release by name", lambda c: c.release("vm"), 1),
    ("release by address", lambda c: c.release(address="10.1.1.3"), 1),
    ("release of a generation", lambda c: c.release("vm", generation=7), 2),
    ("release of a group", lambda c: c.release_group("g"), 1),
    ("unreserve", lambda c: c.unreserve("vm"), 1),
    ("finish without token", lambda c: c.finish_renumber("vm"), 1),
    ("finish with token", lambda c: c.finish_renumber("vm", TOKEN), 2),
    ("abort without token", lambda c: c.abort_renumber("vm"), 1),
    ("question", lambda c: c.get("vm"), 2),
]


@pytest.mark.parametrize(("call", "times"), [one[1:] for one in REPEATED], ids=[one[0] for one in REPEATED])
def test_lost_answer_is_asked_for_again_only_where_no_successor_can_be_hit(
    place: Path, call: Callable[[Client], object], times: int
) -> None:
    """A release whose answer was lost goes out again only with what tells its allocation from the name's next."""

    def answer(method: str, path: str, body: Any) -> Any:
        return [] if path == "/v1/pools" else None

    with Scripted(place, answer) as service, Client(place) as client:
        client.pools()  # its connection is kept, and breaks in the middle of the next call
        with pytest.raises(MacbindError) as failed:
            call(client)
        assert len(service.requests) - 1 == times
        assert ("may be repeated safely" in failed.value.hint) is (times > 1)
