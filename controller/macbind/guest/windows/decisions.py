"""The decisions that both scripts for Windows share, as lines of `cmd` and of PowerShell. Pure.

Each line is an assignment with conditions. It reads what either script has set before: ``MAC``; ``B1`` to ``B6``, the
bytes of the MAC; `SUMS`; an empty ``HIT``; ``STATUS``, which is 3; and ``WHY``, a sentence that fits. The lines of
`handed`, and those of `subnets` if ``HIT`` is still empty, set ``HIT`` to the number of the pool. If there is none,
``STATUS`` and ``WHY`` are set. `facts` then sets ``FACTS``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address

from macbind.core.address_range import AddressRange
from macbind.core.gateway_rule import GatewayRule
from macbind.guest.arithmetic import Between, gateway_of, inside, octets
from macbind.guest.facts import GuestPool

SUMS: Mapping[str, str] = {
    "P2": "B1*256+B2",
    "P3": "B1*65536+B2*256+B3",
    "N": "B4*65536+B5*256+B6",
}
"""The numbers that the conditions read: the MAC's prefix of two or three bytes, and its last three bytes."""

_NAME = re.compile(r"\{(\w+)\}")
_WORD = re.compile(r"[A-Z]\d?")


@dataclass(frozen=True, slots=True)
class Equal:
    """The condition that a variable has this value; the value is empty if the variable is not set."""

    name: str
    value: str


@dataclass(frozen=True, slots=True)
class Line:
    """An assignment if all conditions hold. In its value ``{B4}`` stands for the value of that variable."""

    conditions: tuple[Equal | Between, ...]
    name: str
    value: str


def handed(pools: Sequence[GuestPool]) -> Iterator[Line]:
    """Sets HIT to the first pool that hands the address out."""
    for number, pool in enumerate(pools, 1):
        yield from _offer(pool, number, pool.ranges)
        yield from (Line((_hit(number), *never), "HIT", "") for never in _gateways(pool))


def subnets(pools: Sequence[GuestPool]) -> Iterator[Line]:
    """Sets HIT to the first pool in whose subnet the address is, if a machine may have it; or else STATUS and WHY."""
    for number, pool in enumerate(pools, 1):
        address = ".".join(octets(pool, "{B", "}"))
        yield from _offer(pool, number, [AddressRange.of(pool.subnet)])
        why = f"{{MAC}} stands for {address}, which no machine may have: it is the network's or a gateway's."
        never = [*_gateways(pool), *(one for address in pool.forbidden for one in _is(pool, address))]
        yield from (Line((_hit(number), *one), "HIT", "never") for one in never)
        yield Line((_hit("never"),), "WHY", why)
        yield Line((_hit("never"),), "STATUS", "4")
        yield Line((_hit("never"),), "HIT", "")
        why = f"{{MAC}} would be {address}, which is not in {pool.subnet}."
        yield Line((_hit(""), Equal("STATUS", "3"), _mine(pool)), "WHY", why)
        yield Line((_hit(""), _mine(pool)), "STATUS", "4")


def facts(pools: Sequence[GuestPool]) -> Iterator[Line]:
    """Sets FACTS: address, prefix length, mask, gateway, DNS domain (- is none) and DNS servers."""
    for number, pool in enumerate(pools, 1):
        own = octets(pool, "{B", "}")
        words = (
            ".".join(own),
            pool.subnet.prefixlen,
            pool.subnet.netmask,
            gateway_of(pool.gateway, own) if pool.gateway else "-",
            pool.search or "-",
            *pool.dns,
        )
        yield Line((_hit(number),), "FACTS", " ".join(map(str, words)))


def batch(lines: Iterable[Line]) -> str:
    """The lines in the language of `cmd`."""

    def condition(one: Equal | Between) -> str:
        if isinstance(one, Between):
            return f"if %{one.name}% GEQ {one.lo} if %{one.name}% LEQ {one.hi}"
        return f'if "%{one.name}%"=="{one.value}"' if one.value else f"if not defined {one.name}"

    return _text(lines, condition, " ", r"%\1%", '{conditions} set "{name}={value}"')


def powershell(lines: Iterable[Line], indent: str) -> str:
    """The lines in PowerShell."""

    def condition(one: Equal | Between) -> str:
        if isinstance(one, Between):
            return f"${one.name} -ge {one.lo} -and ${one.name} -le {one.hi}"
        return f"${one.name} -eq '{one.value}'" if one.value else f"-not ${one.name}"

    layout = f'{indent}if ({{conditions}}) {{{{ ${{name}} = "{{value}}" }}}}'
    return _text(lines, condition, " -and ", r"$\1", layout)


def batch_sums() -> str:
    """The command of `cmd` that computes `SUMS`."""
    return f'set /a "{",".join(f"{name}={value}" for name, value in SUMS.items())}"'


def powershell_sums(indent: str) -> str:
    """The lines of PowerShell that compute `SUMS`."""
    terms = {name: _WORD.sub(r"$\g<0>", value) for name, value in SUMS.items()}
    return "\n".join(f"{indent}${name} = {value}" for name, value in terms.items())


def _text(
    lines: Iterable[Line], condition: Callable[[Equal | Between], str], glue: str, variable: str, layout: str
) -> str:
    return "\n".join(
        layout.format(
            conditions=glue.join(map(condition, line.conditions)),
            name=line.name,
            value=_NAME.sub(variable, line.value),
        )
        for line in lines
    )


def _offer(pool: GuestPool, number: int, ranges: Iterable[AddressRange]) -> Iterator[Line]:
    for item in ranges:
        for tests in inside(pool, item):
            yield Line((_hit(""), _mine(pool), *map(_exact, tests)), "HIT", str(number))


def _hit(number: int | str) -> Equal:
    return Equal("HIT", str(number))


def _mine(pool: GuestPool) -> Equal:
    """The condition that the MAC has the pool's prefix."""
    return Equal(f"P{len(pool.scheme.prefix)}", str(int.from_bytes(pool.scheme.prefix)))


def _exact(one: Between) -> Equal | Between:
    return Equal(one.name, str(one.lo)) if one.lo == one.hi else one


def _is(pool: GuestPool, address: IPv4Address) -> Iterator[tuple[Equal | Between, ...]]:
    """The conditions that the machine's address is this one."""
    return (tuple(map(_exact, tests)) for tests in inside(pool, AddressRange(address, address)))


def _gateways(pool: GuestPool) -> Iterator[tuple[Equal, ...]]:
    """For each rule, the conditions that the machine's address is a gateway by it."""
    rules: tuple[GatewayRule, ...] = (*pool.others, *([pool.gateway] if pool.gateway else []))
    for rule in rules:
        pairs = [
            (own, str(octet))
            for own, octet in zip(octets(pool, "B"), rule.octets, strict=True)
            if octet is not None
        ]
        if all(own.startswith("B") or own == octet for own, octet in pairs):
            yield tuple(Equal(own, octet) for own, octet in pairs if own.startswith("B"))
