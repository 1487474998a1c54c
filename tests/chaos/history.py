"""Who owned which address when, as far as callers were told. Pure: journals in, what must be and what cannot be out.

A name is used by one worker, and again only when macbind has let go of it. What is known of it follows from its
operations in their order:

- acknowledged allocation: **held**, from the acknowledgement on;
- release, unreserve or destroy *begun*: held no longer; until it is acknowledged it is **unsure**;
- acknowledged release, or the end of a domain that macbind had seen: **gone**;
- an allocation refused with the word that nothing was allocated: **gone**;
- a renumbering that is begun takes the new address, under the name with a `>`; it is given back by its abort and
  by the release of the name, and becomes the name's own when it is finished: until that is acknowledged both are
  unsure;
- a save, a restore or a reboot of its machine changes nothing, and when it fails it is **unsure** since it began;
- any other error: **unsure** (what was held stays held: to ask again takes nothing away).

Others use addresses, too: a stranger, a foreign host, a domain. The journal says from when to when one is there, and
macbind could know of it. An allocation that was asked for and acknowledged meanwhile must be of another address.

When an older registry was put back, everything was given back by the harness, and it begins *anew*.

So an interval of ownership is never longer than the truth, and two that overlap are two owners of one address.
"""

from collections import defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from math import inf

from chaos.journal import Entry
from chaos.pools import CROWD
from chaos.presences import Presence, Taking, handed_out


class Fate(Enum):
    """What is known of a name."""

    HELD = "held"
    UNSURE = "unsure"
    GONE = "gone"


@dataclass(frozen=True, order=True)
class Binding:
    """One allocation as it was told to a caller."""

    address: str
    generation: int
    mac: str


@dataclass(frozen=True)
class Interval:
    """Times between which a name certainly owned an address."""

    binding: Binding
    name: str
    since: float
    until: float


@dataclass(frozen=True)
class Violation:
    """Something that must never be, the check that has found it, and the journal's lines about it."""

    check: str
    what: str
    about: tuple[str, ...] = ()
    lines: tuple[Entry, ...] = ()


@dataclass
class Name:
    """What is known of one name."""

    name: str
    fate: Fate = Fate.GONE
    binding: Binding | None = None
    since: float = 0.0
    claimed: bool = False
    by_itself: bool = False
    """Whether its end is macbind's own affair: its domain has ended."""
    past: list[Binding] = field(default_factory=list)
    asked: float | None = None
    """Since when somebody wants it that does not have it."""


