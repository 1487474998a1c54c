"""Giving back: by command, or because time is over."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from ipaddress import IPv4Address

from sqlalchemy import bindparam, update

from macbind.errors import Conflict
from macbind.model import Allocation, State
from macbind.registry.changes import Changes
from macbind.registry.extents import chunks
from macbind.registry.schema import allocation as al
from macbind.registry.statement import Statement
from macbind.registry.view import OVERDUE

_RELEASE = Statement(
    update(al)
    .where(al.c.ip.in_(bindparam("ips", expanding=True)), al.c.free_at.is_(None))
    .values(released_at=bindparam("at"), free_at=bindparam("rests_until"), moves_from=None, mover=None)
)


class Releasing(Changes):
    """Ending allocations."""

    def release(
        self,
        *,
        name: str | None = None,
        group: str | None = None,
        address: IPv4Address | None = None,
        generation: int | None = None,
        pinned: bool = False,
        reason: str = "asked",
    ) -> list[Allocation]:
        """Releases by name, group or address; what is gone already is no error and not returned.

        Args:
            name: The allocation's name.
            group: All allocations of this group.
            address: The allocation of this address.
            generation: Only if the allocation is of this generation (a fence for late callers).
            pinned: Whether pinned reservations are meant; others are then refused, and the other way round.
            reason: Why, for the audit log.

        Returns:
            The allocations released now, or released before and not confirmed gone by every dhcpd. An address that
            the released one was moving to is released with it.

        Raises:
            Conflict: The allocation is pinned (or is not, when ``pinned``), or is only moved to.
        """
        found = self.find(
            names=None if name is None else [name],
            group=group,
            addresses=None if address is None else [address],
            released=True,
        )
        if generation is not None:
            found = [one for one in found if one.generation == generation]
        live = [one for one in found if one.released_at is None]
        for one in live:
            if one.moves_from is not None:
                raise Conflict(
                    f"'{one.name}' is moving from {one.moves_from} to {one.address}.",
                    hint=f"End that with `macbind renumber {one.name} --abort`, or release '{one.name}'.",
                    name=one.name,
                )
            if one.pinned != pinned:
                raise Conflict(
                    f"'{one.name}' ({one.address}) is a pinned reservation."
                    if one.pinned
                    else f"'{one.name}' ({one.address}) is an ordinary allocation, not a pinned reservation.",
                    hint="Use `macbind unreserve`." if one.pinned else "Use `macbind release`.",
                    name=one.name,
                )
        live += self._targets(live)
        self._release_rows("unreserve" if pinned else "release", live, reason)
        # Every dhcpd has to look at what is released now, so none of it is gone yet.
        now = [self._released(one) for one in live]
        waiting = [one for one in found if one.state is State.RELEASING]
        return sorted([*now, *waiting], key=lambda one: one.address)

    def expire(self, limit: int = 1000) -> list[Allocation]:
        """Releases allocations whose time is over."""
        rows = self.db.execute(
            OVERDUE.with_only_columns(al).order_by(al.c.expires_at).limit(limit),
            {"now": self.now.timestamp()},
        ).all()
        due = self.allocations(rows)
        due += self._targets(due)
        self._release_rows("release", due, "expired")
        return due

    def _targets(self, live: Sequence[Allocation]) -> list[Allocation]:
        """What these are moving to."""
        return [move.new for move in self.moves(of=[one.address for one in live])]

    def _released(self, one: Allocation) -> Allocation:
        """An allocation as it is right after its release."""
        return replace(one, state=State.RELEASING, released_at=self.now, moves_from=None)

    def _release_rows(
        self, action: str, live: Sequence[Allocation], reason: str, *, still_used: bool = True
    ) -> None:
        """Releases.

        Args:
            action: What the audit log calls it.
            live: What to release.
            reason: Why.
            still_used: Whether a domain that used them may still have their MACs.
        """
        for pool_name in sorted({one.pool for one in live}):
            pool = self.pools[pool_name]
            generation = self.lock_pool(pool)
            mine = [one for one in live if one.pool == pool_name]
            at = self.now.timestamp()
            for some in chunks([int(one.address) for one in mine]):
                _RELEASE.run(self.db, {"ips": some, "at": at, "rests_until": at + pool.cooldown_s})
            self._mark(pool.dhcpds, [int(one.address) for one in mine], generation)
            detail = {"pool": pool_name, "reason": reason}
            self._log(
                (
                    action,
                    int(one.address),
                    one.generation,
                    one.name,
                    detail | ({"domain_uuid": one.domain_uuid} if one.domain_uuid and still_used else {}),
                )
                for one in mine
            )

    def put_aside(self, address: IPv4Address, rest_s: float) -> None:
        """Lets a released address rest for at least ``rest_s`` seconds from now."""
        until = self.now.timestamp() + rest_s
        resting = self.db.execute(
            update(al)
            .where(al.c.ip == int(address), al.c.free_at < until)
            .values(free_at=until)
            .returning(al.c.gen, al.c.name)
        ).first()
        if resting is not None:
            self._log([("put aside", int(address), resting.gen, resting.name, {"rest_s": rest_s})])
