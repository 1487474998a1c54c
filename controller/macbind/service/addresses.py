"""The use cases: allocate, release, reserve, move, list.

Each change is one job in the registry, and then a wait for every dhcpd concerned. What dhcpd does not confirm
within the caller's deadline stays recorded and is completed later, so the same name can simply ask again.
What dhcpd *refuses* is taken back before the caller is told, so that nothing half-done is left.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from copy import copy
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address, IPv4Interface
from types import MappingProxyType
from typing import Any, Generic, Protocol, TypeVar

import structlog
from sqlalchemy import make_url

from macbind import __version__
from macbind.addressing import MacAddress
from macbind.arp import Prober
from macbind.committer import Committer
from macbind.confirmations import Confirmations, Waiter
from macbind.errors import (
    DhcpdUnavailable,
    HypervisorUnavailable,
    MacbindError,
    NotFound,
    RegistryUnavailable,
)
from macbind.health import Health, Monitor
from macbind.model import (
    NO_OPTIONS,
    Allocation,
    AuditEntry,
    DhcpdState,
    DhcpdStatus,
    Finding,
    HypervisorStatus,
    Move,
    PoolUsage,
    Released,
    State,
    Status,
    Told,
)
from macbind.options import DhcpOptions
from macbind.registry.moving import Mover
from macbind.registry.store import Registry
from macbind.registry.transaction import Transaction, Wanted
from macbind.writer import Writer

_T = TypeVar("_T")
_R = TypeVar("_R")
_log = structlog.get_logger()

PUT_ASIDE_S = 300.0
"""How long an address that dhcpd or a stranger denied us rests before it is tried again."""
_NEIGHBOURS = "(neighbours)"
"""Who is waited for when the network is asked; no dhcpd can have this name."""


class Pending(Generic[_R]):
    """A change on its way through registry and dhcpd.

    Attributes:
        future: Resolved with the result once every dhcpd has confirmed, or with the error.
    """

    def __init__(self, overdue: Callable[[], MacbindError]) -> None:
        self.future: Future[_R] = Future()
        self.future.set_running_or_notify_cancel()  # a caller that goes away must not cancel the work
        self._overdue = overdue

    def give_up(self) -> MacbindError:
        """Stops waiting; returns the error for a caller whose deadline has passed. The change stays."""
        return self._overdue()

    def result(self, timeout_s: float) -> _R:
        """Waits for the result.

        Raises:
            DhcpdUnavailable: Not confirmed within ``timeout_s`` seconds.
            MacbindError: What was asked for is not possible.
        """
        try:
            return self.future.result(timeout_s)
        except TimeoutError:
            raise self.give_up() from None


class MachineWatch(Protocol):
    """What the service asks of whoever watches libvirt."""

    def status(self) -> tuple[HypervisorStatus, ...]:
        """How things stand with each hypervisor."""

    def findings(self) -> list[Finding]:
        """What an admin should look at."""

    def release_abandoned(self) -> None:
        """Releases allocations whose domain never appeared."""

    def settle_moves(self) -> None:
        """Finishes or aborts moves that nobody has ended in time."""


class AddressService:
    """What cores and admins ask for.

    Args:
        registry: The truth.
        committer: Changes it.
        confirmations: Where to wait for dhcpd.
        writers: One per dhcpd, by name.
        machines: What watches libvirt, if anything does.
        monitors: What watches the dhcpds from other sides, by name.
    """

    def __init__(
        self,
        registry: Registry,
        committer: Committer,
        confirmations: Confirmations,
        writers: dict[str, Writer],
        machines: MachineWatch | None = None,
        monitors: Mapping[str, Monitor] = MappingProxyType({}),
    ) -> None:
        self._registry, self._committer = registry, committer
        self._confirmations, self._writers, self._machines = confirmations, writers, machines
        self._monitors = monitors
        self._prober = Prober()
        self._started_at = datetime.now(UTC)

    def close(self) -> None:
        """Waits for what runs in the background."""
        self._prober.close()

    # -- changes ---------------------------------------------------------------------------------------

    def allocate(self, wanted: Wanted, actor: str) -> Pending[list[Allocation]]:
        """Allocates; resolved when every required dhcpd holds the reservations: the machines may start."""
        return self._bind(actor, lambda txn: txn.allocate(wanted))

    def reserve(
        self,
        name: str,
        address: IPv4Address,
        actor: str,
        *,
        mac: MacAddress | None = None,
        options: DhcpOptions = NO_OPTIONS,
    ) -> Pending[list[Allocation]]:
        """Pins one address; resolved when every required dhcpd holds the reservation."""
        return self._bind(actor, lambda txn: [txn.reserve(name, address, mac=mac, options=options)])

    def begin_move(
        self,
        name: str,
        to: IPv4Address,
        actor: str,
        *,
        deadline_s: float,
        mover: Mover | None = None,
        generation: int | None = None,
    ) -> Pending[list[Allocation]]:
        """Takes the address a name is to move to; resolved with both when every required dhcpd holds it.

        Args:
            name: The name.
            to: The address.
            actor: Who asked, for the audit log.
            deadline_s: After so many seconds from now the move is settled by itself.
            mover: The process that asks: until then and while it lives, the move is its own.
            generation: Only to go on with the move to the allocation of this generation.
        """

        def take(txn: Transaction) -> list[Allocation]:
            until = txn.now + timedelta(seconds=deadline_s)
            move = txn.begin_move(name, to, until, mover, generation=generation)
            return [move.old, move.new]

        hint = (
            f"{to} is held for '{name}' and becomes bound when dhcpd is back: ask again in the same way, or give the "
            f"move up with `macbind renumber {name} --abort`."
        )
        return self._bind(actor, take, hint)

    def finish_move(
        self, name: str, generation: int, actor: str, *, mover: Mover | None = None
    ) -> Pending[Move]:
        """The name has arrived; resolved when its old address is gone from every dhcpd."""
        waiter = Waiter()

        def work(txn: Transaction) -> Move:
            self._confirmations.forget(waiter)
            move = txn.finish_move(name, generation, mover)
            if move.old.released_at is not None:
                self._confirmations.expect_gone(waiter, move.old.address, txn.pools[move.old.pool].dhcpds)
            return move

        def overdue() -> MacbindError:
            late = self._late(waiter)
            late.hint = "The move is recorded; the old address becomes free when dhcpd is back."
            return late

        return self._change(actor, work, waiter, lambda move: move, lambda _: None, overdue)

    def abort_move(
        self, name: str, actor: str, *, generation: int | None = None, mover: Mover | None = None
    ) -> Pending[Released]:
        """Gives a move up; resolved when the address moved to is gone from every dhcpd."""
        return self._give_back(actor, lambda txn: txn.abort_move(name, generation, mover=mover))

    def _bind(
        self, actor: str, take: Callable[[Transaction], list[Allocation]], late_hint: str = ""
    ) -> Pending[list[Allocation]]:
        waiter = Waiter()
        made: list[Allocation] = []
        new: list[Allocation] = []

        def work(txn: Transaction) -> list[Allocation]:
            self._confirmations.forget(waiter)  # of an earlier run whose transaction failed
            made[:] = take(txn)
            new[:] = [one for one in made if one.created_at == txn.now]
            for one in made:
                pool = txn.pools[one.pool]
                if pool.needs_host(one.address):
                    self._confirmations.expect_bound(waiter, one, pool.dhcpds)
                if pool.arp_probe and one in new:
                    self._confirmations.expect_answer(waiter, _NEIGHBOURS, one)
            return made

        def bound(allocations: list[Allocation]) -> list[Allocation]:
            return [replace(one, state=State.BOUND) for one in allocations]

        def overdue() -> MacbindError:
            late = self._late(waiter)
            if not made:
                return late
            become = "becomes" if len(made) == 1 else "become"
            way = "ask again with the same name, or release it."
            late.hint = late_hint or f"{_stays(made)} and {become} bound when dhcpd is back: {way}"
            return late

        def withdraw(error: MacbindError) -> Future[Any] | None:
            return self._withdraw(new, error)

        return self._change(actor, work, waiter, bound, withdraw, overdue, lambda: self._probe(new))

    def _probe(self, new: Sequence[Allocation]) -> None:
        """Asks the network whether somebody uses what was just allocated, where its pool wants that."""
        if new and (interface := self._registry.pools[new[0].pool].arp_probe):
            self._prober.submit(interface, list(new), self._on_probed)

    def _on_probed(self, one: Allocation, stranger: MacbindError | None) -> None:
        if stranger is None:
            self._confirmations.answered(_NEIGHBOURS, one)
        else:
            _log.warning("arp", address=str(one.address), problem=stranger.message)
            self._confirmations.refused(_NEIGHBOURS, one.address, one.generation, stranger)

    def release(
        self,
        actor: str,
        *,
        name: str | None = None,
        group: str | None = None,
        address: IPv4Address | None = None,
        generation: int | None = None,
        pinned: bool = False,
        reason: str = "asked",
    ) -> Pending[Released]:
        """Releases; resolved when reservation and leases are gone from every dhcpd."""
        return self._give_back(
            actor,
            lambda txn: txn.release(
                name=name, group=group, address=address, generation=generation, pinned=pinned, reason=reason
            ),
        )

    def _give_back(self, actor: str, give: Callable[[Transaction], list[Allocation]]) -> Pending[Released]:
        waiter = Waiter()

        def work(txn: Transaction) -> list[Allocation]:
            self._confirmations.forget(waiter)
            gone = give(txn)
            for one in gone:
                self._confirmations.expect_gone(waiter, one.address, txn.pools[one.pool].dhcpds)
            return gone

        def done(gone: list[Allocation]) -> Released:
            return Released(tuple(gone), already_gone=not gone)

        def overdue() -> MacbindError:
            late = self._late(waiter)
            late.hint = (
                "The release is recorded; the addresses become free when dhcpd is back. "
                "Release again to wait for it."
            )
            return late

        return self._change(actor, work, waiter, done, lambda _: None, overdue)

    def _change(
        self,
        actor: str,
        work: Callable[[Transaction], _T],
        waiter: Waiter,
        finish: Callable[[_T], _R],
        undo: Callable[[MacbindError], Future[Any] | None],
        overdue: Callable[[], MacbindError],
        begin: Callable[[], None] = lambda: None,
    ) -> Pending[_R]:
        """Commits ``work``, then ``begin``s to wait, and resolves; a refusal is undone before it is told."""
        pending: Pending[_R] = Pending(lambda: overdue() if job.done() else _registry_late())
        future = pending.future

        def committed(job: Future[_T]) -> None:
            error = job.exception()
            if error is not None:
                self._confirmations.forget(waiter)
                future.set_exception(error)
            elif not waiter.has_to_wait:
                future.set_result(finish(job.result()))
            else:
                waiter.future.add_done_callback(lambda _: settled(job.result()))
                begin()

        def settled(value: _T) -> None:
            error = waiter.future.exception()
            if error is None:
                future.set_result(finish(value))
                return
            told = copy(error)  # others who wait for the same address get the same error
            undone = undo(told) if isinstance(told, MacbindError) else None
            if undone is None:
                future.set_exception(told)
            else:
                undone.add_done_callback(lambda _: future.set_exception(told))

        job = self._committer.submit(actor, work)
        job.add_done_callback(committed)
        return pending

    def _withdraw(self, new: Sequence[Allocation], error: MacbindError) -> Future[Any] | None:
        """Takes back what this request made and dhcpd refused; the address in question rests a while.

        What was allocated by an earlier request is not touched: its machine may be running.
        """
        if not new:
            return None
        refused = str(error.details.get("address"))

        def work(txn: Transaction) -> None:
            for one in new:
                if one.moves_from is not None:
                    txn.abort_move(one.name, one.generation, reason=error.code)
                else:
                    txn.release(
                        address=one.address, generation=one.generation, pinned=one.pinned, reason=error.code
                    )
                if str(one.address) == refused:
                    txn.put_aside(one.address, PUT_ASIDE_S)

        hint = error.hint

        def tell(job: Future[None]) -> None:
            if job.exception() is None:
                kept = f"Nothing was allocated; {refused} is put aside for {PUT_ASIDE_S / 60:.0f} minutes."
            else:
                kept = f"{_stays(new)}, for the registry could not take it back: release it, or ask again."
            error.hint = f"{hint} {kept}"

        job = self._committer.submit("macbind", work)
        job.add_done_callback(tell)  # before the caller is told, whose callback comes after this one
        return job

    def _late(self, waiter: Waiter) -> MacbindError:
        """The error for confirmations that did not come, with what their dhcpds said last."""
        names = sorted(waiter.dhcpds & self._writers.keys())
        addresses = sorted(waiter.addresses)
        self._confirmations.forget(waiter)
        if not names:  # confirmed at the very moment
            return DhcpdUnavailable("dhcpd did not answer in time.", hint="Ask again.")
        states = [self._writers[name].status() for name in names]
        reasons = " ".join(state.problem for state in states if state.problem)
        which = f"{addresses[0]}" if len(addresses) == 1 else f"{len(addresses)} addresses"
        return DhcpdUnavailable(
            f"dhcpd {' and '.join(names)} has not confirmed {which} in time. {reasons}".rstrip(),
            dhcpds=names,
            addresses=[str(address) for address in addresses[:100]],
        )

    # -- questions -------------------------------------------------------------------------------------

    def page(
        self,
        *,
        pool: str | None = None,
        group: str | None = None,
        address: IPv4Address | None = None,
        mac: MacAddress | None = None,
        released: bool = False,
        after: IPv4Address | None = None,
        limit: int = 500,
    ) -> list[Allocation]:
        """A page of allocations in the order of their addresses."""
        addresses = None if address is None else [address]
        with self._registry.read() as view:
            return view.find(
                pool=pool,
                group=group,
                addresses=addresses,
                mac=mac,
                released=released,
                after=after,
                limit=limit,
            )

    def get(self, name: str) -> Allocation:
        """The allocation of that name.

        Raises:
            NotFound: There is none.
        """
        with self._registry.read() as view:
            found = view.find(names=[name])
        if not found:
            raise NotFound(f"There is no allocation '{name}'.", hint="`macbind list` shows all.", name=name)
        return found[0]

    def told(self, name: str) -> Told:
        """What the machine of that name is told of its place in the network.

        Raises:
            NotFound: There is no such allocation.
        """
        one = self.get(name)
        pool = self._registry.pools[one.pool]
        interface = IPv4Interface(f"{one.address}/{pool.subnet.network.prefixlen}")
        return Told(one.name, one.mac, interface, pool.told(one.address, one.options))

    def moves(self) -> list[Move]:
        """The moves under way."""
        with self._registry.read() as view:
            return view.moves()

    def pools(self) -> list[PoolUsage]:
        """All pools in numbers, by name."""
        with self._registry.read() as view:
            return [view.usage(name) for name in sorted(view.pools)]

    def history(
        self, *, address: IPv4Address | None = None, name: str | None = None, limit: int = 100
    ) -> list[AuditEntry]:
        """The latest changes, newest first."""
        with self._registry.read() as view:
            return view.history(address=address, name=name, limit=limit)

    def status(self) -> Status:
        """The service at a glance."""
        dhcpds = tuple(self._dhcpd(name) for name in sorted(self._writers))
        findings = [finding for one in dhcpds for finding in one.findings]
        pools = self.pools()
        findings += [
            Finding(
                "pool_exhausted",
                f"The pool '{one.pool}' has no unoccupied address left.",
                "Release what is not needed, or widen its ranges.",
            )
            for one in pools
            if not one.free
        ]
        findings += [_unfinished(move) for move in self.moves() if _is_overdue(move)]
        hypervisors = self._machines.status() if self._machines else ()
        findings += [Finding(HypervisorUnavailable.code, one.problem) for one in hypervisors if one.problem]
        findings += self._machines.findings() if self._machines else []
        return Status(
            version=__version__,
            started_at=self._started_at,
            registry=make_url(self._registry.url).render_as_string(hide_password=True),
            dhcpds=dhcpds,
            pools=tuple(pools),
            findings=tuple(findings),
            hypervisors=hypervisors,
        )

    def _dhcpd(self, name: str) -> DhcpdStatus:
        """What writer and monitor know of a dhcpd."""
        status, health = self._writers[name].status(), self._health(name)
        return replace(
            status,
            state=self._state(name),
            answered_at=health.answered_at,
            findings=tuple(dict.fromkeys((*status.findings, *health.findings))),
        )

    def _state(self, name: str) -> DhcpdState:
        state = self._writers[name].state
        return DhcpdState.DEAF if state is DhcpdState.SERVING and self._health(name).is_deaf else state

    def _health(self, name: str) -> Health:
        monitor = self._monitors.get(name)
        return Health() if monitor is None else monitor.health

    @property
    def summary(self) -> str:
        """One line for the service manager: how each dhcpd is."""
        return ", ".join(f"dhcpd {name}: {self._state(name)}" for name in sorted(self._writers))

    def chores(self) -> None:
        """Releases what has expired, frees what has rested, looks after those who wait long. Call often."""
        # Where another controller writes, only the registry tells what was confirmed.
        standby = [name for name, one in self._writers.items() if one.state is DhcpdState.STANDBY]
        self._confirmations.recheck(self._registry, older_than_s=0.5, dhcpds=standby)
        if self._machines:
            self._machines.release_abandoned()
            self._machines.settle_moves()
        with self._registry.read() as view:
            due = view.has_chores(datetime.now(UTC))

        def work(txn: Transaction) -> None:
            txn.expire()
            for pool in txn.pools.values():
                txn.lock_pool(pool)
                txn.sweep(pool, 1000)

        if due:
            self._committer.submit("macbind", work).result()

    def trim(self, before: datetime) -> bool:
        """Forgets some audit entries older than ``before``; True if there may be more."""
        return self._committer.submit("macbind", lambda txn: txn.trim_audit(before)).result() > 0


def _stays(made: Sequence[Allocation]) -> str:
    """The beginning of a sentence: what stays allocated."""
    first, last = made[0], made[-1]
    if first is last:
        return f"{first.address} stays allocated to '{first.name}'"
    return f"All {len(made)} addresses, '{first.name}' to '{last.name}', stay allocated"


def _is_overdue(move: Move) -> bool:
    return move.new.expires_at is not None and move.new.expires_at <= datetime.now(UTC)


def _unfinished(move: Move) -> Finding:
    name = move.old.name
    return Finding(
        "move_unfinished",
        f"'{name}' was to move from {move.old.address} to {move.new.address}, and nobody can say whether it has: "
        "both are kept.",
        f"Repeat `macbind renumber {name} --to {move.new.address}` as it was, or give it up with --abort.",
    )


def _registry_late() -> RegistryUnavailable:
    return RegistryUnavailable(
        "The registry has not taken the change in time.",
        hint="It is busy, or another process holds its write lock. It may take the change yet: ask again with the "
        "same name to see.",
    )
