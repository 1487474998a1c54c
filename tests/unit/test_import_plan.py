"""What an import makes of entries, compared with what their names hold."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from ipaddress import IPv4Address, IPv4Network
from typing import Any

import pytest

from macbind.core.allocation import Allocation, State
from macbind.core.dhcp_options import DhcpOptions
from macbind.core.import_decision import planned, wishes
from macbind.core.import_plan import ImportEntry, ImportRow, ImportVerdict
from macbind.core.mac_address import MacAddress

SUBNETS = [IPv4Network("10.1.0.0/16"), IPv4Network("10.2.0.0/16")]
MAC = "00:80:77:00:00:01"
HELD = Allocation(
    IPv4Address("10.1.1.3"),
    MacAddress.parse(MAC),
    "held",
    "farm",
    7,
    State.BOUND,
    datetime(2030, 1, 1, tzinfo=UTC),
    options=DhcpOptions.parse({"hostname": "h"}),
    pinned=True,
    labels={"k": "v"},
)


def entry(name: str = "held", *addresses: str, **given: Any) -> ImportEntry:
    """An entry."""
    return ImportEntry(name, addresses or ("10.1.1.3",), **given)


def plan(*entries: ImportEntry, held: Allocation = HELD) -> list[ImportRow]:
    """What becomes of them where one name is held."""
    return [one.row for one in planned(wishes(entries, SUBNETS), {held.name: held})]


@pytest.mark.parametrize(
    ("given", "verdict", "words"),
    [
        (entry("other"), "new", ""),
        (entry(), "same", ""),
        (entry(mac="0080.7700.0001"), "same", ""),
        (entry(options=DhcpOptions(hostname="h"), labels={"k": "v"}), "same", ""),
        (entry(options=DhcpOptions(hostname="i")), "changed", "Other options."),
        (entry(options=DhcpOptions(filename="x"), labels={"l": "w"}), "changed", "Other options and labels."),
        (entry("held", "10.1.1.4"), "conflict", "'held' already names 10.1.1.3, a reservation."),
        (entry(mac="00:80:77:00:00:02"), "conflict", "is bound to 00:80:77:00:00:01, not 00:80:77:00:00:02."),
        (entry(pinned=False), "conflict", "'held' (10.1.1.3) is a reservation."),
        (entry(group="g"), "same", ""),
        (entry("a b"), "impossible", "'a b' cannot be a name."),
        (entry(""), "impossible", "It has no name."),
        (entry("a", group=" "), "impossible", "' ' cannot be a group."),
        (ImportEntry("a"), "impossible", "It has no address."),
        (entry("a", "10.1.1.300"), "impossible", "'10.1.1.300' is not an IPv4 address."),
        (entry("a", "fd00::1"), "impossible", "fd00::1 is an IPv6 address"),
        (entry("a", "10.1.1.4", "10.2.1.4"), "impossible", "2 addresses in the subnets of pools: 10.1.1.4, 10.2"),
        (entry("a", mac="zz"), "impossible", "'zz' is not a MAC address."),
        (entry("a", labels={"K": "v"}), "impossible", "'K' cannot be the key of a label."),
        (entry("a", problem="It is known by its client-id.", mend="Give its MAC."), "impossible", "client-id"),
    ],
)  # fmt: skip
def test_what_becomes_of_one(given: ImportEntry, verdict: str, words: str) -> None:
    """What is wrong has a way to mend it; a conflict has a holder."""
    (row,) = plan(given)
    assert row.verdict == verdict
    assert words in row.why
    assert bool(row.mend) == (verdict in ("conflict", "impossible"))
    assert (row.holder is not None) == (verdict == "conflict")


def test_an_allocation_is_no_reservation() -> None:
    """A name that a core holds is not made a reservation behind its back; an export has both kinds."""
    held = replace(HELD, pinned=False, mac=MacAddress.parse("00:16:3e:01:01:03"), group="g")
    assert plan(entry(), held=held)[0].why == "'held' (10.1.1.3) is an allocation."
    assert "macbind release held" in plan(entry(), held=held)[0].mend
    assert plan(entry(pinned=False, group="g"), held=held)[0].verdict is ImportVerdict.SAME
    (row,) = plan(entry(pinned=False, group="h"), held=held)
    assert (row.verdict, row.why) == ("conflict", "'held' (10.1.1.3) is in another group than 'h'.")
    assert plan(entry(group="h"))[0].left_out == ("group h",)


def test_the_address_on_a_subnet_of_ours_is_the_one() -> None:
    """The others are said to be left out; where none is ours, the first is asked of the registry."""
    (row,) = plan(entry("a", "192.0.2.1", "10.2.1.4", left_out=("option x",)))
    assert (row.address, row.left_out) == ("10.2.1.4", ("option x", "address 192.0.2.1"))
    (row,) = plan(entry("a", "192.0.2.1", "192.0.2.2"))
    assert (row.address, row.verdict) == ("192.0.2.1", ImportVerdict.NEW)


@pytest.mark.parametrize(
    ("second", "what"),
    [
        (entry("a", "10.1.1.5", mac="00:80:77:00:00:05"), "The name a"),
        (entry("b", "10.1.1.4", mac="00:80:77:00:00:05"), "The address 10.1.1.4"),
        (entry("b", "10.1.1.5", mac="00-80-77-00-00-04"), "The MAC 00:80:77:00:00:04"),
        (entry("a", "10.1.1.4", mac="00:80:77:00:00:04"), "The name a"),
    ],
)
def test_what_stands_twice_is_nobodys(second: ImportEntry, what: str) -> None:
    """Both rows name both lines, also those of an included file."""
    first = entry("a", "10.1.1.4", mac="00:80:77:00:00:04", line=3)
    rows = plan(first, entry("z", "10.1.1.9", line=4), replace(second, line=7, file="/x.conf"))
    assert [one.verdict for one in rows] == ["conflict", "new", "conflict"]
    assert rows[0].why == f"{what} stands twice in the list: line 3 and /x.conf line 7."
    assert rows[2].why == f"{what} stands twice in the list: /x.conf line 7 and line 3."
    assert (rows[0].holder, rows[2].holder) == (second.name, "a")


def test_an_entry_is_written_and_read() -> None:
    """What goes over the API says all, and no more than that."""
    assert entry("a").to_dict() == {"name": "a", "addresses": ["10.1.1.3"], "pinned": True}
    full = entry("a", mac="x", line=3, options=DhcpOptions(mtu=1400), labels={"k": "v"}, left_out=("b",))
    assert full.to_dict()["options"] == {"mtu": 1400}
    assert full.to_dict()["left_out"] == ["b"]
