"""Everything that can be broken, each with its mending."""

import os
import random
import re
import signal
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from chaos.proxy import Wire
from chaos.site import Kind, Site
from labkit.virt import LibvirtdDied
from macbind.core.binding import owner_of

_HOSTS = re.compile(rb"^host (\S+) \{$", re.MULTILINE)

Mend = Callable[[], object]
Break = Callable[[Site, random.Random], Mend | None]


@dataclass(frozen=True)
class Fault:
    """Something to break.

    Attributes:
        what: What it concerns: of two faults of one thing only one is there at a time.
        weight: How often it is drawn.
        lasts_s: Shortest and longest time until it is mended; 0 for what is over at once.
        breaks: Breaks it; returns how to mend it, None if it could not be broken.
        fits: Whether a site has what is broken.
    """

    what: str
    weight: float
    lasts_s: tuple[float, float]
    breaks: Break
    fits: Callable[[Kind], bool] = lambda _: True


# -- macbind -----------------------------------------------------------------------------------------------


def _kill_daemon(site: Site, _: random.Random) -> Mend:
    site.kill_daemon()
    return lambda: None  # the watch starts it again


# -- dhcpd -------------------------------------------------------------------------------------------------


def _kill_dhcpd(damage: Callable[[Site, random.Random], None]) -> Break:
    def breaks(site: Site, luck: random.Random) -> Mend:
        site.control.touch(begins=True)
        if site.dhcpd.alive:
            site.dhcpd.kill()
        site.farm.leases.touch()  # it may have been lost before, and never been written since
        damage(site, luck)

        return site.restart_dhcpd

    return breaks


def _keep(_site: Site, _: random.Random) -> None:
    pass


def _truncate(site: Site, luck: random.Random) -> None:
    file = site.farm.leases
    os.truncate(file, luck.randint(0, file.stat().st_size))


def _tear(site: Site, luck: random.Random) -> None:
    """Cuts a piece out of the middle, as a full disk does: a torn record with others after it."""
    _write(site.farm.leases, cut(site.farm.leases.read_bytes(), luck))


def cut(content: bytes, luck: random.Random) -> bytes:
    """A lease file without a piece of it.

    A piece is not taken if it leaves a whole record under a name that nobody gave, because its ends are in names.
    What macbind did not name it reports and leaves alone, as it should.
    """
    given = set(_HOSTS.findall(content))
    while True:
        start = luck.randint(0, len(content))
        torn = content[:start] + content[start + luck.randint(1, 60) :]
        if all(name in given or owner_of(name.decode("latin-1")) for name in _HOSTS.findall(torn)):
            return torn


def _lose(site: Site, _: random.Random) -> None:
    for file in (site.farm.leases, Path(f"{site.farm.leases}~")):
        file.unlink(missing_ok=True)


def _restore(site: Site, _: random.Random) -> None:
    """Puts an earlier lease file back: what was deleted since is there again."""
    old, now = site.backup.read_bytes(), site.farm.leases.read_bytes()
    _write(site.farm.leases, old)
    site.backup.write_bytes(now)


def _write(file: Path, content: bytes) -> None:
    with suppress(OSError):  # the disk may be full at the same time
        file.write_bytes(content)


def _odd_lease_file(site: Site, luck: random.Random) -> Mend:
    """Somebody who may write there puts a pipe, or a link to what has no end, where dhcpd keeps its leases.

    dhcpd itself goes on with the file that it has open; a file that it writes anew is the true one.
    """
    file, aside = site.farm.leases, site.farm.leases.with_suffix(".aside")
    file.rename(aside)
    if luck.random() < 0.5:
        os.mkfifo(file)
    else:
        file.symlink_to("/dev/zero")
    odd = file.lstat().st_ino

    def mend() -> None:
        if file.lstat().st_ino == odd:
            aside.replace(file)
        else:
            aside.unlink()

    return mend


def _freeze(site: Site, _: random.Random) -> Mend | None:
    if not site.dhcpd.alive:
        return None
    site.control.touch(begins=True)
    site.dhcpd.freeze()

    def mend() -> None:
        if site.dhcpd.alive:
            site.dhcpd.thaw()
            site.control.touch(begins=False)

    return mend


# -- the wire ----------------------------------------------------------------------------------------------


def _wire(wire: Wire) -> Break:
    def breaks(site: Site, luck: random.Random) -> Mend:
        site.proxy.slow_s = luck.uniform(0.02, 0.4)
        site.proxy.become(wire, luck.randint(0, 3000))
        return lambda: site.proxy.become(Wire.WHOLE)

    return breaks


# -- disks and databases -----------------------------------------------------------------------------------


def fill(disk: Path) -> Mend:
    """Fills a disk to its last byte."""
    filler = disk / "filler"
    with suppress(OSError), filler.open("wb", buffering=0) as file:
        for size in (65536, 4096, 1):
            with suppress(OSError):
                while file.write(b"\0" * size):
                    pass
    return lambda: filler.unlink(missing_ok=True)


