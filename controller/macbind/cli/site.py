"""A new site: the answers of ``macbind init``, the configuration they make, and its files, all or none."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from urllib.parse import urlsplit

from macbind.cli.own_dhcpd import OwnDhcpd
from macbind.config import Settings, load
from macbind.core.address_range import parse_network
from macbind.core.errors import ConfigError, Conflict, InvalidAddress, InvalidRequest
from macbind.dhcp.isc import render
from macbind.dhcp.isc.key import staged, sync_directory

DHCPD = "main"
GROUP = "macbind"
"""The service's own group, which may read the secrets."""
USERS = "macbind-users"
"""The group whose members may use the socket."""
CONFIG_MODE = 0o640
ENVIRONMENT_MODE = 0o644
ENVIRONMENT = "dhcpd.env"
"""Beside the configuration: configuration and interface of dhcpd, for the drop-in of isc-dhcp-server.service."""
DROP_IN = Path("/etc/systemd/system/isc-dhcp-server.service.d/macbind.conf")
"""A link to what was installed: with it, Debian's service runs macbind's configuration."""
INCLUDE = 'include "{}"; # by macbind init'
"""The line that is added to a site's own configuration; `make uninstall` removes exactly this one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """What a site is described by.

    Attributes:
        interface: The network interface that dhcpd serves.
        subnet: Its network, as text; the rest of the addresses are text, too, and judged by the parser.
        own: The interface's own addresses, which are never handed out.
        pool: The pool's name.
        ranges: Ranges to allocate from; the whole subnet if empty.
        gateways: Gateways, best first; or one rule, as ``x.x.0.1``.
        name_servers: DNS servers.
        domain_name: The DNS domain.
        hypervisors: URIs of the hypervisors to watch.
        beside: The site's own dhcpd, whose configuration includes macbind's; None: dhcpd runs macbind's alone.
    """

    interface: str
    subnet: str
    own: Sequence[IPv4Address] = ()
    pool: str = "farm"
    ranges: Sequence[str] = ()
    gateways: Sequence[str] = ()
    name_servers: Sequence[str] = ()
    domain_name: str | None = None
    hypervisors: Sequence[str] = ()
    beside: OwnDhcpd | None = None


@dataclass(frozen=True, slots=True)
class Created:
    """What :func:`create` made.

    Attributes:
        files: The new files.
        next: The commands that start it all.
    """

    files: tuple[Path, ...]
    next: tuple[str, ...]


def document(site: Site) -> str:
    """The site's macbind.toml."""
    known, network = {*site.gateways, *site.name_servers}, _network(site.subnet)
    own = site.beside
    is_theirs = own is not None and network in own.subnets
    rule = site.gateways[0] if len(site.gateways) == 1 and "x" in site.gateways[0].lower() else None
    exclude = [str(one) for one in site.own if str(one) not in known]
    if own is not None and network is not None:
        exclude += [one for one in own.within(network) if one not in {*known, *exclude}]
    lines = [
        "# Written by `macbind init`. The sample macbind.toml in the documentation shows every key.",
        "",
        "[service]",
        *_key("socket_group", USERS),
        "",
        f"[dhcpd.{DHCPD}]",
        *_key("conf_file", None if own is None else str(own.path)),
        'leases_file = "/var/lib/dhcp/dhcpd.leases"',
        'log = "journal:isc-dhcp-server.service"',
        *_key("probe", site.interface),
        "",
        f"[subnet.{_toml(site.subnet)}]",
        *(["rendered = false"] if is_theirs else []),
        *(_key("gateway", rule) if rule else _key("routers", site.gateways)),
        *_key("domain_name_servers", site.name_servers),
        *_key("domain_name", site.domain_name),
        "",
        f"[pool.{_toml(site.pool)}]",
        *_key("subnet", site.subnet),
        *_key("ranges", site.ranges),
        *_key("exclude", exclude),
    ]
    for name, uri in _named(site.hypervisors):
        lines += ["", f"[hypervisor.{_toml(name)}]", *_key("uri", uri)]
    return "\n".join([*lines, ""])


def _network(text: str) -> IPv4Network | None:
    try:
        return parse_network(text)
    except InvalidAddress:  # the parser says so
        return None


def parse(site: Site) -> Settings:
    """The site's settings, by the parser that the service uses.

    Raises:
        InvalidRequest: The answers make no valid configuration.
    """
    with tempfile.TemporaryDirectory(prefix="macbind-init-") as scratch:
        draft = Path(scratch, "macbind.toml")
        draft.write_text(document(site), encoding="utf-8")
        try:
            return load(draft)
        except ConfigError as error:  # its file and line are not the user's
            problem = re.sub(rf"^{re.escape(str(draft))}(?: line \d+)?: ", "", error.message)
            raise InvalidRequest(
                f"These answers make no configuration: {problem}", hint=error.hint
            ) from error


