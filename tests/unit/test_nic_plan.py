"""What to do next so that a running machine has one NIC in the place of another: every state, one table."""

from __future__ import annotations

from itertools import product

import pytest

from macbind.core.address_range import parse_address
from macbind.core.mac_address import MacAddress
from macbind.virt.domain_reader import RECORD_NAMESPACE
from macbind.virt.nic_plan import NicStep, Recorded, Seen, decide, see
from macbind.virt.nic_xml import NicAddress, record, recorded

OLD = NicAddress(MacAddress.parse("00:16:3e:01:01:03"), parse_address("10.1.1.3"))
NEW = NicAddress(MacAddress.parse("00:16:3e:01:01:04"), parse_address("10.1.1.4"))
NO, ANY = (False,), (False, True)
EACH = tuple(Recorded)

TABLE = [
    # old NIC, new NIC, record, asked, plugged: what is next
    ((True,), ANY, EACH, (False,), ANY, NicStep.UNPLUG),
    ((True,), ANY, EACH, (True,), ANY, NicStep.WAIT),
    (NO, NO, (Recorded.NONE,), ANY, ANY, NicStep.LOST),
    (NO, NO, (Recorded.OLD, Recorded.NEW), ANY, ANY, NicStep.PLUG_IN),
    (NO, (True,), (Recorded.NONE,), ANY, ANY, NicStep.DONE),
    (NO, (True,), (Recorded.OLD,), ANY, ANY, NicStep.CLEAN_UP),
    (NO, (True,), (Recorded.NEW,), ANY, (True,), NicStep.CLEAN_UP),
    (NO, (True,), (Recorded.NEW,), ANY, (False,), NicStep.DONE),
]


def test_every_state_has_one_next_step() -> None:
    """The table covers each of the 48 states once, and the decision is the table's."""
    wanted: dict[Seen, NicStep] = {}
    for *columns, step in TABLE:
        for state in product(*columns):
            seen = Seen(*state)  # type: ignore[arg-type]
            assert seen not in wanted, f"{seen} is in the table twice"
            wanted[seen] = step
    assert len(wanted) == 2 * 2 * 3 * 2 * 2
    assert {seen: decide(seen) for seen in wanted} == wanted


def domain(*macs: MacAddress, kept: str = "") -> str:
    """A running domain with these NICs, and a record."""
    nics = "".join(nic(mac) for mac in macs)
    return f"<domain><metadata>{kept}</metadata><devices>{nics}</devices></domain>"


def nic(mac: MacAddress) -> str:
    """A NIC."""
    return f"<interface type='bridge'><mac address='{mac}'/></interface>"


def kept(mac: MacAddress, name: str = "web") -> str:
    """The record of a NIC, as libvirt keeps it."""
    return record(name, nic(mac)).replace("<renumber", f'<renumber xmlns="{RECORD_NAMESPACE}"', 1)


@pytest.mark.parametrize(
    ("xml", "seen"),
    [
        (domain(OLD.mac), Seen(True, False, Recorded.NONE)),
        (domain(OLD.mac, kept=kept(OLD.mac)), Seen(True, False, Recorded.OLD)),
        (domain(kept=kept(OLD.mac)), Seen(False, False, Recorded.OLD)),
        (domain(kept=kept(OLD.mac, "other")), Seen(False, False, Recorded.NONE)),
        (domain(NEW.mac, kept=kept(NEW.mac)), Seen(False, True, Recorded.NEW)),
        (domain(OLD.mac, NEW.mac), Seen(True, True, Recorded.NONE)),
    ],
)
def test_a_domain_is_read_as_it_is(xml: str, seen: Seen) -> None:
    """Its NICs, and which of them its record describes; the record of another name counts for nothing."""
    assert see(xml, recorded(xml, "web"), OLD, NEW, asked=False, plugged=False) == seen


def test_a_machine_goes_all_the_way_and_back() -> None:
    """Each step done, the next one follows, until nothing is left to do, in either direction."""
    macs, written, steps = {OLD.mac}, "", []
    for old, new in ((OLD, NEW), (NEW, OLD)):
        asked = plugged = False
        step = NicStep.WAIT
        while step is not NicStep.DONE:
            xml = domain(*sorted(macs), kept=written)
            step = decide(see(xml, recorded(xml, "web"), old, new, asked=asked, plugged=plugged))
            steps.append(step)
            match step:
                case NicStep.UNPLUG:
                    asked, written = True, kept(old.mac)
                case NicStep.WAIT:
                    macs.discard(old.mac)
                case NicStep.PLUG_IN:
                    plugged = True
                    macs.add(new.mac)
                case NicStep.CLEAN_UP:
                    written = ""
    assert steps == [NicStep.UNPLUG, NicStep.WAIT, NicStep.PLUG_IN, NicStep.CLEAN_UP, NicStep.DONE] * 2
    assert macs == {OLD.mac}
