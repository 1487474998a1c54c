"""Rounds: work and faults, mending, recovery, checks; and the report about all of it."""

import random
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from chaos import latency, plants, schedule, secrets
from chaos.checker import Checker
from chaos.faults import FAULTS, STEP, TROUBLES, Mend, fill
from chaos.history import History, Violation, outcomes
from chaos.restored import CHECK, OldRegistry
from chaos.seams import STEPS, Need, Step
from chaos.site import RECOVER_S, Kind, NotRecovered, Site
from labkit.dhcpd import DhcpdDied
from labkit.virt import LibvirtdDied
from labkit.wait import until

SITES = (
    Kind("sqlite", domains=True),
    Kind("postgresql", registry="postgresql"),
    Kind(
        "clocks",
        clocks=True,
        tiny=True,
        weights={
            "clock of macbind moved": 6.0,
            "clock of dhcpd moved": 4.0,
            "macbind killed": 1.0,
            "dhcpd killed, lease file kept": 1.0,
            "dhcpd killed, lease file gone": 1.0,
            "OMAPI cut in a message": 1.0,
        },
    ),
)
ORDER = (0, 1, 0, 1, 2)
"""Which site has the next round."""
ROUND_S = 18.0
"""How long a round works."""
_END_S = 12.0
"""What the last checks of one site take, roughly."""
_NEVER_S = 4.0
"""How long a recovery is waited for that never comes, with a bug that was planted."""


def dress(kind: Kind, number: int) -> Kind:
    """A site with a crowd, and work in pieces of the usual size, or with few machines, and work in tiny pieces.

    Of two neighbouring numbers one makes the first and one the second. Either way whatever is there is several times
    as many as fit into a piece.
    """
    return replace(kind, crowd=number % 2 == 0, tiny=number % 2 == 1)


@dataclass
class Report:
    """What a run has found, and what it has done to find it."""

    seed: int
    rounds: Counter[str] = field(default_factory=Counter)
    operations: Counter[tuple[str, str]] = field(default_factory=Counter)
    checks: Counter[tuple[str, str]] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    hits: Counter[str] = field(default_factory=Counter)
    steps: set[str] = field(default_factory=set)
    attacks: Counter[str] = field(default_factory=Counter)
    latencies: list[latency.Latency] = field(default_factory=list)
    violations: list[Violation] = field(default_factory=list)


@dataclass
class _Breakage:
    """A fault that is there."""

    slot: schedule.Slot
    mend: Mend | None = None
    step: Step | None = None


