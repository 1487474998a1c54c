"""Hears the news of other controllers, on a connection of its own that is made anew when it breaks.

News that come together are handled once. And who has much to do for them rests as long as it took, so that many
small changes of others do not keep this controller from its own work.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable, Collection

import structlog

from macbind.engine.supervised import OnDefect, Supervised
from macbind.registry.news import Ear, News
from macbind.registry.store import Registry

_log = structlog.get_logger()

_SMALL_S = 0.005
"""What takes less is handled without a rest."""
_LOOK_S = 5.0
"""How often a silent connection is looked at."""


class Listener:
    """The thread that listens.

    Args:
        registry: Whose news.
        on_news: Called with what others have told; with everything after each connection, because nobody knows what
            was told before.
        on_defect: Called with a defect of ours.
    """

    def __init__(
        self,
        registry: Registry,
        on_news: Callable[[Collection[News]], object],
        on_defect: OnDefect = lambda _: None,
    ) -> None:
        self._registry, self._on_news = registry, on_news
        self._end = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._thread = Supervised(
            "listener",
            self._listen,
            on_defect,
            on_trouble=lambda error: _log.warning("news of other controllers", problem=str(error)),
        )
        self.start = self._thread.start

    def close(self) -> None:
        """Ends it."""
        self._thread.stopping.set()
        os.eventfd_write(self._end, 1)
        self._thread.close()
        os.close(self._end)

    def _listen(self) -> None:
        ear = Ear(self._registry.url, self._registry.origin)
        try:
            poll = select.poll()
            poll.register(self._end, select.POLLIN)
            poll.register(ear.fileno(), select.POLLIN)
            self._handle(set(News))
            while not self._thread.stopping.is_set():
                poll.poll(_LOOK_S * 1000)
                self._handle(ear.heard())
        finally:
            ear.close()

    def _handle(self, news: Collection[News]) -> None:
        if not news:
            return
        began = time.monotonic()
        self._on_news(news)
        took = time.monotonic() - began
        if took > _SMALL_S:
            self._thread.stopping.wait(took)
