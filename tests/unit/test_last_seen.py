"""When machines were last seen: what a log says of who asks, what is remembered, and when silence means something."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address

import pytest

from contract.book import make_pool
from macbind.core.allocation import Allocation, State
from macbind.core.mac_address import MacAddress
from macbind.dhcp.isc.exchanges import read_asker
from macbind.engine.hearing import SETTLES, Hearing
from macbind.engine.last_seen import By, LastSeen, Seen
from macbind.service.machines_seen import would_have_heard

NOW = datetime(2030, 1, 1, 12, tzinfo=UTC)
MAC, OTHER = MacAddress.parse("00:16:3e:01:01:03"), MacAddress.parse("00:16:3e:01:01:04")
MINUTE = timedelta(minutes=1)


@pytest.mark.parametrize(
    ("line", "asks"),
    [
        ("DHCPDISCOVER from 00:16:3e:01:01:03 via br0", True),
        ("Jan  1 12:00:00 host dhcpd[7]: DHCPDISCOVER from 00:16:3e:01:01:03 (web) via br0", True),
        ("DHCPDISCOVER from 00:16:3e:01:01:03 via 10.1.0.1: network 10.1.0.0/16: no free leases", True),
        ("DHCPREQUEST for 10.1.1.3 from 00:16:3e:01:01:03 via br0", True),
        ("DHCPREQUEST for 10.1.1.3 (10.0.0.1) from 00:16:3e:01:01:03 (web) via br0", True),
        ("DHCPDECLINE of 10.1.1.3 from 00:16:3e:01:01:03 via br0: abandoned", True),
        ("DHCPRELEASE of 10.1.1.3 from 00:16:3e:01:01:03 via br0 (found)", True),
        ("DHCPOFFER on 10.1.1.3 to 00:16:3e:01:01:03 via br0", False),
        ("DHCPACK on 10.1.1.3 to 00:16:3e:01:01:03 via br0", False),
        (
            "DHCPREQUEST for 10.1.1.9 from 00:16:3e:01:01:04 (DHCPDISCOVER from 00:16:3e:01:01:03) via br0",
            False,
        ),
        ("DHCPDISCOVER from 00:16:3e:01:01:030 via br0", False),
        ("Wrote 0 leases to leases file.", False),
    ],
)
def test_who_asks(line: str, asks: bool) -> None:
    """A line tells of the machine that asks, and of none that a machine has named itself after."""
    assert (read_asker(line) == MAC) is asks


def test_the_latest_counts_and_no_earlier_holder() -> None:
    """Whatever the order in which it is told; before its allocation was made, another machine had the MAC."""
    last = LastSeen()
    last.note(MAC, By.DHCP, NOW)
    last.note(MAC, By.LIBVIRT, NOW + MINUTE)
    last.note(MAC, By.DHCP, NOW - MINUTE)
    assert last.of(MAC, NOW) == Seen(NOW + MINUTE, By.LIBVIRT)
    assert last.by(MAC, By.DHCP) == NOW
    assert last.of(MAC, NOW + 2 * MINUTE) is None
    assert last.of(OTHER, NOW) is None
    assert last.all() == {MAC: Seen(NOW + MINUTE, By.LIBVIRT)}


def test_memory_is_bounded() -> None:
    """What was told longest ago is forgotten first."""
    last = LastSeen(most=2)
    for number in range(4):
        last.note(MacAddress(MAC.value + number), By.DHCP, NOW)
    assert [mac.value - MAC.value for mac in last.all()] == [2, 3]


def _hearing(*said: list[MacAddress] | None, every: timedelta = MINUTE) -> Hearing:
    """A log that said this once a minute, up to now."""
    times: Iterator[datetime] = iter([NOW - every * (len(said) - 1 - index) for index in range(len(said))])
    hearing = Hearing(LastSeen(), lambda: next(times))
    for one in said:
        hearing.take(one)
    return hearing


def test_a_log_that_was_broken_off_begins_anew() -> None:
    """What was written while it could not be read is not known; a log that is not read says nothing."""
    hearing = _hearing([], [], [])
    assert hearing.since == NOW - 2 * MINUTE + SETTLES
    hearing.fails()
    assert hearing.since is None
    assert _hearing([MAC], None).since is None


def test_silence_means_something_only_where_it_would_have_been_broken() -> None:
    """The log is read since the allocation was made, or for longer than a lease, and shows others now."""
    pool = make_pool()
    made = NOW - 4 * MINUTE
    one = Allocation(IPv4Address("10.1.1.3"), MAC, "web", "farm", 1, State.BOUND, made)

    def heard(hearing: Hearing | None, made: datetime = made) -> bool:
        held = Allocation(one.address, MAC, "web", "farm", 1, State.BOUND, made)
        return would_have_heard(hearing, held, NOW - 3 * MINUTE, pool, NOW)

    whole = [list[MacAddress]()] * 6
    assert heard(_hearing(*whole, [OTHER]))
    assert not heard(None)
    assert not heard(_hearing(*whole))  # nobody is heard: it may be deaf
    assert not heard(_hearing([OTHER], *whole))  # nobody was heard since it runs
    assert not heard(_hearing([], [OTHER]))  # macbind was started after the machine
    lease = timedelta(seconds=pool.subnet.lease_time_s)
    assert not heard(_hearing([], [OTHER], every=lease), NOW - 9 * lease)
    assert heard(_hearing([], [OTHER], every=lease + 3 * MINUTE), NOW - 9 * lease)
