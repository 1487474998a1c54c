"""Findings that an admin does not want to hear of for a while. They last; only nobody is told."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from sqlalchemy import delete, insert, inspect, select

from macbind.core.errors import ConfigError
from macbind.core.findings import Finding
from macbind.registry.tables import muted as mu
from macbind.registry.transaction import Transaction, View


@dataclass(frozen=True, slots=True)
class Muted:
    """What is not told.

    Attributes:
        code: The code of the findings.
        subject: What they are about; empty: whatever it is.
        until: Until when (UTC).
        actor: Who has asked for it.
        at: When (UTC).
    """

    code: str
    subject: str
    until: datetime
    actor: str
    at: datetime

    def covers(self, finding: Finding, now: datetime) -> bool:
        """Whether a finding is not told at a moment (UTC)."""
        return self.code == finding.code and self.subject in ("", finding.subject) and self.until > now

    def __str__(self) -> str:
        return f"{self.code}={self.subject}" if self.subject else self.code


def all_muted(view: View, now: datetime) -> list[Muted]:
    """What is muted at a moment (UTC), in the order of the codes; nothing in a registry of an older macbind."""
    if not inspect(view.db).has_table(mu.name):
        return []
    rows = view.db.execute(select(mu).where(mu.c.until > now.timestamp()).order_by(mu.c.code, mu.c.subject))
    return [
        Muted(
            row.code,
            row.subject,
            datetime.fromtimestamp(row.until, UTC),
            row.actor,
            datetime.fromtimestamp(row.at, UTC),
        )
        for row in rows
    ]


def mute(txn: Transaction, code: str, subject: str, until: datetime) -> None:
    """Mutes findings until a moment (UTC); forgets what is over.

    Raises:
        ConfigError: The registry is of an older macbind.
    """
    if not inspect(txn.db).has_table(mu.name):
        raise ConfigError(
            "The registry is of an older macbind, which mutes nothing.",
            hint="Start macbind: it brings it up to date.",
        )
    unmute(txn, code, subject)
    txn.db.execute(delete(mu).where(mu.c.until <= txn.now.timestamp()))
    values = {"code": code, "subject": subject, "until": until.timestamp()}
    txn.db.execute(insert(mu).values(**values, actor=txn.actor, at=txn.now.timestamp()))


def unmute(txn: Transaction, code: str, subject: str) -> bool:
    """Tells of them again; false if they were not muted."""
    done = txn.db.execute(delete(mu).where(mu.c.code == code, mu.c.subject == subject))
    return done.rowcount > 0


def marked(found: Iterable[Finding], silent: Iterable[Muted], now: datetime) -> list[Finding]:
    """Findings, with those marked that are muted."""
    rules = list(silent)
    return [replace(one, muted=any(rule.covers(one, now) for rule in rules)) for one in found]
