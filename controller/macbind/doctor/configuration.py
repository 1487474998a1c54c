"""Is the configuration right, and is dhcpd's part of it on disk?"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from macbind.config import faults
from macbind.core.errors import ConfigError, RegistryUnavailable
from macbind.core.findings import Finding
from macbind.dhcp.isc.render import is_current
from macbind.dhcp.isc.shared_networks import interfaces_of, not_reached, unreachable
from macbind.doctor.site import Site
from macbind.registry.database import place
from macbind.registry.store import Registry


def look(site: Site) -> Iterator[Finding]:
    """What `macbind check` refuses, and subnets that nobody reaches."""
    if site.settings is None:
        assert site.refused is not None
        yield from (_refused(site.config, one) for one in faults(site.refused))
        return
    settings = site.settings
    for name in site.local_dhcpds():
        try:
            lost = list(unreachable(settings, name, interfaces_of(settings, name)))
        except ConfigError as error:
            yield _refused(site.config, error)
            continue
        yield from (Finding("subnet_unreachable", *not_reached(name, one), str(one.network)) for one in lost)


def look_at_registry(site: Site) -> Iterator[Finding]:
    """Whether the registry can be used, and does not contradict the configuration."""
    settings = site.configured
    try:
        registry = Registry(settings.registry.url)
        try:
            registry.preview(settings.pools, settings.dhcpds)
        finally:
            registry.close()
    except ConfigError as error:
        yield _refused(site.config, settings.document.located(error))
    except RegistryUnavailable as error:
        yield Finding("registry_unavailable", error.message, error.hint, place(settings.registry.url))


def look_at_rendered(site: Site) -> Iterator[Finding]:
    """Whether the file that `macbind render` writes is up to date."""
    for name, dhcpd in site.local_dhcpds().items():
        try:
            is_right = is_current(site.configured, name)
        except ConfigError as error:
            yield _refused(site.config, error)
            continue
        if not is_right:
            yield Finding(
                "render_needed",
                f"{dhcpd.config_file} is not what {site.config} says: dhcpd '{name}' serves something else, or will.",
                "Write it anew, and restart dhcpd.",
                str(dhcpd.config_file),
                (site.command("render"), *site.restart(name)),
            )


def _refused(path: Path, error: ConfigError) -> Finding:
    return Finding("config_refused", error.message, error.hint, str(path))
