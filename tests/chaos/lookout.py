"""A process that proves all the time, not only between rounds, that every confirmed allocation is served.

It draws machines at random from those that the registry says are bound, and asks dhcpd itself about them: by signed
look-ups of ISC's own client, past the wire that is broken on purpose, and for one of them by DHCP, as the machine
would. An address that is missing for a second between two comparisons is seen by nothing else.

*The rule.* A miss is a violation only if all of this holds; else the look is undecided, and only counted:

1. **It was bound, and stayed so.** SQL says before and after the look that the allocation lives, under the same
   generation and MAC, and that each dhcpd which has to has confirmed this generation. A generation never comes
   back, so nothing was released and taken again between the two.
2. **dhcpd was not touched.** The epoch is even, and the same from before the first reading to after the last: no
   fault of ours was on dhcpd, and none came and went.
3. **macbind knows of this dhcpd.** In this very epoch a change was asked for and confirmed. So macbind has spoken
   with the dhcpd that runs now, and has held it in doubt since it connected.
4. **macbind said that it serves, all the time.** It says so before and after, since the same moment, and for the
   first time after the change of rule 3. Whoever is in doubt, compares after a connection, has lost dhcpd or is
   started anew enters another state, and comes back since another moment. A comparison without a reason, every
   `resync_s`, does not leave this state, and what is bound has to be served during it.
5. **dhcpd answered.** It says that it has no host for the MAC, or another one than macbind confirmed. Somebody who
   asks by DHCP and meets silence asks for nothing: only a witness who asks after him, and is answered, proves it.

While another DHCP server is at the network, a look by DHCP proves nothing.

What is true all the time needs no luck with the moment: a look begins and ends whenever it likes.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from subprocess import TimeoutExpired

from chaos import sql
from chaos.control import Phase
from chaos.pools import LOOKOUT, WITNESSED, mac_of
from chaos.worker import PAUSE_S, Caller, Orders
from labkit.dhcp import DhcpClient, expect_silence
from labkit.net import Port
from labkit.netns import Namespace
from labkit.omshell import OmshellFailed, omshell_hosts
from macbind.core.errors import MacbindError, RequestError

WHAT, BY_DHCP = "served all the time", "served all the time, by DHCP"
"""The names of the two checks."""
PORT = "lookout"
"""The lookout's place at the network."""
MOST = 300
"""Machines looked up at a time."""
BY_DHCP_SHARE = 0.25
"""The share of looks that are by DHCP."""
REST_S = 0.02
_OFFER_S, _STATUS_S, _OMSHELL_S = 1.0, 2.0, 3.0


@dataclass(frozen=True)
class Moment:
    """What is known at one moment.

    Attributes:
        epoch: The epoch of dhcpd.
        serving_since: Since when macbind says that it serves every dhcpd; None if it does not say so.
        bound: The allocations that every dhcpd has confirmed, by address.
    """

    epoch: int
    serving_since: str | None
    bound: Mapping[str, sql.Bound]


def proves(proven: int, before: Moment, after: Moment) -> bool:
    """Whether what dhcpd says between two moments has to be what macbind has confirmed: rules 2, 3 and 4.

    Args:
        proven: The epoch in which a change was asked for and confirmed.
        before: Read after that change was confirmed.
        after: Read after dhcpd has answered.
    """
    untouched = before.epoch % 2 == 0 and proven == before.epoch == after.epoch
    return untouched and before.serving_since is not None and before.serving_since == after.serving_since


def stayed(before: Moment, after: Moment, addresses: Iterable[str]) -> list[sql.Bound]:
    """Those of the addresses that were bound before and after as the same allocation: rule 1."""
    return [before.bound[one] for one in addresses if before.bound[one] == after.bound.get(one)]


class _Cable(Port):
    """A port that the harness has plugged in, in another process."""

    def __init__(self, namespace: str) -> None:
        self.name, self.namespace = PORT, Namespace(namespace)
        self._idle_sockets = []