class History:
    """The journals, understood.

    Attributes:
        names: What is known of every name.
        intervals: Every certain ownership.
        takings: Every address that was handed out.
        presences: Whoever else uses addresses.
        violations: What cannot be.
    """

    def __init__(self, entries: Sequence[Entry]) -> None:
        self.names: dict[str, Name] = {}
        self.intervals: list[Interval] = []
        self.takings: list[Taking] = []
        self.presences: list[Presence] = []
        self.violations: list[Violation] = []
        self._began: dict[tuple[str, int], Entry] = {}
        self._lines: defaultdict[str, list[Entry]] = defaultdict(list)
        self._era = 0
        self._made: defaultdict[tuple[int, str], list[tuple[float, float, int, str]]] = defaultdict(list)
        for entry in entries:
            self._read(entry)
        for one in self.names.values():
            self._close(one, inf)
        self._check_overlaps()
        self._check_generations()
        self._check_presences()

    # -- what there must be ----------------------------------------------------------------------------

    def of(self, fate: Fate) -> list[Name]:
        """The names of this fate."""
        return [one for one in self.names.values() if one.fate is fate]

    def held(self) -> dict[str, Name]:
        """The names that are held, by address."""
        return {one.binding.address: one for one in self.of(Fate.HELD) if one.binding is not None}

    def released(self) -> set[Binding]:
        """Everything that was held once and is gone."""
        gone = {binding for one in self.names.values() for binding in one.past}
        return gone | {one.binding for one in self.of(Fate.GONE) if one.binding is not None}

    def lines_about(self, *words: str) -> tuple[Entry, ...]:
        """The last lines about names or addresses, in the order of time."""
        found = {id(line): line for word in words for line in self._lines[word][-8:]}
        return tuple(sorted(found.values(), key=lambda line: float(line["t"])))

    def violation(self, check: str, what: str, *about: str) -> Violation:
        """A violation with the lines about these names and addresses."""
        return Violation(check, what, about, self.lines_about(*about))

    # -- reading ---------------------------------------------------------------------------------------

    def _read(self, entry: Entry) -> None:
        key = (str(entry["w"]), int(entry["op"]))
        match entry["e"]:
            case "start":
                self._began[key] = entry
                self._note(entry, (*entry["names"], *filter(None, [entry.get("address")])))
                if entry["kind"] in TAKES:
                    for name in entry["names"]:
                        self._want(name, entry)
                if entry["kind"] in GIVES:
                    for name in entry["names"]:
                        self._let_go(name, entry)
                if entry["kind"] == "finish":  # the name holds one or the other
                    for name in entry["names"]:
                        self._let_go(name, entry)
            case "ok":
                self._acknowledged(self._began[key], entry)
            case "error":
                self._failed(self._began[key], entry)
            case "claimed":
                self._lines[entry["name"]].append(entry)
                self._name(entry["name"]).claimed = True
            case "there":
                self._note(entry, entry["addresses"])
                self.presences.append(
                    Presence(entry["what"], entry["who"], frozenset(entry["addresses"]), float(entry["t"]))
                )
            case "gone":
                for one in self.presences:
                    if one.who == entry["who"] and one.until == inf:
                        one.until = float(entry["until"])
                        self._note(entry, one.addresses)
            case "anew":
                self._begin_anew(float(entry["t"]))
            case "check":
                if entry["good"] is False:
                    about = [str(entry[key]) for key in ("name", "address") if entry.get(key)]
                    self._note(entry, about)
                    self._blame(entry["what"], f"{entry['what']}: {entry['seen']}", *about)

    def _begin_anew(self, now: float) -> None:
        """All that was known is over, but for those that always stay: generations begin anew, too."""
        for one in self.names.values():
            if not one.name.startswith(f"{CROWD}-"):
                self._close(one, now)
                one.fate, one.asked, one.by_itself = Fate.GONE, None, False
        for presence in self.presences:
            presence.until = min(presence.until, now)
        self._era += 1

    def _name(self, name: str) -> Name:
        return self.names.setdefault(name, Name(name))

    def _note(self, entry: Entry, words: Iterable[str]) -> None:
        for word in words:
            self._lines[word].append(entry)

    def _blame(self, check: str, what: str, *about: str) -> None:
        self.violations.append(self.violation(check, what, *about))

    def _want(self, name: str, start: Entry) -> None:
        one = self._name(name)
        if one.fate is Fate.GONE and one.asked is None:
            one.asked = float(start["t"])

    def _let_go(self, name: str, start: Entry) -> None:
        one = self._name(name)
        self._close(one, float(start["t"]))
        if one.fate is Fate.HELD:
            one.fate = Fate.UNSURE

    def _close(self, one: Name, until: float) -> None:
        if one.fate is Fate.HELD and one.binding is not None:
            self.intervals.append(Interval(one.binding, one.name, one.since, until))

    def _acknowledged(self, start: Entry, entry: Entry) -> None:
        self._note(entry, start["names"])
        if start["kind"] in TAKES:
            self._taken(start, entry)
            return
        if start["kind"] == "finish":
            self._arrived(start, entry)
            return
        if start["kind"] in RISKS:
            return
        for name in start["names"]:
            one = self._name(name)
            one.fate, one.asked = Fate.GONE, None
            one.by_itself = start["kind"] == "destroy"
            if one.by_itself and not one.claimed:
                one.fate = Fate.UNSURE  # macbind never saw the domain, so it waits for a command

    def _taken(self, start: Entry, entry: Entry) -> None:
        made = {str(one["name"]): one for one in entry["made"]}
        if sorted(made) != sorted(start["names"]):
            what = f"asked for {start['names']}, told of {sorted(made)}"
            self._blame("answers", what, *start["names"])
        for name, told in made.items():
            one = self._name(name)
            binding = Binding(str(told["address"]), int(told["generation"]), str(told["mac"]))
            self._note(entry, [binding.address])
            self._made[self._era, binding.address].append(
                (float(start["t"]), float(entry["t"]), binding.generation, name.removesuffix(AIM))
            )
            if binding in one.past or (one.fate is Fate.GONE and one.binding == binding):
                what = f"{binding} was released and is told as held again"
                self._blame("answers", what, name, binding.address)
            changed = one.fate is Fate.HELD and one.binding != binding
            if changed:
                self._blame("answers", f"held {one.binding}, and is now told {binding}", name)
                self._close(one, float(entry["t"]))
            if one.asked is not None:
                self.takings.append(Taking(name, binding.address, one.asked, float(entry["t"])))
                one.asked, one.claimed, one.by_itself = None, False, False
            if changed or one.fate is not Fate.HELD:
                if one.binding is not None and one.binding != binding:
                    one.past.append(one.binding)
                one.since = float(entry["t"])
            one.fate, one.binding = Fate.HELD, binding

    def _arrived(self, start: Entry, entry: Entry) -> None:
        """A name has what it was renumbered to, and nothing else any more."""
        name, aim = (self._name(one) for one in start["names"])
        (told,) = entry["made"]
        binding = Binding(str(told["address"]), int(told["generation"]), str(told["mac"]))
        self._note(entry, [binding.address])
        if told["name"] != name.name or binding != aim.binding:
            what = f"told that {told['name']} has arrived at {binding}; it was renumbered to {aim.binding}"
            self._blame("answers", what, name.name, binding.address)
        if name.binding is not None and name.binding != binding:
            name.past.append(name.binding)
        name.fate, name.binding, name.since = Fate.HELD, binding, float(entry["t"])
        aim.fate, aim.binding = Fate.GONE, None

    def _failed(self, start: Entry, entry: Entry) -> None:
        self._note(entry, start["names"])
        code = str(entry["code"])
        if code in DEFECTS:
            self._blame("defects", f"{start['kind']} met a defect: {entry['message']}", *start["names"])
        for name in start["names"]:
            one = self._name(name)
            if start["kind"] in RISKS:
                self._let_go(name, start)
            elif start["kind"] in TAKES:
                self._not_taken(one, code, str(entry["message"]))
            elif code in REFUSALS:
                self._blame("answers", f"{start['kind']} was refused: {entry['message']}", name)

    def _not_taken(self, one: Name, code: str, message: str) -> None:
        if one.fate is Fate.HELD:
            if code in REFUSALS:
                self._blame("answers", f"held, and asking again is refused with {code}", one.name)
        elif code in NOTHING_KEPT or "Nothing was allocated" in message:
            one.fate, one.asked = Fate.GONE, None
        else:
            one.fate = Fate.UNSURE

    # -- what cannot be --------------------------------------------------------------------------------

    def _check_overlaps(self) -> None:
        by_address: defaultdict[str, list[Interval]] = defaultdict(list)
        for one in self.intervals:
            by_address[one.binding.address].append(one)
        for address, owned in by_address.items():
            owned.sort(key=lambda one: one.since)
            latest = owned[0]
            for one in owned[1:]:
                if one.since < latest.until and one.name != latest.name:
                    self._blame(
                        "two owners",
                        f"{address} has two owners: {latest.name} (generation {latest.binding.generation}) and "
                        f"{one.name} (generation {one.binding.generation})",
                        latest.name,
                        one.name,
                    )
                latest = max(latest, one, key=lambda one: one.until)

    def _check_presences(self) -> None:
        """Nothing was handed out that others used from before it was asked for until after it was acknowledged."""
        for one, taking in handed_out(self.presences, self.takings):
            what = f"{taking.address} was handed out to {taking.name}, while {one.what}, {one.who}, used it"
            self._blame(f"{one.what} is passed over", what, taking.name, taking.address)

    def _check_generations(self) -> None:
        for (_, address), made in self._made.items():
            owner: dict[int, str] = {}
            for _, _, generation, name in made:
                if owner.setdefault(generation, name) != name:
                    self._blame(
                        "generations",
                        f"{address} was given to {owner[generation]} and {name} with one generation, "
                        f"{generation}",
                        owner[generation],
                        name,
                    )
            answered = deque(sorted((ended, generation, name) for _, ended, generation, name in made))
            newest, by = -1, ""
            for began, _, generation, name in sorted(made):
                while answered[0][0] < began:
                    newest, by = max((newest, by), answered.popleft()[1:])
                if generation < newest:
                    what = f"{address} has generation {generation} after {newest} of {by}"
                    self._blame("generations", what, name, by, address)


