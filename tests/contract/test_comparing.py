"""One comparison in slow motion: what is removed, what is asked before, and what is asked for again."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, Self

import pytest
from structlog.testing import capture_logs
from typing_extensions import override

from contract.book import Book
from contract.comparing import POOL, Meddled, Shelf, Story, play
from contract.comparing import Site as Compared
from contract.dhcpd_site import Site, open_site
from contract.writing import DEADLINE_S, Controller, hosts_named
from labkit.wait import until
from macbind.core.address_plan import AddressPlan
from macbind.core.allocation import State
from macbind.core.binding_plan import Change, Remove
from macbind.core.errors import AddressInUse, DhcpdUnavailable, MacbindError
from macbind.core.evidence import Source
from macbind.core.mac_address import MacAddress
from macbind.core.sizes import Sizes
from macbind.dhcp.isc.messages import find_host, host_in
from macbind.dhcp.port import Audit
from macbind.engine.first_look import look_first
from macbind.registry.pending_changes import doubt

OLD_MAC = MacAddress.parse("00:80:77:63:00:01")


@pytest.fixture
def site(book: Book) -> Compared:
    """A registry and a dhcpd in memory."""
    return Compared.open(book, Shelf(), Sizes())


@pytest.fixture(scope="module")
def dhcpd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One real dhcpd."""
    with open_site(tmp_path_factory.mktemp("dhcpd")) as site:
        yield site


@pytest.mark.parametrize("number", [1, 2, 3, 7, 500])
@pytest.mark.invariant(9)
def test_real_dhcpd_keeps_who_lives_whatever_the_sizes(tmp_path: Path, dhcpd: Site, number: int) -> None:
    """Leftovers before, among and behind go; who is not released while it is compared is served throughout."""
    dhcpd.dhcpd.restart(keep_leases=False)
    book = Book(f"sqlite:///{tmp_path}/registry.db")
    sizes = Sizes(slice=number, batch=number, window=number, rows=number)
    story = Story(
        18,
        lost=frozenset({0, 5, 6, 17}),
        masked=frozenset({3, 5}),
        behind=5,
        broken=frozenset({4, 11}),
        on_read=frozenset({1, 2, 12}),
        on_look=frozenset({8, 16}),
        newcomers=(1, 2),
    )
    cycle = play(story, Compared.open(book, dhcpd.server(window=number), sizes))
    assert cycle.mended == len(story.broken)
    book.close()


def test_what_is_allocated_by_now_is_no_leftover(site: Compared) -> None:
    """An address that is allocated while dhcpd is looked at keeps the reservation it is found to have."""
    one, _ = site.book.allocate("old", "stays")
    site.drain()
    site.release("old")
    site.drain()
    site.leave(one.address, one.mac, one.generation)
    site.dhcpd.removed.clear()
    site.dhcpd.on_look = lambda: site.book.allocate("new")
    cycle = site.compare(between=lambda: True)
    assert (cycle.cleared, site.dhcpd.removed) == (0, [])
    site.check()
    assert site.book.find(names=["new"])[0].address == one.address


def test_an_allocated_address_counts_only_for_the_mac_it_has_now(site: Compared) -> None:
    """The reservation for the MAC an address was once pinned to goes, and the address is asked for again."""
    before = site.former("10.1.0.9", OLD_MAC)
    held = site.book.reserve("printer", "10.1.0.9", mac="00:80:77:00:00:01")
    site.drain()
    site.leave(held.address, OLD_MAC, before)
    cycle = site.compare(between=lambda: True)
    assert (cycle.cleared, cycle.mended) == (1, 0)
    assert [one.address for one in site.due()] == [held.address]
    assert site.book.find(names=["printer"])[0].state is State.PENDING
    site.check(OLD_MAC)


def test_repeat_after_a_comparison_that_mended_waits_for_dhcpd(site: Compared) -> None:
    """Whoever asks again for a machine whose reservation was missing is not told that it is bound before it is."""
    made = site.book.one("vm")
    site.drain()
    site.dhcpd.inner.apply([Remove(made.address, made.generation, made.mac)])
    assert site.book.one("vm").state is State.BOUND
    assert site.compare(between=lambda: True).mended == 1
    assert site.book.one("vm").state is State.PENDING
    site.check()
    assert site.book.one("vm").state is State.BOUND


def test_address_of_half_a_host_is_looked_at_again(site: Compared) -> None:
    """What a torn record left under the name of a living machine goes, and its reservation is asked for again."""
    made = site.book.one("vm")
    site.drain()
    shelf = site.dhcpd.inner
    assert isinstance(shelf, Shelf)
    shelf.maimed = {f"macbind-{made.address}-g{made.generation}"}
    assert site.compare(between=lambda: True).cleared == 1
    assert shelf.maimed == set()
    assert [one.address for one in site.due()] == [made.address]
    assert site.book.one("vm").state is State.PENDING
    site.check()


