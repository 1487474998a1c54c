"""The clock, and whether the database keeps what it has confirmed."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import func, select, text

import macbind
from macbind.core.findings import Finding
from macbind.doctor.site import Site
from macbind.registry.database import place, sqlite_path, without_password
from macbind.registry.store import Registry
from macbind.registry.tables import audit
from macbind.registry.transaction import View

APART = timedelta(seconds=5)
"""Clocks that differ by less are one."""
_FIRST_YEAR_AFTER = timedelta(days=365 * 20)
_MENDED = ("timedatectl set-ntp true",)
_MOUNTS = Path("/proc/self/mountinfo")
_FORGETFUL = frozenset({"tmpfs", "ramfs"})
_FULL = 2


def look_at_clock(site: Site) -> Iterator[Finding]:
    """Whether the clock can be right, beside macbind's own files, the registry's last change, and the database's."""
    now = datetime.now(UTC)
    made = datetime.fromtimestamp(Path(macbind.__file__).stat().st_mtime, UTC)
    if now < made - timedelta(days=1) or now > made + _FIRST_YEAR_AFTER:
        yield _wrong(
            f"It is {now:%Y-%m-%d} by the clock of this machine, and macbind was installed on {made:%Y-%m-%d}."
        )
        return
    with site.registry() as registry:
        if registry is None:
            return
        with registry.read() as view:
            last, database = _last_change(view), _clock_of(view, registry)
            now = datetime.now(UTC)
    if last is not None and last > now + APART:
        yield _wrong(
            f"The last change in the registry is of {last:%Y-%m-%d %H:%M:%S} UTC, which is yet to come."
        )
    if abs(database - now) > APART:
        apart = abs(database - now).total_seconds()
        yield _wrong(f"The clocks of this machine and of the database differ by {apart:.0f} s.")


def look_at_durability(site: Site) -> Iterator[Finding]:
    """Whether a change that was confirmed survives a power failure."""
    where = place(site.configured.registry.url)
    with site.registry() as registry:
        if registry is None:
            return
        if registry.engine.dialect.name == "sqlite":
            yield from _look_at_sqlite(registry, where)
        else:
            yield from _look_at_postgresql(registry, where)


def _look_at_sqlite(registry: Registry, where: str) -> Iterator[Finding]:
    path = sqlite_path(registry.url)
    kind = "" if path is None else file_system(path, _MOUNTS.read_text(encoding="utf-8", errors="replace"))
    if kind in _FORGETFUL:
        yield Finding(
            "not_durable",
            f"The registry {where} is on a {kind}: it is gone after the next boot.",
            "Stop macbind, move the file to a disk, and say where in [registry] url.",
            where,
        )
    with registry.write("doctor") as txn:
        synchronous = txn.db.scalar(text("PRAGMA synchronous"))
    if synchronous is not None and synchronous < _FULL:
        yield Finding(
            "not_durable",
            f"SQLite does not flush the registry {where} when it confirms a change.",
            "Report it: macbind sets this itself.",
            where,
        )


def _look_at_postgresql(registry: Registry, where: str) -> Iterator[Finding]:
    with registry.read() as view:
        rows = view.db.execute(
            text(
                "SELECT name, setting FROM pg_settings "
                "WHERE name IN ('fsync', 'full_page_writes', 'synchronous_commit') AND setting = 'off'"
            )
        ).all()
        database = view.db.scalar(text("SELECT quote_ident(current_database())"))
    url = shlex.quote(without_password(registry.url))  # psql asks for it, or knows it
    for name, _ in rows:
        if name == "synchronous_commit":
            statements = [f"ALTER ROLE CURRENT_USER IN DATABASE {database} SET {name} = on"]
        else:
            statements = [f"ALTER SYSTEM SET {name} = on", "SELECT pg_reload_conf()"]
        commands = " ".join(f"-c {shlex.quote(one)}" for one in statements)
        yield Finding(
            "not_durable",
            f"The database {where} has {name} = off: it may forget what it has confirmed.",
            "Switch it on, and restart macbind: open connections keep the old value of synchronous_commit.",
            name,
            (f"psql {url} {commands}",),
        )


def file_system(path: Path, mounts: str) -> str:
    """The kind of file system that a file is on, by the kernel's list of mounts; see proc(5)."""
    where, best, kind = str(path.resolve()), "", ""
    for line in mounts.splitlines():
        words, _, rest = line.partition(" - ")
        point = words.split()[4].encode().decode("unicode_escape")
        inside = where == point or where.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best):
            best, kind = point, rest.split()[0]
    return kind


def _last_change(view: View) -> datetime | None:
    at = view.db.scalar(select(func.max(audit.c.at)))
    return None if at is None else datetime.fromtimestamp(at, UTC)


def _clock_of(view: View, registry: Registry) -> datetime:
    if registry.engine.dialect.name == "sqlite":  # it is in this process
        return datetime.now(UTC)
    at = view.db.scalar(text("SELECT extract(epoch FROM clock_timestamp())"))
    return datetime.fromtimestamp(float(at), UTC)


def _wrong(sentence: str) -> Finding:
    return Finding(
        "clock_wrong",
        sentence,
        "Set the clock, and keep it right with NTP: leases and allocations end by it.",
        "clock",
        _MENDED,
    )
