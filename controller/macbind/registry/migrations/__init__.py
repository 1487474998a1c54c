"""Bringing a registry's schema up to date, with Alembic, from any earlier version.

A new registry is made as the tables are now. Tests compare that with what all versions lead to.
"""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Column, Connection, MetaData, String, Table, insert, inspect, select, text

from macbind.core.errors import ConfigError
from macbind.registry.tables import metadata

_HERE = Path(__file__).parent
VERSIONS = sorted(file.name[1:5] for file in _HERE.glob("versions/v????_*.py"))
"""All versions of the schema, the oldest first."""
# A slow machine reads the scripts for longer than a transaction may rest otherwise.
_MAY_REST = text("SET LOCAL idle_in_transaction_session_timeout = '60s'")
_VERSION = Table("alembic_version", MetaData(), Column("version_num", String(32), primary_key=True))


def upgrade(db: Connection, to: str = VERSIONS[-1]) -> None:
    """Upgrades the schema within the caller's transaction; does nothing if it is current.

    Args:
        db: The registry.
        to: The version to stop at; by default the newest.

    Raises:
        ConfigError: A newer macbind wrote this registry.
    """
    is_new = not inspect(db).has_table(_VERSION.name)
    current = None if is_new else db.scalar(select(_VERSION.c.version_num))
    if current == to:
        return
    if is_new and to == VERSIONS[-1]:
        for tables in (metadata, _VERSION.metadata):
            tables.create_all(db, checkfirst=False)
        db.execute(insert(_VERSION).values(version_num=to))
        return
    if current is not None and current not in VERSIONS:
        raise ConfigError(
            f"The registry's schema '{current}' is unknown to this version of macbind.",
            hint="Install the version that wrote it, or a newer one.",
        )
    _run_scripts(db, to)


def _run_scripts(db: Connection, to: str) -> None:
    from alembic import command
    from alembic.config import Config

    if db.dialect.name == "postgresql":
        db.execute(_MAY_REST)
    config = Config()
    config.set_main_option("script_location", str(_HERE))
    config.attributes["connection"] = db
    command.upgrade(config, to)
