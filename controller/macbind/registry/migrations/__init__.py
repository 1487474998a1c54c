"""Bringing a registry's schema up to date, with Alembic, from any earlier version."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from macbind.core.errors import ConfigError

# A slow machine reads the scripts for longer than a transaction may rest otherwise.
_MAY_REST = text("SET LOCAL idle_in_transaction_session_timeout = '60s'")


def _config(db: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.attributes["connection"] = db
    return config


def upgrade(db: Connection, to: str = "head") -> None:
    """Upgrades the schema within the caller's transaction; does nothing if it is current.

    Args:
        db: The registry.
        to: The version to stop at; by default the newest.

    Raises:
        ConfigError: A newer macbind wrote this registry.
    """
    if db.dialect.name == "postgresql":
        db.execute(_MAY_REST)
    config = _config(db)
    scripts = ScriptDirectory.from_config(config)
    current = MigrationContext.configure(db).get_current_revision()
    if current == scripts.get_current_head():
        return
    if current is not None and current not in {script.revision for script in scripts.walk_revisions()}:
        raise ConfigError(
            f"The registry's schema '{current}' is unknown to this version of macbind.",
            hint="Install the version that wrote it, or a newer one.",
        )
    command.upgrade(config, to)
