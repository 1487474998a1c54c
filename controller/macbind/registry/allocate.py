"""Allocating: the first unoccupied addresses, or a given one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from ipaddress import IPv4Address
from types import SimpleNamespace
from typing import Any

from sqlalchemy import (
    insert,
    update,
)

from macbind.core.allocation import Allocation, State, check_name, place_of
from macbind.core.dhcp_options import NO_OPTIONS, DhcpOptions
from macbind.core.errors import (
    AddressInUse,
    Conflict,
    InvalidOption,
    InvalidRequest,
    InvariantViolation,
    NotInPool,
    PoolExhausted,
)
from macbind.core.labels import NO_LABELS, Labels, check_labels
from macbind.core.mac_address import MacAddress
from macbind.core.option_kinds import MAX_HOSTNAME, is_pattern
from macbind.core.pool import Pool, PoolUsage
from macbind.registry import evidence, free_space, in_use, requests
from macbind.registry.fast_sql import Statement
from macbind.registry.free_space import chunks
from macbind.registry.gateway_checks import check_gateways
from macbind.registry.labels import put_labels
from macbind.registry.queries import (
    find,
    named,
    usage,
    value,
)
from macbind.registry.resting import delete_rows, rested, sweep
from macbind.registry.tables import allocation as al
from macbind.registry.transaction import Transaction

_INSERT = Statement(
    insert(al), keys=[column.key for column in al.c if column.key not in ("hypervisor", "phase")]
)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What an allocation is to be; repeated with the same values it finds what it made.

    Attributes:
        pool: Name of the pool.
        names: One name per machine; all are allocated or none.
        group: Group of all of them.
        address: A particular address (for one name only); None for the first unoccupied.
        options: DHCP options of these machines.
        domain: The libvirt domain it is for.
        expires_at: When they are released by themselves (UTC).
        whole_group: Whether ``names`` are meant to be the group's only members in this pool.
        labels: Labels of each of them. Repeated with others, it is refused; what was added since does not matter.
        request: What tells this request from all others; None if the names do.
        numbers: The numbers of the names in a pattern of host names; empty for 1, 2 and so on.
        seen_since: Since when (UTC) the machine of the wanted address is seen to use it, of one that is recovered;
            None if nobody may use it.
    """

    pool: str
    names: tuple[str, ...]
    group: str | None = None
    address: IPv4Address | None = None
    options: DhcpOptions = NO_OPTIONS
    domain: str | None = None
    expires_at: datetime | None = None
    whole_group: bool = False
    labels: Labels = field(default_factory=dict, hash=False)
    request: str | None = None
    numbers: tuple[int, ...] = ()
    seen_since: datetime | None = None

    def __post_init__(self) -> None:
        if not self.names or len(set(self.names)) != len(self.names):
            raise InvalidRequest(
                "An allocation needs at least one name, and each of them once.",
                hint="Every machine needs its own name.",
            )
        if self.address is not None and len(self.names) != 1:
            raise InvalidRequest("An address can be wanted for one machine only.", hint="Leave address out.")
        if (
            len(self.names) != 1
            and self.options.hostname is not None
            and not is_pattern(self.options.hostname)
        ):
            raise InvalidRequest(
                f"hostname: all {len(self.names)} machines would be called '{self.options.hostname}'.",
                hint=f"Give a pattern: in {self.options.hostname[: MAX_HOSTNAME - 4]}-{{n}}, {{n}} is each machine's "
                "number.",
                option="hostname",
            )

    def only(self, names: Sequence[str]) -> Wanted:
        """The same for some of the names, which keep their numbers."""
        numbers = dict(zip(self.names, self.numbers or range(1, len(self.names) + 1), strict=True))
        mine = tuple(numbers[name] for name in names)
        return replace(self, names=tuple(names), numbers=mine, whole_group=False, request=None)

    def own_options(self, place: int) -> DhcpOptions:
        """The options of one of the machines.

        Args:
            place: Its place among ``names``, from 1.

        Raises:
            InvalidOption: The pattern of host names makes none of its name or number.
        """
        name, number = self.names[place - 1], self.numbers[place - 1] if self.numbers else place
        options = self.options.named(name, number)
        if self.options.hostname is not None and options.hostname is None:
            raise InvalidOption(
                f"hostname: {self.options.hostname!r} makes no host name for '{name}', number {number}.",
                hint=f"A host name has at most {MAX_HOSTNAME} letters, digits and inner hyphens.",
                option="hostname",
            )
        return options


