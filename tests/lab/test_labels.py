"""Labels, reasons and request ids on a real farm: from the command line and Python, to history and events."""

import json
from collections.abc import Iterator
from http.client import HTTPConnection
from socket import AF_UNIX, socket

import pytest

from labkit.farm import Farm
from macbind.client.client import Client
from macbind.core.errors import Conflict, InvalidLabel, NotFound, RequestError
from macbind.core.event import Change

POOLS = """
[subnet."10.0.0.0/8"]
routers = ["10.0.0.1"]

[pool.farm]
subnet = "10.0.0.0/8"
ranges = ["10.1.1.3-10.1.1.250"]

[pool.spare]
subnet = "10.0.0.0/8"
ranges = ["10.1.2.3-10.1.2.250"]
"""


@pytest.fixture
def client(farm: Farm) -> Iterator[Client]:
    """The Python API."""
    with farm.client() as client:
        yield client


def test_labels_from_the_command_line(farm: Farm) -> None:
    """They are given, shown, listed, changed and released by; the answer is one for each."""
    farm.macbind(
        "allocate", "farm", "--group", "cli", "--count", "2", "--label", "job=cli", "-l", "who=me, too"
    )
    farm.macbind("allocate", "spare", "spare-1", "--label", "job=cli")
    farm.macbind("reserve", "cli-printer", "10.1.1.240", "--label", "job=cli")
    names = [one["name"] for one in farm.macbind_json("list", "--label", "job=cli")]
    assert names == ["cli-1", "cli-2", "cli-printer", "spare-1"]
    assert [one["name"] for one in farm.macbind_json("list", "-l", "job=cli", "-l", "who")] == [
        "cli-1",
        "cli-2",
    ]
    wide = farm.macbind("list", "--wide", "--label", "who=me, too").splitlines()
    assert wide[0].split()[-3:] == ["LABELS", "SEEN", "STATE"]
    assert wide[1].split()[-3] == r"job=cli,who=me\x2c\x20too"
    assert farm.macbind("label", "cli-1", "job=new", "who-") == "cli-1: job=new\n"
    assert "labels:               job=new\n" in farm.macbind("show", "cli-1")
    assert farm.macbind_json("show", "cli-1")["allocation"]["labels"] == {"job": "new"}
    assert farm.macbind_json("why", "cli-1")[0]["allocation"]["labels"] == {"job": "new"}
    assert "It has the labels job=new." in farm.macbind("why", "cli-1")

    said = farm.macbind(
        "release", "--label", "job=cli", "--pool", "farm", "--reason", "job is over", status=4
    )
    assert said.splitlines() == [
        "10.1.1.4 (cli-2) released",
        "10.1.1.240 (cli-printer) not released: 'cli-printer' (10.1.1.240) is a reservation.",
    ]
    items = farm.macbind_json("release", "--label", "job=cli", "--pool", "spare")
    assert [(one["allocation"]["name"], one["error"]) for one in items] == [("spare-1", None)]
    assert (
        farm.run("release", "--label", "job=cli", "--pool", "spare").stderr
        == "No allocation has these labels.\n"
    )
    assert "(job is over)" in farm.macbind("history", "--label", "job=cli", "--action", "release")
    watched = farm.macbind("watch", "--after", "0", "--no-wait", "-o", "jsonl", "--label", "job=new")
    assert {(one["action"], one["name"]) for one in map(json.loads, watched.splitlines())} == {
        ("label", "cli-1")
    }
    farm.macbind("unreserve", "cli-printer")
    farm.macbind("release", "cli-1")


def test_bad_labels_are_refused(farm: Farm, client: Client) -> None:
    """With a typed error and a stable code, on every way; nothing is allocated."""
    for labels in (
        {"Job": "1"},
        {"": "1"},
        {"job": "a\nb"},
        {"job": "x" * 257},
        {f"k{n}": "" for n in range(17)},
    ):
        with pytest.raises(InvalidLabel):
            client.allocate("farm", "bad", labels=labels)
        with pytest.raises(InvalidLabel):
            list(client.list(labels=labels))
    for wanted in ({}, {"Job": None}, {"job": "\0"}):
        with pytest.raises(RequestError):
            client.release_labelled(wanted)
    with pytest.raises(NotFound):
        client.get("bad")
    with pytest.raises(NotFound):
        client.label("bad", {"job": "1"})
    done = farm.run("allocate", "farm", "bad", "--label", "job", "--json")
    assert (done.returncode, json.loads(done.stdout)["error"]["code"]) == (4, "invalid_label")
    assert farm.run("release", "--label", "job=1", "--group", "g").returncode == 4
    assert farm.run("release", "bad", "--pool", "farm").returncode == 4