def _lock(site: Site, _: random.Random) -> Mend | None:
    other = sqlite3.connect(site.registry_disk / "registry.db", timeout=3.0, isolation_level=None)
    try:
        other.execute("BEGIN EXCLUSIVE")
    except sqlite3.OperationalError:  # full, or busy
        other.close()
        return None
    return other.close


def _stop_postgres(how: signal.Signals) -> Break:
    def breaks(site: Site, _: random.Random) -> Mend:
        server = site.postgres
        assert server is not None
        server.stop(how)
        return lambda: None if server.alive else server.start()

    return breaks


# -- clocks and libvirt ------------------------------------------------------------------------------------


def _move_clock(who: str) -> Break:
    def breaks(site: Site, luck: random.Random) -> Mend:
        site.set_clock(who, luck.choice((-7200, 7200)))
        return lambda: site.set_clock(who, 0)

    return breaks


def _kill_libvirtd(site: Site, _: random.Random) -> Mend | None:
    server = site.libvirtd
    assert server is not None
    try:
        server.kill()
    except (LibvirtdDied, ProcessLookupError, FileNotFoundError):
        return None
    return lambda: None if server.alive else server.start()


def _freeze_libvirtd(is_other: bool) -> Break:
    def breaks(site: Site, _: random.Random) -> Mend | None:
        server = site.other_libvirtd if is_other else site.libvirtd
        assert server is not None
        try:
            server.freeze()
        except (LibvirtdDied, ProcessLookupError, FileNotFoundError):
            return None
        return lambda: server.thaw() if server.alive else None

    return breaks


def _is_sqlite(kind: Kind) -> bool:
    return kind.registry == "sqlite"


def _is_postgresql(kind: Kind) -> bool:
    return kind.registry == "postgresql"


_BRIEF, _LONG, _VERY_LONG = (0.1, 0.6), (0.3, 2.0), (8.0, 12.0)

STEP = "macbind killed at a step"

FAULTS: Mapping[str, Fault] = {
    "macbind killed": Fault("macbind at any moment", 1, (0.5, 0.5), _kill_daemon),
    STEP: Fault("macbind", 0, (1.5, 2.0), lambda _site, _luck: None),  # the campaign arms it
    "dhcpd killed, lease file kept": Fault("dhcpd", 2, _BRIEF, _kill_dhcpd(_keep)),
    "dhcpd killed, lease file truncated": Fault("dhcpd", 2, _BRIEF, _kill_dhcpd(_truncate)),
    "dhcpd killed, lease file torn": Fault("dhcpd", 2, _BRIEF, _kill_dhcpd(_tear)),
    "dhcpd killed, lease file gone": Fault("dhcpd", 2, _BRIEF, _kill_dhcpd(_lose)),
    "dhcpd killed, lease file of old": Fault("dhcpd", 2, _BRIEF, _kill_dhcpd(_restore)),
    "dhcpd frozen": Fault("dhcpd", 2, _LONG, _freeze),
    "lease file is a pipe or endless": Fault("dhcpd", 2, _LONG, _odd_lease_file, lambda kind: kind.attackers),
    "OMAPI refused": Fault("wire", 1, _LONG, _wire(Wire.REFUSED)),
    "OMAPI cut in a message": Fault("wire", 3, _BRIEF, _wire(Wire.CUT)),
    "OMAPI slow": Fault("wire", 2, _LONG, _wire(Wire.SLOW)),
    "OMAPI half-open": Fault("wire", 1, _LONG, _wire(Wire.DEAF)),
    "lease disk full": Fault("lease disk", 2, _LONG, lambda site, _: fill(site.leases_disk)),
    "registry disk full": Fault("registry", 2, _LONG, lambda site, _: fill(site.registry_disk), _is_sqlite),
    "SQLite locked": Fault("registry", 2, _LONG, _lock, _is_sqlite),
    "PostgreSQL stopped": Fault("registry", 2, _BRIEF, _stop_postgres(signal.SIGINT), _is_postgresql),
    "PostgreSQL crashed": Fault("registry", 2, _BRIEF, _stop_postgres(signal.SIGQUIT), _is_postgresql),
    "clock of macbind moved": Fault(
        "clock of macbind", 1, _LONG, _move_clock("macbind"), lambda kind: kind.clocks
    ),
    "clock of dhcpd moved": Fault("clock of dhcpd", 1, _LONG, _move_clock("dhcpd"), lambda kind: kind.clocks),
    "libvirtd killed": Fault("libvirtd", 2, _LONG, _kill_libvirtd, lambda kind: kind.domains),
    "libvirtd frozen": Fault("libvirtd", 1, _LONG, _freeze_libvirtd(False), lambda kind: kind.domains),
    "other libvirtd frozen": Fault(
        "other libvirtd", 2, _VERY_LONG, _freeze_libvirtd(True), lambda kind: kind.domains
    ),
}
TROUBLES = frozenset({"registry", "libvirtd"})
"""What a fault concerns that may delay what macbind makes of a domain; another hypervisor is not among it."""
