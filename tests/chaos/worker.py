"""The load of one process: asks for everything a caller can ask for, and writes down what it was told.

`python -m chaos.worker '{…}'`: see :class:`Orders`. The choice of operations depends on the seed and on what was
answered before, on nothing else.
"""

import json
import random
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from subprocess import TimeoutExpired
from typing import Any

from chaos.control import Control, Phase
from chaos.history import AIM
from chaos.journal import Journal
from chaos.pools import addresses
from labkit.netns import Namespace
from labkit.omshell import OmapiKey, OmshellFailed, omshell_host
from macbind.client.client import Client
from macbind.core.allocation import Allocation, Renumbering
from macbind.core.errors import MacbindError, NotFound
from macbind.dhcp.isc.key import read_key

REST_S, PAUSE_S = 0.005, 0.03
"""How long a worker rests between two operations, and how long after an error of a peer."""
_LOOK_S = 2.0
"""How much of the time between two looks counts at most, where something has to be seen in time."""
LARGE_GROUP, GROUP = 22, 6
_LONG_S = 86_400.0
"""The lease of a renumbering: nobody but its worker is to end it."""
KINDS = {
    "allocate": 30,
    "allocate_group": 12,
    "release": 26,
    "release_group": 10,
    "reserve": 6,
    "unreserve": 5,
    "again": 8,
    "get": 6,
    "renumber": 9,
    "finish": 6,
    "abort": 4,
}
"""How likely each operation is."""


@dataclass(frozen=True)
class Orders:
    """What a worker is told: who it is and where everything is.

    `look` is the share of answers that are checked with omshell at once.
    """

    place: Path
    name: str
    number: int
    seed: int
    pools: Sequence[str]
    socket: Path
    namespace: str
    port: int
    key_file: Path
    look: float
    uri: str = ""
    role: str = ""
    other_uri: str = ""
    acts: Mapping[str, float] = field(default_factory=dict)
    """What the worker of domains does how often; empty for what it does by itself."""

    @classmethod
    def from_json(cls, text: str) -> "Orders":
        """Reads what :meth:`to_json` wrote."""
        values = json.loads(text)
        paths = {name: Path(values[name]) for name in ("place", "socket", "key_file")}
        return cls(**{**values, **paths})

    def to_json(self) -> str:
        """The orders as one argument."""
        return json.dumps(vars(self), default=str)


@dataclass
class Held:
    """What a worker holds under a name."""

    allocation: Allocation
    kind: str
    pool: str
    group: str | None = None
    token: str | None = None


@dataclass
class Watch:
    """For how long something could be seen by macbind without a fault, and of which state that is.

    From one look to the next count two seconds at most: a process that looks more seldom has no processor, and
    macbind may have none either.
    """

    state: object = None
    _counted_s: float = 0.0
    _looked_at: float = 0.0

    def lasts_s(self, state: object) -> float:
        """How long it has been so."""
        now = time.monotonic()
        if state != self.state or state is None:
            self.state, self._counted_s = state, 0.0
        else:
            self._counted_s += min(now - self._looked_at, _LOOK_S)
        self._looked_at = now
        return self._counted_s


@dataclass
class Unsettled:
    """An operation whose outcome is unknown, and how to ask again."""

    kind: str
    names: Sequence[str]
    call: Callable[[], Any]
    about: dict[str, Any] = field(default_factory=dict)