class Round:
    """One round at one site."""

    def __init__(self, arena: "Arena", number: int, length_s: float) -> None:
        self.arena, self.site, self.number, self.length_s = arena, arena.site, number, length_s
        self.luck = random.Random(f"{self.site.seed} {self.site.kind.name} {number} luck")
        self.slots = deque(schedule.draw(self.site.kind, self.site.seed, number, length_s))
        self.there: list[_Breakage] = []
        self.faults: Counter[str] = Counter()
        self.disk_was_full = False

    def run(self) -> None:
        """Works and breaks, mends everything, and goes on working in the calm that follows.

        The calm counts from when macbind serves again, so that a slow machine has one, too; that it does not serve
        is for the checks that follow to find.
        """
        if self.arena.old is not None:
            self.arena.old.keep()
        self.site.backup.write_bytes(self.site.farm.leases.read_bytes())
        attacked = self.arena.turn_of_attackers()
        began = time.monotonic()
        self.site.work(self.number, attacked=attacked)

        def over() -> bool:
            now = time.monotonic() - began
            self._tick(now)
            return now >= self.length_s * schedule.STORM

        until(over, self.length_s + 60.0, "the storm to end")
        for one in list(self.there):
            self._mend(one)
        self.site.mend()
        self._calm()
        self.arena.windows.append(latency.Window(began, time.monotonic(), attacked))

    def _calm(self) -> None:
        began, serves_since = time.monotonic(), 0.0

        def over() -> bool:
            nonlocal serves_since
            self.site.watch()
            self._look_after_dhcpd()
            now = time.monotonic()
            if not serves_since and self.site.serves():
                serves_since = now
            calm = serves_since and now - serves_since >= self.length_s * (1.0 - schedule.STORM)
            return bool(calm) or now - began >= self.site.kind.recover_s

        until(over, self.site.kind.recover_s + 60.0, "the calm to end")

    def _tick(self, now: float) -> None:
        self.site.watch(pause_s=self.luck.choice((0.0, 0.0, 0.3)))
        for one in [one for one in self.there if now >= one.slot.ends or self._is_hit(one)]:
            self._mend(one)
        if self.slots and now >= self.slots[0].begins:
            slot = self.slots.popleft()
            what = FAULTS[slot.fault].what
            for one in [one for one in self.there if FAULTS[one.slot.fault].what == what]:
                self._mend(one)  # breaking and mending take time, so this one may be late
            self._break(slot)
        self._look_after_dhcpd()

    def _break(self, slot: schedule.Slot) -> None:
        if slot.fault == STEP:
            self.there.append(self._arm(slot))
            return
        is_trouble = FAULTS[slot.fault].what in TROUBLES
        if is_trouble:
            self.site.control.trouble(begins=True)
        mend = FAULTS[slot.fault].breaks(self.site, self.luck)
        if mend is not None:
            self.faults[slot.fault] += 1
            self.there.append(_Breakage(slot, mend))
        elif is_trouble:
            self.site.control.trouble(begins=False)

    def _mend(self, one: _Breakage) -> None:
        self.there.remove(one)
        if one.mend is not None:
            one.mend()
            if FAULTS[one.slot.fault].what in TROUBLES:
                self.site.control.trouble(begins=False)
        if one.step is None:
            return
        if self.site.arm.step:
            self.site.arm.step = ""
            self.arena.steps.append(one.step)  # its turn comes again
        else:
            self.faults[STEP] += 1

    def _is_hit(self, one: _Breakage) -> bool:
        return one.step is not None and not self.site.arm.step

    def _arm(self, slot: schedule.Slot) -> _Breakage:
        """Arms the next step, and has it reached where work alone does not."""
        step = self.arena.next_step()
        self.site.arm.step = step.name
        return _Breakage(slot, self._provoke(step.need), step)

    def _provoke(self, need: Need) -> Mend | None:
        busy = {FAULTS[one.slot.fault].what for one in self.there}
        match need:
            case Need.RECONNECT:
                self.site.proxy.cut()
            case Need.RESTART:
                self.site.kill_daemon()
            case Need.REFUSAL if "lease disk" not in busy:
                return fill(self.site.leases_disk)
            case Need.LOSS | Need.GHOSTS if "dhcpd" not in busy:
                kind = "gone" if need is Need.LOSS else "of old"
                mend = FAULTS[f"dhcpd killed, lease file {kind}"].breaks(self.site, self.luck)
                assert mend is not None
                mend()
        return None

    def _look_after_dhcpd(self) -> None:
        """dhcpd may only end where a fault ends it, or because it cannot write."""
        site = self.site
        self.disk_was_full |= site.lease_disk_is_full
        if site.dhcpd.alive or any(FAULTS[one.slot.fault].what == "dhcpd" for one in self.there):
            return
        if site.control.epoch % 2 == 0 and not self.disk_was_full:
            site.unexpected.append(f"dhcpd ended by itself:\n{site.tail(site.dhcpd.log())}")
        site.control.touch(begins=True)
        site.restart_dhcpd()