class Lookout(Caller):
    """Looks, and writes down what it has seen."""

    def __init__(self, orders: Orders) -> None:
        super().__init__(orders)
        self._proven = -1
        self._pinned = ""
        """The name under which the address for proofs is held, or may be."""
        self._url = sql.url_in(orders.place / "macbind.toml")
        self._cable = _Cable(f"{orders.namespace}-{PORT}")
        self._witness = DhcpClient(self._cable, mac_of(WITNESSED))

    def run(self) -> None:
        """Looks while there is work, rests when the workers do."""
        with closing(self):
            while (turn := self.control.turn).phase is not Phase.END:
                if turn.phase is Phase.REST:
                    self.control.rests(self.orders.number, turn.round)
                    time.sleep(PAUSE_S)
                    continue
                self.begin_anew_if_told()
                self.step()
                time.sleep(REST_S)

    def forget(self) -> None:
        """Nothing is pinned any more."""
        self._pinned, self._proven = "", -1

    def close(self) -> None:
        """Leaves the network."""
        self._cable.close_sockets()

    def step(self) -> None:
        """One look at many machines by OMAPI, or at one by DHCP."""
        try:
            if self._is_proven():
                with sql.connected(self._url) as ask:
                    self._look(ask)
        except (MacbindError, *sql.ERRORS):  # who cannot be asked what is true cannot be blamed either
            time.sleep(PAUSE_S)

    # -- rule 3 ----------------------------------------------------------------------------------------

    def _is_proven(self) -> bool:
        """Whether macbind has confirmed a change that was asked for in the present epoch; asks for one if not."""
        epoch = self.control.epoch
        if epoch % 2:
            time.sleep(PAUSE_S)
            return False
        if self._proven != epoch and self._change() and self._asked_in == epoch:
            self._proven = epoch
        return self._proven == epoch

    def _change(self) -> bool:
        """Pins an address or lets go of it; whether dhcpd must have been told.

        Raises:
            MacbindError: It is not known what came of it.
        """
        if self._pinned:
            name = self._pinned
            answer = self.ask("unreserve", [name], lambda: self.client.unreserve(name))
            self._pinned = ""
            return not answer.already_gone
        self._pinned = name = self.new_name()
        try:
            self.ask(
                "reserve", [name], lambda: [self.client.reserve(name, LOOKOUT)], address=LOOKOUT, pool=""
            )
        except RequestError:
            self._pinned = ""
            raise
        return True

    # -- looking ---------------------------------------------------------------------------------------

    def _look(self, ask: sql.Ask) -> None:
        epoch, since = self.control.epoch, self._serving_since()
        before = Moment(epoch, since, sql.bound(ask))
        if since is None or not before.bound:
            time.sleep(PAUSE_S)
            return
        if self.random.random() < BY_DHCP_SHARE:
            what, found = BY_DHCP, self._by_dhcp(self.random.choice(sorted(before.bound.values())))
        else:
            some = self.random.sample(sorted(before.bound.values()), min(MOST, len(before.bound)))
            what, found = WHAT, self._by_omapi(some)
        bound, since = sql.bound(ask), self._serving_since()
        self._judge(what, before, Moment(self.control.epoch, since, bound), found)

    def _serving_since(self) -> str | None:
        self.client.timeout_s = _STATUS_S
        dhcpds = self.client.status().dhcpds
        return str([one.since for one in dhcpds]) if all(one.state == "serving" for one in dhcpds) else None

    def _by_omapi(self, some: Sequence[sql.Bound]) -> Mapping[str, str | None]:
        """What is wrong with these machines in dhcpd, by address; None if nothing is. Empty if it did not say."""
        try:
            macs = [one.mac for one in some]
            hosts = omshell_hosts(self._namespace, self.orders.port, macs, self._key, deadline_s=_OMSHELL_S)
        except (OmshellFailed, TimeoutExpired, OSError):
            self._count(WHAT, None, len(some))
            return {}
        return {one.address: _wrong(one, hosts[one.mac]) for one in some}

    def _by_dhcp(self, one: sql.Bound) -> Mapping[str, str | None]:
        """The same for one machine, by what it gets from dhcpd."""
        air = self.control.air
        found = self._asked_by_dhcp(one)
        if air % 2 or air != self.control.air:  # whoever answers first is heard
            self._count(BY_DHCP, None, 1)
            return {}
        return found

    def _asked_by_dhcp(self, one: sql.Bound) -> Mapping[str, str | None]:
        client = DhcpClient(self._cable, one.mac)
        lease = client.dora(_OFFER_S)
        if lease is not None:
            got = str(lease.address)
            return {one.address: None if got == one.address else f"{one.mac} gets {got}"}
        try:
            expect_silence(client, self._witness, timeout_s=_OFFER_S)
        except AssertionError:  # it was answered this time, or the witness was not answered either
            self._count(BY_DHCP, None, 1)
            return {}
        return {one.address: f"{one.mac} meets silence"}

    # -- judging ---------------------------------------------------------------------------------------

    def _judge(self, what: str, before: Moment, after: Moment, found: Mapping[str, str | None]) -> None:
        """Writes down what was found, as far as it is proof."""
        mine = stayed(before, after, found) if proves(self._proven, before, after) else []
        missed = [one for one in mine if found[one.address] is not None]
        self._count(what, None, len(found) - len(mine))
        self._count(what, True, len(mine) - len(missed))
        for one in missed:
            seen = f"{one.address} is bound with generation {one.generation}, and {found[one.address]}"
            self.check(what, one.name, one.address, decided=True, seen=seen)

    def _count(self, what: str, good: bool | None, count: int) -> None:
        if count:
            self.journal.write("check", self.operations, what=what, good=good, count=count, seen="")


def _wrong(one: sql.Bound, host: Mapping[str, str] | None) -> str | None:
    wanted = {"name": f"macbind-{one.address}-g{one.generation}", "mac": one.mac, "ip": one.address}
    return None if host == wanted else f"dhcpd has {host}"
