"""How much work is done at a time."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sizes:
    """The sizes of all pieces that work is cut into.

    Speed and memory depend on them; what is decided never does, so tests run with pieces of 1, 2, 3 and 7.

    Attributes:
        slice: Bindings, wanted and on a server's disk, compared between two looks at what became due meanwhile.
        batch: Addresses a writer does per registry transaction; each batch is many windows.
        window: Requests that a DHCP server is sent at once, at most; None for as many as it takes.
        rows: Rows per look-up; well below every database's limit of bound parameters.
        extents: Free extents written per statement when a pool is laid out.
        sweep: Rested addresses returned to the free extents by each allocation, so that no big sweep is ever needed.
        chores: Allocations that expire, and rested addresses of a pool that become free, per round of housekeeping.
        trim: Audit entries forgotten per transaction.
        requests: Requests per transaction; bounds how long the first of them waits for the last.
        page: Allocations in one answer to who lists them.
    """

    slice: int = 500
    batch: int = 1000
    window: int | None = None
    rows: int = 500
    extents: int = 10_000
    sweep: int = 16
    chores: int = 1000
    trim: int = 10_000
    requests: int = 256
    page: int = 1000
