"""The facts of the pools as lines of `cmd`. Pure.

The lines read what `:decode` of `decode.bat` has set: ``B1`` to ``B6`` are the bytes of the MAC,
``P2`` and ``P3`` its first two and three bytes as a number, ``N`` the last three.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from ipaddress import IPv4Address

from macbind.addressing import AddressRange
from macbind.gateway import GatewayRule
from macbind.guest.facts import GuestPool

_LOW = (1 << 24) - 1


def handed(pools: Sequence[GuestPool]) -> str:
    """Sets HIT to the number of the pool that hands the address out."""
    return _lines(_offer(pool, number, pool.ranges) for number, pool in enumerate(pools, 1))


def subnets(pools: Sequence[GuestPool]) -> str:
    """Sets HIT to the number of the pool in whose subnet the address is, if it is not forbidden there."""
    return _lines(
        _offer(pool, number, (AddressRange.of(pool.subnet),), pool.forbidden, last=True)
        for number, pool in enumerate(pools, 1)
    )


def taken(pools: Sequence[GuestPool]) -> str:
    """Sets FACTS to what a machine of pool HIT must know."""
    return _lines(_take(pool, number) for number, pool in enumerate(pools, 1))


def _lines(groups: Iterable[Iterator[str]]) -> str:
    return "\n".join(line for group in groups for line in group)


def _offer(
    pool: GuestPool,
    number: int,
    ranges: Sequence[AddressRange],
    forbidden: Sequence[IPv4Address] = (),
    *,
    last: bool = False,
) -> Iterator[str]:
    """One pool in one round; the ``last`` says in words why an address is none."""
    size = len(pool.scheme.prefix)
    mine = f'if "%P{size}%"=="{int.from_bytes(pool.scheme.prefix)}"'
    address = _address(pool)
    for item in ranges:
        for condition in _inside(item, wide=size == 2):
            yield f'if not defined HIT {mine} {condition} set "HIT={number}"'
    never = [condition for one in forbidden for condition in _inside(AddressRange(one, one), wide=size == 2)]
    own = () if pool.gateway is None else (pool.gateway,)
    never += filter(None, [_is_gateway(rule, pool) for rule in (*pool.others, *own)])
    for condition in never:
        yield f'if "%HIT%"=="{number}" {condition} set "HIT={"never" if last else ""}"'
    if last:
        why = f"%MAC% stands for {address}, which no machine may have: it is the network's or a gateway's."
        yield f'if "%HIT%"=="never" set "WHY={why}"'
        yield 'if "%HIT%"=="never" set "HIT="'
        why = f"%MAC% would be {address}, which is not in {pool.subnet}."
        yield f'if not defined HIT if not defined WHY {mine} set "WHY={why}"'


def _take(pool: GuestPool, number: int) -> Iterator[str]:
    facts = (
        _address(pool),
        pool.subnet.prefixlen,
        pool.subnet.netmask,
        _gateway(pool),
        pool.search or "-",
        *pool.dns,
    )
    yield f'if "%HIT%"=="{number}" set "FACTS={" ".join(map(str, facts))}"'


def _first(pool: GuestPool) -> int | None:
    """The first octet of all addresses of the pool's scheme; None if the MAC carries it."""
    return None if len(pool.scheme.prefix) == 2 else int(pool.scheme.domain.lo) >> 24


def _octets(pool: GuestPool) -> list[str]:
    """The four octets of the address as cmd reads them."""
    first = _first(pool)
    return ["%B3%" if first is None else str(first), "%B4%", "%B5%", "%B6%"]


def _address(pool: GuestPool) -> str:
    return ".".join(_octets(pool))


def _gateway(pool: GuestPool) -> str:
    if pool.gateway is None:
        return "-"
    rule = zip(pool.gateway.octets, _octets(pool), strict=True)
    return ".".join(own if octet is None else str(octet) for octet, own in rule)


def _is_gateway(rule: GatewayRule, pool: GuestPool) -> str:
    """The condition that the address is a gateway by the rule; empty if it never is."""
    pairs = [
        (own, str(octet)) for octet, own in zip(rule.octets, _octets(pool), strict=True) if octet is not None
    ]
    if any("%" not in own and own != octet for own, octet in pairs):
        return ""
    return " ".join(f'if "{own}"=="{octet}"' for own, octet in pairs if "%" in own)


def _inside(item: AddressRange, *, wide: bool) -> Iterator[str]:
    """Conditions one of which is true for an address of the range.

    Numbers of cmd have a sign, so an address is looked at as its first octet (``wide``: if it is not the same for
    the whole scheme) and the other 24 bits.
    """
    lo, hi = divmod(int(item.lo), _LOW + 1), divmod(int(item.hi), _LOW + 1)
    if not wide:
        yield _between("N", lo[1], hi[1])
    elif lo[0] == hi[0]:
        yield f"{_between('B3', lo[0], lo[0])} {_between('N', lo[1], hi[1])}"
    else:
        yield f"{_between('B3', lo[0], lo[0])} {_between('N', lo[1], _LOW)}"
        if hi[0] - lo[0] > 1:
            yield _between("B3", lo[0] + 1, hi[0] - 1)
        yield f"{_between('B3', hi[0], hi[0])} {_between('N', 0, hi[1])}"


def _between(name: str, lo: int, hi: int) -> str:
    if lo == hi:
        return f'if "%{name}%"=="{lo}"'
    return f"if %{name}% GEQ {lo} if %{name}% LEQ {hi}"
