"""A worker that starts and ends libvirt domains: their addresses must come back by themselves, and not before.

Machines are destroyed; or saved, and restored; or they reboot: a definition whose guest's reboot is its end, as every
installer makes them, and whose owner starts it again. A name whose machine has ended is allocated again, and the same
machine, by its UUID, starts under it.

Domains of others come and go. A *thief* has the MAC of a machine that runs: its owner keeps everything. A *squatter*
has the MAC of an address that nobody has: once macbind has watched for long enough, the address is passed over.

How fast macbind frees an address, and finds the user of one, is judged only if no fault came between: neither on
macbind, nor on its registry, nor on this hypervisor. What is done to another one is no excuse.
"""

import time
from collections.abc import Sequence
from contextlib import suppress
from math import inf
from subprocess import TimeoutExpired

from chaos import sql
from chaos.control import Phase
from chaos.lives import XML, Domain, Ended, Machine, Other, Written
from chaos.pools import mac_of
from chaos.worker import PAUSE_S, Caller, Orders, Watch
from labkit.netns import CommandFailed, run_command
from labkit.wait import until
from macbind.core.allocation import Allocation
from macbind.core.errors import MacbindError, NotFound

_VIRSH_S, _LATE_S = 30.0, 60.0
MOST = 4
"""Machines at one time."""
SQUATTER = "a domain"
"""What the history calls a squatter."""
FREED, ADOPTED, OWNER = "freed in time", "found by its machine in time", "a thief leaves the owner alone"
ATTACKED, SAVED = "attackers leave the owner alone", "a save is recorded in time"
"""The names of the checks."""
FREED_S, ADOPTED_S, SEEN_S = 4.0, 8.0, 3.0
"""How long macbind may take to free an address, and to record its machine; how long until it has seen a domain."""
_STAYS_S, _UNSEEN_S = (0.5, 3.0), 8.0
ACTS = {"end": 5.0, "save": 3.0, "reboot": 3.0, "steal": 1.0, "squat": 1.0}
"""What is done how often, unless the orders say otherwise."""
_OFF_S = 5.0


