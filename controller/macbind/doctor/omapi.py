"""dhcpd's OMAPI port: does it take our key, and is it closed to everybody else?"""

from __future__ import annotations

import ctypes
import pwd
import socket
from collections.abc import Iterator
from functools import partial

from macbind.core.errors import ConfigError, DhcpdRefused, DhcpdUnavailable
from macbind.core.findings import Finding
from macbind.dhcp.isc.conf_look import is_local
from macbind.dhcp.isc.connection import OmapiClient
from macbind.dhcp.isc.key import read_key
from macbind.dhcp.isc.omapi import Algorithm
from macbind.doctor.site import Site
from macbind.doctor.surroundings import CLOSE_PORT

_NOBODY = "nobody"
_WAIT_S = 3.0
_libc = ctypes.CDLL(None, use_errno=True)


def look_at_key(site: Site) -> Iterator[Finding]:
    """Whether each dhcpd answers over OMAPI, and takes our key."""
    uid = site.service_user().uid
    for name, dhcpd in site.configured.dhcpds.items():
        commands = site.restart(name) if is_local(dhcpd.host) else ()
        try:
            key = read_key(dhcpd.key_file, dhcpd.key_name)
            credentials = (key.name, Algorithm(dhcpd.key_algorithm), key.secret)
            OmapiClient(name, partial(connected_as, uid, (dhcpd.host, dhcpd.port)), credentials).close()
        except ConfigError:
            continue  # another check says so
        except DhcpdUnavailable as error:
            yield Finding("dhcpd_unavailable", error.message, error.hint, name, commands)
        except DhcpdRefused as error:
            yield Finding(
                "key_refused",
                f"dhcpd '{name}' does not take the key of {dhcpd.key_file}: {error.message}",
                "dhcpd has read another key at its start: restart it.",
                name,
                commands,
            )


def look_at_port(site: Site) -> Iterator[Finding]:
    """Whether a program of another user reaches the port: who does so controls dhcpd."""
    uid = pwd.getpwnam(_NOBODY).pw_uid
    for name, dhcpd in site.local_dhcpds().items():
        try:
            connected_as(uid, (dhcpd.host, dhcpd.port), _WAIT_S).close()
        except OSError:
            continue
        yield Finding(
            "firewall_open",
            f"Every program of this machine can connect to the OMAPI port {dhcpd.port} of dhcpd '{name}'.",
            "Load the rules that close it: whoever reaches the port controls dhcpd.",
            "omapi",
            CLOSE_PORT,
        )


def connected_as(uid: int, where: tuple[str, int], wait_s: float) -> socket.socket:
    """A TCP connection of a user's, as the firewall sees it. Only this thread is that user meanwhile.

    Raises:
        OSError: It cannot be made.
    """
    before = _libc.setfsuid(uid)
    try:
        return socket.create_connection(where, timeout=wait_s)
    finally:
        _libc.setfsuid(before)
