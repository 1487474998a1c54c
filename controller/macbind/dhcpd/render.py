"""dhcpd's configuration: computed from the settings, tried by dhcpd itself, replaced in one step.

:func:`render` is pure. The text holds nothing that changes without dhcpd having to be restarted for it, no
date and no pool whose machines come and go over OMAPI, so a changed text always means a restart.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from ipaddress import IPv4Address
from itertools import groupby
from operator import itemgetter
from pathlib import Path

from macbind.addressing import AddressRange, by_gateway
from macbind.config import DhcpdSettings, Settings
from macbind.dhcpd.key import OmapiKey, ensure_key, staged, sync_directory
from macbind.errors import ConfigError
from macbind.model import PROBE_HOST, STATIC_HOST_PREFIX, Pool, PoolMode, Subnet, probe_mac

CONFIG_MODE = 0o644
CHECK_TIMEOUT_S = 300.0
"""Far more than dhcpd needs for the largest configuration; a check that hangs must not hang the caller."""
SYSTEM_DIRECTORIES = ("/usr/sbin", "/usr/local/sbin", "/sbin")
"""Where dhcpd is, and where the PATH of an ordinary user does not look."""

_INCLUDE = re.compile(r'^include "[^"\n]*";$', re.MULTILINE)
_OMAPI_KEY = re.compile(r'^omapi-key "([^"\n]+)";$', re.MULTILINE)
_BANNER = re.compile(r"Internet Systems|Copyright|All rights|For info|[A-Z][A-Za-z]+ file: ")
_FAULT = re.compile(r"^(?P<file>\S.*) line (?P<line>\d+): (?P<what>.+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class RenderResult:
    """What :func:`write` did.

    Attributes:
        path: The configuration file.
        changed: Whether the file was replaced.
        restart_needed: Whether a running dhcpd must be restarted to see it: dhcpd cannot reload.
        key_created: Whether the key file was made.
    """

    path: Path
    changed: bool
    restart_needed: bool
    key_created: bool


def render(settings: Settings, dhcpd_name: str) -> str:
    """The complete configuration of one dhcpd.

    Raises:
        ConfigError: There is no dhcpd of that name.
    """
    target = _target(settings, dhcpd_name)
    lines = [
        f"# Written by macbind render for the dhcpd '{target.name}'; do not edit: it is written anew.",
        f'include "{target.key_file}";',
        f"omapi-port {target.port};",
        f'omapi-key "{target.key_name}";',
        "",
        "authoritative;" if target.authoritative else "not authoritative;",
        "# Fixed addresses are never pinged anyway; dynamic ones would wait a second.",
        "ping-check false;",
        "# Clones of one image send one client identifier; the MAC tells them apart.",
        "ignore-client-uids true;",
    ]
    if not target.fsync:
        lines += [
            "# After a power failure the controller makes every reservation again.",
            "dont-use-fsync true;",
        ]
    if target.probe is not None:
        lines += [
            "# macbind asks for this address, which nobody can have, to see that dhcpd answers.",
            f"host {PROBE_HOST} {{",
            f"  hardware ethernet {probe_mac(target.name)};",
            f"  fixed-address {', '.join(map(str, _probe_addresses(settings, dhcpd_name)))};",
            "}",
        ]
    for subnet in settings.subnets_of(dhcpd_name):
        lines += ["", *_subnet(subnet)]
    for pool in settings.pools_of(dhcpd_name):
        if pool.mode is PoolMode.STATIC:
            lines += ["", *_static_pool(pool)]
    return "\n".join([*lines, ""])


def check(
    text: str, *, key_text: str | None = None, directory: Path | None = None, dhcpd: Path | None = None
) -> None:
    """Lets dhcpd itself test a rendered configuration; nothing outside a temporary directory is written.

    Args:
        text: What :func:`render` made.
        key_text: The key stanza to include instead of the key file; by default that of a throw-away key, so
            that no secret is copied and nobody needs to be allowed to read the real one.
        directory: Where to make the temporary directory. Debian's AppArmor profile lets dhcpd read below
            ``/etc/dhcp`` and not below ``/tmp``, so :func:`write` uses the configuration's own directory.
        dhcpd: The program; found by default.

    Raises:
        ConfigError: dhcpd refuses the text (its own words, with the line), or there is no dhcpd.
    """
    program = dhcpd or find_dhcpd()
    if key_text is None:
        name = _OMAPI_KEY.search(text)
        key_text = OmapiKey.generate(name[1] if name else "macbind", "hmac-sha256").stanza
    try:
        with tempfile.TemporaryDirectory(prefix=".macbind-check-", dir=directory) as scratch:
            config, key = Path(scratch, "dhcpd.conf"), Path(scratch, "key")
            key.write_text(key_text, encoding="utf-8")
            config.write_text(_INCLUDE.sub(lambda _: f'include "{key}";', text, count=1), encoding="utf-8")
            done = _test(program, config)
    except OSError as error:
        raise ConfigError(
            f"The configuration cannot be tested in {directory or tempfile.gettempdir()}: {error.strerror}.",
            hint="Create the directory, or run the command as root.",
        ) from error
    if done.returncode != 0:
        raise _refusal(done.stderr, text, config)


def _test(program: Path, config: Path) -> subprocess.CompletedProcess[str]:
    # Not -q: that silences the reason of a refusal, too.
    command: list[str | Path] = [program, "-4", "-t", "-cf", config]
    try:
        return subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=CHECK_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ConfigError(f"{program} -t did not end within {CHECK_TIMEOUT_S:g} s.") from error
    except OSError as error:
        raise ConfigError(
            f"{program} cannot be run: {error.strerror}.", hint="Install isc-dhcp-server."
        ) from error


def find_dhcpd(search: str | None = None) -> Path:
    """Where dhcpd is: on the given search path, by default PATH and the system's directories.

    Raises:
        ConfigError: It is not installed.
    """
    if search is None:
        search = os.pathsep.join((os.environ.get("PATH", ""), *SYSTEM_DIRECTORIES))
    found = shutil.which("dhcpd", path=search)
    if found is None:
        raise ConfigError("dhcpd is not installed on this machine.", hint="Install isc-dhcp-server.")
    return Path(found)


def write(
    settings: Settings, dhcpd_name: str, *, key_group: int | None = None, dhcpd: Path | None = None
) -> RenderResult:
    """Brings one dhcpd's configuration file up to date, and makes its key where there is none.

    Args:
        settings: The configuration.
        dhcpd_name: The dhcpd.
        key_group: Numeric group that may read a new key file: the controller's.
        dhcpd: The program that checks; found by default.

    Raises:
        ConfigError: dhcpd refuses the text, or a file cannot be written. Nothing was changed then.
    """
    target = _target(settings, dhcpd_name)
    path, text = target.config_file, render(settings, dhcpd_name)
    try:
        new_key = not target.key_file.exists()
        changed = not path.exists() or path.read_bytes() != text.encode()
        if changed:
            check(text, directory=path.parent, dhcpd=dhcpd)
        ensure_key(target.key_file, target.key_name, target.key_algorithm, group=key_group)
        if changed:
            with staged(path, text, CONFIG_MODE) as new:
                new.replace(path)
            sync_directory(path.parent)
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be written: {error.strerror}.",
            hint="Create its directory, or run the command as root.",
            file=str(path),
        ) from error
    return RenderResult(path, changed, changed or new_key, new_key)


def _target(settings: Settings, name: str) -> DhcpdSettings:
    if name not in settings.dhcpds:
        raise ConfigError(
            f"{settings.path} has no table [dhcpd.{name}].", hint=f"It has {', '.join(settings.dhcpds)}."
        )
    return settings.dhcpds[name]


def _probe_addresses(settings: Settings, name: str) -> list[IPv4Address]:
    """The network address of every subnet: dhcpd takes the one that fits the interface the question came in by."""
    return [one.network.network_address for one in settings.subnets_of(name) if one.network.prefixlen <= 30]


def _subnet(subnet: Subnet) -> Iterator[str]:
    yield f"subnet {subnet.network.network_address} netmask {subnet.network.netmask} {{"
    yield f"  default-lease-time {subnet.lease_time_s};"
    yield f"  max-lease-time {subnet.lease_time_s};"
    for statement in subnet.options.statements():
        yield f"  {statement}"
    if subnet.dynamic:
        # A deny in the subnet would beat any allow in its pools.
        for extra, item in _dynamic(subnet):
            yield f"  pool {{ {extra}range {item.lo} {item.hi}; }}"
    else:
        yield "  deny unknown-clients;"
    yield "}"


def _dynamic(subnet: Subnet) -> Iterator[tuple[str, AddressRange]]:
    """The dynamic ranges, cut where the gateway changes, each with the statements that tell its gateway."""
    if subnet.gateway is None:
        yield from (("", item) for item in subnet.dynamic)
        return
    for gateway, item in by_gateway(subnet.gateway, subnet.dynamic):
        told = replace(subnet.options, routers=(gateway,))
        yield "".join(f"{one} " for one in told.beyond(subnet.options).statements()), item


def _static_pool(pool: Pool) -> Iterator[str]:
    """One host for each address; what several are told stands once, in a group around them."""
    yield f"# The pool '{pool.name}'."
    ranges = pool.plan.assignable
    pieces = by_gateway(pool.rule, ranges) if pool.rule is not None else ((None, item) for item in ranges)
    for _, group in groupby(pieces, key=itemgetter(0)):
        together = [item for _, item in group]
        yield "group {"
        for statement in pool.told(together[0].lo).beyond(pool.subnet.options).statements():
            yield f"  {statement}"
        yield from _static_hosts(pool.plan.scheme.offset, together)
        yield "}"


def _static_hosts(offset: int, ranges: Iterable[AddressRange]) -> Iterator[str]:
    """Arithmetic on integers instead of objects: a /16 takes a tenth of a second."""
    for item in ranges:
        for value in range(int(item.lo), int(item.hi) + 1):
            address = f"{value >> 24}.{value >> 16 & 255}.{value >> 8 & 255}.{value & 255}"
            raw = f"{offset + value:012x}"
            mac = f"{raw[:2]}:{raw[2:4]}:{raw[4:6]}:{raw[6:8]}:{raw[8:10]}:{raw[10:]}"
            name = f"{STATIC_HOST_PREFIX}{address}"
            yield f"  host {name} {{ hardware ethernet {mac}; fixed-address {address}; }}"


def _refusal(output: str, text: str, config: Path) -> ConfigError:
    """dhcpd's first complaint; of a fault in the key file only the reason, never the line itself."""
    fault = _FAULT.search(output)
    if fault is None:
        told = [line for line in output.splitlines() if line and not _BANNER.match(line)]
        return ConfigError(f"dhcpd refuses the configuration: {told[0] if told else 'it gives no reason'}.")
    line, what = int(fault["line"]), fault["what"].rstrip(".")
    if fault["file"] != str(config):
        return ConfigError(f"dhcpd refuses line {line} of the key file: {what}.", line=line)
    return ConfigError(
        f"dhcpd refuses line {line} of the rendered configuration: {what}.",
        hint=f"The line is: {text.split(chr(10))[line - 1].strip()}",
        line=line,
    )
