"""The use case of maps: what the addresses of a pool are, as runs in pages, and as blocks."""

from __future__ import annotations

from ipaddress import IPv4Address
from itertools import islice

from macbind.core.address_map import MapBlocks, MapPage, as_run, block_size, bounds, fold
from macbind.core.errors import InvalidRequest
from macbind.registry.map_rows import spans
from macbind.registry.store import Registry
from macbind.registry.transaction import View


class Maps:
    """Draws the maps of pools.

    Args:
        registry: The truth.
    """

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def bounds(self) -> dict[str, tuple[IPv4Address, IPv4Address]]:
        """The lowest and the highest address of the map of each pool."""
        known = {name: bounds(pool.plan) for name, pool in self._registry.pools.items()}
        return {name: (IPv4Address(first), IPv4Address(last)) for name, (first, last) in known.items()}

    def runs(
        self,
        pool: str,
        *,
        first: IPv4Address | None = None,
        last: IPv4Address | None = None,
        limit: int = 1000,
    ) -> MapPage:
        """So many runs of a pool's map, or of a part of it, in the order of their addresses.

        Raises:
            NotFound: There is no such pool.
            InvalidRequest: The part is not within the map.
        """
        with self._registry.read() as view:
            lowest, highest = bounds(view.pool(pool).plan)
            low, high = _part(view, pool, first, last)
            found = [as_run(one) for one in islice(spans(view, pool, low, high), limit)]
        end = int(found[-1].last)
        return MapPage(
            pool,
            IPv4Address(lowest),
            IPv4Address(highest),
            found,
            None if end >= high else found[-1].last + 1,
        )

    def blocks(
        self,
        pool: str,
        *,
        first: IPv4Address | None = None,
        last: IPv4Address | None = None,
        most: int = 4096,
    ) -> MapBlocks:
        """A pool's map, or a part of it, as at most so many blocks.

        Raises:
            NotFound: There is no such pool.
            InvalidRequest: The part is not within the map.
        """
        with self._registry.read() as view:
            low, high = _part(view, pool, first, last)
            size = block_size(low, high, most)
            found = list(fold(spans(view, pool, low, high), size))
        return MapBlocks(pool, IPv4Address(low), IPv4Address(high), size, found)


def _part(view: View, pool: str, first: IPv4Address | None, last: IPv4Address | None) -> tuple[int, int]:
    """The addresses that are meant, within the map."""
    lowest, highest = bounds(view.pool(pool).plan)
    low = lowest if first is None else max(lowest, int(first))
    high = highest if last is None else min(highest, int(last))
    if low > high:
        raise InvalidRequest(
            f"The map of the pool '{pool}' has no such part.",
            hint=f"It goes from {IPv4Address(lowest)} to {IPv4Address(highest)}.",
            pool=pool,
        )
    return low, high
