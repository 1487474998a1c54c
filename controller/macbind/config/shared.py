"""Which part of a configuration all controllers of one registry share, and the rest, which is a machine's own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from macbind.config.build import Settings, settings_of
from macbind.config.document import Document
from macbind.core.errors import ConfigError
from macbind.core.shared_configuration import SharedConfiguration

_SHARED = ("dhcpd", "subnet", "pool", "hypervisor")
_OWN: Mapping[str, frozenset[str]] = {
    "dhcpd": frozenset(
        {
            "key_file",
            "config_file",
            "conf_file",
            "leases_file",
            "log",
            "probe",
            "probe_interval_s",
            "resync_s",
        }
    ),
    "subnet": frozenset(),
    "pool": frozenset({"arp_probe"}),
    "hypervisor": frozenset(),
}
"""Keys whose values are files or interfaces of a machine, or say only how it goes to work."""
_UNORDERED = ("ranges", "exclude", "dhcpd")
_PLACES = {"dhcpd": "host", "hypervisor": "uri"}
_ON = " on "
"""Between a place that every machine has, and the name of the machine that is meant. Neither holds a space."""


def shared_part(settings: Settings, machine: str) -> SharedConfiguration:
    """What must be equal for all controllers. It says the same, however the file says it.

    Args:
        settings: The whole configuration.
        machine: The name of this machine: where the registry is elsewhere, ``127.0.0.1`` is another dhcpd on each.
    """
    tables = settings.document.tables()
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for kind in _SHARED:
        found[kind] = {}
        for name, table in sorted(getattr(tables, kind).items()):
            values = table.model_dump(mode="json", exclude=set(_OWN[kind]), exclude_defaults=True)
            if kind == "pool":
                values["dhcpd"] = list(settings.pools[name].dhcpds)
            values |= {key: sorted(set(values[key])) for key in _UNORDERED if key in values}
            key = _PLACES.get(kind)
            if key is not None and not _is_alone(settings):
                place = getattr(table, key)
                if _is_local(place):
                    values[key] = f"{place}{_ON}{machine}"
            found[kind][name] = values
    return SharedConfiguration(found)


def with_shared_part(own: Document, shared: SharedConfiguration, machine: str) -> Settings:
    """A machine's own configuration, with the part that all controllers share as it is recorded.

    Args:
        own: The file of this machine.
        shared: What is recorded.
        machine: The name of this machine.

    Raises:
        ConfigError: It cannot be used on this machine.
    """
    values = {kind: some for kind, some in own.values.items() if kind not in _SHARED}
    for kind, some in shared.tables.items():
        if kind not in _SHARED:
            raise ConfigError(
                f"The recorded configuration has a table [{kind}.…] that this version of macbind does not know.",
                hint="Install the version that the other controllers have.",
            )
        values[kind] = {
            name: _at_home(kind, name, dict(table), machine) | _own_keys(own, kind, name)
            for name, table in some.items()
        }
    return settings_of(replace(own, values=values))


def _own_keys(own: Document, kind: str, name: str) -> dict[str, Any]:
    table = own.values.get(kind, {}).get(name, {})
    return {key: value for key, value in table.items() if key in _OWN[kind]}


def _at_home(kind: str, name: str, values: dict[str, Any], machine: str) -> dict[str, Any]:
    key = _PLACES.get(kind, "")
    place, on, where = str(values.get(key, "")).partition(_ON)
    if not on:
        return values
    if where != machine:
        raise ConfigError(
            f"The recorded configuration has [{kind}.{name}] {key} = {place!r} on '{where}' itself.",
            hint="Write there an address under which all controllers reach it, and apply that.",
        )
    return values | {key: place}


def _is_alone(settings: Settings) -> bool:
    """Whether all controllers are on this machine, because the registry is a file of it."""
    return settings.registry.url.startswith("sqlite:")


def _is_local(place: str) -> bool:
    if "://" in place:
        return not urlsplit(place).netloc
    return place.lower() == "localhost" or place.startswith("127.")
