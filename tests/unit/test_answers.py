"""Addresses that answered are asked for again, and free when nobody answers any more."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from contract.book import Book, addresses, ip, make_pool
from macbind.core.errors import NetworkUnavailable
from macbind.core.evidence import Source
from macbind.core.mac_address import MacAddress
from macbind.engine.group_commit import GroupCommitter
from macbind.registry import evidence
from macbind.service.answers import AT_ONCE, EVERY_S, SILENT_LOOKS, Answers

OLD, NEW = (MacAddress.parse(f"02:aa:00:00:00:0{number}") for number in (1, 2))


class Network:
    """A network on which some answer.

    Attributes:
        answers: Who answers for what, by interface; an interface that is missing cannot be asked.
        asked: How many addresses each question was about.
    """

    def __init__(self) -> None:
        self.answers: dict[str, dict[IPv4Address, MacAddress]] = {"br0": {}}
        self.asked: list[int] = []

    def probe(self, interface: str, asked: Sequence[IPv4Address]) -> Mapping[IPv4Address, MacAddress]:
        """What `arp.probe` would return."""
        self.asked.append(len(asked))
        if interface not in self.answers:
            raise NetworkUnavailable(f"{interface} is down.")
        return {one: mac for one, mac in self.answers[interface].items() if one in asked}


class Watch:
    """A registry whose answers are watched, by a clock moved by hand."""

    def __init__(self, book: Book, committer: GroupCommitter) -> None:
        self.book, self.now, self.network = book, 0.0, Network()
        self._answers = Answers(book.registry, committer, probe=self.network.probe, clock=lambda: self.now)

    def heard(self, *found: str, interface: str = "br0") -> None:
        """Somebody answered for these addresses, and goes on to."""
        with self.book.write() as txn:
            evidence.add(
                txn,
                [
                    self.book.seen(one, str(OLD), str(OLD), source=Source.ANSWER, origin=interface)
                    for one in found
                ],
            )
        self.network.answers.setdefault(interface, {}).update({ip(one): OLD for one in found})

    def look(self, times: int = 1) -> None:
        """Lets everything be asked for, so many times."""
        for _ in range(times):
            for _ in range(20):
                self._answers.tend()
            self.now += EVERY_S

    def lowest(self, name: str) -> str:
        """The address that a new name gets."""
        return addresses(self.book.allocate(name))[0]


@pytest.fixture
def watch(tmp_path: Path) -> Iterator[Watch]:
    """A watched registry."""
    book = Book(f"sqlite:///{tmp_path}/registry.db")
    book.open(make_pool(subnet="10.1.0.0/24"))
    committer = GroupCommitter(book.registry, lambda: None)
    committer.start()
    yield Watch(book, committer)
    committer.close()
    book.close()


def test_an_address_is_passed_over_for_as_long_as_it_answers(watch: Watch) -> None:
    """Some silence is no end, and an answer in between begins the count anew; then it is free."""
    watch.heard("10.1.0.1", "10.1.0.2")
    watch.look(2 * SILENT_LOOKS)
    gone = watch.network.answers["br0"].pop(ip("10.1.0.1"))
    watch.look(SILENT_LOOKS - 1)
    watch.network.answers["br0"][ip("10.1.0.1")] = gone
    watch.look()
    del watch.network.answers["br0"][ip("10.1.0.1")]
    watch.look(SILENT_LOOKS - 1)
    assert watch.lowest("a") == "10.1.0.3"
    watch.look()
    assert watch.lowest("b") == "10.1.0.1"


def test_a_network_that_cannot_be_asked_withdraws_nothing(watch: Watch) -> None:
    """However often it was tried; another interface is asked all the same."""
    watch.heard("10.1.0.1", interface="br9")
    watch.heard("10.1.0.2")
    del watch.network.answers["br9"], watch.network.answers["br0"][ip("10.1.0.2")]
    watch.look(2 * SILENT_LOOKS)
    assert watch.lowest("a") == "10.1.0.2"
    assert watch.book.evidence() == [f"10.1.0.1 answer {OLD}"]


def test_another_machine_that_answers_is_the_holder_now(watch: Watch) -> None:
    """The address stays passed over, and findings name who answers."""
    watch.heard("10.1.0.1")
    watch.network.answers["br0"][ip("10.1.0.1")] = NEW
    watch.look()
    assert watch.book.evidence() == [f"10.1.0.1 answer {NEW}"]


def test_few_addresses_are_asked_for_at_once_and_all_once_a_minute(watch: Watch) -> None:
    """One call asks one question, so that the network is not flooded."""
    watch.heard(*(f"10.1.0.{last}" for last in range(1, 151)))
    watch.look()
    assert watch.network.asked == [AT_ONCE, AT_ONCE, 150 - 2 * AT_ONCE]
    watch.now -= 1
    watch.look()
    assert len(watch.network.asked) == 3
