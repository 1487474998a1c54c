"""Moving: a name goes from one address to another, and holds both until it has arrived.

::

    begin ──► two allocations: the old one has the name, the new one ``moves_from`` it
                │
                ├─ finish ──► the new one has the name and all that goes with it; the old one is released
                ├─ abort ───► the new one is released; the name has the address it had
                └─ the old one is released, whoever asks and why ──► both are

Each of the three is one change. A move that is neither finished nor aborted has a moment (``expires_at`` of the new
allocation) from which on it is settled by what the machine has; that is decided in :mod:`macbind.lifecycle`. Until
then it belongs to the process that began it, as long as that lives: no other goes on with it, finishes or aborts it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from ipaddress import IPv4Address

from sqlalchemy import select, update

from macbind.errors import Conflict, NotFound, NotInPool
from macbind.model import NO_OPTIONS, Allocation, Move, Pool, check_name
from macbind.registry.pinning import Pinning
from macbind.registry.releasing import Releasing
from macbind.registry.schema import allocation as al
from macbind.registry.taking import Wanted

_INHERITED = ("grp", "domain", "hypervisor", "domain_uuid", "phase", "pinned", "created_at", "expires_at")


@dataclass(frozen=True, slots=True)
class Mover:
    """A process that moves machines.

    Attributes:
        key: What tells it from every other process, on any host: a place, a slash, and its number there; 0 if that
            cannot be seen.
        has_ended: Whether the process with a key is known to have ended.
    """

    key: str
    has_ended: Callable[[str], bool]

    def names(self, key: str) -> str:
        """The process with a key, as a sentence names it that this process is told."""
        (place, _, pid), mine = key.rpartition("/"), self.key.rpartition("/")[0]
        if pid == "0":
            return "A process in another container"
        return f"Process {pid}" if place == mine else f"Process {pid} of another host or container"


class Moving(Pinning, Releasing):
    """Moving allocations."""

    def begin_move(
        self,
        name: str,
        to: IPv4Address,
        until: datetime,
        mover: Mover | None = None,
        *,
        generation: int | None = None,
    ) -> Move:
        """Takes the address a name is to move to; repeated, it finds what it took and moves ``until``.

        Args:
            name: The name.
            to: The address, of the same pool or of another one on the same network.
            until: When the move is settled by itself (UTC), and at the latest is no longer the mover's own.
            mover: The process that moves it; None for one that leaves it to anybody.
            generation: Only to go on with the move to the allocation of this generation.

        Returns:
            The move; with the same allocation twice if the name is there already.

        Raises:
            NotFound, NotInPool, AddressInUse, Conflict: See :mod:`macbind.errors`.
        """
        old = self.named([check_name(name)]).get(name)
        if old is None:
            raise NotFound(f"There is no allocation '{name}'.", hint="`macbind list` shows all.", name=name)
        for move in self.moves(of=[old.address]):
            if generation in (None, move.new.generation):
                return self._resume(move, to, until, mover)
        if generation is not None:
            raise self._no_such_move(name)
        if old.address == to:
            return Move(old, old)
        pool = self._pool_to_move_to(old, to)
        generation = self.lock_pool(pool)
        self._check_gateways(pool, old.options, to)
        ip = self._occupy(pool, to)
        wanted = Wanted(pool.name, (name,), expires_at=until)
        mac = pool.plan.scheme.encode(to)
        row = self._row(pool, ip, mac, name, generation, wanted, old.options.to_dict())
        row |= {"moves_from": int(old.address), "mover": None if mover is None else mover.key}
        return Move(old, self._insert("move", pool, [row], generation)[0])

    def _resume(self, move: Move, to: IPv4Address, until: datetime, mover: Mover | None) -> Move:
        if move.new.address != to:
            raise Conflict(
                f"'{move.old.name}' is moving from {move.old.address} to {move.new.address} already.",
                hint=f"Finish that first, or end it with `macbind renumber {move.old.name} --abort`.",
                name=move.old.name,
                address=str(move.new.address),
            )
        self._refuse_second(move, mover)
        values = {"expires_at": until.timestamp(), "mover": None if mover is None else mover.key}
        self.db.execute(update(al).where(al.c.ip == int(move.new.address)).values(values))
        return self.moves(of=[move.old.address])[0]

    def _refuse_second(self, move: Move, mover: Mover | None) -> None:
        """Refuses a process that is not the one that moves the machine.

        Raises:
            Conflict: Another one does.
        """
        until = move.new.expires_at
        key = self.db.scalar(select(al.c.mover).where(al.c.ip == int(move.new.address)))
        if mover is None or key is None or key == mover.key or until is None or until <= self.now:
            return
        if mover.has_ended(key):
            return
        raise Conflict(
            f"{mover.names(key)} is moving '{move.old.name}' from {move.old.address} to {move.new.address}.",
            hint=f"Let it finish, or end it; from {until:%H:%M:%S} UTC on you may go on with it all the same.",
            name=move.old.name,
            mover=key,
        )

    def _pool_to_move_to(self, old: Allocation, to: IPv4Address) -> Pool:
        """The pool an address is taken from: the one the name is in, or another on its network."""
        mine = self.pools[old.pool]
        if old.mac != mine.plan.scheme.encode(old.address):
            raise Conflict(
                f"'{old.name}' is pinned to a MAC of its own, {old.mac}, and a MAC has one address at a time.",
                hint=f"`macbind unreserve {old.name}` and `macbind reserve {old.name} {to} --mac {old.mac}`; the "
                "machine gets the new address when it asks again.",
                name=old.name,
            )
        if to not in mine.plan.subnet:
            raise NotInPool(
                f"{to} is not on the network of '{old.name}', {mine.plan.subnet}.",
                hint="A machine cannot be moved to a network it has no interface on.",
                address=str(to),
            )
        if mine.plan.forbids(to):
            raise NotInPool(
                f"{to} is the network, broadcast or gateway address of {mine.plan.subnet}.",
                hint="Choose the address of a machine.",
                address=str(to),
            )
        neighbours = [pool for pool in self.pools.values() if pool.plan.subnet == mine.plan.subnet]
        pool = next((pool for pool in neighbours if to in pool.plan), mine)
        if old.pinned:
            self._check_pin(pool, to, pool.plan.scheme.encode(to), pool.plan.scheme.encode(to), old.options)
        elif to not in pool.plan:
            ranges = ", ".join(str(item) for one in neighbours for item in one.plan.assignable[:3])
            raise NotInPool(
                f"No pool on {mine.plan.subnet} hands out {to}.",
                hint=f"They hand out {ranges}.",
                pool=old.pool,
                address=str(to),
            )
        if old.options != NO_OPTIONS and not pool.needs_host(to):
            raise Conflict(
                f"The pool '{pool.name}' is in static mode, and '{old.name}' has DHCP options of its own.",
                hint="Move it within a pool in live mode.",
                name=old.name,
            )
        if pool.needs_host(to):
            pool.reservation(to, pool.plan.scheme.encode(to), 1, old.options)
        return pool

    def finish_move(self, name: str, generation: int, mover: Mover | None = None) -> Move:
        """The name has arrived: it has the new address only, with its group, domain, expiry and pin.

        Args:
            name: The name.
            generation: Of the allocation it was moving to: a late call cannot finish a later move.
            mover: The process that asks; None for macbind itself.

        Returns:
            The move; repeated, with the old allocation while a dhcpd has yet to confirm its release.

        Raises:
            Conflict: There is no such move (any more), or another process is at it.
        """
        for move in self.moves(name=name):
            if move.new.generation == generation:
                self._refuse_second(move, mover)
                return self._arrive(move)
        there = self.named([name]).get(name)
        if there is None or there.generation != generation:
            raise self._no_such_move(name)
        rows = self.find(names=[name], released=True)
        gone = [one for one in rows if one.released_at is not None and one.created_at == there.created_at]
        return Move(gone[0] if gone else there, there)

    @staticmethod
    def _no_such_move(name: str) -> Conflict:
        return Conflict(
            f"There is no such move of '{name}' under way any more.",
            hint=f"`macbind show {name}` tells what became of it.",
            name=name,
        )

    def _arrive(self, move: Move) -> Move:
        old, new = move.old, move.new
        where = al.c.ip == int(old.address)
        values = self.db.execute(select(*(al.c[name] for name in _INHERITED)).where(where)).one()
        # No domain has its MAC any more, so it may become the user of the address again.
        self._release_rows("release", [old], f"moved to {new.address}", still_used=False)
        inherited = {name: getattr(values, name) for name in _INHERITED}
        self.db.execute(
            update(al).where(al.c.ip == int(new.address)).values(**inherited, moves_from=None, mover=None)
        )
        detail = {"pool": new.pool, "from": str(old.address)}
        self._log([("moved", int(new.address), new.generation, new.name, detail)])
        return Move(self._released(old), self.named([new.name])[new.name])

    def abort_move(
        self, name: str, generation: int | None = None, *, mover: Mover | None = None, reason: str = "asked"
    ) -> list[Allocation]:
        """Releases the address a name was moving to; what is gone already is no error and not returned.

        Args:
            name: The name.
            generation: Only if it is moving to the allocation of this generation.
            mover: The process that asks; None for macbind itself.
            reason: Why, for the audit log.

        Raises:
            Conflict: It has arrived there, or another process is at it.
        """
        there = self.named([check_name(name)]).get(name)
        if there is not None and there.generation == generation:
            raise Conflict(
                f"'{name}' has moved to {there.address} already.",
                hint="Move it back with another `macbind renumber`.",
                name=name,
                address=str(there.address),
            )
        moves = [move for move in self.moves(name=name) if generation in (None, move.new.generation)]
        for move in moves:
            self._refuse_second(move, mover)
        targets = [move.new for move in moves]
        self._release_rows("release", targets, f"move given up: {reason}")
        return [self._released(one) for one in targets]
