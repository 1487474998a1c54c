"""The configuration that all controllers share, as the registry has it, and who may change it.

A controller that is alone uses its file. While others live, a file that says otherwise is refused: they would go on
with the old one. To apply a configuration is to mean it for all. They read it within seconds, and nothing is changed
meanwhile by those that have not read it yet.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Connection, delete, func, insert, select, update

from macbind.core.errors import ConfigError
from macbind.core.shared_configuration import Recorded, SharedConfiguration, in_words
from macbind.registry.fast_sql import Statement
from macbind.registry.tables import configuration as cf

_KEPT = 100
"""Revisions after which an outdated file is not known as such any more."""
_REVISION = Statement(select(func.max(cf.c.revision).label("revision")))

GIVES_UP: ContextVar[Callable[[], bool]] = ContextVar("GIVES_UP", default=lambda: False)
"""Whether this thread waits no longer for a newer configuration to be read."""


@dataclass(frozen=True, slots=True)
class Offer:
    """A configuration that a controller would use.

    Attributes:
        shared: What all have to share.
        actor: Who wants it.
        is_meant: Whether it is to be used although others live that use another one.
    """

    shared: SharedConfiguration
    actor: str = "macbind"
    is_meant: bool = False


class OutdatedFile(Exception):
    """The file is one that was in use before another one was applied. No fault: that one is used instead.

    Args:
        recorded: The one that was applied.
    """

    def __init__(self, recorded: Recorded) -> None:
        super().__init__(f"revision {recorded.revision} is newer")
        self.recorded = recorded


def revision_of(db: Connection) -> int:
    """The revision in use; 0 if there is none."""
    return int(_REVISION.all(db, {})[0].revision or 0)


def recorded(db: Connection) -> Recorded | None:
    """The configuration in use; None if there is none."""
    row = db.execute(select(cf).order_by(cf.c.revision.desc()).limit(1)).first()
    if row is None:
        return None
    at = datetime.fromtimestamp(row.at, UTC)
    return Recorded(row.revision, SharedConfiguration.of(row.content), row.is_applied, at, row.actor)


def agree(db: Connection, offer: Offer, is_alone: Callable[[], bool]) -> int:
    """Brings a configuration into use if that may be, within the caller's transaction; returns its revision.

    Raises:
        OutdatedFile: Another one was applied since.
        ConfigError: Other controllers use another one.
    """
    now = recorded(db)
    if now is not None and now.shared.fingerprint == offer.shared.fingerprint and not _turns(now, offer):
        return now.revision
    if now is not None and not offer.is_meant:
        was_used = select(cf.c.revision).where(cf.c.fingerprint == offer.shared.fingerprint).limit(1)
        if now.is_applied and db.scalar(was_used) is not None:
            raise OutdatedFile(now)
        if not is_alone():
            raise _refusal(offer, now)
    return _record(db, 1 if now is None else now.revision + 1, offer)


def renew(db: Connection, actor: str) -> None:
    """Has all controllers read the configuration in use once more, because of what else is recorded."""
    now = recorded(db)
    if now is not None:
        _record(db, now.revision + 1, Offer(now.shared, actor, is_meant=now.is_applied))


def _record(db: Connection, revision: int, offer: Offer) -> int:
    db.execute(delete(cf).where(cf.c.revision <= revision - _KEPT))
    row = {
        "revision": revision,
        "fingerprint": offer.shared.fingerprint,
        "content": offer.shared.text,
        "is_applied": offer.is_meant,
        "gen": 0,
        "at": time.time(),
        "actor": offer.actor,
    }
    db.execute(insert(cf).values(row))
    return revision


def _turns(now: Recorded, offer: Offer) -> bool:
    """Whether what came from a file is applied now: other files become outdated by it."""
    return offer.is_meant and not now.is_applied


def _refusal(offer: Offer, now: Recorded) -> ConfigError:
    differences = offer.shared.differences(now.shared)
    return ConfigError(
        f"Other controllers use this registry with another configuration. {in_words(differences)}.",
        hint="`macbind config apply FILE` changes it for all of them, and so does `macbind serve --take-over`.",
        differences=[str(one) for one in differences[:100]],
    )


def note_generation(db: Connection, revision: int, generation: int) -> None:
    """Notes which generation the bindings have that a configuration made anew."""
    db.execute(update(cf).where(cf.c.revision == revision, cf.c.gen == 0).values(gen=generation))


def generations_since(db: Connection, revision: int) -> frozenset[int]:
    """The generations of bindings that were made anew by configurations after a revision."""
    return frozenset(db.scalars(select(cf.c.gen).where(cf.c.revision > revision)))