class Caller:
    """Calls macbind and writes down what is asked and told."""

    def __init__(self, orders: Orders) -> None:
        self.orders = orders
        self.random = random.Random(f"{orders.seed} {orders.name}")
        self.control = Control(orders.place / "control")
        self.journal = Journal(orders.place / "journals" / f"{orders.name}.jsonl", orders.name)
        self.client = Client(orders.socket)
        self.operations = 0
        self._names = 0
        self._key = self._read_key()
        self._namespace = Namespace(orders.namespace)
        self._asked_in = 0
        """The epoch in which the last question was asked."""
        self._resets = self.control.resets
        self._tried_in: dict[str, int] = {}
        """For each name, the epoch in which it was first asked for."""

    def begin_anew_if_told(self) -> None:
        """Forgets everything that was held, if the harness has given it back."""
        if self.control.resets != self._resets:
            self._resets = self.control.resets
            self.forget()

    def forget(self) -> None:
        """Nothing is held any more."""

    def _read_key(self) -> OmapiKey:
        key = read_key(self.orders.key_file, "macbind")
        return OmapiKey(key.name, key.stanza.split('secret "')[1].split('"')[0], key.algorithm)

    def new_name(self) -> str:
        """A name that was never used."""
        self._names += 1
        return f"{self.orders.name}-{self._names}"

    def ask(self, kind: str, names: Sequence[str], call: Callable[[], Any], **about: Any) -> Any:
        """Calls, and writes down question and answer.

        Raises:
            MacbindError: What macbind said.
        """
        self.operations += 1
        number, self._asked_in = self.operations, self.control.epoch
        for name in names:
            self._tried_in.setdefault(name, self._asked_in)
        self.client.timeout_s = self.random.choice((0.5, 1.0, 2.0, 4.0))
        self.journal.write("start", number, kind=kind, names=list(names), **about)
        try:
            answer = call()
        except MacbindError as error:
            self.journal.write("error", number, code=error.code, message=str(error))
            raise
        except Exception as error:
            text = f"{type(error).__name__}: {error}"
            self.journal.write("error", number, code="unexpected", message=text)
            raise
        made = [as_json(one) for one in _allocations(answer)]
        gone = bool(getattr(answer, "already_gone", False))
        self.journal.write("ok", number, made=made, already_gone=gone)
        return answer

    def check(self, what: str, name: str, address: str, decided: bool, seen: str | None) -> None:
        """Writes a check down: `seen` is what is wrong, None if nothing is."""
        good = (seen is None) if decided else None
        self.journal.write(
            "check", self.operations, what=what, name=name, address=address, good=good, seen=seen or ""
        )

    def look(self, one: Allocation, *, served: bool) -> None:
        """Asks dhcpd itself whether it does what was just acknowledged, for a part of the answers."""
        if self.random.random() >= self.orders.look:
            return
        what = "acknowledged as served" if served else "acknowledged as released"
        # An allocation asked for before may have been confirmed then, by a dhcpd that has been killed since.
        epoch = self._tried_in[one.name] if served else self._asked_in
        if epoch % 2 or epoch != self.control.epoch:
            self.check(what, one.name, str(one.address), decided=False, seen=None)
            return
        try:
            host = omshell_host(self._namespace, self.orders.port, str(one.mac), self._key, deadline_s=2.0)
        except (OmshellFailed, TimeoutExpired, OSError, ValueError) as error:
            self.check(what, one.name, str(one.address), decided=False, seen=str(error)[:100])
            return
        mine = f"macbind-{one.address}-g{one.generation}"
        if served:
            right = host == {"name": mine, "mac": str(one.mac), "ip": str(one.address)}
        else:
            right = host is None or host.get("name") != mine
        decided = epoch == self.control.epoch
        self.check(what, one.name, str(one.address), decided, None if right else f"dhcpd has {host}")


