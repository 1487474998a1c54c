"""The calls that wait for something to happen."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

from macbind.client import codec
from macbind.client.caller import Caller
from macbind.client.events import follow
from macbind.core.errors import NotYet
from macbind.core.event import Event
from macbind.core.labels import NO_LABELS, Wanted, written

_SHORTEST_WAIT_S = 0.01


class WaitingCalls(Caller):
    """Waits for names, and follows the changes."""

    def wait_bound(
        self, *names: str, generation: int | None = None, any_of: bool = False, timeout_s: float | None = None
    ) -> Sequence[str]:
        """Waits until names are bound: allocated, and confirmed by every DHCP server.

        Args:
            names: The names.
            generation: Of the allocation that is meant; for one name only.
            any_of: Whether one of the names is enough.
            timeout_s: How long to wait, in seconds; as long as the client's by default.

        Returns:
            The names that are bound.

        Raises:
            NotYet: They are not bound in time.
            NotFound: The allocation of this generation is gone.
        """
        return self._wait("bound", names, generation, any_of, timeout_s)

    def wait_free(
        self, *names: str, generation: int | None = None, any_of: bool = False, timeout_s: float | None = None
    ) -> Sequence[str]:
        """Waits until names are free: released, and gone from every DHCP server.

        With a generation it waits for the end of that allocation, whoever has the name after it.

        Args:
            names: The names.
            generation: Of the allocation that is meant; for one name only.
            any_of: Whether one of the names is enough.
            timeout_s: How long to wait, in seconds; as long as the client's by default.

        Returns:
            The names that are free.

        Raises:
            NotYet: They are not free in time.
        """
        return self._wait("free", names, generation, any_of, timeout_s)

    def wait_answers(
        self, *names: str, generation: int | None = None, any_of: bool = False, timeout_s: float | None = None
    ) -> Sequence[str]:
        """Waits until machines answer: their names are bound, and they answer ARP at their addresses with their MACs.

        The service asks, from its host. A machine that answers is up; what it serves may not be yet.

        Args:
            names: The names.
            generation: Of the allocation that is meant; for one name only.
            any_of: Whether one of the names is enough.
            timeout_s: How long to wait, in seconds; as long as the client's by default.

        Returns:
            The names whose machines answer.

        Raises:
            NotYet: They do not answer in time.
            NotFound: The allocation of this generation is gone.
            NetworkUnavailable: The service cannot ask that network.
        """
        return self._wait("answers", names, generation, any_of, timeout_s)

    def _wait(
        self,
        until: str,
        names: Sequence[str],
        generation: int | None,
        any_of: bool,
        timeout_s: float | None,
    ) -> Sequence[str]:
        params: dict[str, Any] = {"names": ",".join(names), "until": until, "any": any_of}
        if generation is not None:
            params["generation"] = generation
        ends_at = time.monotonic() + (self.timeout_s if timeout_s is None else timeout_s)
        while True:
            left_s = max(ends_at - time.monotonic(), _SHORTEST_WAIT_S)
            params["timeout_s"] = min(left_s, self.timeout_s)
            try:
                return self._answers.read(codec.NAMES, self._get("/v1/wait", params))
            except NotYet:
                if time.monotonic() >= ends_at:
                    raise

    def events(
        self,
        after: int | None = None,
        *,
        pool: str | None = None,
        name: str | None = None,
        group: str | None = None,
        labels: Wanted = NO_LABELS,
        wait: bool = True,
        give_up_s: float | None = None,
    ) -> Iterator[Event]:
        """What changes, as it changes; with the ``id`` of the last change it goes on where it was broken off.

        It has a connection of its own, and opens another one when that breaks. Nothing is missed: what is no longer
        in the audit log is a :class:`~macbind.core.event.Gap`.

        Args:
            after: Only what came after the change of this number, 0 for all; None for what comes from now on.
            pool: Only changes of this pool.
            name: Only changes of this name.
            group: Only changes of this group.
            labels: Only changes of allocations that had all of these labels; None stands for any value.
            wait: Whether to wait for more; else it ends when all that is there was given.
            give_up_s: How long the service may be out of reach; None for ever.

        Raises:
            InvalidRequest: There is no change of that number yet.
            PeerError: The service was out of reach for too long.
        """
        given = {"pool": pool, "name": name, "group": group}
        params: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
        params |= {"label": written(labels), "follow": wait}
        return follow(self.places, self._answers, params, after, give_up_s)
