"""dhcpd's configuration: computed from the settings, tried by dhcpd itself, replaced in one step.

A changed text always means a restart of dhcpd. So the text has no date in it, and no pool whose machines come and go
over OMAPI. It depends on the settings, and on which of dhcpd's interfaces has addresses on several subnets.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Address
from itertools import groupby
from operator import itemgetter
from pathlib import Path

from macbind.config import DhcpdSettings, Settings
from macbind.core.address_range import AddressRange, by_gateway
from macbind.core.binding import PROBE_BINDING, STATIC_BINDING_PREFIX, probe_mac
from macbind.core.errors import ConfigError
from macbind.core.pool import Pool, PoolMode, Subnet
from macbind.dhcp.isc import syntax
from macbind.dhcp.isc.conf_file import read_conf
from macbind.dhcp.isc.config_test import check
from macbind.dhcp.isc.key import ensure_key, staged, sync_directory
from macbind.dhcp.isc.shared_networks import SharedNetwork, interfaces_of, shared_networks
from macbind.probes.interfaces import Interfaces

CONFIG_MODE = 0o644


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


def render(settings: Settings, dhcpd_name: str, here: Interfaces | None = None) -> str:
    """The complete configuration of one dhcpd.

    Args:
        settings: The configuration.
        dhcpd_name: The dhcpd.
        here: The interfaces of its machine, which say what subnets lie on one wire; by default they are looked at.

    Raises:
        ConfigError: There is no dhcpd of that name, or an interface of it would be in two shared networks.
    """
    target = _target(settings, dhcpd_name)
    here = interfaces_of(settings, dhcpd_name) if here is None else here
    lines = [
        f"# Written by macbind render for the dhcpd '{dhcpd_name}'; do not edit: it is written anew.",
        f'include "{target.key_file}";',
        f"omapi-port {target.port};",
        f'omapi-key "{target.key_name}";',
        "",
    ]
    manners = [
        "authoritative;" if target.authoritative else "not authoritative;",
        "# Fixed addresses are never pinged anyway; dynamic ones would wait a second.",
        "ping-check false;",
        "# Clones of one image send one client identifier; the MAC tells them apart.",
        "ignore-client-uids true;",
    ]
    # What stands outside of our subnets would count for the site's own ones, too.
    is_alone = target.conf_file in (None, target.config_file)
    lines += manners if is_alone else []
    if is_alone and not target.fsync:
        lines += [
            "# After a power failure the controller makes every binding again.",
            "dont-use-fsync true;",
        ]
    if target.probe is not None:
        lines += [
            "# macbind asks for this address, which nobody can have, to see that dhcpd answers.",
            f"host {PROBE_BINDING} {{",
            f"  hardware ethernet {probe_mac(dhcpd_name)};",
            f"  fixed-address {', '.join(map(str, _probe_addresses(settings, dhcpd_name)))};",
            "}",
        ]
    for network in shared_networks(settings, dhcpd_name, here):
        _check_declared_together(settings, network)
        lines += ["", *_network(network, [] if is_alone else manners)]
    for pool in settings.pools_of(dhcpd_name):
        if pool.mode is PoolMode.STATIC:
            lines += ["", *_static_pool(pool)]
    return "\n".join([*lines, ""])


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
            try_out(settings, dhcpd_name, text, directory=path.parent, dhcpd=dhcpd)
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


def _check_declared_together(settings: Settings, network: SharedNetwork) -> None:
    """One wire is one shared network, and dhcpd takes that from one place only."""
    theirs = [one for one in network.subnets if not one.rendered]
    if theirs and len(theirs) < len(network.subnets):
        ours = next(one for one in network.subnets if one.rendered)
        raise settings.document.error(
            ("subnet", str(ours.network)),
            f"The subnets {ours.network} and {theirs[0].network} lie on one wire, and your own dhcpd.conf declares "
            "only one of them.",
            f"Declare {ours.network} in one shared-network with the other there, and write rendered = false here.",
        )


def try_out(
    settings: Settings,
    dhcpd_name: str,
    text: str,
    *,
    directory: Path | None = None,
    dhcpd: Path | None = None,
) -> None:
    """Lets dhcpd test what :func:`render` made, within the site's own configuration where that includes it.

    Raises:
        ConfigError: dhcpd refuses it, or the site's own configuration declares a subnet, too.
    """
    target = _target(settings, dhcpd_name)
    own = target.conf_file
    if own is None or own == target.config_file or not own.exists():
        check(text, directory=directory, dhcpd=dhcpd)
        return
    _check_declared_once(settings, dhcpd_name, own)
    check(text, directory=directory, dhcpd=dhcpd, within=own, path=target.config_file)


def _check_declared_once(settings: Settings, dhcpd_name: str, own: Path) -> None:
    """A second subnet of one network would take the site's own clients: dhcpd only warns of it."""
    ours = settings.dhcpds[dhcpd_name].config_file
    theirs = [one for one in read_conf(own).subnets if one.place.path != ours]
    for subnet in settings.subnets_of(dhcpd_name):
        for one in theirs:
            if subnet.rendered and subnet.network.overlaps(one.network):
                raise settings.document.error(
                    ("subnet", str(subnet.network)),
                    f"The subnet {subnet.network} is declared in {one.place}, too, as {one.network}.",
                    f'Write rendered = false in [subnet."{one.network}"], or remove it there.',
                )


