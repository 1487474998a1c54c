"""What runs because other controllers may share the registry: presence, and a listener for their news."""

from __future__ import annotations

import socket
from collections.abc import Collection
from pathlib import Path

from macbind import __version__
from macbind.core.controllers import Said
from macbind.engine.confirmations import Confirmations
from macbind.engine.listener import Listener
from macbind.engine.presence import Presence
from macbind.engine.supervised import OnDefect
from macbind.registry.controllers import Me
from macbind.registry.news import News, can_hear
from macbind.registry.store import Registry
from macbind.service.events import Changed
from macbind.service.peers import CurrentPeers


class Company:
    """The other controllers, from where this one stands.

    Args:
        registry: What is shared.
        place: The socket of this controller.
        peers: Its DHCP servers now.
        confirmations: Who waits for them here.
        changed: Notified when something may have changed.
        on_defect: Called with a defect of ours.

    Attributes:
        presence: Who is there.
    """

    def __init__(
        self,
        registry: Registry,
        place: Path,
        peers: CurrentPeers,
        confirmations: Confirmations,
        changed: Changed,
        on_defect: OnDefect,
    ) -> None:
        self._registry, self._peers = registry, peers
        self._confirmations, self._changed = confirmations, changed
        me = Me(registry.origin, socket.gethostname(), str(place), __version__)
        self.presence = Presence(registry, me, self._said, self._others_changed, on_defect)
        self._listener = Listener(registry, self._hear, on_defect) if can_hear(registry.url) else None
        confirmations.is_served_elsewhere = self._is_served_elsewhere

    def start(self) -> None:
        """Says that this controller is there, and begins to listen.

        Raises:
            RegistryUnavailable: The registry cannot be used now.
        """
        self.presence.start()
        if self._listener is not None:
            self._listener.start()

    def close(self) -> None:
        """Says that it ends; call it when it leads nothing any more."""
        if self._listener is not None:
            self._listener.close()
        self.presence.close()

    def _said(self) -> Said:
        writers = self._peers().writers
        leads = (writers[name].lead for name in sorted(writers))
        return Said(
            tuple(lead for lead in leads if lead is not None),
            tuple(name for name in sorted(writers) if writers[name].wants),
        )

    def _is_served_elsewhere(self, dhcpd: str) -> bool:
        writer = self._peers().writers.get(dhcpd)
        return writer is not None and not writer.leads and self.presence.serves(dhcpd)

    def _others_changed(self) -> None:
        for one in self._peers().writers.values():
            one.look_soon()
        self._confirmations.recheck(self._registry)

    def _hear(self, news: Collection[News]) -> None:
        if News.DUE in news:
            for one in self._peers().writers.values():
                one.wake()
        if News.DONE in news:
            self._confirmations.recheck(self._registry)
        if News.WHO in news:
            self.presence.look_soon()
        self._changed.notify()