def create(site: Site, config: Path, group: int) -> Created:
    """Writes the site's files after dhcpd has tested its part; none if one of them cannot be written.

    Args:
        site: The answers.
        config: Where macbind.toml goes.
        group: Number of the group that may read the secrets: that of the service.

    Raises:
        InvalidRequest: The answers make no valid configuration.
        Conflict: One of the files exists; none is touched.
        ConfigError: dhcpd refuses its configuration, or a file cannot be written.
    """
    settings = parse(site)
    target = settings.dhcpds[DHCPD]
    environment = config.with_name(ENVIRONMENT)
    files: tuple[Path, ...] = (config, target.config_file, target.key_file)
    if site.beside is None:
        files = (config, environment, target.config_file, target.key_file, DROP_IN)
    _refuse_existing(files, config)
    with ExitStack() as undo:
        try:
            config.parent.mkdir(parents=True, exist_ok=True)
            for path in (target.config_file, target.key_file):
                undo.callback(path.unlink, missing_ok=True)
            render.write(settings, DHCPD, key_group=group)
            _place(config, document(site), CONFIG_MODE, group, undo)
            if site.beside is None:
                text = f"MACBIND_INTERFACES={site.interface}\nDHCPDv4_CONF={target.config_file}\n"
                _place(environment, text, ENVIRONMENT_MODE, None, undo)
                _link_drop_in(undo)
            else:
                include(site.beside.path, target.config_file)
        except OSError as error:
            raise ConfigError(
                f"The files of the site cannot be written: {error.filename}: {error.strerror}.",
                hint="Run the command as root.",
            ) from error
        undo.pop_all()
    if site.beside is None and Path("/run/systemd/system").is_dir():
        subprocess.run(["systemctl", "daemon-reload"], check=False)  # if it fails, the next command says so
    return Created(
        files,
        (
            "systemctl enable --now macbind-firewall",
            "systemctl restart isc-dhcp-server",
            "systemctl enable --now macbind",
            "macbind status",
        ),
    )


def include(own: Path, ours: Path) -> None:
    """Adds an include of ours to the end of the site's own configuration, if it is not there."""
    path = own.resolve()
    text = path.read_text(encoding="utf-8", errors="surrogateescape")
    line = INCLUDE.format(ours)
    if line in text.splitlines():
        return
    before, end = path.stat(), "" if text.endswith("\n") or not text else "\n"
    with staged(path, f"{text}{end}{line}\n", before.st_mode & 0o777, before.st_gid) as new:
        os.chown(new, before.st_uid, -1)
        new.replace(path)
    sync_directory(path.parent)


def _link_drop_in(undo: ExitStack) -> None:
    """From now on Debian's service runs what dhcpd.env says, confined and supervised."""
    source = Path(sys.prefix, "share", "macbind", "isc-dhcp-server.conf")
    if not source.exists():
        raise ConfigError(
            f"{source} is not there, so dhcpd would not run macbind's configuration.",
            hint="Install macbind with `make install`.",
        )
    DROP_IN.parent.mkdir(parents=True, exist_ok=True)
    undo.callback(DROP_IN.unlink, missing_ok=True)
    DROP_IN.symlink_to(source)


def _refuse_existing(files: Sequence[Path], config: Path) -> None:
    there = [str(path) for path in files if os.path.lexists(path)]
    if there:
        raise Conflict(
            f"There is a site already, and nothing of it is overwritten: {', '.join(there)}.",
            hint=f"To change it, edit {config} and run `macbind render`; to begin anew, move these away first.",
            files=there,
        )


def _place(path: Path, text: str, mode: int, group: int | None, undo: ExitStack) -> None:
    """Makes a file, complete, where none is."""
    with staged(path, text, mode, group) as new:
        os.link(new, path)
    undo.callback(path.unlink, missing_ok=True)
    sync_directory(path.parent)


def _named(uris: Sequence[str]) -> list[tuple[str, str]]:
    """A name for each hypervisor: its host's, or local; a number tells those of one name apart."""
    found: dict[str, str] = {}
    for uri in uris:
        place = urlsplit(uri).hostname or "local"
        label = (
            place if re.fullmatch("[0-9.]+|.*:.*", place) else place.split(".")[0]
        )  # an address as a whole
        host = re.sub("[^a-z0-9-]", "-", label).strip("-")[:28] or "host"
        name, number = host, 1
        while name in found:
            number += 1
            name = f"{host}-{number}"
        found[name] = uri
    return list(found.items())


def _key(name: str, value: str | Sequence[str] | None) -> list[str]:
    return [f"{name} = {_toml(value)}"] if value else []


def _toml(value: str | Sequence[str]) -> str:
    """A string or a list of strings: TOML's basic strings are written like JSON's."""
    return json.dumps(value if isinstance(value, str) else list(value), ensure_ascii=False).replace(
        "\x7f", "\\u007f"
    )
