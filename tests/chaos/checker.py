"""Compares the witnesses: what callers were told, what SQL says, what dhcpd says, what machines get by DHCP.

Nothing of macbind is asked what is true; its API is used only to give back and to fill up.
"""

import random
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from ipaddress import IPv4Address
from pathlib import Path

from chaos import sql
from chaos.history import Fate, History, Name, Violation
from chaos.pools import (
    CROWD,
    HOLES,
    LOOKOUT,
    PROBE,
    PROBED,
    RANGES,
    WITNESS,
    WITNESSED,
    addresses,
    mac_of,
)
from chaos.restored import end_domains, give_back
from chaos.site import PATIENCE_S, WORKERS, Site
from labkit.dhcp import DhcpClient, expect_silence
from labkit.wait import until
from macbind.core.allocation import Allocation
from macbind.core.errors import MacbindError, PoolExhausted

DHCPD = "main"
_WITHDRAWN_S = 60.0
"""How long macbind may take to see that others have gone."""
_SAMPLE = 12
"""Machines asked by DHCP after a round; after the last one all are."""
_HOST = re.compile(rb"^host (macbind-\S+) \{\n(.*?)^\}", re.MULTILINE | re.DOTALL)
_FOREIGN = [
    f"02:ca:fe:00:{worker:02x}:{number:02x}" for worker in range(WORKERS + 1) for number in range(1, 4)
]
_ADDRESSES = [one for pool in RANGES for one in addresses(pool)] + addresses(CROWD)[HOLES]
MACS = [mac_of(one) for one in _ADDRESSES] + _FOREIGN
"""Every MAC that comes and goes, and the foreign ones that workers pin; pins of their own MAC come on top."""
PINS = [f"10.9.{worker}.{number}" for worker in range(WORKERS + 1) for number in range(1, 7)] + [LOOKOUT]


