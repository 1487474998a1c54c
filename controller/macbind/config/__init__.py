"""The configuration: one TOML file, checked completely before anything acts on it."""

from __future__ import annotations

from macbind.config.build import DEFAULT_PATH, load
from macbind.config.settings import DhcpdSettings, RegistrySettings, ServiceSettings, Settings

__all__ = ["DEFAULT_PATH", "DhcpdSettings", "RegistrySettings", "ServiceSettings", "Settings", "load"]
