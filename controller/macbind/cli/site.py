"""A new site: the answers of ``macbind init``, the configuration they make, and its files, all or none."""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from urllib.parse import urlsplit

from macbind.config import Settings, load
from macbind.dhcpd import render
from macbind.dhcpd.key import staged, sync_directory
from macbind.errors import ConfigError, Conflict, InvalidRequest

DHCPD = "main"
GROUP = "macbind"
"""The service's group: its members may read the secrets and use the socket."""
CONFIG_MODE = 0o640
ENVIRONMENT_MODE = 0o644
ENVIRONMENT = "dhcpd.env"
"""Beside the configuration: the interface, for the drop-in of isc-dhcp-server.service."""


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
    known = {*site.gateways, *site.name_servers}
    rule = site.gateways[0] if len(site.gateways) == 1 and "x" in site.gateways[0].lower() else None
    exclude = [str(one) for one in site.own if str(one) not in known]
    lines = [
        "# Written by `macbind init`. The sample macbind.toml in the documentation shows every key.",
        "",
        "[service]",
        *_key("socket_group", GROUP),
        "",
        f"[dhcpd.{DHCPD}]",
        'leases_file = "/var/lib/dhcp/dhcpd.leases"',
        'log = "journal:isc-dhcp-server.service"',
        *_key("probe", site.interface),
        "",
        f"[subnet.{_toml(site.subnet)}]",
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
            told = re.sub(rf"^{re.escape(str(draft))}(?: line \d+)?: ", "", error.message)
            raise InvalidRequest(f"These answers make no configuration: {told}", hint=error.hint) from error


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
    files = (config, environment, target.config_file, target.key_file)
    _refuse_existing(files, config)
    with ExitStack() as undo:
        try:
            config.parent.mkdir(parents=True, exist_ok=True)
            for path in (target.config_file, target.key_file):
                undo.callback(path.unlink, missing_ok=True)
            render.write(settings, DHCPD, key_group=group)
            _place(config, document(site), CONFIG_MODE, group, undo)
            _place(environment, f"MACBIND_INTERFACES={site.interface}\n", ENVIRONMENT_MODE, None, undo)
        except OSError as error:
            raise ConfigError(
                f"The files of the site cannot be written: {error.filename}: {error.strerror}.",
                hint="Run the command as root.",
            ) from error
        undo.pop_all()
    return Created(
        files,
        ("systemctl restart isc-dhcp-server", "systemctl enable --now macbind", "macbind status"),
    )


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