def is_current(settings: Settings, dhcpd_name: str) -> bool:
    """Whether a dhcpd's configuration file is as :func:`write` would make it.

    Raises:
        ConfigError: It cannot be read.
    """
    path = _target(settings, dhcpd_name).config_file
    try:
        return path.read_bytes() == render(settings, dhcpd_name).encode()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be read: {error.strerror}.", hint="Run the command as root.", file=str(path)
        ) from error


def _target(settings: Settings, name: str) -> DhcpdSettings:
    if name not in settings.dhcpds:
        raise ConfigError(
            f"{settings.document.path} has no table [dhcpd.{name}].",
            hint=f"It has {', '.join(settings.dhcpds)}.",
        )
    return settings.dhcpds[name]


def _probe_addresses(settings: Settings, name: str) -> list[IPv4Address]:
    """The network address of every subnet: dhcpd takes the one that fits the interface the question came in by."""
    return [one.network.network_address for one in settings.subnets_of(name) if one.network.prefixlen <= 30]


def _network(network: SharedNetwork, manners: Sequence[str]) -> Iterator[str]:
    subnets = [one for one in network.subnets if one.rendered]
    if len(network.subnets) == 1 and subnets:
        yield from _subnet(subnets[0], manners)
    elif subnets:
        yield f'shared-network "{network.name}" {{'
        for subnet in subnets:
            yield from (f"  {line}" for line in _subnet(subnet, manners))
        yield "}"


def _subnet(subnet: Subnet, manners: Sequence[str]) -> Iterator[str]:
    yield f"subnet {subnet.network.network_address} netmask {subnet.network.netmask} {{"
    yield from (f"  {line}" for line in manners)
    yield f"  default-lease-time {subnet.lease_time_s};"
    yield f"  max-lease-time {subnet.lease_time_s};"
    for statement in syntax.statements(subnet.options):
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
    if subnet.gateway_rule is None:
        yield from (("", item) for item in subnet.dynamic)
        return
    for gateway, item in by_gateway(subnet.gateway_rule, subnet.dynamic):
        options = replace(subnet.options, routers=(gateway,))
        yield "".join(f"{one} " for one in syntax.statements(options.beyond(subnet.options))), item


def _static_pool(pool: Pool) -> Iterator[str]:
    """One host for each address; what several are told stands once, in a group around them."""
    yield f"# The pool '{pool.name}'."
    ranges = pool.plan.assignable
    pieces = (
        by_gateway(pool.gateway_rule, ranges)
        if pool.gateway_rule is not None
        else ((None, item) for item in ranges)
    )
    for _, group in groupby(pieces, key=itemgetter(0)):
        together = [item for _, item in group]
        yield "group {"
        for statement in syntax.statements(pool.binding_options(together[0].lo)):
            yield f"  {statement}"
        yield f"  {syntax.NO_HOST_NAME}"
        yield from _static_hosts(pool.plan.scheme.offset, together)
        yield "}"


def _static_hosts(offset: int, ranges: Iterable[AddressRange]) -> Iterator[str]:
    """Arithmetic on integers instead of objects: a /16 takes a tenth of a second."""
    for item in ranges:
        for value in range(int(item.lo), int(item.hi) + 1):
            address = f"{value >> 24}.{value >> 16 & 255}.{value >> 8 & 255}.{value & 255}"
            raw = f"{offset + value:012x}"
            mac = f"{raw[:2]}:{raw[2:4]}:{raw[4:6]}:{raw[6:8]}:{raw[8:10]}:{raw[10:]}"
            name = f"{STATIC_BINDING_PREFIX}{address}"
            yield f"  host {name} {{ hardware ethernet {mac}; fixed-address {address}; }}"
