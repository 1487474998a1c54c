"""Findings about addresses that others use: passed over where they are free, contested where they are allocated."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from macbind.core.evidence import Evidence, Source
from macbind.core.findings import DhcpdStatus, Finding
from macbind.core.pool import Pool
from macbind.registry.in_use import Use, uses
from macbind.registry.queries import find
from macbind.registry.transaction import View

_SAYS = {
    Source.HOST: Finding(
        "foreign_host",
        "The host '{holder}' of dhcpd '{origin}', not made by macbind, takes {address}{pool}: it is passed over.",
        "Delete it (see omshell(1)), exclude the address from the pool, or reserve it for that machine. dhcpd goes "
        "on with a host that was taken out of its file until it is restarted.",
    ),
    Source.RANGE: Finding(
        "foreign_range",
        "dhcpd '{origin}' hands out {address}{pool} by itself, by {holder}: it is passed over.",
        "Take the range out of dhcpd's configuration and restart dhcpd, or exclude it from the pool.",
    ),
    Source.AWAY: Finding(
        "machine_away",
        "The domain '{holder}' of '{origin}' was saved to a file or migrated, and nothing shows it now. It may come "
        "back to {address}{pool}: it is passed over.",
        "If it never comes back: `macbind reserve NAME {address}` and `macbind unreserve NAME`.",
    ),
    Source.LEASE: Finding(
        "leased_address",
        "dhcpd '{origin}' has leased {address}{pool} to {holder}: it is passed over until the lease ends.",
        "Take the address out of every range of dhcpd's configuration, or exclude it from the pool.",
    ),
}


def used_addresses(view: View) -> dict[str, list[Finding]]:
    """What an admin should know of addresses that others use, by who has seen it."""
    found: dict[str, list[Finding]] = {}
    for use in uses(view):
        if use.is_contested:
            made = [_contested(view, use)]
        elif use.first.source is Source.ANSWER:
            made = list(_answered(use, view.pools))
        elif use.first.source in _SAYS:
            made = [_passed_over(use, view.pools)]
        else:
            continue
        found.setdefault(use.first.origin, []).extend(made)
    return found


def completed(one: DhcpdStatus, found: Sequence[Finding]) -> DhcpdStatus:
    """How things stand with a dhcpd, with what the registry knows of others there and its last audit did not tell."""
    known = {finding.code for finding in one.findings}
    return replace(one, findings=(*one.findings, *(more for more in found if more.code not in known)))


def _passed_over(use: Use, pools: Mapping[str, Pool]) -> Finding:
    first = use.first
    says = _SAYS[first.source]
    sentence = says.message.format(
        holder=first.holder, origin=first.origin, address=first.address, pool=_of_pool(first, pools)
    )
    return replace(
        says,
        message=sentence + _more(use.count),
        hint=says.hint.replace("{address}", str(first.address)),
        subject=str(first.address),
    )


def _answered(use: Use, pools: Mapping[str, Pool]) -> Iterator[Finding]:
    """One finding for each machine that answers for several, and one for all others."""
    alone = 0
    for mac, count in use.by_holder.items():
        if count == 1:
            alone += 1
            continue
        yield Finding(
            "address_answered",
            f"{mac} answers for {count} addresses on {use.first.origin}, which nobody has allocated. They are passed "
            "over for as long as it answers.",
            "It does proxy ARP, or it lies: find it, or leave its addresses out of the pool.",
            str(mac),
        )
    if alone:
        first = use.first_alone
        yield Finding(
            "address_answered",
            f"{first.holder} answers for {first.address}{_of_pool(first, pools)} on {first.origin}, which nobody has "
            f"allocated: it is passed over for as long as it answers.{_more(alone)}",
            "Find that machine, or reserve the address for it.",
            str(first.address),
        )


def _contested(view: View, use: Use) -> Finding:
    first = use.first
    (holder,) = find(view, addresses=[first.address])
    return Finding(
        "address_contested",
        f"{first.address} is allocated to '{holder.name}' with {holder.mac}, and '{first.holder}' uses it, too: "
        f"{first.described}. Two machines may have one address.{_more(use.count)}",
        f"End its use by '{first.holder}', or give '{holder.name}' another address with `macbind renumber`.",
        str(first.address),
    )


def _of_pool(one: Evidence, pools: Mapping[str, Pool]) -> str:
    return next((f" of the pool '{name}'" for name, pool in pools.items() if one.address in pool.plan), "")


def _more(count: int) -> str:
    return f" There are {count} of these." if count > 1 else ""
