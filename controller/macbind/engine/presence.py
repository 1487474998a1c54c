"""Says in the registry that this controller is there, and knows who else is.

A thread of its own says so, every few seconds and whenever something changes. So a long look of another part does
not make the controller seem dead. What it knows of the others is read at the same time, and again at a hint.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

import structlog

from macbind.core.controllers import Said, claimant, leader_of, may_claim
from macbind.core.errors import PeerError
from macbind.core.findings import ControllerStatus
from macbind.engine.supervised import OnDefect, Supervised
from macbind.registry import controllers as table
from macbind.registry.news import News, tell
from macbind.registry.store import Registry

_log = structlog.get_logger()

EVERY_S = 2.0
"""How often a controller says that it is there."""
_TIDY_S = 60.0


class Presence:
    """This controller among the others. Any thread may ask it.

    Args:
        registry: Has the table.
        me: What this controller is.
        said: What it says of itself at the moment.
        on_change: Called when others have come or gone, or lead something else.
        on_defect: Called with a defect of ours.
    """

    def __init__(
        self,
        registry: Registry,
        me: table.Me,
        said: Callable[[], Said],
        on_change: Callable[[], object],
        on_defect: OnDefect = lambda _: None,
    ) -> None:
        self._registry, self._me, self._said = registry, me, said
        self._on_change = on_change
        self._known: tuple[ControllerStatus, ...] = ()
        self._announced: Said | None = None
        self._read_at = self._tell_at = self._tidy_at = float("-inf")
        self._wake = threading.Event()
        self._thread = Supervised(
            "presence",
            self._turn,
            on_defect,
            on_trouble=lambda error: _log.warning("presence", problem=str(error)),
            at_end=self._leave,
        )

    def start(self) -> None:
        """Says that it is there, and learns who else is, before it returns; then starts the thread.

        Raises:
            RegistryUnavailable: The registry cannot be used now.
        """
        self._look()
        self._thread.start()

    def close(self) -> None:
        """Says that it ends."""
        self._thread.stopping.set()
        self._wake.set()
        self._thread.close()

    def look_soon(self) -> None:
        """Something may have changed, here or elsewhere; cheap, and safe from any thread."""
        self._wake.set()

    # -- what is known ---------------------------------------------------------------------------------

    def others(self) -> list[ControllerStatus]:
        """The others that are alive; none if the registry could not be asked lately."""
        if time.monotonic() - self._read_at > table.SILENT_S:
            return []
        return [one for one in self._known if one.is_alive and one.id != self._me.id]

    def serves(self, dhcpd: str) -> bool:
        """Whether another controller writes to a DHCP server, and gets on with it."""
        leader = leader_of(self.others(), dhcpd)
        lead = None if leader is None else leader.lead(dhcpd)
        return lead is not None and lead.state.is_good

    def claims(self, dhcpd: str) -> bool:
        """Whether another controller should have the lead of a DHCP server that this one has."""
        others = self.others()
        return any(dhcpd in one.wants for one in others) and claimant(others, dhcpd, self._myself())

    def may_claim(self, dhcpd: str) -> bool:
        """Whether this controller should have the lead of a DHCP server that another one has."""
        return may_claim(self.others(), dhcpd, self._myself())

    def _myself(self) -> ControllerStatus:
        """This controller as it is now; before the registry knows of it, it comes after all others."""
        now = datetime.now(UTC)
        me = next((one for one in self._known if one.id == self._me.id), None)
        if me is None:
            me = ControllerStatus(
                self._me.id, self._me.host, self._me.socket, self._me.version, now, now, is_alive=True
            )
        said = self._said()
        return replace(me, leads=said.leads, wants=said.wants)

    # -- the thread ------------------------------------------------------------------------------------

    def _turn(self) -> None:
        self._wake.wait(EVERY_S)
        self._wake.clear()
        if not self._thread.stopping.is_set():
            self._look()

    def _look(self) -> None:
        """Says what is new, or that it is still there; reads what the others say."""
        now, said = time.monotonic(), self._said()
        is_new = said != self._announced
        with self._registry.aside() as db:
            if is_new or now >= self._tell_at:
                table.announce(db, self._me, said)
            if is_new:
                tell(db, self._registry.origin, [News.WHO])
            if now >= self._tidy_at:
                table.forget(db, table.gone(db))
            known = tuple(table.controllers(db))
        if is_new or now >= self._tell_at:
            self._announced, self._tell_at = said, now + EVERY_S * 0.9
        if now >= self._tidy_at:
            self._tidy_at = now + _TIDY_S
        before = _facts(self.others())
        self._known, self._read_at = known, now
        if _facts(self.others()) != before:
            self._on_change()

    def _leave(self) -> None:
        try:
            with self._registry.aside() as db:
                table.forget(db, [self._me.id])
                tell(db, self._registry.origin, [News.WHO])
        except PeerError as error:  # the others find out by themselves
            _log.warning("presence", problem=str(error))


def _facts(controllers: list[ControllerStatus]) -> set[object]:
    """What matters of them: a new time does not."""
    return {(one.id, one.leads, one.wants) for one in controllers}
