"""The memory of who was last seen."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address

from macbind.core.evidence import Evidence, Source
from macbind.core.mac_address import MacAddress
from macbind.engine.life_signs import LifeSign, LifeSigns

_NOW = datetime(2026, 1, 1, tzinfo=UTC)


def _sign(number: int, seconds: float = 0) -> LifeSign:
    at = _NOW + timedelta(seconds=seconds)
    return LifeSign(MacAddress(number), IPv4Address(number), at, "DHCPREQUEST")


def test_the_newest_sign_of_a_mac_counts() -> None:
    """A sign that is told late does not replace a newer one."""
    signs = LifeSigns()
    assert signs.last(MacAddress(1)) is None
    for sign in (_sign(1, 5), _sign(1, 3)):
        signs.note(sign)
    assert signs.last(MacAddress(1)) == _sign(1, 5)


def test_the_oldest_are_forgotten() -> None:
    """The memory is bounded: who was heard last stays."""
    signs = LifeSigns(most=2)
    for number in (1, 2, 1, 3):
        signs.note(_sign(number))
    assert signs.last(MacAddress(2)) is None
    assert signs.last(MacAddress(1)) is not None
    assert signs.last(MacAddress(3)) is not None


def test_evidence_counts_until_its_end() -> None:
    """Evidence without an end counts until somebody withdraws it."""
    one = Evidence(Source.LEASE, "d1", IPv4Address(1), None, "x", _NOW, _NOW, _NOW + timedelta(seconds=1))
    assert one.counts_at(_NOW)
    assert not one.counts_at(_NOW + timedelta(seconds=1))
    assert Evidence(Source.HOST, "d1", IPv4Address(1), None, "x", _NOW, _NOW).counts_at(_NOW)
