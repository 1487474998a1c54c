"""An older registry is put back while machines run that it has forgotten: nothing that is in use is handed out.

A copy is made before a round. After it macbind and dhcpd end, the copy takes the place of the registry, the lease
file goes, as the documentation of backups says, and both start again. What was allocated meanwhile is forgotten, and
what was released is held. Domains that run, a stranger that answers, and a foreign host are there. Then pools are
emptied to their last address: none of theirs may be among what is handed out. In the end everything is given back,
and the workers begin anew.
"""

import re
import sqlite3
from collections.abc import Mapping
from contextlib import closing

from chaos import sql
from chaos.history import AIM, Violation
from chaos.journal import Journal
from chaos.neighbours import STRANGERS
from chaos.pools import ASKED, CROWD, WITNESS, addresses
from chaos.site import PATIENCE_S, NotRecovered, Site
from labkit.netns import CommandFailed, Namespace
from labkit.omshell import omshell
from labkit.virt import Libvirtd
from macbind.client.client import Client
from macbind.core.errors import MacbindError, PoolExhausted

CHECK = "an older registry"
"""The name of the check."""
_POOLS = ("domains", "own-0", ASKED)
_RELIC, _RELIC_MAC = "relic", "02:f0:00:00:00:ff"
_NIC = re.compile(r"<mac address='(\S+)'/>")
_TRIES = 4


class OldRegistry:
    """Keeps a copy of a site's registry, and puts it back.

    Attributes:
        checked: How many addresses in use were not to be handed out.
    """

    def __init__(self, site: Site) -> None:
        self._site, self._live = site, site.registry_disk / "registry.db"
        self._copy = site.place / "registry.old"
        self._journal = Journal(site.place / "journals" / "restored.jsonl", "restored")
        self.checked = 0

    def keep(self) -> None:
        """Copies the registry as a backup does."""
        with closing(sqlite3.connect(self._live)) as live, closing(sqlite3.connect(self._copy)) as copy:
            live.backup(copy)

    @property
    def has_room(self) -> bool:
        """Whether the older registry has addresses left for those whom it has forgotten."""
        with sql.connected(f"sqlite:///{self._copy}") as ask:
            return all(sql.lowest_free(ask, pool, 1) for pool in (ASKED, "own-0"))

    def put_back(self) -> list[Violation]:
        """Does it, and says what was handed out that is in use."""
        site = self._site
        assert site.libvirtd is not None
        used = {**self._run(site.libvirtd)}
        self._journal.write("anew", 0)
        site.daemon_wanted = False
        site.kill_daemon()
        site.control.touch(begins=True)
        site.dhcpd.stop()
        for part in ("", "-wal", "-shm"):
            (self._live.parent / f"{self._live.name}{part}").unlink(missing_ok=True)
        self._live.write_bytes(self._copy.read_bytes())
        site.dhcpd.restart(keep_leases=False)
        site.control.touch(begins=False)
        used |= self._make_neighbours()
        site.daemon_wanted = True
        try:
            site.settle()
            found = self._empty(used)
        except NotRecovered as error:
            found = [Violation(CHECK, f"an older registry was put back: {error}")]
        finally:
            self._end_neighbours()
        if not found:
            self._begin_anew()
        return found

    @staticmethod
    def _run(libvirtd: Libvirtd) -> Mapping[str, str]:
        """The addresses of the domains that run, and what to call them."""
        found = {}
        for name in libvirtd.virsh("list", "--name").split():
            mac = _NIC.findall(libvirtd.virsh("dumpxml", name))[0]
            found[".".join(["10", *(str(int(part, 16)) for part in mac.split(":")[3:])])] = (
                f"the domain {name}"
            )
        return found

    def _make_neighbours(self) -> Mapping[str, str]:
        """A stranger and a foreign host, each at the address that its pool hands out next."""
        with sql.connected(self._site.url) as ask:
            (answered,), (hosted,) = sql.lowest_free(ask, ASKED, 1), sql.lowest_free(ask, "own-0", 1)
        self._stranger().ip(f"addr add {answered}/32 dev eth0")
        lines = ["new host", f'set name = "{_RELIC}"', f"set hardware-address = {_RELIC_MAC}"]
        self._omshell([*lines, "set hardware-type = 1", f"set ip-address = {hosted}", "create"])
        return {answered: "a stranger", hosted: f"the host {_RELIC}"}

    def _end_neighbours(self) -> None:
        self._stranger().ip("addr flush dev eth0")
        self._omshell(["new host", f'set name = "{_RELIC}"', "open", "remove"])

    def _stranger(self) -> Namespace:
        return Namespace(f"{self._site.lab.name}-{STRANGERS[0]}")

    def _omshell(self, lines: list[str]) -> None:
        omshell(
            self._site.lab, self._site.dhcpd.omapi_port or 0, "\n".join(lines) + "\n", self._site.dhcpd.key
        )

    def _empty(self, used: Mapping[str, str]) -> list[Violation]:
        """Hands out what the pools have, and says what of that is in use."""
        held = {one.address for one in sql.snapshot(self._site.url).rows.values() if one.live}
        forgotten = {address: who for address, who in used.items() if address not in held}
        self.checked += len(forgotten)
        found = []
        with self._site.farm.client(PATIENCE_S) as client:
            for pool in _POOLS:
                for address in sorted(self._taken(client, pool) & forgotten.keys()):
                    what = (
                        f"{address} was handed out, and {forgotten[address]} uses it, which it has forgotten"
                    )
                    found.append(Violation(CHECK, what, (address,)))
        return found

    def _taken(self, client: Client, pool: str) -> set[str]:
        """All that a pool hands out, as far as it is asked for within reason."""
        taken: set[str] = set()
        tries = _TRIES + len(addresses(pool))
        for number in range(tries):
            try:
                taken.add(str(client.allocate(pool, f"anew-{pool}-{number}").address))
            except PoolExhausted:
                break
            except MacbindError:  # one address is answered for, or refused, and put aside
                continue
        return taken

    def _begin_anew(self) -> None:
        """Everything ends but what stays: domains, and what is held of any time."""
        site = self._site
        assert site.libvirtd is not None
        end_domains(site.libvirtd)
        give_back(site, crowd=False)
        site.settle()
        site.control.reset()


def end_domains(libvirtd: Libvirtd) -> None:
    """Ends every domain.

    One that libvirtd was killed while it started is a domain that the next libvirtd starts for ever, and refuses to
    destroy. Only the end of its guest, seen by another libvirtd, ends that.
    """
    for name in libvirtd.virsh("list", "--name").split():
        try:
            libvirtd.virsh("destroy", name)
        except CommandFailed as error:
            if "state change lock" not in str(error):
                raise
            libvirtd.kill_guest(name)
            libvirtd.restart()
    for name in libvirtd.virsh("list", "--all", "--name").split():
        libvirtd.virsh("undefine", "--managed-save", name)


def give_back(site: Site, *, crowd: bool) -> None:
    """Releases whatever is held, the crowd included or not."""
    with site.farm.client(PATIENCE_S) as client:
        if crowd:
            client.release_group(CROWD)
        for row in sql.snapshot(site.url).rows.values():
            stays = row.name == WITNESS or row.name.endswith(AIM) or row.name.startswith(f"{CROWD}-")
            if row.live and not stays:
                (client.unreserve if row.pinned else client.release)(row.name)
