"""Finds the configuration that a dhcpd really runs with, and what it gives to others of our pools.

macbind renders one file. dhcpd may have been started with another one, which includes ours or not. The configuration
that counts is the one that opens our OMAPI port.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from ipaddress import IPv4Address, ip_address
from pathlib import Path

from macbind.config import DhcpdSettings
from macbind.core.address_plan import AddressPlan
from macbind.core.binding import BINDING_PREFIX
from macbind.core.evidence import Evidence, Source
from macbind.core.findings import Finding
from macbind.dhcp.isc.conf_file import Conf, ConfHost, ConfRange, read_conf
from macbind.dhcp.isc.files import commands_to_read, how_to_read, read_whole
from macbind.dhcp.isc.lease_file import paced

MAX_RANGE_EVIDENCE = 1 << 16
"""Addresses of pools in ranges that are named as evidence, the lowest first: those that are handed out first."""
_DEBIAN_CONF, _DEBIAN_LEASES = Path("/etc/dhcp/dhcpd.conf"), Path("/var/lib/dhcp/dhcpd.leases")
_DEBIAN_SETTINGS = (Path("/etc/default/isc-dhcp-server"), Path("/etc/macbind/dhcpd.env"))
_MAX_SETTINGS_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class ConfLook:
    """What a look at the configuration showed.

    Attributes:
        evidence: The addresses of pools that hosts and ranges of others have there.
        findings: The same, for an admin, and what could not be read.
        is_whole: Whether every file could be read.
    """

    evidence: Sequence[Evidence]
    findings: Sequence[Finding]
    is_whole: bool


@dataclass(frozen=True, slots=True)
class Started:
    """How a dhcpd was started: configuration, lease file, the directory it was started in, and its process."""

    conf: Path
    leases: Path
    cwd: Path
    pid: int = 0


def conf_in_force(
    settings: DhcpdSettings, running: Callable[[], Iterable[Started]], between: Callable[[], object]
) -> Conf | None:
    """The configuration that this dhcpd runs with, as far as macbind can tell; None if it is another machine's.

    Args:
        settings: How the dhcpd is configured.
        running: The dhcpds that run on this machine, as far as they can be seen.
        between: Called every now and then during the work.
    """
    if settings.conf_file is not None:
        return read_conf(settings.conf_file, between=between)
    if not is_local(settings.host):
        return None
    for one in running():
        conf = read_conf(one.conf, cwd=one.cwd, between=between)
        if settings.leases_file == one.leases or conf.omapi_port == settings.port:
            return conf
    for path in (*_debian_confs(), settings.config_file):
        conf = read_conf(path, between=between)
        if conf.omapi_port == settings.port:
            return conf
    return None


def is_local(host: str) -> bool:
    """Whether the host of an OMAPI port is this machine."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def running_dhcpds() -> Iterator[Started]:
    """The dhcpds in our network namespace that we may look at; under systemd's ProtectProc= there is none."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        with suppress(OSError):  # it has ended, or is none of ours
            if (entry / "comm").read_text() != "dhcpd\n" or not _is_in_our_network(entry):
                continue
            words = (entry / "cmdline").read_bytes().decode(errors="surrogateescape").split("\0")
            cwd = (entry / "cwd").readlink()
            conf, leases = _after("-cf", words, _DEBIAN_CONF), _after("-lf", words, _DEBIAN_LEASES)
            yield Started(cwd / conf, cwd / leases, cwd, int(entry.name))


def look_at_conf(
    dhcpd: str,
    conf: Conf,
    plans: Sequence[AddressPlan],
    masked: frozenset[str],
    now: datetime,
    between: Callable[[], object] = lambda: None,
) -> ConfLook:
    """What a configuration gives to others of our pools.

    Args:
        dhcpd: The dhcpd's name in the configuration.
        conf: Its configuration.
        plans: The address plans of the pools it serves.
        masked: Names of hosts that dhcpd leaves out, because somebody deleted them over OMAPI.
        now: When it was read (UTC).
        between: Called every now and then during the work.
    """
    hosts = [
        (one, address)
        for one in paced(conf.hosts, between)
        if not one.name.startswith(BINDING_PREFIX) and one.name not in masked
        for address in _reached(plans, one)
    ]
    ranges = [(one, list(paced(_shared(plans, one), between))) for one in conf.ranges]
    ranges = [(one, addresses) for one, addresses in ranges if addresses]
    evidence = [
        *(Evidence(Source.HOST, dhcpd, ip, one.mac, _printable(one.name), now, now) for one, ip in hosts),
        *(
            Evidence(Source.RANGE, dhcpd, ip, None, f"the range {one.addresses} in {one.place}", now, now)
            for one, addresses in ranges
            for ip in paced(addresses, between)
        ),
    ]
    findings = [*_host_findings(dhcpd, hosts), *_range_findings(dhcpd, ranges), *_faults(dhcpd, conf)]
    return ConfLook(evidence, findings, conf.failed is None)


def _debian_confs() -> Iterator[Path]:
    """What Debian's unit starts dhcpd with."""
    for path in _DEBIAN_SETTINGS:
        with suppress(OSError):
            for line in read_whole(path, _MAX_SETTINGS_BYTES).decode(errors="replace").splitlines():
                name, _, value = line.strip().partition("=")
                if name == "DHCPDv4_CONF" and value:
                    yield Path(value.strip("\"'"))
    yield _DEBIAN_CONF