class Arena:
    """A site with its checker and what is carried from round to round."""

    def __init__(self, site: Site, guard: secrets.Guard) -> None:
        self.site, self.guard = site, guard
        self.checker = Checker(site)
        mine = [
            step
            for step in STEPS
            if step.registry in ("", site.kind.registry) and (step.need is not Need.DOMAINS or site.libvirtd)
        ]
        random.Random(f"{site.seed} {site.kind.name} steps").shuffle(mine)
        is_whole = site.kind.registry == "sqlite" and site.libvirtd is not None
        self.old = OldRegistry(site) if is_whole else None
        self.all_steps = mine
        self.steps = deque(mine)
        self.log_read = 0
        self.windows: list[latency.Window] = []
        """When each round worked."""

    def turn_of_attackers(self) -> bool:
        """Whether attackers are at work in the next round: in every second one, and in all while a bug is hunted."""
        return self.site.kind.attackers and bool(self.site.plant or len(self.windows) % 2)

    def next_step(self) -> Step:
        """The step whose turn it is."""
        if not self.steps:
            self.steps.extend(self.all_steps)
        return self.steps.popleft()

    def check(self) -> list[Violation]:
        """Waits for macbind to recover and compares everything; if it does not, what callers were told."""
        site = self.site
        try:
            site.rest()
            history = History(site.entries())
            site.settle([one.name for one in history.names.values() if one.by_itself and one.claimed])
        except NotRecovered as error:
            found = [Violation("recovery", str(error)), *self.told()]
        else:
            found = self.checker.after_round(history)
            if self.old is not None and not found and self._is_put_back() and self.old.has_room:
                found = self.old.put_back()
                self.checker.counts[CHECK] = self.old.checked
        return found + self._unexpected() + self._secrets([site.place])

    def _is_put_back(self) -> bool:
        """Whether this is a round after which an older registry is put back."""
        kind, number = self.site.kind, self.site.control.round
        return random.Random(f"{self.site.seed} {number} old").random() < kind.old_registries

    def told(self) -> list[Violation]:
        """What is wrong with the answers alone."""
        return History(self.site.entries()).violations

    def end(self) -> list[Violation]:
        """The last checks of all."""
        site = self.site
        try:
            found = self.checker.at_the_end(History(site.entries()))
            site.answers()
        except NotRecovered as error:
            return [Violation("recovery", str(error))]
        places = [site.place, *([site.postgres.directory] if site.postgres else [])]
        return found + self._unexpected() + self._secrets(places)

    def _unexpected(self) -> list[Violation]:
        site = self.site
        found = [Violation("processes", text) for text in site.unexpected]
        site.unexpected.clear()
        log = site.farm.log()
        fresh, self.log_read = log[self.log_read :], len(log)
        lines = [line for line in fresh.splitlines() if '"critical"' in line or "Traceback" in line]
        return found + [Violation("log", f"macbind's log has a defect: {line[:2000]}") for line in lines[:3]]

    def _secrets(self, places: Sequence[Path]) -> list[Violation]:
        files, leaks = secrets.search(self.guard.secrets, places)
        self.checker.counts["files without secrets"] += files
        self.checker.counts["processes without secrets"] = self.guard.processes
        return [Violation("secrets", leak) for leak in [*self.guard.leaks, *leaks][:5]]


def secrets_of(site: Site) -> list[secrets.Secret]:
    """What must not come to light at a site."""
    assert site.dhcpd.key is not None
    found = [secrets.Secret.of_key("the OMAPI secret", site.dhcpd.key.secret, site.place / "macbind.key")]
    if site.postgres is not None:
        forms = {"text": site.postgres.password.encode()}
        found.append(secrets.Secret("PostgreSQL's password", forms, site.farm.config))
    return found


