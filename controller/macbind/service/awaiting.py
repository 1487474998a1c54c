"""The use case of waiting: somebody asks once, and is answered when it has happened.

All who wait are looked after at once, after each commit and each confirmation, and now and then: another controller
writes to the same registry. Those who wait for a machine's answer are looked after apart: the network takes its time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

import structlog

from macbind.core.errors import MacbindError, NotYet
from macbind.registry.awaited import Meant, Until, bound, free
from macbind.registry.store import Registry
from macbind.service.answering import answering
from macbind.service.events import Changed
from macbind.service.waiting import Deadline

_log = structlog.get_logger()
_LOOK_S = 0.5
"""How often the registry is looked at without a reason."""
_PACE_S = 0.0002
"""The least time between two looks for each who waits."""
_NETWORK_PACE_S = 0.25
"""The least time between two looks at the network."""
_SAID = {Until.BOUND: "not bound", Until.FREE: "not free", Until.ANSWERS: "not answering"}

Outcomes = Mapping[Until, Mapping[Meant, MacbindError | None]]
"""What has happened, with None, and what never will, with why; by what is waited for."""


@dataclass(eq=False)
class _Waiter:
    """One who waits.

    Attributes:
        meant: The names, each with the generation that is meant.
        until: What for.
        is_any: Whether one of them is enough.
        happened: Those for which it has happened.
        done: Resolved in the end.
    """

    meant: tuple[Meant, ...]
    until: Until
    is_any: bool
    done: asyncio.Future[None]
    happened: set[Meant] = field(default_factory=set)

    def take(self, found: Mapping[Meant, MacbindError | None]) -> None:
        """Takes what has happened."""
        for one in self.meant:
            if one not in found or self.done.done():
                continue
            error = found[one]
            if error is not None:
                self.done.set_exception(error)
            else:
                self.happened.add(one)
        enough = 1 if self.is_any else len(self.meant)
        if not self.done.done() and len(self.happened) >= enough:
            self.done.set_result(None)


class _Lookout:
    """Looks for all who wait at once, again and again while there are any. Used in the event loop only.

    Args:
        changed: Notified when there may be something to see.
        look: Says what has happened; called in a thread.
        pace_s: The least time between two looks.
    """

    def __init__(
        self, changed: Changed, look: Callable[[Sequence[_Waiter]], Outcomes], pace_s: float = 0.0
    ) -> None:
        self._changed, self._look, self._pace_s = changed, look, pace_s
        self._waiters: set[_Waiter] = set()
        self._task: asyncio.Task[None] | None = None

    def begin(self, waiter: _Waiter) -> None:
        """Looks for one more."""
        self._waiters.add(waiter)
        if self._task is None:
            self._task = asyncio.create_task(self._look_after())
        self._changed.notify()

    def end(self, waiter: _Waiter) -> None:
        """Looks no more for one."""
        self._waiters.discard(waiter)
        waiter.done.cancel()
        if not self._waiters and self._task is not None:
            self._task.cancel()
            self._task = None

    async def _look_after(self) -> None:
        while True:
            with self._changed.noted() as changed:
                waiters = list(self._waiters)
                try:
                    found = await asyncio.to_thread(self._look, waiters)
                except MacbindError as error:
                    _log.warning("waiting", problem=error.message)
                else:
                    for one in waiters:
                        one.take(found[one.until])
                await asyncio.wait((changed,), timeout=_LOOK_S)
            await asyncio.sleep(max(self._pace_s, len(self._waiters) * _PACE_S))


class Awaiting:
    """Answers those who wait. Used in the event loop only.

    Args:
        registry: The truth.
        changed: Notified after each commit and each confirmation.
    """

    def __init__(self, registry: Registry, changed: Changed) -> None:
        self._registry = registry
        self._registered = _Lookout(changed, self._look)
        self._answering = _Lookout(changed, self._listen, _NETWORK_PACE_S)

    async def wait(
        self, meant: Sequence[Meant], until: Until, deadline: Deadline, *, is_any: bool
    ) -> list[str]:
        """The names for which it has happened: one of them, or all.

        Args:
            meant: The names, each with the generation that is meant.
            until: What is waited for.
            deadline: Until when the caller waits.
            is_any: Whether one of them is enough.

        Raises:
            NotYet: It has not happened before the deadline.
            NotFound: It never will.
            NetworkUnavailable: The network cannot be asked for an answer.
        """
        waiter = _Waiter(tuple(meant), until, is_any, asyncio.get_running_loop().create_future())
        lookout = self._answering if until is Until.ANSWERS else self._registered
        lookout.begin(waiter)
        try:
            if await deadline.wait(waiter.done):
                waiter.done.result()
                return [name for name, generation in meant if (name, generation) in waiter.happened]
        finally:
            lookout.end(waiter)
        missing = [name for name, generation in meant if (name, generation) not in waiter.happened]
        which = ", ".join(missing[:10]) + " …" * (len(missing) > 10)
        raise NotYet(
            f"{which} {'is' if len(missing) == 1 else 'are'} {_SAID[until]} yet.",
            hint="Ask again to go on waiting; `macbind why NAME` says what is missing.",
            names=missing[:100],
        )

    def _look(self, waiters: Sequence[_Waiter]) -> Outcomes:
        with self._registry.read() as view:
            held = bound(view, _meant(waiters, Until.BOUND))
            gone = free(view, _meant(waiters, Until.FREE))
        return {
            Until.BOUND: {one: how if isinstance(how, MacbindError) else None for one, how in held.items()},
            Until.FREE: dict.fromkeys(gone),
        }

    def _listen(self, waiters: Sequence[_Waiter]) -> Outcomes:
        return {Until.ANSWERS: answering(self._registry, _meant(waiters, Until.ANSWERS))}


def _meant(waiters: Sequence[_Waiter], until: Until) -> Collection[Meant]:
    """All for which somebody waits."""
    return {meant for one in waiters if one.until is until for meant in one.meant}
