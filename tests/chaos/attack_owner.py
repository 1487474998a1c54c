"""An owner of domains on two hypervisors who means harm to the machines of others.

- A *definition* has the MACs of many allocations, and goes again without having run. It may be renamed meanwhile, and
  its metadata say that it is one of macbind's machines, and that it is being renumbered.
- A *copy* has MAC, name and UUID of a machine that runs: on the machine's own hypervisor, where name and UUID are
  taken, another name; on the other one all of them. It starts, is saved and started again, or destroyed.

Whoever runs is copied only if macbind has recorded it: an allocation that waits for its machine takes the first that
is right, and nobody can know better. What comes of it, the owner of the machines checks while he is attacked.
"""

import time
from subprocess import TimeoutExpired
from uuid import uuid4

from chaos import sql
from chaos.attackers import Attacker
from chaos.lives import XML
from chaos.pools import RANGES, addresses, mac_of
from chaos.worker import Orders
from labkit.netns import CommandFailed, run_command
from macbind.core.errors import MacbindError

PREFIX = "mallory"
_NICS = 12
_VIRSH_S, _RUNS_S = 30.0, 2.0
_MARK = (
    "<metadata><m:machine xmlns:m='urn:macbind:machine:1' name='{name}' pool='domains' group='crowd' "
    "launched='2026-01-01T00:00:00+00:00'/><r:renumber xmlns:r='urn:macbind:renumber:1' name='{name}'>"
    "<interface type='ethernet'><mac address='{mac}'/><script path='/bin/false'/></interface></r:renumber>"
    "<e:x xmlns:e='urn:evil'>{deep}</e:x></metadata><memory"
)
_NIC = "<interface type='user'><mac address='{mac}'/><model type='virtio'/></interface><memballoon"


class Owner(Attacker):
    """Makes domains, and unmakes them: on each hypervisor one at a time."""

    pause_s = 0.05

    def __init__(self, orders: Orders) -> None:
        super().__init__(orders)
        self._url = sql.url_in(orders.place / "macbind.toml")
        self._made: list[tuple[str, str]] = []
        """What may be there: URI and name."""
        self._turns = 0

    def act(self) -> None:
        """One domain comes and goes."""
        self._turns += 1
        uri = (self.orders.uri, self.orders.other_uri)[self._turns % 2]
        if self.random.random() < 0.3:
            self._define(uri)
        else:
            self._copy(uri)
        self._clear()

    def leave(self) -> bool:
        """None of them is there any more."""
        try:
            self._clear()
        except CommandFailed:
            return False
        return True

    def _define(self, uri: str) -> None:
        """A definition that never runs, with the MACs of many."""
        pool = self.random.choice(list(RANGES))
        some = [mac_of(one) for one in self.random.sample(addresses(pool), k=8)]
        name = f"{PREFIX}-{self._turns}"
        nics = "".join(_NIC.format(mac=mac).removesuffix("<memballoon") for mac in some[1:])
        text = self._xml(name, str(uuid4()), some[0]).replace("<memballoon", f"{nics}<memballoon", 1)
        self._virsh(uri, "define", self._file(text), makes=name)
        if self.random.random() < 0.4:
            self._made.append((uri, f"{name}-renamed"))
            self._virsh(uri, "domrename", name, f"{name}-renamed")
        self.count("hostile definitions")

    def _copy(self, uri: str) -> None:
        """A domain that runs, and says that it is another's."""
        try:
            machines = [one for one in self.client.list(pool="domains") if one.domain_uuid]
        except MacbindError:
            return
        if not machines:
            return
        one = self.random.choice(machines)
        is_own = uri == self.orders.uri
        name = f"{PREFIX}-{self._turns}" if is_own else one.name
        uuid = str(uuid4()) if is_own or self.random.random() < 0.3 else str(one.domain_uuid)
        text = self._xml(name, uuid, str(one.mac))
        self._virsh(uri, "define", self._file(text), makes=name)
        self._virsh(uri, "start", "--paused", name)
        time.sleep(self.random.uniform(0.0, _RUNS_S))  # what ends at once is hardly seen to run
        if self.random.random() < 0.3:
            self._virsh(uri, "managedsave", name)
        self.count("hostile copies")

    def _xml(self, name: str, uuid: str, mac: str) -> str:
        mark = _MARK.format(name=name, mac=mac, deep="<e:x>" * 120 + "</e:x>" * 120)
        return XML.format(name=name, uuid=uuid, mac=mac).replace("<memory", mark, 1)

    def _file(self, text: str) -> str:
        file = self.orders.place / f"{self.orders.name}.xml"
        file.write_text(text)
        return str(file)

    def _clear(self) -> None:
        while self._made:
            uri, name = self._made[-1]
            self._virsh(uri, "destroy", name, but=("failed to get domain", "domain is not running"))
            self._virsh(uri, "undefine", "--managed-save", name, but=("failed to get domain",))
            self._made.pop()

    def _virsh(self, uri: str, *arguments: str, makes: str = "", but: tuple[str, ...] = ()) -> None:
        if makes:
            self._made.append((uri, makes))  # it may be there whatever is said
        try:
            run_command(["virsh", "--quiet", "--connect", uri, *arguments], deadline_s=_VIRSH_S)
        except TimeoutExpired as error:
            raise CommandFailed(f"virsh {' '.join(arguments)} took more than {_VIRSH_S:g} s") from error
        except CommandFailed as error:
            if not any(reason in str(error) for reason in but):
                raise