AIM = ">"
"""Behind a name: what it is renumbered to, which is held beside it."""
TAKES = frozenset({"allocate", "allocate_group", "reserve", "renumber"})
GIVES = frozenset({"release", "release_group", "unreserve", "destroy", "abort"})
RISKS = frozenset({"save", "restore", "reboot"})
"""What a machine's owner does to it that changes nothing, unless it fails half-way."""
NOTHING_KEPT = frozenset({"pool_exhausted", "address_in_use", "not_in_pool"})
"""Codes that say that this name holds nothing: a name that does is found before any of them is raised."""
REFUSALS = NOTHING_KEPT | {
    "conflict", "not_found", "invalid_request", "invalid_address", "invalid_option", "not_permitted"
}  # fmt: skip
DEFECTS = frozenset({"invariant_violation", "unexpected"})


def outcomes(entries: Iterable[Entry]) -> Mapping[tuple[str, str], int]:
    """How often each kind of operation ended how: `acked`, a code, or `unanswered`."""
    began: dict[tuple[str, int], str] = {}
    counts: defaultdict[tuple[str, str], int] = defaultdict(int)
    for entry in entries:
        key = (str(entry["w"]), int(entry["op"]))
        match entry["e"]:
            case "start":
                began[key] = str(entry["kind"])
            case "ok":
                counts[began.pop(key), "acked"] += 1
            case "error":
                counts[began.pop(key), str(entry["code"])] += 1
    for kind in began.values():
        counts[kind, "unanswered"] += 1
    return counts