class Worker(Caller):
    """Chooses what to ask."""

    def __init__(self, orders: Orders) -> None:
        super().__init__(orders)
        self.held: dict[str, Held] = {}
        self.unsettled: list[Unsettled] = []

    def run(self) -> None:
        """Works while it is told to, rests when it is told to."""
        while (turn := self.control.turn).phase is not Phase.END:
            if turn.phase is Phase.REST:
                self.control.rests(self.orders.number, turn.round)
                time.sleep(PAUSE_S)
                continue
            self.begin_anew_if_told()
            try:
                self.step()
                time.sleep(REST_S)
            except MacbindError:
                time.sleep(PAUSE_S)

    def forget(self) -> None:
        """Nothing is held or unsettled any more."""
        self.held.clear()
        self.unsettled.clear()

    def step(self) -> None:
        """One operation."""
        if self.unsettled and self.random.random() < 0.5:
            self._settle(self.random.randrange(len(self.unsettled)))
            return
        (kind,) = self.random.choices(list(KINDS), weights=list(KINDS.values()))
        getattr(self, f"_{kind}")()

    # -- taking ----------------------------------------------------------------------------------------

    def _allocate(self) -> None:
        pool, name = self.random.choice(self.orders.pools), self.new_name()
        self._take(Unsettled("allocate", [name], lambda: [self.client.allocate(pool, name)], {"pool": pool}))

    def _allocate_group(self) -> None:
        pool, group = self.random.choice(self.orders.pools), self.new_name()
        count = self.random.choice((2, 3, GROUP, LARGE_GROUP))
        names = [f"{group}-{number}" for number in range(1, count + 1)]
        about = {"pool": pool, "group": group}
        self._take(
            Unsettled("allocate_group", names, lambda: self.client.allocate_group(pool, group, count), about)
        )

    def _reserve(self) -> None:
        name, number = self.new_name(), self.random.randint(1, 6)
        address = f"10.9.{self.orders.number}.{number}"
        # Few foreign MACs, so that one wanders from address to address.
        mac = f"02:ca:fe:00:{self.orders.number:02x}:{self.random.randint(1, 3):02x}"
        foreign = mac if self.random.random() < 0.6 else None
        self._take(
            Unsettled(
                "reserve",
                [name],
                lambda: [self.client.reserve(name, address, mac=foreign)],
                {"address": address, "mac": foreign, "pool": ""},
            )
        )

    def _take(self, wanted: Unsettled) -> None:
        try:
            made: list[Allocation] = self.ask(wanted.kind, wanted.names, wanted.call, **wanted.about)
        except MacbindError as error:
            if _is_unknown(error):
                self.unsettled.append(wanted)
            raise
        about = wanted.about
        for one in made:
            self.held[one.name] = Held(
                one, wanted.kind, about["pool"], about.get("group"), about.get("token")
            )
        if made:
            self.look(self.random.choice(made), served=True)

    def _again(self) -> None:
        """Asks for what is held once more: the answer must be the same."""
        name = self._some(lambda one: one.kind == "allocate")
        if name is None:
            return
        pool = self.held[name].pool
        self.ask("allocate", [name], lambda: [self.client.allocate(pool, name)], pool=pool)

    def _get(self) -> None:
        name = self._some(lambda _: True)
        if name is None:
            return
        self.operations += 1
        mine = self.held[name].allocation
        found: Allocation | None = None
        if self.held[name].kind == "renumber":
            aims = [one.new for one in self.client.renumberings()]
            found = next((one for one in aims if one.name + AIM == name), None)
        else:
            with suppress(NotFound):
                found = self.client.get(name)
        same = found is not None and (found.address, found.generation, found.mac) == (
            mine.address, mine.generation, mine.mac
        )  # fmt: skip
        self.check("held", name, str(mine.address), True, None if same else f"macbind says {found}")

    # -- renumbering -----------------------------------------------------------------------------------

    def _renumber(self) -> None:
        """Begins to renumber a name; its new address is held under a name of its own."""
        name = self._some(lambda one: one.kind == "allocate")
        if name is None or self._is_renumbered(name):
            return
        pool, aim = self.held[name].pool, name + AIM
        to = self.random.choice(addresses(pool))
        if to == str(self.held[name].allocation.address):
            return

        token = f"token-of-{self.new_name()}"

        def call() -> list[Allocation]:
            begun = self.client.begin_renumber(name, to, lease_s=_LONG_S, token=token)
            return [replace(begun.new, name=aim)]

        self._take(Unsettled("renumber", [aim], call, {"pool": pool, "address": to, "token": token}))

    def _finish(self) -> None:
        aim = self._some(lambda one: one.kind == "renumber")
        if aim is not None:
            name, token = aim.removesuffix(AIM), self.held[aim].token
            about = {"pool": self.held[aim].pool}
            self._arrive(
                Unsettled("finish", [name, aim], lambda: self.client.finish_renumber(name, token), about)
            )

    def _arrive(self, wanted: Unsettled) -> None:
        for name in wanted.names:
            self.held.pop(name, None)
        try:
            done: Renumbering = self.ask(wanted.kind, wanted.names, wanted.call, **wanted.about)
        except MacbindError as error:
            if _is_unknown(error):
                self.unsettled.append(wanted)
            raise
        self.held[done.new.name] = Held(done.new, "allocate", wanted.about["pool"])
        self.look(done.new, served=True)
        if done.old != done.new:
            self.look(done.old, served=False)

    def _abort(self) -> None:
        aim = self._some(lambda one: one.kind == "renumber")
        if aim is not None:
            name, token = aim.removesuffix(AIM), self.held[aim].token
            self._give(Unsettled("abort", [aim], lambda: self.client.abort_renumber(name, token)))

    def _is_renumbered(self, name: str) -> bool:
        aim = name + AIM
        return aim in self.held or any(aim in one.names for one in self.unsettled)

    # -- giving back -----------------------------------------------------------------------------------

    def _release(self) -> None:
        name = self._some(lambda one: one.kind not in ("reserve", "renumber"))
        if name is None:
            return
        one, aim = self.held[name].allocation, name + AIM
        if aim not in self.held and self._is_renumbered(name):
            return  # whether it is renumbered would be unknown for ever
        fence = one.generation if self.random.random() < 0.5 else None
        by_address = self.random.random() < 0.3
        self._give(
            Unsettled(
                "release",
                [name, aim] if aim in self.held else [name],
                lambda: (
                    self.client.release(address=one.address, generation=one.generation)
                    if by_address
                    else self.client.release(name, generation=fence)
                ),
            )
        )

    def _release_group(self) -> None:
        groups = sorted({one.group for one in self.held.values() if one.group is not None})
        if not groups:
            return
        group = self.random.choice(groups)
        names = [name for name, one in self.held.items() if one.group == group]
        self._give(Unsettled("release_group", names, lambda: self.client.release_group(group)))

    def _unreserve(self) -> None:
        name = self._some(lambda one: one.kind == "reserve")
        if name is not None:
            self._give(Unsettled("unreserve", [name], lambda: self.client.unreserve(name)))

    def _give(self, wanted: Unsettled) -> None:
        gone = [self.held.pop(name).allocation for name in wanted.names if name in self.held]
        starts = self.control.starts
        try:
            answer = self.ask(wanted.kind, wanted.names, wanted.call, **wanted.about)
        except MacbindError as error:
            if _is_unknown(error):
                self.unsettled.append(wanted)
            raise
        if gone:
            told = {one.address for one in answer.allocations}
            missing = [one for one in gone if one.address not in told]
            for one in missing:
                seen = "it was held, and macbind says that it was gone already"
                self.check("released", one.name, str(one.address), starts == self.control.starts, seen)
            if not missing:
                self.look(self.random.choice(gone), served=False)

    def _settle(self, index: int) -> None:
        """Asks again what has no answer yet, or lets go of what may have been taken."""
        wanted = self.unsettled.pop(index)
        if wanted.kind in ("release", "release_group", "unreserve", "abort"):
            self._give(wanted)
        elif wanted.kind == "finish":
            self._arrive(wanted)
        elif self.random.random() < 0.6:
            self._take(wanted)
        elif wanted.kind == "allocate_group":
            group = wanted.about["group"]
            self._give(Unsettled("release_group", wanted.names, lambda: self.client.release_group(group)))
        elif wanted.kind == "renumber":
            name, token = wanted.names[0].removesuffix(AIM), wanted.about["token"]
            self._give(Unsettled("abort", wanted.names, lambda: self.client.abort_renumber(name, token)))
        else:
            (name,) = wanted.names
            back = self.client.unreserve if wanted.kind == "reserve" else self.client.release
            kind = "unreserve" if wanted.kind == "reserve" else "release"
            self._give(Unsettled(kind, [name], lambda: back(name)))

    def _some(self, fits: Callable[[Held], bool]) -> str | None:
        names = [name for name, one in self.held.items() if fits(one)]
        return self.random.choice(names) if names else None


