"""Reserving: an admin holds an address for good."""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import Any

from sqlalchemy import update

from macbind.core.allocation import Allocation, State, check_name, place_of
from macbind.core.dhcp_options import NO_OPTIONS, DhcpOptions
from macbind.core.errors import (
    AddressInUse,
    Conflict,
    NotInPool,
)
from macbind.core.labels import NO_LABELS, Labels, check_labels
from macbind.core.mac_address import MacAddress
from macbind.core.pool import Pool
from macbind.registry import in_use
from macbind.registry.allocate import Wanted, asked_labels, insert_rows, occupy, row_of
from macbind.registry.gateway_checks import check_gateways
from macbind.registry.queries import (
    find,
    named,
    renumberings,
)
from macbind.registry.resting import free
from macbind.registry.tables import allocation as al
from macbind.registry.transaction import Transaction


def reserve(
    txn: Transaction,
    name: str,
    address: IPv4Address,
    *,
    mac: MacAddress | None = None,
    options: DhcpOptions = NO_OPTIONS,
    labels: Labels = NO_LABELS,
) -> Allocation:
    """Holds an address for a name for good: only :meth:`release` with ``pinned`` ends it, ``allocate`` passes it by.

    Args:
        txn: The open transaction.
        name: Its name.
        address: Any address of a pool's subnet that is not a network, broadcast or gateway address.
        mac: A foreign MAC (a printer, a hypervisor); None for the scheme's own. If only this MAC uses the address,
            the reservation says whose it is.
        options: DHCP options of this machine.
        labels: Its labels.

    Raises:
        NotInPool, AddressInUse, Conflict: See :mod:`macbind.core.errors`.
    """
    pool, bound_to, options = checked(txn, name, address, mac, options)
    given = check_labels(labels)
    one = named(txn, [name]).get(name)
    if one is not None:
        same = (one.address, one.mac, one.options, one.pinned) == (address, bound_to, options, True)
        if same and asked_labels(one, given) == given:
            return one
        if same:
            raise Conflict(
                f"'{name}' is reserved with the labels {one.labels!r}, not {given!r}.",
                hint=f"Change them with `macbind label {name} KEY=VALUE`, or ask with the same ones.",
                name=name,
                address=str(one.address),
            )
        raise Conflict(
            f"'{name}' already names {one.address} with {one.mac}.",
            hint="Use another name, or end the other reservation first.",
            name=name,
            address=str(one.address),
        )
    generation = txn.next_generation(pool)
    row = take(txn, pool, name, address, bound_to, options, generation)
    return insert_rows(txn, "reserve", pool, [row], generation, given)[0]


def checked(
    txn: Transaction, name: str, address: IPv4Address, mac: MacAddress | None, options: DhcpOptions
) -> tuple[Pool, MacAddress, DhcpOptions]:
    """The pool, the MAC and the options of a reservation, which nothing but a holder can stand against.

    Raises:
        NotInPool, Conflict: See :mod:`macbind.core.errors`.
    """
    check_name(name)
    options = Wanted("", (name,), options=options).own_options(1)
    pool = _pool_of_address(txn, address)
    txn.check_pool(pool.name, str(address))
    own = pool.plan.scheme.encode(address)
    bound_to = own if mac is None else mac
    check_reservation(txn, pool, address, bound_to, own, options)
    return pool, bound_to, options


def take(
    txn: Transaction,
    pool: Pool,
    name: str,
    address: IPv4Address,
    mac: MacAddress,
    options: DhcpOptions,
    generation: int,
) -> dict[str, Any]:
    """Takes the address for what was :func:`checked`, and frees the MAC; returns the row to insert.

    Raises:
        AddressInUse, InvalidOption: See :mod:`macbind.core.errors`.
    """
    check_gateways(txn, pool, options, address)
    _free_mac(txn, mac, address)
    if mac != pool.plan.scheme.encode(address):
        in_use.refuse_used_mac(txn, mac, address)
    ip = occupy(txn, pool, address, mac)
    wanted = Wanted(pool.name, (name,))
    return row_of(txn, pool, ip, mac, name, generation, wanted, options.to_dict()) | {"pinned": True}


