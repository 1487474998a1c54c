"""The use case of waiting: somebody asks once, and is answered when it has happened.

All who wait are looked after at once, after each commit and each confirmation, and now and then: another controller
writes to the same registry.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import structlog

from macbind.core.errors import MacbindError, NotYet
from macbind.registry.awaited import Meant, Until, outcomes
from macbind.registry.store import Registry
from macbind.service.events import Changed
from macbind.service.waiting import Deadline

_log = structlog.get_logger()
_LOOK_S = 0.5
"""How often the registry is looked at without a reason."""
_PACE_S = 0.0002
"""The least time between two looks for each who waits."""


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


class Awaiting:
    """Answers those who wait. Used in the event loop only.

    Args:
        registry: The truth.
        changed: Notified after each commit and each confirmation.
    """

    def __init__(self, registry: Registry, changed: Changed) -> None:
        self._registry, self._changed = registry, changed
        self._waiters: set[_Waiter] = set()
        self._task: asyncio.Task[None] | None = None

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
        """
        waiter = _Waiter(tuple(meant), until, is_any, asyncio.get_running_loop().create_future())
        self._waiters.add(waiter)
        if self._task is None:
            self._task = asyncio.create_task(self._look_after())
        self._changed.notify()
        try:
            if await deadline.wait(waiter.done):
                waiter.done.result()
                return [name for name, generation in meant if (name, generation) in waiter.happened]
        finally:
            self._waiters.discard(waiter)
            waiter.done.cancel()
            if not self._waiters and self._task is not None:
                self._task.cancel()
                self._task = None
        missing = [name for name, generation in meant if (name, generation) not in waiter.happened]
        which = ", ".join(missing[:10]) + " …" * (len(missing) > 10)
        raise NotYet(
            f"{which} {'is' if len(missing) == 1 else 'are'} not {until} yet.",
            hint="Ask again to go on waiting; `macbind why NAME` says what is missing.",
            names=missing[:100],
        )

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
            await asyncio.sleep(len(self._waiters) * _PACE_S)

    def _look(self, waiters: Sequence[_Waiter]) -> dict[Until, dict[Meant, MacbindError | None]]:
        asked = {
            until: {meant for one in waiters if one.until is until for meant in one.meant} for until in Until
        }
        with self._registry.read() as view:
            return {until: outcomes(view, meant, until) for until, meant in asked.items()}
