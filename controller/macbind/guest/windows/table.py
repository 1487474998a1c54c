"""The facts of the pools as a table of PowerShell. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from macbind.addressing import AddressRange
from macbind.gateway import GatewayRule
from macbind.guest.facts import GuestPool

_ALL = (1 << 32) - 1


def rows(pools: Sequence[GuestPool]) -> str:
    """One hash table per pool, with a comma between."""
    return ",\n".join(f"    @{{ {'; '.join(_facts(pool))} }}" for pool in pools)


def _facts(pool: GuestPool) -> Iterator[str]:
    domain, rule = pool.scheme.domain, pool.gateway.octets if pool.gateway else ()
    yield f"Name = {_text(pool.name)}"
    yield f"Offset = {pool.scheme.offset}"
    yield f"First = {int(domain.lo)}"
    yield f"Last = {int(domain.hi)}"
    yield f"Ranges = {_array(_ends(pool.ranges))}"
    yield f"Subnet = {_array(_ends([AddressRange.of(pool.subnet)]))}"
    yield f"Forbidden = {_array(map(int, pool.forbidden))}"
    yield f"Length = {pool.subnet.prefixlen}"
    yield f"Others = {_array(_masks(pool.others))}"
    yield f"Rule = {_array(-1 if octet is None else octet for octet in rule)}"
    yield f"Dns = {_array(_text(str(one)) for one in pool.dns)}"
    yield f"Search = {_text(pool.search or '')}"


def _ends(ranges: Sequence[AddressRange]) -> Iterator[int]:
    for item in ranges:
        yield from (int(item.lo), int(item.hi))


def _masks(rules: Sequence[GatewayRule]) -> Iterator[int]:
    """For each rule, the bits that all its gateways have in common, as a mask, and what they are."""
    for rule in rules:
        yield from (_ALL - rule.own, rule.fixed_bits)


def _array(items: Iterable[Any]) -> str:
    return f"@({', '.join(map(str, items))})"


def _text(value: str) -> str:
    """A string in which nothing is expanded; a pool may have any name, a script is ASCII."""
    return "'" + value.encode("ascii", "replace").decode().replace("'", "''") + "'"