def change_options(txn: Transaction, one: Allocation, options: DhcpOptions) -> Allocation:
    """Gives an allocation other DHCP options; its binding is made anew.

    Raises:
        Conflict, InvalidOption: See :mod:`macbind.core.errors`.
    """
    pool = txn.pool(one.pool)
    if not pool.needs_binding(one.address):
        raise Conflict(
            f"The pool '{pool.name}' is in static mode: the options of {one.address} are in dhcpd's "
            "configuration file.",
            hint="Set options for the whole pool, or use a pool in live mode.",
        )
    if renumberings(txn, of=[one.address]):
        raise Conflict(f"'{one.name}' is being renumbered.", hint="Finish or abort that first.")
    pool.check_binding(one.address, options)
    check_gateways(txn, pool, options, one.address)
    generation, ip = txn.next_generation(pool), int(one.address)
    txn.db.execute(update(al).where(al.c.ip == ip).values(options=options.to_dict(), gen=generation))
    txn.mark(pool.dhcpds, [ip], generation)
    (changed,) = find(txn, addresses=[one.address])
    txn.log([("options", ip, generation, one.name, place_of(changed) | {"before": one.options.to_dict()})])
    return changed


def _free_mac(txn: Transaction, mac: MacAddress, address: IPv4Address) -> None:
    """Makes sure that no other address has the MAC; a rest of one that had it is cut short."""
    for holder in find(txn, mac=mac, released=True):
        if holder.address == address:
            continue  # about the address itself, _occupy decides
        txn.check_pool(holder.pool, str(mac))
        if holder.state is not State.COOLING:
            gone = holder.released_at is not None
            raise AddressInUse(
                f"The MAC {mac} belongs to '{holder.name}' ({holder.address})"
                + (", and dhcpd has yet to confirm its release." if gone else "."),
                hint="Ask again when dhcpd is reachable; `macbind status` shows what it waits for."
                if gone
                else "One MAC has one address; end the other reservation first.",
                holder=holder.name,
                mac=str(mac),
            )
        free(txn, txn.pools[holder.pool], [int(holder.address)])


def _pool_of_address(txn: Transaction, address: IPv4Address) -> Pool:
    candidates = [pool for pool in txn.pools.values() if address in pool.plan.subnet]
    if not candidates:
        subnets = sorted({str(pool.plan.subnet) for pool in txn.pools.values()})
        raise NotInPool(
            f"{address} is in no pool's subnet.",
            hint=f"Subnets are {', '.join(subnets)}.",
            address=str(address),
        )
    return next((pool for pool in candidates if address in pool.plan), candidates[0])


def check_reservation(
    txn: Transaction, pool: Pool, address: IPv4Address, mac: MacAddress, own: MacAddress, options: DhcpOptions
) -> None:
    """Refuses a reservation that could not be served, or would take what is another's."""
    if pool.plan.forbids(address):
        raise NotInPool(
            f"{address} is the network, broadcast or gateway address of {pool.plan.subnet}.",
            hint="Reserve the address of a machine.",
            address=str(address),
        )
    dynamic = next((item for item in pool.subnet.dynamic if address in item), None)
    if dynamic is not None:
        raise NotInPool(
            f"{address} lies in the dynamic range {dynamic}, which dhcpd hands out by itself.",
            hint="Reserve an address outside of it: dhcpd would give this one to two machines.",
            address=str(address),
        )
    if not mac.is_unicast:
        raise Conflict(f"{mac} is not the MAC of a network card.", hint="Use a unicast, non-zero MAC.")
    if mac != own:
        for other in txn.pools.values():
            first, last = (other.plan.scheme.encode(other.plan.subnet[end]) for end in (0, -1))
            if first <= mac <= last:
                raise Conflict(
                    f"{mac} is the MAC of {other.plan.scheme.decode(mac)} in the pool '{other.name}', "
                    f"so it cannot be bound to {address}.",
                    hint="Leave the MAC out to use the address's own.",
                )
    if not pool.needs_binding(address) and (mac != own or options != NO_OPTIONS):
        raise Conflict(
            f"The pool '{pool.name}' is in static mode: {address} is bound to {own} by dhcpd's "
            "configuration file.",
            hint="Exclude the address from the pool's ranges, render, and reserve it then.",
        )
    if pool.needs_binding(address) and options != NO_OPTIONS:  # the pool's own fit, as the configuration says
        pool.check_binding(address, options)