class Farmer(Caller):
    """Allocates, starts, ends. Domains are paused as soon as they exist, so they cost no processor time."""

    def __init__(self, orders: Orders) -> None:
        super().__init__(orders)
        self._url = sql.url_in(orders.place / "macbind.toml")
        self.machines: list[Machine] = []
        self.dying: list[Machine] = []
        self.ended: list[Ended] = []
        self.former: list[str] = []
        """Names whose machine has ended, and which macbind has let go of."""
        self.others: list[Other] = []
        self.left: list[str] = []
        """Names that macbind never saw a domain of: they end by command."""
        self.unsettled: list[str] = []

    def run(self) -> None:
        """Works while it is told to, rests when it is told to."""
        while (turn := self.control.turn).phase is not Phase.END:
            if turn.phase is Phase.REST:
                # A domain of another that has the MAC of one that has ended goes on with its address.
                with suppress(CommandFailed):
                    for other in list(self.others):
                        self._end_other(other)
                self.control.rests(self.orders.number, turn.round)
                time.sleep(PAUSE_S)
                continue
            self.begin_anew_if_told()
            # What fails is written down, and a domain whose end is unknown is destroyed again.
            for act in (self._look, self.step):
                with suppress(MacbindError, CommandFailed, *sql.ERRORS):
                    act()
            time.sleep(PAUSE_S)

    def forget(self) -> None:
        """There is no machine any more, and no other domain."""
        for some in (
            self.machines,
            self.dying,
            self.ended,
            self.former,
            self.others,
            self.left,
            self.unsettled,
        ):
            some.clear()

    def step(self) -> None:
        """One operation."""
        if self.dying:
            self._destroy(self.dying[0])
        elif self.unsettled and self.random.random() < 0.5:
            name = self.unsettled.pop()
            self._release(name)
        elif self.left:
            self._release(self.left.pop())
        elif (known := [other for other in self.others if other.known]) and self.random.random() < 0.5:
            wanted = known[0].address if self.random.random() < 0.5 else None
            self.left.append(self._allocate(self.new_name(), for_it=True, address=wanted).name)
        elif len(self.machines) < MOST and self.random.random() < 0.4:
            self._start()
        else:
            acts = {
                "end": self._end,
                "save": self._save_or_restore,
                "reboot": self._reboot,
                "steal": self._steal,
                "squat": self._squat,
            }
            weights = self.orders.acts or ACTS
            (act,) = self.random.choices(list(weights), weights=list(weights.values()))
            acts[act]()

    # -- what macbind makes of it ----------------------------------------------------------------------

    def _undisturbed(self) -> object:
        """What stays the same while nothing is done to macbind, its registry or this hypervisor; None if it is."""
        if self.control.troubles % 2:
            return None
        self.client.timeout_s = 2.0
        local = next(one for one in self.client.status().hypervisors if one.name == "local")
        return (self.control.starts, self.control.troubles, local.since) if local.connected else None

    def _state(self) -> object:
        """The same, and None if macbind does not answer."""
        try:
            return self._undisturbed()
        except MacbindError:
            return None

    def _look(self) -> None:
        """Looks whether macbind has seen what it has to see by now."""
        state = self._state()
        now = time.monotonic()
        for other in list(self.others):
            if other.runs and not other.known and other.watch.lasts_s(state) > SEEN_S:
                other.known = True
                other.ends_at = now + self.random.uniform(*_STAYS_S)
                self.operations += 1
                about = {"what": SQUATTER, "who": other.domain.name, "addresses": [other.address]}
                self.journal.write("there", self.operations, **about)
            if now >= other.ends_at:
                self._end_other(other)
        if state is None:
            return
        running = self._names_in("running")
        for machine in self.machines:
            if machine.domain.saved is None:
                self._look_at(machine, running, state)
        if self.control.attacked and (known := [one for one in self.machines if one.claimed]):
            self._check_recorded(ATTACKED, self.random.choice(known))
        for ended in list(self.ended):
            self._look_at_ended(ended, state)

    def _names_in(self, phase: str) -> set[str]:
        """The names whose machine is in a phase, by the registry."""
        with sql.connected(self._url) as ask:
            rows = ask("SELECT name, phase FROM allocation")
        return {str(name) for name, its in rows if its == phase}

    def _look_at(self, machine: Machine, running: set[str], state: object) -> None:
        one = machine.allocation
        if not machine.claimed and one.name in running:
            machine.claimed = True
            self.check(ADOPTED, one.name, str(one.address), decided=True, seen=None)
        elif not machine.claimed and machine.watch.lasts_s(state) > ADOPTED_S:
            seen = f"its domain has run for {ADOPTED_S:g} s, and macbind has not recorded that"
            self.check(ADOPTED, one.name, str(one.address), decided=True, seen=seen)
            machine.watch = Watch()

    def _look_at_ended(self, ended: Ended, state: object) -> None:
        one = ended.machine.allocation
        took_s = ended.watch.lasts_s(state)
        try:
            held = self.client.get(one.name).generation == one.generation
        except NotFound:
            held = False
        if held and took_s <= FREED_S:
            return
        if not held:
            took_s = min(took_s, self._released_after_s(ended))
        seen = f"its domain was destroyed, and macbind held the address for {took_s:.1f} s"
        # A copy of the machine that runs keeps the address; its end may be a moment ahead.
        decided = ended.state == state and not self.control.attacked
        self.check(FREED, one.name, str(one.address), decided, seen if took_s > FREED_S else None)
        self.ended.remove(ended)
        if not held:
            self.former.append(one.name)

    def _released_after_s(self, ended: Ended) -> float:
        """How long it took to release an address, by macbind's own history: nobody may have looked meanwhile."""
        one = ended.machine.allocation
        moments = [
            entry.at.timestamp()
            for entry in self.client.history(name=one.name)
            if (entry.action, entry.generation) == ("release", one.generation)
        ]
        destroyed_at = time.time() - (time.monotonic() - ended.at)
        return moments[0] - destroyed_at if moments else inf

    # -- the lives of machines -------------------------------------------------------------------------

    def _start(self) -> None:
        is_again = bool(self.former) and self.random.random() < 0.6
        name = self.former.pop(0) if is_again else self.new_name()
        # A squatter that macbind has not seen yet must not be taken for the machine.
        for_it = bool(self.others or self.orders.other_uri) or self.random.random() < 0.5
        one = self._allocate(name, for_it=for_it)
        machine = Machine(one, Domain(name, str(one.mac), self.random.random() < 0.5))
        try:
            self._run(machine.domain)
        except CommandFailed:
            self.dying.append(machine)  # it may exist all the same
            raise
        self.machines.append(machine)

    def _allocate(self, name: str, *, for_it: bool, address: str | None = None) -> Allocation:
        """Allocates for a domain of that name, or for any; the first unoccupied address, or this one."""
        pool = self.orders.pools[0]

        def call() -> list[Allocation]:
            return [self.client.allocate(pool, name, address=address, domain=name if for_it else None)]

        try:
            (one,) = self.ask("allocate", [name], call, pool=pool)
        except MacbindError:
            self.unsettled.append(name)
            raise
        found: Allocation = one
        return found

    def _run(self, domain: Domain) -> None:
        file = self.orders.place / f"{domain.name}.xml"
        file.write_text(XML.format(name=domain.name, uuid=domain.uuid, mac=domain.mac))
        if domain.persistent:
            self._virsh("define", str(file))
            self._virsh("start", "--paused", domain.name)
        else:
            self._virsh("create", "--paused", str(file))

    def _end(self) -> None:
        machine = self._some()
        if machine is None or (not machine.claimed and self.random.random() < 0.9):
            return
        if machine.claimed:
            self.journal.write("claimed", self.operations, name=machine.allocation.name)
        self.machines.remove(machine)
        self.dying.append(machine)
        self._destroy(machine)

    def _destroy(self, machine: Machine) -> None:
        name, domain = machine.allocation.name, machine.domain
        state = self._state()  # it may be down; domains end all the same
        with self._operation("destroy", machine):
            self._virsh("destroy", name, but=("failed to get domain", "domain is not running"))
            at, watch = time.monotonic(), Watch()
            watch.lasts_s(state)
            if domain.persistent:
                self._virsh("undefine", "--managed-save", name, but=("failed to get domain",))
        self.dying.remove(machine)
        if machine.claimed:
            self.ended.append(Ended(machine, at, state, watch))
        else:
            self.left.append(name)

    def _save_or_restore(self) -> None:
        saved = [one for one in self.machines if one.domain.saved is not None]
        machine = self.random.choice(saved) if saved else self._some(claimed=True)
        if machine is None:
            return
        domain = machine.domain
        if domain.saved is None:
            file = self.orders.place / f"{domain.name}.saved"
            state = self._state()
            with self._risk("save", machine):
                self._virsh("save", domain.name, str(file))
                if not domain.persistent:
                    self._await_saved(machine.allocation, state)
            domain.saved = file
        elif self.random.random() < 0.3:
            with self._risk("restore", machine):
                self._virsh("restore", str(domain.saved), "--paused")
            domain.saved.unlink()
            domain.saved = None
            # A macbind that has not seen it run again keeps it as saved, whatever becomes of it.
            machine.claimed, machine.watch = False, Watch()

    def _await_saved(self, one: Allocation, state: object) -> None:
        """Waits until macbind has recorded that a domain without a definition was saved.

        Raises:
            CommandFailed: macbind was disturbed. If it has not heard of the save, nothing ever tells it.
        """
        watch = Watch()

        def is_over() -> bool:
            if one.name in self._names_in("held"):
                return True
            if state is None or self._state() != state:
                raise CommandFailed(f"macbind may not have heard that {one.name} was saved")
            return watch.lasts_s(state) > SEEN_S

        until(is_over, _LATE_S, "the save to be recorded")
        is_recorded = one.name in self._names_in("held")
        seen = None if is_recorded else f"the save was not recorded within {SEEN_S:g} s"
        self.check(SAVED, one.name, str(one.address), decided=True, seen=seen)

    def _reboot(self) -> None:
        """The guest reboots, which ends the domain, and its owner starts it again."""
        machine = self._some(claimed=True)
        if machine is None or not machine.domain.persistent:
            return
        name = machine.domain.name
        with self._risk("reboot", machine):
            self._virsh("reset", name)
            try:
                until(lambda: self._virsh("domstate", name) == ["shut", "off"], _OFF_S, "it to end")
            except TimeoutError as error:
                raise CommandFailed(str(error)) from error
            time.sleep(self.random.uniform(0.0, 0.5))
            self._virsh("start", "--paused", name)

    def _some(self, *, claimed: bool = False) -> Machine | None:
        """A machine that runs."""
        some = [one for one in self.machines if one.domain.saved is None and (one.claimed or not claimed)]
        return self.random.choice(some) if some else None

    # -- domains of others -----------------------------------------------------------------------------

    def _steal(self) -> None:
        """A thief starts, if there is none of others."""
        owner = self._some(claimed=True)
        if not self.others and owner is not None:
            # A thief is judged while it runs and when it ends.
            ends_at = time.monotonic() + self.random.uniform(*_STAYS_S)
            self._intrude("thief", str(owner.allocation.address), ends_at, owner)

    def _squat(self) -> None:
        """A squatter starts, if there is none of others."""
        if self.others:
            return
        with sql.connected(self._url) as ask:
            free = sql.lowest_free(ask, self.orders.pools[0], 8)
        if free:
            # How long it stays counts from when it must have been seen.
            ends_at = time.monotonic() + _UNSEEN_S
            self._intrude("squatter", self.random.choice(free), ends_at, None).runs = True

    def _intrude(self, kind: str, address: str, ends_at: float, owner: Machine | None) -> Other:
        other = Other(Domain(f"{kind}-of-{self.new_name()}", mac_of(address)), ends_at, owner, address)
        self.others.append(other)
        self._run(other.domain)
        return other

    def _end_other(self, other: Other) -> None:
        self._check_owner(other)
        self.journal.write("gone", self.operations, who=other.domain.name, until=time.monotonic())
        self._virsh("destroy", other.domain.name, but=("failed to get domain",))
        self.others.remove(other)
        self._check_owner(other)

    def _check_owner(self, other: Other) -> None:
        """The machine whose MAC was stolen has its allocation, and is its recorded user."""
        owner = other.owner
        if owner is not None and owner in self.machines:
            self._check_recorded(OWNER, owner)

    def _check_recorded(self, what: str, owner: Machine) -> None:
        """A machine has its allocation, and is its recorded user."""
        one = owner.allocation
        try:
            found: Allocation | None = self.client.get(one.name)
        except NotFound:
            found = None
        except MacbindError:  # it may be down; the thief ends all the same
            return
        mine = (one.address, one.generation, owner.domain.uuid)
        same = found is not None and (found.address, found.generation, found.domain_uuid) == mine
        self.check(what, one.name, str(one.address), True, None if same else f"macbind says {found}")

    # -- commands --------------------------------------------------------------------------------------

    def _operation(self, kind: str, machine: Machine) -> Written:
        self.operations += 1
        return Written(self, self.operations, kind, machine.allocation.name)

    def _risk(self, kind: str, machine: Machine) -> Written:
        """What may end the machine if libvirtd ends amid it: it is destroyed then, and its name released."""

        def lost() -> None:
            machine.claimed = False
            self.machines.remove(machine)
            self.dying.append(machine)

        written = self._operation(kind, machine)
        written.lost = lost
        return written

    def _release(self, name: str) -> None:
        try:
            self.ask("release", [name], lambda: self.client.release(name))
        except MacbindError:
            self.unsettled.append(name)
            raise

    def _virsh(self, *arguments: str, but: Sequence[str] = ()) -> Sequence[str]:
        """Runs virsh.

        Raises:
            CommandFailed: It has failed, for none of these reasons.
        """
        command = ["virsh", "--quiet", "--connect", self.orders.uri, *arguments]
        try:
            return run_command(command, deadline_s=_VIRSH_S).stdout.split()
        except TimeoutExpired as error:  # libvirtd may do it yet; what is not known is asked for again
            raise CommandFailed(f"virsh {' '.join(arguments)} took more than {_VIRSH_S:g} s") from error
        except CommandFailed as error:
            if not any(reason in str(error) for reason in but):
                raise
            return []