# -- what this registry never made ------------------------------------------------------------------------------


def test_a_binding_of_another_registry_is_left_alone_and_passed_over(site: Compared) -> None:
    """A second registry on one dhcpd ends no machine of the first, and hands out none of its addresses."""
    theirs = {MacAddress(0x00163E010000 + last): IPv4Address(f"10.1.0.{last}") for last in (0, 2, 5)}
    for mac, address in theirs.items():
        site.leave(address, mac, 112)
    site.leave(IPv4Address("10.1.0.7"), OLD_MAC, 3)
    site.book.reserve("mine", "10.1.0.4")
    site.drain()
    cycle = site.compare()
    assert (cycle.cleared, cycle.mended, cycle.foreign) == (0, 0, 4)
    (finding,) = (one for one in cycle.findings if one.code == "other_registry")
    assert "'macbind-10.1.0.0-g112'" in finding.message
    assert "There are 4" in finding.message
    assert [site.dhcpd.inner.observe([mac])[0] is not None for mac in (*theirs, OLD_MAC)] == [True] * 4
    assert [str(one.address) for one in site.book.allocate("a", "b")] == ["10.1.0.1", "10.1.0.3"]
    assert [str(one.address) for one in site.book.allocate("c", "d")] == ["10.1.0.6", "10.1.0.8"]
    site.drain()
    assert site.compare().cleared == 0
    site.check()


def test_a_torn_record_of_another_registry_is_left_alone_and_passed_over(site: Compared) -> None:
    """Of a binding that has lost its MAC on disk, too, the registry is asked whether it ever made it."""
    own, _ = site.book.allocate("own", "stays")
    site.drain()
    shelf = site.dhcpd.inner
    assert isinstance(shelf, Shelf)
    theirs = {"macbind-10.1.0.2-g112", "macbind-10.9.0.2-g7"}
    shelf.maimed = {f"macbind-{own.address}-g{own.generation}", *theirs}
    cycle = site.compare(between=lambda: True)
    assert (shelf.maimed, cycle.cleared, cycle.foreign) == (theirs, 1, 2)
    (finding,) = (one for one in cycle.findings if one.code == "other_registry")
    assert (
        "'macbind-10.1.0.2-g112', torn in its lease file, which this registry never made" in finding.message
    )
    assert "`macbind reserve NAME 10.1.0.2`" in finding.hint
    site.drain()
    (made,) = site.book.allocate("next")
    assert str(made.address) == "10.1.0.3"
    assert made.generation > 112
    shelf.maimed = set()
    assert not [one for one in site.compare().findings if one.code == "other_registry"]
    assert str(site.book.allocate("later")[0].address) == "10.1.0.2"


def test_a_binding_that_this_registry_has_forgotten_is_taken_over_by_a_reservation(site: Compared) -> None:
    """The reservation is newer than what the server holds; it replaces that, and its end ends both."""
    mac, address = MacAddress(0x00163E010000), IPv4Address("10.1.0.0")
    site.leave(address, mac, 112)
    site.compare()
    with pytest.raises(AddressInUse, match=r"macbind-10\.1\.0\.0-g112"):
        site.book.reserve("other", str(address), mac="00:80:77:00:00:01")
    one = site.book.reserve("vm", str(address))
    assert one.generation > 112
    site.drain()
    (held,) = site.dhcpd.inner.observe([mac])
    assert held is not None
    assert held.owner == (address, one.generation)
    cycle = site.compare()
    assert (cycle.foreign, cycle.findings) == (0, ())
    site.book.release("vm", pinned=True)
    site.check(mac)
    assert site.book.one("next").address == address


# -- what others have ------------------------------------------------------------------------------------------


def _lowest(site: Compared, name: str) -> str:
    return str(site.book.one(name).address)


def _shelf(site: Compared) -> Shelf:
    shelf = site.dhcpd.inner
    assert isinstance(shelf, Shelf)
    return shelf


