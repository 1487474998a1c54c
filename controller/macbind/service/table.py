"""The use case of the page's table: the allocations of a pool, very many at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address

from macbind.registry.store import Registry
from macbind.registry.table_rows import TableRow, table_rows


@dataclass(frozen=True, slots=True)
class TablePage:
    """Rows in the order of their addresses.

    Attributes:
        rows: The rows.
        next: The address after which the next page begins; None if this page is the last.
    """

    rows: list[TableRow]
    next: IPv4Address | None = None


class Table:
    """Reads tables.

    Args:
        registry: The truth.
    """

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def page(
        self,
        pool: str,
        *,
        addresses: Sequence[IPv4Address] | None = None,
        after: IPv4Address | None = None,
        limit: int,
    ) -> TablePage:
        """The allocations of a pool, released ones included, so many at a time; or those of some addresses.

        Raises:
            NotFound: There is no such pool.
        """
        with self._registry.read() as view:
            rows = table_rows(view, pool, addresses=addresses, after=after, limit=limit)
        more = addresses is None and len(rows) == limit
        return TablePage(rows, IPv4Address(rows[-1].address) if more else None)