class Campaign:
    """A whole run.

    Args:
        seed: Everything that is drawn comes from it.
        seconds: How long it may take, in seconds.
        plant: A bug to plant; the run is over as soon as it is found.
        say: Is told one line per round.
        round_s: How long a round works, in seconds.
        least: So many rounds there are, however long they take.
        place: Where the sites' directories go.
        attackers: Whether attackers are at work in every second round of a site.
    """

    def __init__(
        self,
        seed: int,
        seconds: float,
        *,
        plant: str = "",
        say: Callable[[str], None] = print,
        round_s: float = ROUND_S,
        least: int = 1,
        place: Path,
        attackers: bool = False,
    ) -> None:
        self.seconds, self.plant, self.say, self.round_s, self.place = seconds, plant, say, round_s, place
        self.least, self.attackers = least, attackers
        self.report = Report(seed)
        self._began = time.monotonic()
        self._arenas: dict[int, Arena] = {}
        self._longest_s = 0.0

    def run(self, order: Sequence[int] = ORDER) -> Report:
        """Runs rounds until time is over or something was found, then the last checks."""
        with ExitStack() as stack:
            number = 0
            while not self._has_found() and (number < self.least or self._has_time()):
                number += 1
                self._round(self._arena(order[(number - 1) % len(order)], stack), number)
            for arena in self._arenas.values():
                if not self.report.violations:
                    self._finish(arena)
            for arena in self._arenas.values():
                self._count(arena)
                if self.attackers and not self.plant:
                    self._weigh(arena)
        return self.report

    def _has_found(self) -> bool:
        """Whether what is looked for was found: anything, or what certain checks have to find."""
        wanted = plants.PLANTS[self.plant].found_by if self.plant else ()
        return any(not wanted or one.check in wanted for one in self.report.violations)

    def _has_time(self) -> bool:
        """Whether another round and the last checks fit in."""
        end_s = 0.0 if self.plant else _END_S * len(self._arenas)
        left_s = self.seconds - (time.monotonic() - self._began) - end_s
        return left_s > max(self._longest_s, self.round_s)

    def _arena(self, index: int, stack: ExitStack) -> Arena:
        if index not in self._arenas:
            kind = SITES[index]
            if self.plant:
                plant = plants.PLANTS[self.plant]
                recover_s = RECOVER_S if plant.recovers else _NEVER_S
                kind = replace(
                    kind,
                    domains=plant.domains,
                    weights=plant.weights,
                    recover_s=recover_s,
                    crowd=plant.crowd,
                    resync_s=plant.resync_s,
                    old_registries=plant.old_registries,
                    acts=plant.acts,
                )
            elif not kind.tiny:
                kind = dress(kind, self.report.seed + index)
            kind = replace(
                kind,
                attackers=self.attackers or (plants.PLANTS[self.plant].attackers if self.plant else False),
            )
            site = Site(kind, self.place / kind.name, self.report.seed, plant=self.plant)
            stack.enter_context(site)
            guard = stack.enter_context(secrets.Guard(secrets_of(site)))
            self._arenas[index] = Arena(site, guard)
        return self._arenas[index]

    def _round(self, arena: Arena, number: int) -> None:
        began = time.monotonic()
        before, checks = outcomes(arena.site.entries()), arena.checker.counts.total()
        fight = Round(arena, number, self.round_s)
        try:
            fight.run()
            mended = time.monotonic()
            found = arena.check()
        except (DhcpdDied, LibvirtdDied, TimeoutError) as error:
            mended = time.monotonic()
            found = [Violation("mending", f"could not be mended: {error}"), *arena.told()]
        self._blame(arena, f"round {number}", found)
        self.report.faults += fight.faults
        self.report.rounds[arena.site.kind.name] += 1
        told = Counter(dict(outcomes(arena.site.entries())))
        told.subtract(before)
        acked = sum(count for (_, how), count in told.items() if how == "acked")
        self._longest_s = max(self._longest_s, time.monotonic() - began)
        self.say(
            f"round {number:>3}  {arena.site.kind.name:<10}  {told.total():>5} operations, {acked:>5} acked  "
            f"{fight.faults.total():>3} faults  {arena.checker.counts.total() - checks:>5} checks  "
            f"recovered and checked in {time.monotonic() - mended:4.1f} s  "
            + (f"{len(found)} VIOLATIONS" if found else "ok")
        )

    def _finish(self, arena: Arena) -> None:
        found = arena.end()
        self._blame(arena, "the end", found)
        self.say(
            f"the end    {arena.site.kind.name:<10}  everything released, every pool filled and released again  "
            + (f"{len(found)} VIOLATIONS" if found else "ok")
        )

    def _blame(self, arena: Arena, when: str, found: Sequence[Violation]) -> None:
        where = f"{arena.site.kind.name}, {when}"
        self.report.violations += [replace(one, what=f"{where}: {one.what}") for one in found]

    def _weigh(self, arena: Arena) -> None:
        """What the attackers cost the others."""
        found = latency.measure(arena.site.kind.name, arena.site.entries(), arena.windows)
        self.report.latencies.append(found)
        self.report.checks[latency.CHECK, "decided" if found.is_decided else "undecided"] += 1
        self._blame(arena, "the end", found.violations())

    def _count(self, arena: Arena) -> None:
        entries = arena.site.entries()
        self.report.operations += Counter(dict(outcomes(entries)))
        for entry in entries:
            if entry["e"] == "check":
                how = "undecided" if entry["good"] is None else "decided"
                self.report.checks[entry["what"], how] += entry.get("count", 1)
            elif entry["e"] == "attack":
                self.report.attacks[entry["what"]] += entry["count"]
        for what, count in arena.checker.counts.items():
            self.report.checks[what, "decided"] += count
        self.report.hits += Counter(arena.site.hits())
        self.report.steps |= {step.name for step in arena.all_steps}
