"""Builds the engine for one ISC dhcpd from its table in the configuration."""

from __future__ import annotations

from collections.abc import Callable

from macbind.config import DhcpdSettings
from macbind.core.errors import ConfigError, DhcpdUnavailable
from macbind.dhcp.isc.conf_file import Conf
from macbind.dhcp.isc.conf_look import conf_in_force, running_dhcpds
from macbind.dhcp.isc.connection import OmapiClient, tcp
from macbind.dhcp.isc.health import IscHealth
from macbind.dhcp.isc.key import read_key
from macbind.dhcp.isc.log import follow
from macbind.dhcp.isc.omapi import Algorithm
from macbind.dhcp.isc.server import IscDhcpd, Measure


def isc_dhcpd(
    name: str,
    settings: DhcpdSettings,
    progress: Callable[[], None] = lambda: None,
    window: int | None = None,
    measure: Measure = lambda *_: None,
) -> IscDhcpd:
    """A dhcpd as configured. Its key and lease file are read when they are needed, so they may change.

    Args:
        name: Its name in the configuration.
        settings: How it is configured.
        progress: Called for every answer of it.
        window: Requests in an OMAPI window, at most; None for as many as its buffers take.
        measure: Called with the operation and the seconds of each exchange.
    """

    def open_client() -> OmapiClient:
        try:
            key = read_key(settings.key_file, settings.key_name)
        except ConfigError as error:  # mended by an admin while we run: try again later
            raise DhcpdUnavailable(
                f"macbind cannot speak to dhcpd '{name}': {error.message}", hint=error.hint
            ) from error
        credentials = (key.name, Algorithm(settings.key_algorithm), key.secret)
        connect = tcp(settings.host, settings.port)
        return OmapiClient(name, connect, credentials, progress=progress, window=window)

    def open_health(own_port: Callable[[], int | None]) -> IscHealth:
        log = None if settings.log is None else follow(settings.log)
        return IscHealth(own_port, name, log, settings.leases_file, (settings.host, settings.port))

    def find_conf(between: Callable[[], object]) -> Conf | None:
        return conf_in_force(settings, running_dhcpds, between)

    return IscDhcpd(name, open_client, settings.leases_file, find_conf, open_health, measure)
