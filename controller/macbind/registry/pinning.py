"""Reserving: an address pinned to a name by an admin."""

from __future__ import annotations

from ipaddress import IPv4Address

from macbind.addressing import MacAddress
from macbind.errors import AddressInUse, Conflict, NotInPool
from macbind.model import NO_OPTIONS, Allocation, Pool, State, check_name
from macbind.options import DhcpOptions
from macbind.registry.taking import Taking, Wanted


class Pinning(Taking):
    """Making pinned reservations."""

    def reserve(
        self,
        name: str,
        address: IPv4Address,
        *,
        mac: MacAddress | None = None,
        options: DhcpOptions = NO_OPTIONS,
    ) -> Allocation:
        """Pins an address to a name: only :meth:`release` with ``pinned`` ends it, ``allocate`` passes it by.

        Args:
            name: Its name.
            address: Any address of a pool's subnet that is not a network, broadcast or gateway address.
            mac: A foreign MAC (a printer, a hypervisor); None for the scheme's own.
            options: DHCP options of this machine.

        Raises:
            NotInPool, AddressInUse, Conflict: See :mod:`macbind.errors`.
        """
        check_name(name)
        pool = self._pool_for_pin(address)
        own = pool.plan.scheme.encode(address)
        bound_to = own if mac is None else mac
        self._check_pin(pool, address, bound_to, own, options)
        generation = self.lock_pool(pool)
        one = self.named([name]).get(name)
        if one is not None:
            if (one.address, one.mac, one.options, one.pinned) == (address, bound_to, options, True):
                return one
            raise Conflict(
                f"'{name}' already names {one.address} with {one.mac}.",
                hint="Use another name, or end the other reservation first.",
                name=name,
                address=str(one.address),
            )
        self._check_gateways(pool, options, address)
        self._free_mac(bound_to, address)
        ip = self._occupy(pool, address)
        row = self._row(pool, ip, bound_to, name, generation, Wanted(pool.name, (name,)), options.to_dict())
        return self._insert("reserve", pool, [row | {"pinned": True}], generation)[0]

    def _free_mac(self, mac: MacAddress, address: IPv4Address) -> None:
        """Makes sure that no other address has the MAC; a rest of one that had it is cut short."""
        for holder in self.find(mac=mac, released=True):
            if holder.address == address:
                continue  # about the address itself, _occupy decides
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
            self._free(self.pools[holder.pool], [int(holder.address)])

    def _pool_for_pin(self, address: IPv4Address) -> Pool:
        candidates = [pool for pool in self.pools.values() if address in pool.plan.subnet]
        if not candidates:
            subnets = sorted({str(pool.plan.subnet) for pool in self.pools.values()})
            raise NotInPool(
                f"{address} is in no pool's subnet.",
                hint=f"Subnets are {', '.join(subnets)}.",
                address=str(address),
            )
        return next((pool for pool in candidates if address in pool.plan), candidates[0])

    def _check_pin(
        self, pool: Pool, address: IPv4Address, mac: MacAddress, own: MacAddress, options: DhcpOptions
    ) -> None:
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
            for other in self.pools.values():
                first, last = (other.plan.scheme.encode(other.plan.subnet[end]) for end in (0, -1))
                if first <= mac <= last:
                    raise Conflict(
                        f"{mac} is the MAC of {other.plan.scheme.decode(mac)} in the pool '{other.name}', "
                        f"so it cannot be bound to {address}.",
                        hint="Leave the MAC out to use the address's own.",
                    )
        if not pool.needs_host(address) and (mac != own or options != NO_OPTIONS):
            raise Conflict(
                f"The pool '{pool.name}' is in static mode: {address} is bound to {own} by dhcpd's "
                "configuration file.",
                hint="Exclude the address from the pool's ranges, render, and reserve it then.",
            )
        if pool.needs_host(address):
            pool.reservation(address, mac, 1, options)