def allocate(txn: Transaction, wanted: Wanted) -> list[Allocation]:
    """Takes the first unoccupied addresses, or the wanted one; all names or none.

    Names that are held already with the same parameters are returned as they are (their expiry is
    renewed if one is given).

    Raises:
        NotFound, NotInPool, AddressInUse, PoolExhausted, Conflict, NotPermitted: See :mod:`macbind.core.errors`.
    """
    pool = txn.pool(wanted.pool)
    txn.check_pool(pool.name, f"the pool '{pool.name}'")
    for name in wanted.names:
        check_name(name)
    if wanted.group is not None:
        check_name(wanted.group, "group")
    own = [wanted.options] * len(wanted.names)
    if wanted.options != NO_OPTIONS:
        own = [wanted.own_options(place) for place in range(1, len(wanted.names) + 1)]
        _check_options(pool, wanted.options)
    labels = check_labels(wanted.labels)
    held = _held(txn, wanted, own)
    if wanted.request is not None:
        requests.check_not_over(txn, wanted.request, held or ())
    if held is not None:
        return held
    if wanted.request is not None:
        requests.note(txn, wanted.request)
    generation = txn.next_generation(pool)
    check_gateways(txn, pool, wanted.options, wanted.address)
    taken = (
        [_take_given(txn, pool, wanted.address, is_seen=wanted.seen_since is not None)]
        if wanted.address is not None
        else _take_lowest(txn, pool, len(wanted.names))
    )
    # Names and addresses are paired in order, so a group reads as it was asked for.
    same = None if is_pattern(wanted.options.hostname) else wanted.options.to_dict()
    rows = [
        row_of(
            txn,
            pool,
            ip,
            MacAddress(pool.plan.scheme.offset + ip),
            name,
            generation,
            wanted,
            options.to_dict() if same is None else same,
        )
        for ip, name, options in zip(taken, wanted.names, own, strict=True)
    ]
    return insert_rows(txn, "allocate", pool, rows, generation, labels)


def _check_options(pool: Pool, options: DhcpOptions) -> None:
    """Whether dhcpd can be told the options of one machine of the pool."""
    first = pool.plan.assignable[0].lo
    if not pool.needs_binding(first):
        raise Conflict(
            f"The pool '{pool.name}' is in static mode: its machines' options are in dhcpd's "
            "configuration file and cannot differ.",
            hint="Set options for the whole pool, or use a pool in live mode.",
        )
    pool.check_binding(first, options)


def _held(txn: Transaction, wanted: Wanted, own: Sequence[DhcpOptions]) -> list[Allocation] | None:
    """The allocations that already have these names, None if there is none of them."""
    held = named(txn, wanted.names)
    if wanted.whole_group and wanted.group is not None:
        members = find(txn, group=wanted.group, pool=wanted.pool)
        if members and {one.name for one in members} != set(wanted.names):
            raise Conflict(
                f"The group '{wanted.group}' exists with {len(members)} allocations, not "
                f"{len(wanted.names)}.",
                hint="Ask for the same number again, or release the group first.",
                group=wanted.group,
            )
    if not held:
        return None
    for name, options in zip(wanted.names, own, strict=True):
        if name in held:
            _check_same(held[name], wanted, options)
    missing = [name for name in wanted.names if name not in held]
    if missing:
        raise Conflict(
            f"'{next(iter(held))}' exists already but '{missing[0]}' does not, so they cannot be "
            "allocated together.",
            hint="Ask for names that are all new, or for the same names as before.",
            name=missing[0],
        )
    if wanted.expires_at is not None:
        held = _renew(txn, held, wanted.expires_at)
    return [held[name] for name in wanted.names]


def _renew(txn: Transaction, held: dict[str, Allocation], expires_at: datetime) -> dict[str, Allocation]:
    late = [one for one in held.values() if one.expires_at != expires_at]
    for some in chunks([int(one.address) for one in late], txn.sizes.rows):
        txn.db.execute(update(al).where(al.c.ip.in_(some)).values(expires_at=expires_at.timestamp()))
    detail = {"expires_at": expires_at.isoformat()}
    txn.log(("renew", int(one.address), one.generation, one.name, place_of(one) | detail) for one in late)
    return named(txn, list(held))


def _check_same(one: Allocation, wanted: Wanted, options: DhcpOptions) -> None:
    differences = {
        "pool": (one.pool, wanted.pool),
        "group": (one.group, wanted.group),
        "options": (one.options.to_dict(), options.to_dict()),
        "address": (str(one.address), str(wanted.address or one.address)),
        "domain": (one.domain, wanted.domain or one.domain),
        "pinned": (one.pinned, False),
        "labels": (asked_labels(one, wanted.labels), dict(wanted.labels)),
    }
    for what, (have, want) in differences.items():
        if have != want:
            raise Conflict(
                f"'{one.name}' is already allocated ({one.address}) with {what} {have!r}, not {want!r}.",
                hint="Use another name, ask with the same parameters, or release it first.",
                name=one.name,
                address=str(one.address),
            )


def asked_labels(one: Allocation, labels: Labels) -> dict[str, str]:
    """The labels of an allocation that somebody asks for again; those that were added since do not matter."""
    return {key: one.labels[key] for key in labels if key in one.labels}


