"""Whether what somebody waits for has happened: names that are bound, or free again."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator
from enum import StrEnum

from sqlalchemy import select

from macbind.core.allocation import Allocation, State
from macbind.core.errors import MacbindError, NotFound
from macbind.registry.queries import find
from macbind.registry.tables import audit
from macbind.registry.transaction import View

_MADE = ("allocate", "reserve", "renumber")


class Until(StrEnum):
    """What is waited for."""

    BOUND = "bound"
    """Every required DHCP server has confirmed the binding."""
    FREE = "free"
    """No DHCP server holds the binding any more, and nobody does."""
    ANSWERS = "answers"
    """It is bound, and its machine answers at its address."""


Meant = tuple[str, int | None]
"""A name, and the generation that is meant; None for whatever the name has."""


def bound(view: View, meant: Collection[Meant]) -> dict[Meant, Allocation | MacbindError]:
    """Those that are bound, and those that never will be, with why."""
    found: dict[Meant, Allocation | MacbindError] = {}
    for one, mine in _allocations(view, meant):
        name, generation = one
        live = [held for held in mine if held.released_at is None]
        held = next((held for held in live if held.state is State.BOUND), None)
        if held is not None:
            found[one] = held
        elif generation is not None and not live:
            found[one] = NotFound(
                f"'{name}' of generation {generation} is not allocated any more.",
                hint="Ask for the name without a generation to wait for its next allocation.",
                name=name,
            )
    return found


def free(view: View, meant: Collection[Meant]) -> list[Meant]:
    """Those that are free."""
    return [
        one
        for one, mine in _allocations(view, meant)
        if all(former.state is State.COOLING for former in mine)
    ]


def _allocations(view: View, meant: Collection[Meant]) -> Iterator[tuple[Meant, list[Allocation]]]:
    """What is meant, with its allocations, released ones included."""
    rows: dict[str, list[Allocation]] = defaultdict(list)
    for one in find(view, names=sorted({name for name, _ in meant}), released=True):
        rows[one.name].append(one)
    for name, generation in meant:
        yield (name, generation), [one for one in rows[name] if _is_meant(view, one, generation)]


def _is_meant(view: View, one: Allocation, generation: int | None) -> bool:
    """Whether an allocation is the one of this generation.

    A changed configuration gives bindings new generations. So a later generation is a later holder's only if the
    audit log says that it was made.
    """
    if generation is None or one.generation == generation:
        return True
    made = select(audit.c.id).where(
        audit.c.ip == int(one.address),
        audit.c.gen > generation,
        audit.c.name == one.name,
        audit.c.action.in_(_MADE),
    )
    return one.generation > generation and view.db.scalar(made.limit(1)) is None