def test_labels_from_python(client: Client) -> None:
    """A repeat finds what it made; other labels are a conflict; a change is one event."""
    made = client.allocate("farm", "solo", labels={"job": "py"})
    assert client.allocate("farm", "solo", labels={"job": "py"}) == made
    with pytest.raises(Conflict, match="with labels"):
        client.allocate("farm", "solo", labels={"job": "other"})
    group = client.allocate_group("farm", "py", 2, labels={"job": "py"})
    assert [one.labels for one in group] == [{"job": "py"}] * 2
    before = client.history(limit=1)[0].id
    assert client.label("solo", {"who": "ci"}, remove=["job"]).labels == {"who": "ci"}
    assert client.label("solo", {"who": "ci"}).labels == {"who": "ci"}
    (event,) = client.events(before, labels={"job": "py"}, wait=False)
    assert isinstance(event, Change)
    assert (event.action, event.detail["labels"], event.detail["before"]) == (
        "label",
        {"who": "ci"},
        {"job": "py"},
    )
    assert [one.allocation.name for one in client.release_labelled({"job": "py"})] == ["py-1", "py-2"]
    assert [one.name for one in client.list(labels={"who": "ci"})] == ["solo"]
    client.release("solo")
    assert list(client.list(labels={"who": "ci"})) == []


def test_every_change_says_why_and_in_which_request(farm: Farm) -> None:
    """One command is one request, however many names it has; the reason stands in every row."""
    farm.macbind("allocate", "farm", "--group", "why", "--count", "3", "--reason", "job 17")
    rows = farm.macbind_json("history", "--limit", "3")
    (request,) = {one["request"] for one in rows}
    assert [one["detail"]["reason"] for one in rows] == ["job 17"] * 3
    farm.macbind("release", "why-1", "why-2", "why-3", "--reason", "job 17 is over")
    (request,) = {one["request"] for one in farm.macbind_json("history", "--limit", "3")}
    lines = farm.macbind("history", "--request", request).splitlines()
    assert [line.split()[2] for line in lines] == ["release"] * 3
    assert all(line.endswith(f"(job 17 is over)  request {request}") for line in lines)
    done = farm.run("allocate", "farm", "x", "--reason", "two\nlines")
    assert (done.returncode, done.stderr.splitlines()[0]) == (4, "macbind: --reason is not one line of text.")


def test_every_call_takes_a_reason(farm: Farm) -> None:
    """Changes from Python, of reservations, labels and renumberings included; a client may have one for all."""
    with Client(farm.socket, reason="by default", request_id="ticket-9") as client:
        client.reserve("r", "10.1.1.230", reason="a printer")
        client.label("r", {"room": "7"})
        assert client.remark("r", "to be replaced").name == "r"
        client.unreserve("r", reason="thrown away")
        client.allocate("farm", "n", address="10.1.1.231")
        begun = client.begin_renumber("n", "10.1.1.232", reason="the port is broken")
        client.finish_renumber("n", begun.token)
        begun = client.begin_renumber("n", "10.1.1.233")
        client.abort_renumber("n", begun.token, reason="a mistake")
        client.release("n")
        rows = client.history(request="ticket-9")
    assert [(one.action, one.detail["reason"]) for one in reversed(rows)] == [
        ("reserve", "a printer"),
        ("label", "by default"),
        ("remark", "to be replaced"),
        ("unreserve", "thrown away"),
        ("allocate", "by default"),
        ("renumber", "the port is broken"),
        ("release", "renumbered to 10.1.1.232"),
        ("renumbered", "by default"),
        ("renumber", "by default"),
        ("release", "renumbering aborted: asked"),
        ("release", "by default"),
    ]


def _post(farm: Farm, request_id: str | None) -> str | None:
    """Allocates over HTTP; returns the request id of the answer."""
    connection = HTTPConnection("localhost")
    connection.sock = socket(AF_UNIX)
    connection.sock.connect(str(farm.socket))
    headers = {"Content-Type": "application/json"} | (
        {} if request_id is None else {"X-Request-ID": request_id}
    )
    connection.request("POST", "/v1/allocations", json.dumps({"pool": "farm", "name": "http"}), headers)
    answer = connection.getresponse()
    assert answer.status == 200, answer.read()
    answer.read()
    connection.close()
    return answer.getheader("X-Request-ID")


def test_a_request_id_is_the_caller_s_if_it_is_one(farm: Farm) -> None:
    """Short and printable ones are taken as they are; all others are replaced by one that was made."""
    assert _post(farm, "build-17/3") == "build-17/3"
    made = {_post(farm, None), _post(farm, "x" * 65), _post(farm, "two words"), _post(farm, "\xe9")}
    assert len(made) == 4
    assert all(one is not None and len(one) == 16 for one in made)
    farm.macbind("release", "http")