def _take_lowest(txn: Transaction, pool: Pool, count: int) -> list[int]:
    pool_id = txn.ids.pools[pool.name]
    if pool.cooldown_s:  # else they are free as soon as they are gone
        sweep(txn, pool, txn.sizes.sweep)
    taken = free_space.take_lowest(txn.db, pool_id, count, txn.sizes.rows)
    if len(taken) < count:
        # The pool runs short: a rest may be cut, longest rested first.
        oldest = rested(txn, pool, count - len(taken))
        delete_rows(txn, oldest)
        taken += oldest
    if len(taken) < count:
        numbers = usage(txn, pool.name)
        raise PoolExhausted(
            f"The pool '{pool.name}' has {len(taken)} unoccupied addresses, {count} were asked for."
            if taken
            else f"The pool '{pool.name}' has no unoccupied address.",
            hint=" ".join(_why_exhausted(numbers)),
            pool=pool.name,
            asked=count,
            free=len(taken),
            allocated=numbers.allocated,
            releasing=numbers.releasing,
            used_by_others=numbers.used_by_others,
        )
    return taken


def _why_exhausted(numbers: PoolUsage) -> Iterator[str]:
    """Why addresses of a pool are neither free nor allocated, and what can be done."""
    if numbers.releasing:
        yield f"{numbers.releasing} released ones wait for dhcpd's confirmation; see `macbind status`."
    else:
        yield "Release machines that are gone, or give the pool more ranges."
    if numbers.used_by_others:
        yield f"{numbers.used_by_others} are passed over, because others use them; `macbind status` names them."


def _take_given(txn: Transaction, pool: Pool, address: IPv4Address, *, is_seen: bool = False) -> int:
    if address not in pool.plan:
        ranges = ", ".join(map(str, pool.plan.assignable[:3])) + (" …" * (len(pool.plan.assignable) > 3))
        raise NotInPool(
            f"The pool '{pool.name}' does not hand out {address}.",
            hint=f"It hands out {ranges}.",
            pool=pool.name,
            address=str(address),
        )
    return occupy(txn, pool, address, pool.plan.scheme.encode(address) if is_seen else None)


def occupy(txn: Transaction, pool: Pool, address: IPv4Address, mac: MacAddress | None = None) -> int:
    """Takes one address out of the free extents, or from a row that only rests.

    Args:
        txn: The open transaction.
        pool: The pool on whose subnet it is.
        address: The address.
        mac: The MAC of the machine that it is for and that may use it already; None if none may.

    Raises:
        AddressInUse: Somebody has it, or uses it.
    """
    txn.check_pool(pool.name, str(address))
    ip, pool_id = int(address), txn.ids.pools[pool.name]
    found = find(txn, addresses=[address], released=True)
    if found:
        holder = found[0]
        if holder.released_at is not None:
            in_use.refuse_used(txn, address, mac)
        if holder.state is State.COOLING:
            delete_rows(txn, [ip])
            return ip
        raise AddressInUse(
            f"{address} is held by '{holder.name}'."
            if holder.released_at is None
            else f"{address} was released by '{holder.name}', and dhcpd has yet to confirm it.",
            hint="Ask for another address, or for none to get the first unoccupied one."
            if holder.released_at is None
            else "Ask again when dhcpd is reachable; `macbind status` shows what it waits for.",
            address=str(address),
            holder=holder.name,
        )
    in_use.refuse_used(txn, address, mac)
    if not free_space.take(txn.db, pool_id, ip) and address in pool.plan and not evidence.having(txn, [ip]):
        raise InvariantViolation(f"{address} is neither free nor in use in the pool '{pool.name}'.")
    return ip


def row_of(
    txn: Transaction,
    pool: Pool,
    ip: int,
    mac: MacAddress,
    name: str,
    generation: int,
    wanted: Wanted,
    options: dict[str, Any],
) -> dict[str, Any]:
    """The row of a new allocation. One that is recovered waits for its domain from now on."""
    seen = wanted.seen_since
    return {
        "ip": ip,
        "mac": mac.value,
        "pool_id": txn.ids.pools[pool.name],
        "name": name,
        "gen": generation,
        "grp": wanted.group,
        "options": options,
        "domain": wanted.domain,
        "domain_uuid": None,
        "pinned": False,
        "created_at": (seen or txn.now).timestamp(),
        "expires_at": wanted.expires_at.timestamp() if wanted.expires_at else None,
        "released_at": None,
        "free_at": None,
        "renumbers_from": None,
        **dict.fromkeys(("lease_token", "lease_until")),
        "doubted_at": None if seen is None else txn.now.timestamp(),
        "labels": 0,
    }


def insert_rows(
    txn: Transaction,
    action: str,
    pool: Pool,
    rows: list[dict[str, Any]],
    generation: int,
    labels: Labels = NO_LABELS,
) -> list[Allocation]:
    """Makes the rows real. Their addresses were free, so no dhcpd was told of them or has to look."""
    if labels:
        rows = [row | {"labels": len(labels)} for row in rows]
    _INSERT.run_each(txn.db, rows)
    if labels:
        put_labels(txn, [row["ip"] for row in rows], labels)
    bound = [row["ip"] for row in rows if pool.needs_binding(IPv4Address(row["ip"]))]
    txn.mark(pool.dhcpds, bound, generation, unmarked=True)
    made = [value(txn, SimpleNamespace(**row), labels=labels) for row in rows]
    txn.log(
        (action, int(one.address), generation, one.name, place_of(one) | {"mac": str(one.mac)})
        for one in made
    )
    return made