@pytest.mark.parametrize("number", [1, 2, 500])
def test_what_a_comparison_shows_of_others_is_passed_over(book: Book, number: int) -> None:
    """Hosts, ranges and leases, in pieces of any size; `--address` names the holder; what goes is free again."""
    site = Compared.open(book, Shelf(), Sizes(batch=number, rows=number))
    shelf = _shelf(site)
    assert _lowest(site, "first") == "10.1.0.0"
    shelf.others = [
        book.seen("10.1.0.1", origin="main"),
        *(book.seen(f"10.1.0.{n}", "a range", None, source=Source.RANGE, origin="main") for n in (2, 3, 4)),
        book.seen("10.1.0.6", source=Source.LEASE, origin="main", until=None),
    ]
    site.compare(between=lambda: True)
    assert [_lowest(site, name) for name in ("a", "b")] == ["10.1.0.5", "10.1.0.7"]
    with pytest.raises(AddressInUse, match="is used by 'printer'"):
        book.one("c", address=IPv4Address("10.1.0.1"))
    shelf.others = shelf.others[2:3]
    site.compare(between=lambda: True)
    assert [_lowest(site, name) for name in ("d", "e", "f")] == ["10.1.0.1", "10.1.0.2", "10.1.0.4"]
    site.check()


def test_a_look_that_was_not_made_withdraws_nothing(site: Compared) -> None:
    """A source that could not be looked at stays as it was, and another origin's is no business of ours."""
    shelf = _shelf(site)
    shelf.others = [site.book.seen("10.1.0.0", origin="main")]
    site.compare(between=lambda: True)
    answer = site.book.seen("10.1.0.1", source=Source.ANSWER, origin="br0")
    site.book.show(answer, source=Source.ANSWER, origin="br0")
    shelf.others, shelf.looked = [], frozenset({Source.LEASE})
    site.compare(between=lambda: True)
    assert _lowest(site, "vm") == "10.1.0.2"


class Endless(Shelf):
    """A dhcpd whose files have no end."""

    @override
    def audit(self, plans: Sequence[AddressPlan], pause: Callable[[float], object]) -> Audit:
        while True:
            pause(0.0)


def test_a_first_look_adds_what_it_shows_and_has_an_end(site: Compared) -> None:
    """What it does not show is left to comparisons, and requests do not wait for ever."""
    shelf, registry = _shelf(site), site.book.registry
    shelf.others = [site.book.seen("10.1.0.0", origin="main")]
    site.compare(between=lambda: True)
    shelf.others = [site.book.seen("10.1.0.1", origin="main")]
    look_first([shelf, Endless()], registry.pools, registry, within_s=0.1)
    assert _lowest(site, "a") == "10.1.0.2"


def test_what_a_dhcpd_goes_on_with_is_not_withdrawn(site: Compared) -> None:
    """Its files may have changed since it was started; what it has in memory counts."""
    shelf = _shelf(site)
    shelf.others = [
        site.book.seen("10.1.0.0", origin="main"),
        site.book.seen("10.1.0.1", origin="main"),
        site.book.seen("10.1.0.2", "a range", None, source=Source.RANGE, origin="main"),
    ]
    site.compare(between=lambda: True)
    shelf.others, shelf.in_memory = [], {IPv4Address("10.1.0.0"), IPv4Address("10.1.0.2")}
    site.compare(between=lambda: True)
    assert [_lowest(site, name) for name in ("a", "b")] == ["10.1.0.1", "10.1.0.3"]


def test_a_lease_of_our_own_machine_is_no_evidence_and_one_that_ended_is_none(site: Compared) -> None:
    """A machine's own lease does not outlive its release; a stranger's goes when the server says that it is over."""
    own = site.book.one("vm")
    site.drain()
    shelf = _shelf(site)
    until = datetime.now(UTC) + timedelta(hours=1)
    shelf.others = [
        site.book.seen(str(own.address), mac=str(own.mac), source=Source.LEASE, origin="main", until=until),
        site.book.seen("10.1.0.2", source=Source.LEASE, origin="main", until=until),
    ]
    site.compare(between=lambda: True)
    assert site.book.evidence() == ["10.1.0.2 lease printer"]
    shelf.others = []
    site.compare(between=lambda: True)
    assert site.book.evidence() == ["10.1.0.2 lease printer"]
    shelf.ended = [IPv4Address("10.1.0.2")]
    site.compare(between=lambda: True)
    assert site.book.evidence() == []


class Dying(Shelf):
    """A dhcpd whose connection breaks with the first removal, and nobody knows whether that was done."""

    @override
    def apply(self, changes: Sequence[Change]) -> list[MacbindError | None]:
        if any(isinstance(one, Remove) for one in changes):
            raise DhcpdUnavailable("gone")
        return super().apply(changes)


@pytest.mark.invariant(3)
def test_removal_that_nobody_heard_the_end_of_is_asked_for_again(book: Book) -> None:
    """The mark is there before the removal: when the connection breaks meanwhile, the address is not trusted."""
    site = Compared.open(book, Dying(), Sizes())
    before = site.former("10.1.0.9", OLD_MAC)
    held = book.reserve("printer", "10.1.0.9", mac="00:80:77:00:00:01")
    site.drain()
    site.leave(held.address, OLD_MAC, before)
    with pytest.raises(DhcpdUnavailable):
        site.compare()
    assert book.find(names=["printer"])[0].state is State.PENDING
    assert [one.address for one in site.due()] == [held.address]


