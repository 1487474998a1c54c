"""Whether what somebody waits for has happened: names that are bound, or free again."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
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


Meant = tuple[str, int | None]
"""A name, and the generation that is meant; None for whatever the name has."""


def outcomes(view: View, meant: Collection[Meant], until: Until) -> dict[Meant, MacbindError | None]:
    """Those for which it has happened, with None, and those for which it never will, with why.

    Args:
        view: The open transaction.
        meant: What is waited for.
        until: What is to happen.
    """
    rows: dict[str, list[Allocation]] = defaultdict(list)
    for one in find(view, names=sorted({name for name, _ in meant}), released=True):
        rows[one.name].append(one)
    found: dict[Meant, MacbindError | None] = {}
    for name, generation in meant:
        mine = [one for one in rows[name] if _is_meant(view, one, generation)]
        live = [one for one in mine if one.released_at is None]
        if until is Until.FREE:
            if all(one.state is State.COOLING for one in mine):
                found[name, generation] = None
        elif any(one.state is State.BOUND for one in live):
            found[name, generation] = None
        elif generation is not None and not live:
            found[name, generation] = NotFound(
                f"'{name}' of generation {generation} is not allocated any more.",
                hint="Ask for the name without a generation to wait for its next allocation.",
                name=name,
            )
    return found


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
