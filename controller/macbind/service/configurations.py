"""The use cases of the configuration that all controllers share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from macbind.core.errors import ConfigError, Conflict, NotFound
from macbind.core.shared_configuration import Recorded, SharedConfiguration
from macbind.registry.store import Registry


class Configurations:
    """What admins of several controllers ask for.

    Args:
        registry: Has it.
        apply: Takes one into use and records it; returns what is recorded then.
    """

    def __init__(
        self, registry: Registry, apply: Callable[[SharedConfiguration, str], Recorded | None]
    ) -> None:
        self._registry, self._apply = registry, apply

    def in_use(self) -> Recorded:
        """The configuration in use.

        Raises:
            NotFound: None was recorded.
        """
        found = self._registry.configuration()
        if found is None:
            raise NotFound("No configuration is recorded.", hint="Reload macbind.")
        return found

    async def apply(self, shared: SharedConfiguration, actor: str) -> Recorded:
        """Has all controllers use a configuration.

        Raises:
            Conflict: It cannot be used here, or contradicts allocations; nothing was changed.
        """
        try:
            await asyncio.to_thread(self._apply, shared, actor)
        except ConfigError as error:
            raise Conflict(error.message, hint=error.hint, **error.details) from error
        return await asyncio.to_thread(self.in_use)
