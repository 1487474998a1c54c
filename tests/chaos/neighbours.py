"""A process that is the site around macbind: machines with static addresses, and an admin with omshell.

A *second DHCP server*, dnsmasq, answers whoever asks, and goes again. macbind has to find it while it is there.

*Strangers* give themselves free addresses of a pool whose network is asked, answer for them, and go away. *Foreign
hosts* are made in dhcpd past macbind, at a free address or with the MAC of one, and removed again.

The journal says from when to when each was there for certain, and macbind could know of it:

- a stranger from when the kernel answers for its address until before it stops to;
- a foreign host from when macbind has made a whole comparison since dhcpd acknowledged it: the second one to end
  since then. It is there until before its removal, or until it was last known that no fault had touched dhcpd.

What was allocated meanwhile, the history judges. That a foreign host is still there as it was made is checked here.
When the others rest, nobody of the neighbours is there.
"""

import time
from subprocess import TimeoutExpired

from chaos import sql
from chaos.control import Phase
from chaos.others import Host, OtherServer, Stranger
from chaos.pools import ASKED, mac_of
from chaos.worker import PAUSE_S, Caller, Orders, Watch
from labkit.net import Process
from labkit.netns import Namespace
from labkit.omshell import OmshellFailed, omshell, omshell_host
from macbind.core.errors import MacbindError
from macbind.core.findings import Status

STRANGERS = ("stranger-1", "stranger-2", "stranger-3")
"""The places of strangers at the network."""
HOSTS = ("printer-1", "printer-2", "taker-1", "taker-2")
"""The names of foreign hosts; a taker has the MAC of a pool's address."""
POOLS = ("shared", "own-0", "own-3")
"""Where foreign hosts are made."""
OTHER_SERVER = "other-dhcp"
"""The place of the second DHCP server."""
STRANGER, FOREIGN = "a stranger", "a foreign host"
KEPT = "foreign host kept"
"""The name of the check that macbind leaves foreign hosts alone."""
FOUND = "a second DHCP server is found"
"""The name of the check that macbind finds one."""
FOUND_S = 6.0
"""How long a second server answers until macbind has to have found it."""
_SERVES_S, _SILENT_S = (7.0, 10.0), (1.0, 8.0)
_DNSMASQ = [
    "dnsmasq",
    "--keep-in-foreground",
    "--conf-file=/dev/null",
    "--port=0",
    "--no-ping",
    "--leasefile-ro",
    "--user=root",
    "--pid-file=",
    "--interface=eth0",
    "--dhcp-range=10.8.0.1,10.8.0.200,255.0.0.0,120",
    "--dhcp-authoritative",
]
_STAYS_S, _AWAY_S = (0.8, 4.0), (0.2, 1.5)
_LOWEST = 4
"""So many of the addresses that are handed out next may be taken."""
_OMSHELL_S, _STATUS_S, _ASKS_S = 2.0, 2.0, 0.3
_LATE_S = 5.0
"""How long after an omshell that got no answer dhcpd may do what it was asked for."""


