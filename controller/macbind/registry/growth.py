"""How pools have grown, minute by minute, counted by the database from the audit log."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import ColumnElement, bindparam, case, func, or_, select, text

from macbind.registry.fast_sql import Statement
from macbind.registry.tables import audit
from macbind.registry.transaction import View

_UPS, _DOWNS = ("allocate", "reserve", "renumber"), ("release", "unreserve")


def _is_one_of(*actions: str) -> ColumnElement[bool]:
    return or_(*(audit.c.action == one for one in actions))


def _grown(which: ColumnElement[bool]) -> Statement:
    """The changes of pools by minutes, each counted once."""
    columns = (
        audit.c.detail["pool"].as_string().label("pool"),
        func.round(audit.c.at / 60 - 0.5).label("minute"),  # rounds down, in every kind of database
        func.sum(case((_is_one_of(*_UPS), 1), else_=-1)).label("more"),
        func.max(audit.c.id).label("last"),
    )
    counted = select(*columns).where(which, _is_one_of(*_UPS, *_DOWNS))
    return Statement(counted.group_by(text("pool, minute")))


# Asked for both, SQLite reads the whole hour again by its time.
_SINCE = _grown(audit.c.at >= bindparam("oldest"))
_AFTER = _grown(audit.c.id > bindparam("after"))


@dataclass(frozen=True, slots=True)
class Growth:
    """What names took and gave back.

    Attributes:
        last: The number of the last change that was counted.
        by_minute: How many addresses more a pool's names held after a minute (since 1970) than before it.
    """

    last: int
    by_minute: dict[tuple[str, int], int]


def growth(view: View, after: int, oldest: float) -> Growth:
    """How pools have grown by the changes after a number, or from a moment on.

    Args:
        view: The open transaction.
        after: The number of the last change that was counted; 0 for none.
        oldest: The moment, in seconds since 1970; counts where there is no number.
    """
    rows = _AFTER.all(view.db, {"after": after}) if after else _SINCE.all(view.db, {"oldest": oldest})
    return Growth(
        max((row.last for row in rows), default=after),
        {(row.pool, int(row.minute)): int(row.more) for row in rows},
    )
