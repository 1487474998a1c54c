"""A client of several services: who is asked, who is asked next, and what never goes out twice."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import pytest

from labkit.scripted import Scripted
from macbind.client.client import Client
from macbind.client.places import LocalPlace, RemotePlace, places_of
from macbind.core.errors import ConfigError, InvalidRequest, NotFound, ServiceUnavailable
from unit.test_client import allocation, page, released

ENDING = ServiceUnavailable("The macbind service is ending.", hint="Ask again.")


class Pair:
    """Two services that answer as they are told. A context manager.

    Attributes:
        places: Their sockets.
        silent: Those that close the connection instead of an answer.
        ending: Those that say that they are ending.
    """

    def __init__(self, directory: Path) -> None:
        self.places = [directory / "a", directory / "b"]
        self.silent: set[int] = set()
        self.ending: set[int] = set()
        self._stack = ExitStack()
        self.services: list[Scripted] = []

    def __enter__(self) -> Self:
        for number, place in enumerate(self.places):
            answer = self._answer_of(number)
            self.services.append(self._stack.enter_context(Scripted(place, answer)))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _answer_of(self, number: int) -> Any:
        def answer(method: str, path: str, body: Any) -> Any:
            if number in self.silent:
                return None
            if number in self.ending:
                raise ENDING
            if method == "GET":
                return allocation(path.rpartition("/")[2])
            return released() if path == "/v1/release" else page(allocation(body["name"]))

        return answer

    def asked(self) -> list[list[str]]:
        """What each was asked since the last time: names in paths or bodies."""
        found = [
            [(body or {}).get("name") or path.rpartition("/")[2] for _, _, path, body in one.requests]
            for one in self.services
        ]
        for one in self.services:
            one.requests.clear()
        return found


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    """Two services."""
    with Pair(tmp_path) as pair:
        yield pair


def test_questions_take_turns_and_changes_stay(pair: Pair) -> None:
    """Both answer questions; changes go to one, whose connection stays."""
    with Client(pair.places) as client:
        for name in ("q1", "q2", "q3", "q4"):
            client.get(name)
        assert pair.asked() == [["q1", "q3"], ["q2", "q4"]]
        for name in ("c1", "c2"):
            client.allocate("farm", name)
        assert pair.asked() == [["c1", "c2"], []]


def test_who_is_not_there_is_asked_last(tmp_path: Path, pair: Pair) -> None:
    """A place without a service costs one attempt; whoever works goes on working."""
    with Client([tmp_path / "none", *pair.places]) as client:
        for name in ("c1", "c2"):
            client.allocate("farm", name)
            client.release(name)
        assert pair.asked() == [["c1", "c1", "c2", "c2"], []]
        for number in range(6):
            client.get(f"q{number}")
        assert sorted(name for some in pair.asked() for name in some) == [f"q{number}" for number in range(6)]


def test_a_lost_answer_is_looked_for_elsewhere_only_where_that_is_safe(pair: Pair) -> None:
    """An allocation and a release of a generation go to the next; a release by name is an error, and goes nowhere."""
    pair.silent = {0}
    with Client(pair.places) as client:
        assert client.allocate("farm", "c1").name == "c1"
    assert pair.asked() == [["c1"], ["c1"]]
    with Client(pair.places) as client:
        client.release("c2", generation=7)
    assert pair.asked() == [["c2"], ["c2"]]
    with Client(pair.places) as client, pytest.raises(ServiceUnavailable, match="did not answer"):
        client.release("c3")
    assert pair.asked() == [["c3"], []]


def test_a_service_that_ends_is_no_answer(pair: Pair) -> None:
    """The next one is asked; if all say so, that is the answer."""
    pair.ending = {0}
    with Client(pair.places) as client:
        assert client.allocate("farm", "c1").name == "c1"
        client.allocate("farm", "c2")
        assert pair.asked() == [["c1"], ["c1", "c2"]]
    pair.ending = {0, 1}
    with Client(pair.places) as client, pytest.raises(ServiceUnavailable, match="is ending"):
        client.allocate("farm", "c3")


def test_without_anybody_the_last_reason_is_told(tmp_path: Path) -> None:
    """A client of two places that are not there fails at once."""
    with Client([tmp_path / "x", tmp_path / "y"]) as client:
        with pytest.raises(ServiceUnavailable, match="there is no such socket"):
            client.get("a")
        with pytest.raises(ServiceUnavailable, match="there is no such socket"):
            client.release("a")


def test_an_error_of_the_request_is_an_answer(tmp_path: Path) -> None:
    """What one service refuses, the other would, too."""

    def refuse(*_: Any) -> Any:
        raise NotFound("There is none.")

    with Scripted(tmp_path / "a", refuse) as first, Scripted(tmp_path / "b", refuse) as second:
        with Client([tmp_path / "a", tmp_path / "b"]) as client, pytest.raises(NotFound):
            client.allocate("farm", "a")
        assert (len(first.requests), len(second.requests)) == (1, 0)


def test_several_places_travel_to_another_process(pair: Pair) -> None:
    """With everything that was given."""
    with Client(pair.places, timeout_s=7, reason="why") as client:
        copy: Client = pickle.loads(pickle.dumps(client))  # noqa: S301  # our own
        with copy:
            assert (copy.places, copy.timeout_s, copy.reason) == (client.places, 7, "why")
            assert copy.get("q").name == "q"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("/run/a", ["/run/a"]),
        ("/run/a,b", ["/run/a,b"]),
        ("/run/a,/run/b", ["/run/a", "/run/b"]),
        ("https://farm", ["https://farm:8443"]),
        ("https://farm:9/, https://[::1]:8443", ["https://farm:9", "https://[::1]:8443"]),
        ("https://10.0.0.1:8443,/run/a", ["https://10.0.0.1:8443", "/run/a"]),
    ],
)
def test_places_are_read_from_one_text(text: str, found: list[str]) -> None:
    """As an environment variable has them."""
    places = places_of(text, token="id.secret")
    assert [str(one) for one in places] == found
    for one in places:
        if isinstance(one, RemotePlace):
            assert one.headers == {"Authorization": "Bearer id.secret"}
            assert "secret" not in repr(one)
        else:
            assert isinstance(one, LocalPlace)
            assert one.headers == {}


@pytest.mark.parametrize(
    "text",
    [
        "http://farm:8443",
        "https://",
        "https://farm:99999",
        "https://farm/v1",
        "https://user@farm",
        "ftp://farm",
    ],
)
def test_what_is_no_place_is_refused(text: str) -> None:
    """Plain HTTP would show the token to whoever reads the network."""
    with pytest.raises(InvalidRequest, match="is no URL of a macbind service"):
        places_of(text)


@pytest.mark.parametrize("token", ["a b", "a\nb", "ä"])
def test_a_token_that_is_none_is_refused_before_it_is_sent(token: str) -> None:
    """It is not repeated in the error."""
    with pytest.raises(InvalidRequest, match=r"The token is no token\.") as refused:
        places_of("https://farm", token=token)
    assert token not in str(refused.value)


def test_files_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    """Before anything is connected."""
    for key in ("ca", "certificate"):
        with pytest.raises(ConfigError, match=f"{tmp_path}/{key} cannot be used"):
            Client("https://farm", **{key: str(tmp_path / key)})  # type: ignore[arg-type]
