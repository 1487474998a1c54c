"""What is read from lines of dhcpd's log, whatever a machine has chosen as its name, and what is made of it."""

from collections.abc import Collection, Mapping, Sequence
from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.dhcpd_site import pool_of
from macbind.core.evidence import Evidence
from macbind.core.mac_address import MacAddress
from macbind.dhcp.isc.exchanges import own_words, read_exchange
from macbind.dhcp.isc.log import read_sign
from macbind.dhcp.port import Exchange, ExchangeKind
from macbind.engine.exchange_check import ExchangeCheck, Holder
from macbind.engine.life_signs import LifeSigns

MAC, OTHER = "00:16:3e:01:01:03", "02:aa:00:00:00:01"
ADDRESS = "10.1.1.3"
NOBODY: Mapping[str, str] = {}
LIE = f"x) via br0: DHCPACK on 10.1.1.9 to {OTHER} via br0: abandoned (10.0.0.77) via br0: unavailable."


def exchange(
    kind: ExchangeKind, mac: str = MAC, address: str = ADDRESS, server: str | None = None, said: str = ""
) -> Exchange:
    """An exchange, from texts."""
    named = None if server is None else IPv4Address(server)
    return Exchange(kind, MacAddress.parse(mac), IPv4Address(address), named, said)


ACK, REQUEST, DECLINE = ExchangeKind.ACK, ExchangeKind.REQUEST, ExchangeKind.DECLINE


@pytest.mark.parametrize(
    ("line", "read"),
    [
        (f"DHCPACK on {ADDRESS} to {MAC} via br0", exchange(ACK)),
        (f"DHCPACK on {ADDRESS} to {MAC} (web-1) via 10.2.0.1", exchange(ACK)),
        (f"Nov  1 10:00:00 farm dhcpd[7]: DHCPACK on {ADDRESS} to {MAC} via br0", exchange(ACK)),
        (
            f"2026-11-29T10:00:00+00:00 farm dhcpd: DHCPACK on {ADDRESS} to {MAC} ({LIE}) via br0",
            exchange(ACK),
        ),
        (f"DHCPREQUEST for {ADDRESS} from {MAC} via br0", exchange(REQUEST)),
        (
            f"DHCPREQUEST for {ADDRESS} (10.0.0.77) from {MAC} (a) via br0: unavailable.",
            exchange(REQUEST, server="10.0.0.77", said="unavailable"),
        ),
        (
            f"DHCPREQUEST for {ADDRESS} (10.0.0.77) from {MAC} via br0: ignored (not authoritative).",
            exchange(REQUEST, server="10.0.0.77", said="ignored (not authoritative)"),
        ),
        (
            f"DHCPREQUEST for {ADDRESS} (10.0.0.1) from {MAC} ({LIE}) via br0",
            exchange(REQUEST, server="10.0.0.1"),
        ),
        (f"DHCPDECLINE of {ADDRESS} from {MAC} via br0: not found", exchange(DECLINE, said="not found")),
        (f"DHCPDISCOVER from {OTHER} ({LIE}) via br0", None),
        (f"DHCPOFFER on {ADDRESS} to {MAC} via br0", None),
        (f"DHCPACK to {ADDRESS} ({MAC}) via br0", None),
        (f"DHCPACK on 999.1.1.1 to {MAC} via br0", None),
        (f"DHCPACK on {ADDRESS} to {MAC}:77 via br0", None),
        ("", None),
    ],
)
def test_a_line_is_read_as_dhcpd_wrote_it(line: str, read: Exchange | None) -> None:
    """In a file of syslog's and in the journal; no name of a machine makes a line say something else."""
    assert read_exchange(line) == read


@given(st.text(st.characters(codec="ascii", exclude_characters="\n")))
def test_no_name_of_a_machine_changes_what_is_read(name: str) -> None:
    """Whatever is in the parentheses, the line says the same, and nothing of it is shown to an admin."""
    line = f"DHCPREQUEST for {ADDRESS} from {MAC} ({name}) via br0: wrong network."
    assert read_exchange(line) == exchange(REQUEST, said="wrong network")
    assert own_words(line) == f"DHCPREQUEST for {ADDRESS} from {MAC} via br0: wrong network."


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (
            f"DHCPDECLINE of 10.9.0.23 from {OTHER} (ALARM: run curl http://10.9.0.66/fix) via br0: abandoned",
            True,
        ),
        (f"DHCPDECLINE of 10.1.1.3 from {OTHER} via br0: not found", False),
        (f"DHCPDECLINE of 10.1.1.3 from {OTHER} (x) via br0: abandoned) via br0: not found", False),
        (f"DHCPDISCOVER from {OTHER} (Abandoning IP address 10.1.1.3: abandoned) via br0", False),
        ("Abandoning IP address 10.9.0.23: declined.", True),
    ],
)
def test_only_an_address_that_dhcpd_abandons_is_declined(line: str, said: bool) -> None:
    """A guest lights nothing with an address that it never had, and puts no words of its own before an admin."""
    found = read_sign("main", line)
    assert (found is not None) is said
    if found is not None:
        assert found.code == "address_declined"
        assert "curl" not in found.message


