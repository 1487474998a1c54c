"""The dhcpds of this machine: do they run, alone, with our part, as it is on disk, and do they answer machines?"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from macbind.core.findings import Finding
from macbind.dhcp.isc.conf_file import Conf, read_conf
from macbind.dhcp.isc.conf_look import Started, running_dhcpds
from macbind.doctor.site import Site
from macbind.engine.serving import SILENT_PROBES, Serving

_CHANGED_AFTER_S = 0.05
"""The kernel tells when a process began to a hundredth of a second."""
_LISTEN_S = 1.0


def look_for_one(site: Site) -> Iterator[Finding]:
    """Whether a dhcpd runs here."""
    if any(True for _ in running_dhcpds()):
        return
    for name in site.local_dhcpds():
        yield Finding(
            "dhcpd_not_running",
            f"No dhcpd runs on this machine, and dhcpd '{name}' should: machines get no address.",
            "Start it; if it ends again, its log says why.",
            name,
            site.restart(name),
        )


def look_at_conf(site: Site) -> Iterator[Finding]:
    """Whether the running dhcpd has our part in its configuration."""
    confs = [(one, _conf(one)) for one in running_dhcpds()]
    for name, dhcpd in site.local_dhcpds().items():
        if not confs or any(_serves(site, name, conf) for _, conf in confs):
            continue
        other = confs[0][1].path
        yield Finding(
            "conf_file_other",
            f"dhcpd runs with {other}, and {dhcpd.config_file} is no part of that: dhcpd '{name}' does not hear "
            "macbind.",
            "Include macbind's part at its end, and restart dhcpd.",
            name,
            (f"echo 'include \"{dhcpd.config_file}\";' >>{other}", *site.restart(name)),
        )


def look_at_age(site: Site) -> Iterator[Finding]:
    """Whether the running dhcpd has read its files as they are now: it cannot reload."""
    for one in running_dhcpds():
        conf, began = _conf(one), _began_at(one.pid)
        newer = [path for path in sorted(conf.files) if _changed_at(path) > began + _CHANGED_AFTER_S]
        name = next((name for name in site.local_dhcpds() if _serves(site, name, conf)), None)
        if newer and name is not None:
            yield Finding(
                "conf_file_old",
                f"{newer[0]} has changed since dhcpd '{name}' was started: dhcpd serves what was there before.",
                "Restart dhcpd.",
                name,
                site.restart(name),
            )


def look_for_others_here(site: Site) -> Iterator[Finding]:
    """Whether another dhcpd runs on this machine that is none of the configuration's."""
    confs = [(one, _conf(one)) for one in running_dhcpds()]
    names = list(site.local_dhcpds())
    others = [one for one, conf in confs if not any(_serves(site, name, conf) for name in names)]
    if len(others) == len(confs):  # then it is the only one, with another configuration
        return
    for one in others:
        yield Finding(
            "two_dhcpds",
            f"A second dhcpd runs on this machine, with {one.conf} (process {one.pid}).",
            "End it: it answers machines, too. Then disable what has started it.",
            str(one.conf),
            (f"kill {one.pid}",),
        )


def look_at_answers(site: Site) -> Iterator[Finding]:
    """Whether each dhcpd answers a machine's question."""
    for _, serving in _asking(site):
        try:
            found: list[Finding] = []
            for _ in range(SILENT_PROBES):
                found = serving.ask()
                if not serving.silent:
                    break
            yield from found
        finally:
            serving.close()


def look_for_others(site: Site) -> Iterator[Finding]:
    """Whether another DHCP server answers."""
    for _, serving in _asking(site):
        try:
            serving.ask()
            until, found = time.monotonic() + _LISTEN_S, serving.others()
            while not found and time.monotonic() < until:
                threading.Event().wait(0.1)
                found = serving.others()
            yield from found
        finally:
            serving.close()


def _asking(site: Site) -> Iterator[tuple[str, Serving]]:
    for name, dhcpd in site.local_dhcpds().items():
        if dhcpd.probe is not None:
            own = {one.network.network_address for one in site.configured.subnets_of(name)}
            yield name, Serving(name, dhcpd.probe, lambda own=own: own, lambda: True)  # type: ignore[misc]


def _conf(one: Started) -> Conf:
    return read_conf(one.conf, cwd=one.cwd)


def _serves(site: Site, name: str, conf: Conf) -> bool:
    dhcpd = site.configured.dhcpds[name]
    return conf.omapi_port == dhcpd.port or dhcpd.config_file in conf.files


def _began_at(pid: int) -> float:
    """When a process began, in seconds since 1970; now, if it has ended."""
    try:
        words = (
            Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
        )
    except OSError:
        return time.time()
    age_s = time.clock_gettime(time.CLOCK_BOOTTIME) - int(words[19]) / os.sysconf("SC_CLK_TCK")
    return time.time() - age_s


def _changed_at(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