def _is_in_our_network(process: Path) -> bool:
    try:
        return (process / "ns/net").readlink() == Path("/proc/thread-self/ns/net").readlink()
    except PermissionError:  # another user's: that it can be seen has to do
        return True


def _after(option: str, words: Sequence[str], default: Path) -> Path:
    return Path(words[words.index(option) + 1]) if option in words[:-1] else default


def _reached(plans: Sequence[AddressPlan], host: ConfHost) -> list[IPv4Address]:
    given = [one for one in host.addresses if any(one in plan for plan in plans)]
    if host.mac is not None:
        given += [ip for plan in plans if (ip := plan.assignable_of(host.mac)) is not None]
    return list(dict.fromkeys(given))


def _shared(plans: Sequence[AddressPlan], one: ConfRange) -> Iterator[IPv4Address]:
    """The addresses of a range that a pool hands out, the lowest first; not more than are named."""
    left = MAX_RANGE_EVIDENCE
    for plan in plans:
        for item in plan.assignable:
            low, high = max(item.lo, one.addresses.lo), min(item.hi, one.addresses.hi)
            for value in range(int(low), min(int(high), int(low) + left - 1) + 1):
                left -= 1
                yield IPv4Address(value)


def _host_findings(dhcpd: str, hosts: Sequence[tuple[ConfHost, IPv4Address]]) -> Iterator[Finding]:
    if hosts:
        host, ip = hosts[0]
        what = f"gives {ip} to {host.mac}" if ip in host.addresses else f"has {host.mac}, the MAC of {ip}"
        yield Finding(
            "foreign_host",
            f"The host '{_printable(host.name)}' of dhcpd '{dhcpd}' in {host.place} {what}, and a pool hands "
            f"{ip} out: it is passed over.{_more(len(hosts))}",
            "Exclude the address from the pool, or reserve it for this machine and take the host out.",
            str(ip),
        )


def _range_findings(dhcpd: str, ranges: Sequence[tuple[ConfRange, list[IPv4Address]]]) -> Iterator[Finding]:
    if ranges:
        one, addresses = ranges[0]
        yield Finding(
            "foreign_range",
            f"dhcpd '{dhcpd}' hands out {one.addresses} by itself ({one.place}), and a pool hands out "
            f"{addresses[0]}, too: what they share is passed over.{_more(len(ranges))}",
            "Take the pool's addresses out of the range, or exclude the range from the pool.",
            str(one.addresses),
        )


def _faults(dhcpd: str, conf: Conf) -> Iterator[Finding]:
    """What could not be read; a fault in its syntax alone is dhcpd's to tell."""
    if conf.failed is not None:
        path = Path(os.fsdecode(conf.failed.filename or conf.path))
        yield Finding(
            "conf_file_unreadable",
            f"macbind cannot read {path}, which dhcpd '{dhcpd}' runs with: {conf.failed.strerror}. "
            "Hosts and ranges there are known from earlier looks only.",
            how_to_read(path),
            str(path),
            commands_to_read(path),
        )
    if conf.notes:
        note = conf.notes[0]
        yield Finding(
            "conf_file_unclear",
            f"macbind does not understand {note.place}, which dhcpd '{dhcpd}' runs with: {note.text}."
            f"{_more(len(conf.notes))}",
            "If an address of a pool is used there, write it as an address, or exclude it from the pool.",
            str(note.place),
        )


def _printable(text: str) -> str:
    return "".join(one if one.isprintable() else "?" for one in text)


def _more(count: int) -> str:
    return f" There are {count} of these." if count > 1 else ""