class Desk:
    """A check, whom it asked, and what it took."""

    def __init__(self, held: Mapping[str, str] = NOBODY) -> None:
        self.asked: list[MacAddress] = []
        self.taken: list[Evidence] = []
        self.life = LifeSigns()
        self._held = {MacAddress.parse(mac): address for mac, address in held.items()}
        self.check = ExchangeCheck(
            "main",
            lambda: [pool_of("10.1.1.1-10.1.1.9")],
            self._holders,
            lambda: [IPv4Address("10.0.0.1")],
            self.life,
            self.taken.extend,
        )

    def _holders(self, macs: Collection[MacAddress]) -> dict[MacAddress, list[Holder]]:
        self.asked += macs
        return {mac: [Holder("vm", IPv4Address(self._held[mac]))] for mac in macs if mac in self._held}

    def codes(self, *heard: Exchange) -> Sequence[str]:
        """The codes of what it found."""
        return [one.code for one in self.check.findings(heard)]


@pytest.mark.parametrize(
    ("held", "heard", "codes", "taken"),
    [
        ({}, exchange(ACK), [], []),
        ({}, exchange(REQUEST), [], []),
        ({}, exchange(ACK, OTHER, "10.1.1.4"), ["stranger_in_pool"], ["10.1.1.4"]),
        ({}, exchange(ACK, MAC, "10.1.1.4"), ["stranger_in_pool"], ["10.1.1.4"]),
        ({MAC: ADDRESS}, exchange(ACK, MAC, "10.1.1.4"), ["wrong_address"], ["10.1.1.4"]),
        ({MAC: ADDRESS}, exchange(ACK, MAC, "10.9.9.9"), ["wrong_address"], []),
        ({OTHER: "10.1.1.4"}, exchange(ACK, OTHER, "10.1.1.4"), [], []),
        ({OTHER: "10.1.1.4"}, exchange(ACK, OTHER, "10.9.9.9"), ["wrong_address"], []),
        ({}, exchange(ACK, OTHER, "10.9.9.9"), [], []),
        ({}, exchange(REQUEST, OTHER, "10.1.1.4"), [], []),
        ({}, exchange(REQUEST, server="10.0.0.77", said="unavailable"), ["second_dhcp_server"], []),
        ({}, exchange(REQUEST, server="10.0.0.1", said="unavailable"), [], []),
        ({}, exchange(REQUEST, server="10.0.0.77"), [], []),
        ({}, exchange(DECLINE, said="not found"), ["address_declined"], []),
        ({}, exchange(DECLINE, OTHER, said="not found"), [], []),
    ],
)
def test_what_is_given_is_compared_with_what_is_allocated(
    held: dict[str, str], heard: Exchange, codes: list[str], taken: list[str]
) -> None:
    """A stranger in a pool, another address than the machine's own, another server; the rest is in order."""
    desk = Desk(held)
    assert desk.codes(heard) == codes
    assert [str(one.address) for one in desk.taken] == taken


def test_the_registry_is_asked_once_and_only_about_odd_lines() -> None:
    """A thousand machines that renew cost no question; a flood of strangers costs one."""
    desk = Desk()
    right = [exchange(ACK, f"00:16:3e:01:01:0{n}", f"10.1.1.{n}") for n in range(1, 10)] * 100
    assert desk.codes(*right) == []
    assert desk.asked == []
    strangers = [exchange(ACK, f"02:aa:00:00:{n >> 8:02x}:{n & 255:02x}", "10.1.1.4") for n in range(999)]
    assert set(desk.codes(*strangers)) == {"stranger_in_pool"}
    assert len(desk.asked) == 200


def test_every_machine_that_is_heard_of_lives() -> None:
    """A request or an answer is a sign of life of its MAC."""
    desk = Desk()
    desk.codes(exchange(REQUEST), exchange(ACK, OTHER, "10.9.9.9"), exchange(DECLINE, "02:aa:00:00:00:09"))
    signs = [desk.life.last(MacAddress.parse(mac)) for mac in (MAC, OTHER, "02:aa:00:00:00:09")]
    assert [sign and sign.what for sign in signs] == ["DHCPREQUEST", "DHCPACK", None]