def test_what_a_dhcpd_is_not_asked_to_serve_any_more_is_taken_back_when_in_doubt(book: Book) -> None:
    """Whether a dhcpd that left the pool was ever told is not asked: what is marked there is removed there."""
    site = Compared.open(book, Shelf(), Sizes())
    made = book.one("vm")
    with book.write() as txn:
        doubt(txn, "main", [made.address])
    book.open(replace(POOL, dhcpds=("other",)), dhcpds=["main", "other"])
    assert [(one.address, type(one.change)) for one in site.due()] == [(made.address, Remove)]


# -- on any site with more than five hundred machines ---------------------------------------------------------


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Site]:
    """A real dhcpd of its own."""
    with open_site(tmp_path) as site:
        yield site


class Served:
    """Asks dhcpd for the reservation of one machine, again and again, as long as it is entered.

    Attributes:
        yes: How often dhcpd had it.
        no: How often dhcpd answered and did not have it.
    """

    def __init__(self, site: Site, mac: MacAddress) -> None:
        self._site, self._mac = site, mac
        self.yes = self.no = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watch")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(0.001):
            try:
                with self._site.client() as client:
                    while not self._stop.wait(0.001):
                        if host_in(client.exchange([find_host(self._mac)])[0]) is None:
                            self.no += 1
                        else:
                            self.yes += 1
            except DhcpdUnavailable:  # it is being restarted
                continue


@pytest.mark.invariant(9)
def test_comparison_of_more_than_a_slice_removes_the_leftover_only(tmp_path: Path, server: Site) -> None:
    """One released machine of six hundred is on disk again: it goes, and the one behind the slice is served on."""
    with Controller(tmp_path, POOL, server.server()) as controller:
        made = {one.name: one for one in controller.allocate(*hosts_named(601))}
        controller.wait_settled()
        released, beside = made["vm1"], made["vm500"]
        backup = server.dhcpd.leases.read_bytes()
        controller.release("vm1")
        controller.wait_settled()
        before = controller.writer.status().compared_at
        with Served(server, beside.mac) as served, capture_logs() as said:
            server.dhcpd.kill()
            server.dhcpd.leases.write_bytes(backup)
            so_far = served.yes
            server.dhcpd.restart()
            until(lambda: controller.writer.status().compared_at != before, DEADLINE_S, "the comparison")
            until(lambda: served.yes > so_far, DEADLINE_S, "the watch to be back")
            controller.wait_settled()
            # It is logged a moment after the writer says that it serves.
            until(lambda: _comparisons(said), DEADLINE_S, "the comparison to be logged")
        assert _comparisons(said) == [(0, 1)]
        assert served.no == 0
        assert server.held(released.mac) is None
        lease = server.machine(beside.mac).dora()
        assert lease is not None
        assert lease.address == beside.address
        assert controller.agrees_with(server)


def test_releases_during_comparisons_cost_nobody_a_reservation(tmp_path: Path, server: Site) -> None:
    """Machines come and go while one comparison follows the other, and whoever stays is served all the time."""
    passing = iter(hosts_named(8))

    def come_and_go() -> None:
        if (name := next(passing, None)) is not None:
            controller.release(name)
            dhcpd.on_read = come_and_go

    dhcpd = Meddled(server.server())
    with Controller(tmp_path, POOL, dhcpd, resync_s=0.05) as controller:
        made = controller.allocate(*hosts_named(680))
        controller.wait_settled()
        with capture_logs() as said, ExitStack() as watches:
            watched = [watches.enter_context(Served(server, one.mac)) for one in made[498:512]]
            dhcpd.on_read = come_and_go
            until(lambda: len(controller.all()) == len(made) - 8, DEADLINE_S, "the last one to be gone")
            until(lambda: all(one.yes for one in watched), DEADLINE_S, "everybody to be watched")
            so_far = len(said)
            until(lambda: _comparisons(said[so_far:]), DEADLINE_S, "one more comparison")
        controller.wait_settled()
        assert [one.no for one in watched] == [0] * len(watched)
        assert {mended for mended, _ in _comparisons(said)} == {0}
        assert controller.agrees_with(server)


def _comparisons(said: Sequence[MutableMapping[str, Any]]) -> list[tuple[int, int]]:
    """How many reservations each comparison mended, and how many leftovers it removed."""
    return [(one["mended"], one["cleared"]) for one in said if one["event"] == "compared"]