class Neighbours(Caller):
    """Lets all of them come and go."""

    def __init__(self, orders: Orders) -> None:
        super().__init__(orders)
        self._url = sql.url_in(orders.place / "macbind.toml")
        self._strangers = [Stranger(Namespace(f"{orders.namespace}-{one}")) for one in STRANGERS]
        self._hosts = [Host(name) for name in HOSTS]
        self._asked_at = 0.0
        self._said: Status | None = None
        self._server = OtherServer(Namespace(f"{orders.namespace}-{OTHER_SERVER}"))
        self._server.place.ip("addr add 10.8.0.254/8 dev eth0")

    def run(self) -> None:
        """Is there while there is work, and away when the others rest."""
        try:
            self._come_and_go()
        finally:
            if self._server.process is not None:
                self._server.process.end()

    def _come_and_go(self) -> None:
        while (turn := self.control.turn).phase is not Phase.END:
            if turn.phase is Phase.WORK:
                self.step()
            elif self.leave():
                self.control.rests(self.orders.number, turn.round)
            time.sleep(PAUSE_S)

    def step(self) -> None:
        """Somebody comes or goes, if it is time."""
        now = time.monotonic()
        for one in self._strangers:
            if now >= one.turns_at:
                self._turn_stranger(one)
        self._look_at_server(now)
        for host in self._hosts:
            self._look_after(host)
            if now >= host.turns_at:
                self._turn_host(host)

    def leave(self) -> bool:
        """Everybody goes; whether nobody is left. A lease file of old may have brought any host back."""
        for one in self._strangers:
            if one.address:
                self._turn_stranger(one)
        if self._server.process is not None:
            self._turn_server()
        for host in self._hosts:
            self._look_after(host)
            host.may_exist = True
            self._remove(host)
        now = time.monotonic()
        return not any(host.may_exist or now < host.unsure_until for host in self._hosts)

    def _there(self, what: str, who: str, *addresses: str) -> None:
        self.operations += 1
        self.journal.write("there", self.operations, what=what, who=who, addresses=list(addresses))

    def _gone(self, who: str, until: float | None = None) -> None:
        until = time.monotonic() if until is None else until
        self.journal.write("gone", self.operations, who=who, until=until)

    def _next(self, pool: str) -> str | None:
        """A free address of a pool that is handed out soon."""
        try:
            with sql.connected(self._url) as ask:
                free = sql.lowest_free(ask, pool, _LOWEST)
        except sql.ERRORS:
            return None
        mine = {host.address for host in self._hosts} | {host.of_mac for host in self._hosts}
        free = [one for one in free if one not in mine | {one.address for one in self._strangers}]
        return self.random.choice(free) if free else None

    # -- strangers -------------------------------------------------------------------------------------

    def _turn_stranger(self, one: Stranger) -> None:
        if one.address:
            self._gone(one.place.name)
            one.leave()
            one.turns_at = time.monotonic() + self.random.uniform(*_AWAY_S)
            return
        address = self._next(ASKED)
        if address is not None:
            one.come(address)
            self._there(STRANGER, one.place.name, address)
            one.turns_at = time.monotonic() + self.random.uniform(*_STAYS_S)

    # -- a second DHCP server --------------------------------------------------------------------------

    def _turn_server(self) -> None:
        one = self._server
        if one.process is None:
            self.control.other_server(comes=True)
            with (self.orders.place / "other-dhcp.log").open("ab") as log:
                one.process = Process(one.place.argv(_DNSMASQ), log, {})
            one.watch, one.judged = Watch(), False
            one.turns_at = time.monotonic() + self.random.uniform(*_SERVES_S)
        else:
            one.process.end()
            one.process = None
            self.control.other_server(comes=False)
            one.turns_at = time.monotonic() + self.random.uniform(*_SILENT_S)

    def _look_at_server(self, now: float) -> None:
        """Looks whether macbind has found it, if it could all the time."""
        one = self._server
        if now >= one.turns_at:
            self._turn_server()
        if one.process is None or one.judged or not one.process.alive:
            return
        starts, codes = self.control.starts, self._findings()
        lasts_s = one.watch.lasts_s(None if codes is None else starts)
        is_found = "second_dhcp_server" in (codes or ())
        if is_found or lasts_s > FOUND_S:
            one.judged = True
            seen = f"it has answered for {lasts_s:.1f} s, and there are only {sorted(codes or ())}"
            self.check(FOUND, "", "", starts == self.control.starts, None if is_found else seen)

    def _findings(self) -> set[str] | None:
        status = self._status()
        return None if status is None else {one.code for one in status.findings}

    def _status(self) -> Status | None:
        """What macbind says of itself, of a moment ago; None if it says nothing."""
        now = time.monotonic()
        if now - self._asked_at >= _ASKS_S:
            self._asked_at = now
            self.client.timeout_s = _STATUS_S
            try:
                self._said = self.client.status()
            except MacbindError:
                self._said = None
        return self._said

    # -- foreign hosts ---------------------------------------------------------------------------------

    def _turn_host(self, host: Host) -> None:
        if host.known:
            self._check_kept(host)
            self._gone(host.name)
            host.known = False
        if host.may_exist:
            for _ in range(2):  # it is gone when it is not found any more
                self._remove(host)
            host.turns_at = time.monotonic() + self.random.uniform(*_AWAY_S)
        else:
            self._make(host)
            host.turns_at = time.monotonic() + 2.0 + self.random.uniform(*_STAYS_S)

    def _make(self, host: Host) -> None:
        address = self._next(self.random.choice(POOLS))
        host.epoch, host.sure_at = self.control.epoch, time.monotonic()
        if address is None or host.epoch % 2:
            return
        is_taker = host.name.startswith("taker")
        host.address, host.of_mac = ("", address) if is_taker else (address, "")
        host.mac = mac_of(address) if is_taker else f"02:f0:00:00:00:{1 + HOSTS.index(host.name):02x}"
        host.compared, host.may_exist = set(), True
        lines = ["new host", f'set name = "{host.name}"', f"set hardware-address = {host.mac}"]
        lines += [
            "set hardware-type = 1",
            *([f"set ip-address = {host.address}"] * bool(host.address)),
            "create",
        ]
        if self._omshell(lines) is None:
            host.epoch = -1  # who knows what there is; it is removed
            host.unsure_until = time.monotonic() + _LATE_S
        host.made_at = time.monotonic()

    def _look_after(self, host: Host) -> None:
        """Notes whether it is still there for certain, and whether macbind has had a comparison since."""
        if not host.may_exist or host.epoch < 0:
            return
        now = time.monotonic()
        if self.control.epoch != host.epoch:
            host.epoch = -1
            if host.known:
                self._gone(host.name, host.sure_at)
            host.known = False
            host.turns_at = 0.0
            return
        host.sure_at = now
        if not host.known and self._is_compared(host):
            host.known = True
            self._there(FOREIGN, host.name, host.address or host.of_mac)

    def _is_compared(self, host: Host) -> bool:
        """Whether a comparison began and ended since it was made; the first that ends may have begun before."""
        status = self._status()
        if status is not None and self._asked_at >= host.made_at:
            host.compared.add(str(status.dhcpds[0].compared_at))
        return len(host.compared - {"None"}) > 2

    def _check_kept(self, host: Host) -> None:
        try:
            found = omshell_host(
                self._namespace, self.orders.port, host.mac, self._key, deadline_s=_OMSHELL_S
            )
        except (OmshellFailed, TimeoutExpired, OSError, ValueError):
            found, host.epoch = None, -1
        decided = host.epoch == self.control.epoch
        about = host.address or host.of_mac
        seen = None if found == host.expected else f"{host.expected} was made, and dhcpd has {found}"
        self.check(KEPT, host.name, about, decided, seen)

    def _remove(self, host: Host) -> None:
        if host.known:
            self._gone(host.name)
            host.known = False
        host.epoch = -1
        said = self._omshell(["new host", f'set name = "{host.name}"', "open", "remove"])
        host.may_exist = said is None or "not found" not in said

    def _omshell(self, lines: list[str]) -> str | None:
        """What omshell says, a refusal included; None if it is not known what came of it."""
        try:
            return omshell(
                self._namespace, self.orders.port, "\n".join(lines) + "\n", self._key, deadline_s=_OMSHELL_S
            )
        except OmshellFailed as error:
            return str(error) if "not found" in str(error) else None
        except (TimeoutExpired, OSError):
            return None