def _is_unknown(error: MacbindError) -> bool:
    """Whether the operation may have been done, now or later."""
    from macbind.core.errors import PeerError

    return isinstance(error, PeerError)


def _allocations(answer: Any) -> Sequence[Allocation]:
    if isinstance(answer, Renumbering):
        return [answer.new]
    return answer if isinstance(answer, list) else answer.allocations


def as_json(one: Allocation) -> dict[str, Any]:
    """An allocation as a journal has it."""
    return {
        "name": one.name,
        "address": str(one.address),
        "mac": str(one.mac),
        "generation": one.generation,
    }


def main(arguments: Sequence[str]) -> None:
    """Runs one worker."""
    from chaos import attackers

    orders = Orders.from_json(arguments[0])
    if orders.role == "lookout":
        from chaos.lookout import Lookout

        Lookout(orders).run()
    elif orders.role == "neighbours":
        from chaos.neighbours import Neighbours

        Neighbours(orders).run()
    elif orders.role == attackers.GUEST:
        from chaos.attack_guest import Guest

        Guest(orders).run()
    elif orders.role == attackers.USER:
        from chaos.attack_user import User

        User(orders).run()
    elif orders.role == attackers.OWNER:
        from chaos.attack_owner import Owner

        Owner(orders).run()
    elif orders.uri:
        from chaos.domains import Farmer

        Farmer(orders).run()
    else:
        Worker(orders).run()


if __name__ == "__main__":
    main(sys.argv[1:])
