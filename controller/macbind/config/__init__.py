"""The configuration: one TOML file, checked completely before anything acts on it."""

from __future__ import annotations

from macbind.config.build import DEFAULT_PATH, Settings, faults, load
from macbind.config.tables import (
    DhcpdSettings,
    MetricsSettings,
    PageSettings,
    RegistrySettings,
    ServiceSettings,
)

__all__ = [
    "DEFAULT_PATH",
    "DhcpdSettings",
    "MetricsSettings",
    "PageSettings",
    "RegistrySettings",
    "ServiceSettings",
    "Settings",
    "faults",
    "load",
]