class Checker:
    """Checks one site, again and again.

    Attributes:
        counts: How many checks of each kind were made.
    """

    def __init__(self, site: Site) -> None:
        self.site = site
        self.counts: Counter[str] = Counter()
        self._luck = random.Random(site.seed)

    def after_round(self, history: History) -> list[Violation]:
        """What must never be, as it shows between two rounds."""
        registry = self._at_rest()
        found = [*history.violations]
        self.counts["history"] += len(history.intervals)
        for one in history.presences:
            self.counts[f"{one.what} is passed over"] += one.chances
        found += self._explained(history, registry)
        found += self._tiled(history, registry)
        found += self._told(history, registry)
        found += self._hosts(history, registry)
        if found:
            return found  # by DHCP it would show again, slowly
        held = list(history.held().values())
        for some in _parted(held):
            found += self._served(history, self._luck.sample(some, min(_SAMPLE, len(some))))
        live = {row.mac for row in registry.rows.values() if row.live}
        silent = sorted({one.mac for one in history.released()} - live)
        found += self._silent(history, self._luck.sample(silent, min(_SAMPLE, len(silent))))
        return found

    # -- SQL -------------------------------------------------------------------------------------------

    def _explained(self, history: History, registry: sql.Snapshot) -> list[Violation]:
        """Every allocation that callers hold is there as they were told, and every one that is there is theirs."""
        found = []
        for address, one in history.held().items():
            self.counts["held in SQL"] += 1
            row, binding = registry.rows.get(address), one.binding
            assert binding is not None
            right = row and row.live and (row.name, row.generation, row.mac) == (
                one.name, binding.generation, binding.mac
            )  # fmt: skip
            if not right:
                what = f"{one.name} holds {binding}, and SQL has {row}"
                found.append(history.violation("held in SQL", what, one.name, address))
        names = {one.name for fate in (Fate.HELD, Fate.UNSURE) for one in history.of(fate)}
        for row in registry.rows.values():
            self.counts["explained in SQL"] += 1
            if row.live and row.name not in names | {PROBE, WITNESS}:
                what = f"leaked: nobody holds {row}"
                found.append(history.violation("explained in SQL", what, row.name, row.address))
        return found

    def _tiled(self, history: History, registry: sql.Snapshot) -> list[Violation]:
        """Free intervals, allocations and what others use make up each pool; nothing free is used."""
        found = []
        for pool in (*RANGES, CROWD):
            self.counts["pools tiled"] += 1
            free = [
                str(IPv4Address(number))
                for low, high in registry.free[pool]
                for number in range(low, high + 1)
            ]
            used = {row.address for row in registry.rows.values() if row.pool == pool} | registry.used
            inside = set(addresses(pool))
            parts = Counter([*free, *(used & inside)])
            wrong = sorted(one for one, times in parts.items() if times > 1 or one not in inside)
            wrong += sorted(inside - parts.keys())
            if wrong:
                what = f"free and used do not make up the pool {pool}: {wrong}"
                found.append(history.violation("pools tiled", what, *wrong))
        return found

    def _at_rest(self) -> sql.Snapshot:
        """The registry when nothing is under way: a domain that vanished in a fault is given up some time later."""
        with suppress(TimeoutError):  # then it is a violation
            until(lambda: not sql.snapshot(self.site.url).dirty, _WITHDRAWN_S, "nothing to be under way")
        return sql.snapshot(self.site.url)

    def _told(self, history: History, registry: sql.Snapshot) -> list[Violation]:
        """Nothing is left to look at, and dhcpd has confirmed what lives and nothing else."""
        self.counts["told and dirty"] += 1
        found = [
            history.violation("told and dirty", f"nobody looks at {one} any more", one[1])
            for one in sorted(registry.dirty)
        ]
        live = {
            (DHCPD, row.address): row.generation
            for row in registry.rows.values()
            if row.live and row.name != PROBE
        }
        for key in sorted(live.keys() | registry.told.keys()):
            if key[1] != PROBED and live.get(key) != registry.told.get(key):
                what = f"{key[1]}: generation {live.get(key)} lives, {registry.told.get(key)} was confirmed"
                found.append(history.violation("told and dirty", what, key[1]))
        return found

    # -- dhcpd -----------------------------------------------------------------------------------------

    def _hosts(self, history: History, registry: sql.Snapshot) -> list[Violation]:
        """dhcpd has exactly the hosts of the allocations that live."""
        wanted = {
            row.mac: {"name": f"macbind-{row.address}-g{row.generation}", "mac": row.mac, "ip": row.address}
            for row in registry.rows.values()
            if row.live
        }
        seen = self.site.hosts(sorted({*MACS, *map(mac_of, PINS), *wanted}))
        found = []
        for mac, host in seen.items():
            self.counts["hosts in dhcpd"] += 1
            if host != wanted.get(mac):
                about = [row.address for row in registry.rows.values() if row.mac == mac]
                about += [one.address for one in history.released() if one.mac == mac]
                what = f"{mac}: dhcpd has {host}, it should have {wanted.get(mac)}"
                found.append(history.violation("hosts in dhcpd", what, *sorted(set(about))))
        return found

    def _served(self, history: History, held: Sequence[Name]) -> list[Violation]:
        found = []
        for one in held:
            self.counts["served by DHCP"] += 1
            assert one.binding is not None
            got = self._address(one.binding.mac)
            if got != one.binding.address:
                what = f"{one.name}: {one.binding.mac} gets {got} by DHCP, not {one.binding.address}"
                found.append(history.violation("served by DHCP", what, one.name))
        return found

    def _address(self, mac: str) -> str | None:
        lease = DhcpClient(self.site.cable, mac).dora()
        return str(lease.address) if lease else None

    def _silent(self, history: History, macs: Iterable[str]) -> list[Violation]:
        found = []
        for mac in macs:
            self.counts["silence by DHCP"] += 1
            try:
                expect_silence(DhcpClient(self.site.cable, mac), self.site.witness)
            except AssertionError as error:
                about = [one.address for one in history.released() if one.mac == mac]
                what = f"released, and yet: {error}"
                found.append(history.violation("silence by DHCP", what, *sorted(set(about))))
        return found

    # -- the end ---------------------------------------------------------------------------------------

    def at_the_end(self, history: History) -> list[Violation]:
        """Gives everything back: nothing is left anywhere, and every pool is good for its last address."""
        self._give_everything_back()
        self.site.settle()
        found = self._unused(history) + self._nothing_left(history, "after everything was released")
        made = self._fill(history, found)
        for mac, host in self.site.hosts([str(one.mac) for one in made]).items():
            self.counts["full pools: served"] += 1
            if host is None or mac_of(host["ip"]) != mac or self._address(mac) != host["ip"]:
                what = f"a full pool: {mac} has {host}, and gets {self._address(mac)}"
                found.append(history.violation("full pools: served", what))
        with self.site.farm.client(PATIENCE_S) as client:
            for pool in RANGES:
                client.release_group(f"fill-{pool}")
        self.site.settle()
        return found + self._nothing_left(history, "after the pools were full")

    def _give_everything_back(self) -> None:
        if self.site.libvirtd is not None:
            end_domains(self.site.libvirtd)
        give_back(self.site, crowd=self.site.kind.crowd)

    def _unused(self, history: History) -> list[Violation]:
        """Whoever else used addresses has gone, and macbind comes to know that."""
        self.counts["evidence withdrawn"] += 1
        with self.site.farm.client(PATIENCE_S) as client:
            for address, source in self._others():
                if (
                    source == "away"
                ):  # saved to a file and released: only an admin knows that it never comes back
                    client.reserve(f"back-{address}", address)
                    client.unreserve(f"back-{address}")
        self.site.proxy.cut()  # a comparison follows
        try:
            until(lambda: not self._others(), _WITHDRAWN_S, "evidence to be withdrawn")
        except TimeoutError as error:
            left = self._others()
            about = [address for address, _ in left]
            return [history.violation("evidence withdrawn", f"nobody is there, and {error}: {left}", *about)]
        return []

    def _others(self) -> list[tuple[str, str]]:
        """The evidence of others, beside the addresses of macbind's own machine, which stay."""
        return sorted(one for one in sql.snapshot(self.site.url).evidence if one[1] != "interface")

    def _fill(self, history: History, found: list[Violation]) -> list[Allocation]:
        made: list[Allocation] = []
        with self.site.farm.client(PATIENCE_S) as client:
            for pool in RANGES:
                size = len(addresses(pool))
                self.counts["full pools"] += 1
                try:
                    group = client.allocate_group(pool, f"fill-{pool}", size)
                except MacbindError as error:
                    what = f"the pool {pool} is not good for {size} addresses: {error}"
                    found.append(history.violation("full pools", what))
                    continue
                made += group
                if sorted(str(one.address) for one in group) != sorted(addresses(pool)):
                    found.append(history.violation("full pools", f"the pool {pool} handed out {group}"))
                try:
                    client.allocate(pool, f"one-more-{pool}")
                    what = f"the pool {pool} handed out more than it has"
                    found.append(history.violation("full pools", what))
                except PoolExhausted:
                    pass
        return made

    def _nothing_left(self, history: History, when: str) -> list[Violation]:
        """Nothing of ours is left in SQL, in dhcpd's memory, and in what it reads after a restart."""
        registry = sql.snapshot(self.site.url)
        left = [row for row in registry.rows.values() if row.live and row.name != WITNESS]
        found = [history.violation("explained in SQL", f"{when} SQL has {row}", row.address) for row in left]
        found += self._tiled(history, registry) + self._told(history, registry)
        self.site.control.touch(begins=True)
        self.site.dhcpd.restart()
        self.site.control.touch(begins=False)
        self.site.settle()  # a torn record may have brought deleted hosts back: macbind removes them
        found += self._hosts(history, registry)
        for name in sorted(hosts_on_disk(self.site.farm.leases)):
            self.counts["hosts on disk"] += 1
            if not any(f"-{one}-" in name for one in (PROBED, WITNESSED)):
                found.append(history.violation("hosts on disk", f"{when} the lease file has {name}"))
        return found


def _parted(held: Sequence[Name]) -> tuple[list[Name], list[Name]]:
    """Those that come and go, who are few, and those that stay, each to be asked for."""
    stay = [one for one in held if one.name.startswith(f"{CROWD}-")]
    return [one for one in held if not one.name.startswith(f"{CROWD}-")], stay


def hosts_on_disk(leases: Path) -> set[str]:
    """Names of our hosts in a lease file; the last record of a name counts."""
    found = {}
    for record in _HOST.finditer(leases.read_bytes()):
        found[record[1].decode()] = b"  deleted;" not in record[2]
    return {name for name, is_there in found.items() if is_there}
