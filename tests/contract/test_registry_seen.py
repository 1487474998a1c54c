"""When machines were last seen, as both databases keep it."""

from __future__ import annotations

from datetime import timedelta

from contract.book import EPOCH, Book, make_pool
from macbind.core.mac_address import MacAddress
from macbind.engine.last_seen import By, LastSeen
from macbind.probes.neighbours import Neighbour
from macbind.registry.seen import Sight, load_seen, load_watching, save_seen, save_watching
from macbind.service.machines_seen import SAVE_S, MachinesSeen
from macbind.service.peers import Peers

HOUR = timedelta(hours=1)


def kept(book: Book) -> dict[MacAddress, Sight]:
    """What is kept."""
    with book.read() as view:
        return load_seen(view)


def test_what_was_seen_ends_with_its_allocation(book: Book) -> None:
    """A later holder of the address has not been seen; what was seen before an allocation is not kept for it."""
    book.open(make_pool(ranges=["10.1.1.1-10.1.1.2"]))
    one, two = book.allocate("a", "b")
    stranger = MacAddress.parse("de:ad:be:ef:00:01")
    with book.write() as txn:
        save_seen(
            txn, {one.mac: (EPOCH + HOUR, "dhcp"), two.mac: (EPOCH - HOUR, "dhcp"), stranger: (EPOCH, "dhcp")}
        )
    assert kept(book) == {one.mac: (EPOCH + HOUR, "dhcp")}
    with book.write() as txn:
        save_seen(txn, {one.mac: (EPOCH + 2 * HOUR, "libvirt")})
    assert kept(book) == {one.mac: (EPOCH + 2 * HOUR, "libvirt")}
    book.release("a")
    book.confirm()
    book.one("c")
    assert kept(book) == {}


def test_since_when_somebody_looks(book: Book) -> None:
    """There is one answer, the last."""
    book.open(make_pool())
    with book.read() as view:
        assert load_watching(view) is None
    for since in (EPOCH, EPOCH + HOUR):
        with book.write() as txn:
            save_watching(txn, since)
    with book.read() as view:
        assert load_watching(view) == (EPOCH + HOUR, book.now)


def test_a_restart_keeps_what_was_seen_and_who_is_idle(book: Book) -> None:
    """The registry is told at most once a minute; whoever starts within minutes goes on, later he begins anew."""
    book.open(make_pool())
    one, quiet = book.allocate("a", "quiet")
    clock = [0.0]
    table: list[Neighbour] = []

    def machines() -> MachinesSeen:
        made = MachinesSeen(
            book.registry,
            Peers,
            LastSeen(),
            table=lambda: table,
            now=lambda: book.now,
            clock=lambda: clock[0],
        )
        made.begin()
        return made

    def pass_time(seconds: float) -> None:
        clock[0] += seconds
        book.later(seconds)

    first = machines()
    table.append(Neighbour(one.address, one.mac, 3.0))
    first.tend()
    assert kept(book) == {}
    pass_time(SAVE_S)
    first.tend()
    assert kept(book) == {one.mac: (book.now - timedelta(seconds=3), By.NEIGHBOURS)}
    for _ in range(60):
        pass_time(SAVE_S)
        first.tend()
    (shown,) = first.shown([one])
    assert (shown.last_seen, shown.seen_by) == (book.now - timedelta(seconds=3), "neighbours")
    assert [one.name for one in first.shown([one, quiet]) if first.is_idle(one, 3600)] == ["quiet"]
    table.clear()
    first.close()

    pass_time(60)
    second = machines()
    (shown,) = second.shown([one])
    assert shown.last_seen == book.now - timedelta(seconds=63)
    assert second.is_idle(quiet, 3600)
    second.close()
    pass_time(600)
    third = machines()
    assert not third.is_idle(quiet, 3600)  # nobody has looked meanwhile
    pass_time(3600)
    assert third.is_idle(quiet, 3600)
