"""How a change is made: commit, wait for the DHCP servers, withdraw what one of them refuses.

A job in the registry comes first. In the same transaction the change notes which confirmations it needs, so that
none is missed. Then it waits for the writers' reports until the caller's deadline. What is not confirmed by then
stays recorded and is completed later: the caller asks again. What a DHCP server *refuses* is withdrawn before the
caller hears of it, so that nothing half-done is left.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from copy import copy
from dataclasses import dataclass, replace
from ipaddress import IPv4Address
from typing import TypeVar

from macbind.core.allocation import Allocation, State
from macbind.core.errors import (
    AddressInUse,
    DhcpdRefused,
    DhcpdUnavailable,
    MacbindError,
    NetworkUnavailable,
)
from macbind.core.evidence import Evidence
from macbind.core.pool import Confirm, Pool
from macbind.core.release_cause import ReleaseCause
from macbind.engine.confirmations import Confirmations, Waiter
from macbind.engine.group_commit import GroupCommitter
from macbind.registry import evidence
from macbind.registry.pending_changes import Confirmed
from macbind.registry.queries import find, lowest_free, renumberings
from macbind.registry.release import release
from macbind.registry.renumber import drop_renumber
from macbind.registry.resting import put_aside
from macbind.registry.transaction import Transaction
from macbind.service.peers import CurrentPeers
from macbind.service.search import AHEAD, NOTHING_TAKEN, Ahead, Search
from macbind.service.waiting import Deadline, Handover

_T = TypeVar("_T")
Take = Callable[[Transaction], list[Allocation]]
TakeOthers = Callable[[Transaction, Sequence[str]], list[Allocation]]
Look = Callable[[Collection[IPv4Address]], Ahead]
"""Says which addresses may be taken, without these."""

PUT_ASIDE_S = 300.0
"""How long an address rests before it is tried again that a DHCP server refused without saying who has it."""

KNOWN_AWAY_S = 30.0
"""Nobody waits for one of several DHCP servers that has been away for so long."""


NAMES_S = 5.0
"""How long a call waits for its names to be written: longer than it takes to find out that a name server is away.
Nobody waits for one that is known to be."""


@dataclass(frozen=True, slots=True)
class _Batch:
    """The addresses of one call at one moment.

    Attributes:
        made: All of them, in the order of their names.
        new: Those that this call has made.
        pools: The pools in use.
        confirm: How many DHCP servers the caller waits for; None for as many as the pool says.
        interface: Where the network is to be asked for them, if at all.
        ahead: Addresses that may be next.
    """

    made: list[Allocation]
    new: list[Allocation]
    pools: Mapping[str, Pool]
    confirm: Confirm | None = None
    interface: str | None = None
    ahead: Sequence[IPv4Address] = ()

    def done(self, confirmed: Collection[tuple[str, IPv4Address, int | None]]) -> list[Allocation]:
        """All of them when nothing is waited for any more, and these servers have confirmed meanwhile."""
        by: dict[IPv4Address, set[str]] = defaultdict(set)
        for dhcpd, address, _ in confirmed:
            by[address].add(dhcpd)
        found = []
        for one in self.made:
            pool = self.pools[one.pool]
            names = tuple(name for name in pool.dhcpds if name in by[one.address] or name in one.confirmed_by)
            is_early = self.confirm is Confirm.ANY and not pool.is_bound_by(names)
            state = State.PENDING if is_early and pool.needs_binding(one.address) else State.BOUND
            found.append(replace(one, state=state, confirmed_by=names))
        return found


class Changes:
    """Makes changes for the use cases.

    Args:
        committer: Changes the registry.
        confirmations: Where to wait for DHCP servers.
        peers: The DHCP servers now.
        on_bound: Called with the number of addresses that a call has allocated, when they are bound.
        names: Says where names are written: what is done when each has what the registry has.
    """

    def __init__(
        self,
        committer: GroupCommitter,
        confirmations: Confirmations,
        peers: CurrentPeers,
        on_bound: Callable[[int], object] = lambda _: None,
        names: Callable[[], Sequence[Future[None]]] = tuple,
    ) -> None:
        self._on_bound, self._names = on_bound, names
        self._committer, self._confirmations, self._peers = committer, confirmations, peers
        self._handover = Handover()

    async def bind(
        self,
        actor: str,
        take: Take,
        deadline: Deadline,
        late_hint: str = "",
        take_others: TakeOthers | None = None,
        look: Look | None = None,
        confirm: Confirm | None = None,
    ) -> list[Allocation]:
        """Takes addresses; returns when every DHCP server of their pools holds the bindings.

        Args:
            actor: Who asked, for the audit log.
            take: Takes them in the registry.
            deadline: Until when the caller waits.
            late_hint: What the caller can do after the deadline, instead of what is usual.
            take_others: Takes other addresses for those names whose addresses turn out to be in use; None: nothing
                else is wanted.
            look: Says which addresses may be taken. It may ask the registry. None: nobody is asked for them first.
            confirm: How many DHCP servers the caller waits for; None for as many as the pool says.

        Raises:
            DhcpdUnavailable: The deadline ended first; the allocations stay.
            MacbindError: It is not possible, or was refused; nothing was allocated.
        """
        with self._waiter() as waiter:
            search = Search() if look is None else await self._look(look, deadline)
            try:
                batch = await self.commit(actor, lambda txn: self._await(waiter, txn, take(txn), confirm))
            except AddressInUse as error:
                raise search.error_of(error) from error
            try:
                while in_use := await self._in_use(batch, search, waiter, deadline):
                    if take_others is None or search.is_vain or deadline.is_over:
                        raise search.error()
                    batch = await self._exchange(actor, batch, in_use, waiter, take_others)
            except MacbindError as error:
                raise await self._withdraw(batch.new, error, search.in_use) from error
            if not search.is_bound:
                raise await self._late(waiter, late_hint or _stays_until_bound(batch.made))
            self._on_bound(len(batch.new))
            await self._settle_names(deadline)
            return batch.done(waiter.confirmed)

    async def _look(self, look: Look, deadline: Deadline) -> Search:
        """Asks the network for addresses that may be taken, until those that are next are silent.

        Those that answer are passed over from now on. That nobody can be asked is no error yet: the names may be
        held.
        """
        search = Search()
        with suppress(NetworkUnavailable):
            while await search.look(await asyncio.to_thread(look, [one.address for one in search.in_use])):
                if search.is_vain or deadline.is_over:
                    break
        if search.in_use:
            await self.commit("macbind", lambda txn: evidence.add(txn, search.in_use))
        return search

    def _await(
        self, waiter: Waiter, txn: Transaction, made: list[Allocation], confirm: Confirm | None = None
    ) -> _Batch:
        """Notes what has to be confirmed of a batch."""
        self._confirmations.forget(waiter)  # of an earlier batch, or a run whose transaction failed
        for one in made:
            pool = txn.pools[one.pool]
            if pool.needs_binding(one.address):
                is_one = (confirm or pool.confirm) is Confirm.ANY
                self._confirmations.expect_bound(
                    waiter, one, pool.awaited, one.confirmed_by, one_is_enough=is_one
                )
        new = [one for one in made if one.created_at == txn.now]
        return _Batch(made, new, txn.pools, confirm, txn.pools[new[0].pool].arp_probe if new else None)

    async def _in_use(
        self, batch: _Batch, search: Search, waiter: Waiter, deadline: Deadline
    ) -> list[Evidence]:
        """Evidence of those addresses that others use; none if all are bound, or the deadline has ended.

        Raises:
            NetworkUnavailable: The network cannot be asked.
            DhcpdRefused: A DHCP server refuses for another reason.
        """
        found = await search.ask(batch.interface, batch.new, batch.ahead)
        if found:
            return found
        try:
            search.is_bound = await self._confirmed(waiter, deadline)
        except DhcpdRefused as error:
            return search.refused(error, batch.new)
        return []

    async def _exchange(
        self,
        actor: str,
        batch: _Batch,
        in_use: Sequence[Evidence],
        waiter: Waiter,
        take_others: TakeOthers,
    ) -> _Batch:
        """Takes other addresses for those that others use; all other members keep theirs."""
        used = {one.address for one in in_use}

        def work(txn: Transaction) -> _Batch:
            evidence.add(txn, in_use)
            gone = [one for one in batch.new if one.address in used]
            kept = [one.address for one in batch.made if one not in gone]
            for one in gone:
                release(
                    txn,
                    address=one.address,
                    generation=one.generation,
                    reason="in use",
                    cause=ReleaseCause.WITHDRAWN,
                )
            others = take_others(txn, [one.name for one in gone]) if gone else []
            now = {one.name: one for one in [*find(txn, addresses=kept), *others]}
            following = self._await(
                waiter, txn, [now.get(one.name, one) for one in batch.made], batch.confirm
            )
            new = {one.name for one in batch.new}
            return replace(
                following,
                new=[one for one in following.made if one.name in new],
                ahead=lowest_free(txn, following.made[0].pool, AHEAD),
            )

        return await self.commit(actor, work)

    async def give_back(
        self,
        actor: str,
        give: Callable[[Transaction], tuple[_T, Sequence[Allocation]]],
        deadline: Deadline,
        late_hint: str,
    ) -> _T:
        """Gives addresses back; returns when every DHCP server has forgotten them.

        Args:
            actor: Who asked, for the audit log.
            give: Releases them in the registry; returns the use case's result, and what was released.
            deadline: Until when the caller waits.
            late_hint: What the caller can do after the deadline.

        Raises:
            DhcpdUnavailable: The deadline ended first; the release stays recorded.
            MacbindError: It is not possible.
        """
        with self._waiter() as waiter:

            def work(txn: Transaction) -> _T:
                self._confirmations.forget(waiter)
                result, gone = give(txn)
                before = {one.address for one in gone if one.released_at != txn.now}
                confirmed = Confirmed(txn, before)
                for one in gone:
                    dhcpds = txn.pools[one.pool].awaited
                    if one.address in before:
                        at = one.address, one.generation
                        dhcpds = tuple(name for name in dhcpds if not confirmed.has_let_go(name, *at))
                    self._confirmations.expect_gone(waiter, one, dhcpds)
                return result

            result = await self.commit(actor, work)
            try:
                in_time = await self._confirmed(waiter, deadline)
            except MacbindError as error:
                raise copy(error) from error  # others who wait for the same address get the same one
            if not in_time:
                raise await self._late(waiter, late_hint)
            await self._settle_names(deadline)
            return result

    async def _settle_names(self, deadline: Deadline) -> None:
        """Waits until names are as the registry has them, a moment at most: they are no reason for an error."""
        waiting = [self._handover.future(one) for one in self._names()]
        if waiting and not deadline.is_over:
            await asyncio.wait(waiting, timeout=NAMES_S)

    async def commit(self, actor: str, work: Callable[[Transaction], _T]) -> _T:
        """Runs ``work`` in a transaction; returns its result when that is durable."""
        return await self._handover.future(self._committer.submit(actor, work))

    async def rehearse(self, actor: str, work: Callable[[Transaction], _T]) -> _T:
        """What ``work`` would do: it runs in a transaction, and all of it is undone. Nobody is asked or told.

        Raises:
            MacbindError: It would not be possible.
        """

        def undone(txn: Transaction) -> _T:
            with txn.undone():
                return work(txn)

        return await self.commit(actor, undone)

    @contextmanager
    def _waiter(self) -> Iterator[Waiter]:
        """Waits for confirmations, and is forgotten in the end."""
        waiter = Waiter()
        try:
            yield waiter
        finally:
            self._confirmations.forget(waiter)

    async def _confirmed(self, waiter: Waiter, deadline: Deadline) -> bool:
        """Whether everything was confirmed before the deadline.

        Raises:
            MacbindError: A DHCP server refuses.
        """
        if not waiter.has_to_wait:
            return True
        confirmed = self._handover.future(waiter.future)
        if not confirmed.done() and waiter.cannot_end(self._known_away()):
            return False  # what is recorded is done when they are back
        if not await deadline.wait(confirmed):
            return False
        confirmed.result()
        return True

    def _known_away(self) -> set[str]:
        """The DHCP servers that no controller has reached for long, where another one serves the same machines."""
        writers = self._peers().writers
        if len(writers) < 2:
            return set()
        is_served = self._confirmations.is_served_elsewhere
        return {name for name, one in writers.items() if one.away_s > KNOWN_AWAY_S and not is_served(name)}

    async def _withdraw(
        self, new: Sequence[Allocation], error: MacbindError, in_use: Sequence[Evidence]
    ) -> MacbindError:
        """Takes back what this request made; addresses in use are passed over, a refused one rests a while.

        What was allocated by an earlier request is not touched: its machine may be running.

        Returns:
            The error for the caller, which says what is left.
        """
        error = copy(error)  # others who wait for the same address get the same error
        if not new:
            return error
        used = {str(one.address) for one in in_use}
        refused = {error.details.get("address")} - used

        def work(txn: Transaction) -> None:
            evidence.add(txn, in_use)
            for one in new:
                if one.renumbers_from is not None:
                    for begun in renumberings(txn, of=[one.renumbers_from]):
                        if begun.new.generation == one.generation:
                            drop_renumber(txn, begun, error.code)
                else:
                    release(
                        txn,
                        address=one.address,
                        generation=one.generation,
                        pinned=one.pinned,
                        reason=error.code,
                        cause=ReleaseCause.WITHDRAWN,
                    )
                if str(one.address) in refused:
                    put_aside(txn, one.address, PUT_ASIDE_S)

        try:
            await self.commit("macbind", work)
        except MacbindError:
            kept = f"{_stays(new)}, for the registry could not take it back: release it, or ask again."
        else:
            kept = "Nothing was allocated."
            if used:
                kept = NOTHING_TAKEN
            elif refused != {None}:
                kept = (
                    f"Nothing was allocated; {refused.pop()} is put aside for {PUT_ASIDE_S / 60:.0f} minutes."
                )
        error.hint = f"{error.hint} {kept}".lstrip()
        return error

    async def _late(self, waiter: Waiter, hint: str) -> MacbindError:
        """The error for confirmations that did not come, with what their DHCP servers said last."""
        writers = self._peers().writers
        names, addresses = sorted(waiter.dhcpds & writers.keys()), sorted(waiter.addresses)
        if not names:  # confirmed at the very moment
            return DhcpdUnavailable("dhcpd did not answer in time.", hint="Ask again.")
        states = [await asyncio.to_thread(writers[name].status) for name in names]
        reasons = " ".join(state.problem for state in states if state.problem)
        which = f"{addresses[0]}" if len(addresses) == 1 else f"{len(addresses)} addresses"
        return DhcpdUnavailable(
            f"dhcpd {' and '.join(names)} has not confirmed {which} in time. {reasons}".rstrip(),
            hint=hint,
            dhcpds=names,
            addresses=[str(address) for address in addresses[:100]],
        )


def _stays(made: Sequence[Allocation]) -> str:
    """The beginning of a sentence: what stays allocated."""
    first, last = made[0], made[-1]
    if first is last:
        return f"{first.address} stays allocated to '{first.name}'"
    return f"All {len(made)} addresses, '{first.name}' to '{last.name}', stay allocated"


def _stays_until_bound(made: Sequence[Allocation]) -> str:
    become = "becomes" if len(made) == 1 else "become"
    return (
        f"{_stays(made)} and {become} bound when dhcpd is back: ask again with the same name, or release it."
    )
