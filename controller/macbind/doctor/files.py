"""Who may read what: the key, files with secrets, the lease file; and the space that dhcpd needs."""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Iterator
from pathlib import Path

from macbind.core.errors import ConfigError
from macbind.core.findings import Finding
from macbind.dhcp.isc.health import IscHealth
from macbind.dhcp.isc.key import KEY_MODE, read_key
from macbind.doctor.site import Site, User
from macbind.registry.database import has_password, sqlite_path

_OTHERS = stat.S_IRWXO


def look_at_keys(site: Site) -> Iterator[Finding]:
    """Whether each OMAPI key can be used, by the service, and by nobody else."""
    user = site.service_user()
    for name, dhcpd in site.configured.dhcpds.items():
        path = dhcpd.key_file
        try:
            read_key(path, dhcpd.key_name)
        except ConfigError as error:
            yield Finding("key_refused", error.message, error.hint, str(path), _mend_key(site, name))
            continue
        blocked = blocked_at(path, user)
        if blocked is not None:
            yield Finding(
                "key_refused",
                f"The service's user {user.name} cannot read the key file {path}: {described(blocked)}.",
                "Let its group in, and nobody else.",
                str(path),
                _let_in(blocked, user, KEY_MODE),
            )


def look_at_secrets(site: Site) -> Iterator[Finding]:
    """Whether every user may read the registry, a configuration with a password, or the key of the API."""
    url = site.configured.registry.url
    path = sqlite_path(url)
    secret = [] if path is None else [path, Path(f"{path}-wal")]
    if has_password(url):
        secret.append(site.config)
    if site.configured.api.listen is not None:
        secret.append(site.configured.api.key)
    for one in secret:
        try:
            mode = one.stat().st_mode
        except FileNotFoundError:
            continue
        if mode & _OTHERS:
            yield Finding(
                "file_open",
                f"{one} is open to every user of this machine (mode {stat.S_IMODE(mode):04o}).",
                "Take it from the others.",
                str(one),
                (f"chmod o= {shlex.quote(str(one))}",),
            )


def look_at_leases(site: Site) -> Iterator[Finding]:
    """Whether the service can read dhcpd's lease file, and dhcpd has the space to rewrite it."""
    user = site.service_user()
    for name, dhcpd in site.configured.dhcpds.items():
        path = dhcpd.leases_file
        if path is None:
            continue
        yield from IscHealth(lambda: None, name, leases_file=path).findings()
        blocked = blocked_at(path, user)
        if blocked is not None:
            yield Finding(
                "lease_file_unreadable",
                f"The service's user {user.name} cannot read the lease file {path} of dhcpd '{name}': "
                f"{described(blocked)}.",
                "Let it in. If dhcpd made it so, mend dhcpd's umask.",
                str(path),
                (f"chmod o+{'x' if blocked.is_dir() else 'r'} {shlex.quote(str(blocked))}",),
            )


def blocked_at(path: Path, user: User) -> Path | None:
    """The first directory on the way to a file, or the file, that keeps a user out; None if it is gone."""
    if user.uid == 0:
        return None
    for one in (*reversed(path.parents), path):
        try:
            found = one.stat()
        except OSError:
            return None
        wanted = 1 if stat.S_ISDIR(found.st_mode) else 4
        shift = 6 if found.st_uid == user.uid else 3 if found.st_gid in user.groups else 0
        if not found.st_mode >> shift & wanted:
            return one
    return None


def described(path: Path) -> str:
    """Who may do what with a file, as the end of a sentence."""
    found = path.stat()
    return (
        f"{path} has mode {stat.S_IMODE(found.st_mode):04o} and belongs to user {found.st_uid}, "
        f"group {found.st_gid}"
    )


def _mend_key(site: Site, dhcpd: str) -> tuple[str, ...]:
    """A missing key is made, one that is open to all is closed; the others are for an admin to judge."""
    path = site.configured.dhcpds[dhcpd].key_file
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return (site.command("render"), *site.restart(dhcpd))
    except OSError:
        return ()
    return (f"chmod {KEY_MODE:04o} {shlex.quote(str(path))}",) if mode & _OTHERS else ()


def _let_in(path: Path, user: User, mode: int) -> tuple[str, ...]:
    where = shlex.quote(str(path))
    if path.is_dir():
        return (f"chmod o+x {where}",)
    group = min(user.groups, default=0)
    return (f"chgrp {group} {where}", f"chmod {mode:04o} {where}") if os.access(path, os.F_OK) else ()
