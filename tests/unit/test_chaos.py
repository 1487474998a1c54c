"""What the fault suite's own judge makes of journals; its schedule; its table of seams."""

import dataclasses
import random
import sqlite3
from contextlib import closing
from dataclasses import fields
from ipaddress import IPv4Address
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chaos import pieces, sql
from chaos.__main__ import MOST, choose, print_report
from chaos.campaign import SITES, Report, dress
from chaos.control import Control
from chaos.faults import cut
from chaos.history import RISKS, Fate, History, Violation
from chaos.journal import Entry
from chaos.latency import ENOUGH, Window, measure
from chaos.lookout import Moment, proves, stayed
from chaos.pools import CROWD, HOLES, RANGES, addresses, pool_of
from chaos.schedule import STORM, draw
from chaos.seams import STEPS, MissingSeam, replace, resolve
from macbind.core.binding import owner_of
from macbind.core.sizes import Sizes


class Book:
    """Journals written by hand; each event is a second after the one before."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self._now, self._operations = count(1), count(1)

    def begin(self, kind: str, *names: str) -> int:
        """An operation begins."""
        number = next(self._operations)
        self._add("start", number, kind=kind, names=list(names))
        return number

    def told(self, number: int, *made: tuple[str, str, int]) -> None:
        """It is acknowledged, with (name, address, generation)."""
        told = [
            {"name": name, "address": address, "generation": generation, "mac": f"mac of {address}"}
            for name, address, generation in made
        ]
        self._add("ok", number, made=told)

    def failed(self, number: int, code: str, message: str = "") -> None:
        """It ends with an error."""
        self._add("error", number, code=code, message=message)

    def allocate(self, name: str, address: str, generation: int) -> None:
        """A whole allocation."""
        self.told(self.begin("allocate", name), (name, address, generation))

    def release(self, name: str) -> None:
        """A whole release."""
        self.told(self.begin("release", name))

    def claimed(self, name: str) -> None:
        """macbind has seen the domain of a name."""
        self._add("claimed", 0, name=name)

    def there(self, who: str, *addresses: str) -> None:
        """Somebody else uses addresses from now on."""
        self._add("there", 0, what="a stranger", who=who, addresses=list(addresses))

    def gone(self, who: str, until: float | None = None) -> None:
        """Somebody else uses them no more."""
        now = float(next(self._now))
        self._add("gone", 0, who=who, until=now if until is None else until)

    def anew(self) -> None:
        """An older registry was put back, and everything given back."""
        self._add("anew", 0)

    def looked(self, good: bool | None, *, seen: str = "", **about: Any) -> None:
        """The lookout has seen something."""
        self._add("check", 0, what="served all the time", good=good, seen=seen, **about)

    def _add(self, event: str, number: int, **fields: Any) -> None:
        self.entries.append({"t": float(next(self._now)), "w": "w", "op": number, "e": event, **fields})

    def violations(self, check: str = "") -> list[str]:
        """What cannot be, as one check sees it, or all."""
        found = History(self.entries).violations
        return [one.what for one in found if check in ("", one.check)]

    def fate(self, name: str) -> Fate:
        """What is known of a name."""
        return History(self.entries).names[name].fate


def test_one_address_may_be_held_by_one_after_the_other() -> None:
    """Released and allocated again with a new generation: nothing is wrong."""
    book = Book()
    book.allocate("a", "10.1.1.3", 1)
    book.release("a")
    book.allocate("b", "10.1.1.3", 2)
    assert book.violations() == []
    assert (book.fate("a"), book.fate("b")) == (Fate.GONE, Fate.HELD)


def test_two_owners_at_one_time_are_found() -> None:
    """An address acknowledged to a second name while the first has not begun to release it."""
    book = Book()
    book.allocate("a", "10.1.1.3", 1)
    book.allocate("b", "10.1.1.3", 2)
    book.release("a")
    assert any(
        "10.1.1.3 has two owners: a (generation 1) and b (generation 2)" in one for one in book.violations()
    )


def test_a_name_that_is_told_another_address_has_owned_the_first_until_then() -> None:
    """A change that must not be hides no second owner of the address before, and makes none of the one after."""
    book = Book()
    book.allocate("a", "10.1.1.3", 1)
    book.allocate("b", "10.1.1.3", 2)
    book.allocate("c", "10.1.1.4", 1)
    book.release("c")
    book.allocate("a", "10.1.1.4", 2)
    (found,) = book.violations("two owners")
    assert "10.1.1.3 has two owners: a (generation 1) and b (generation 2)" in found


def renumbered(book: Book) -> None:
    """`a` has one address and is being renumbered to another."""
    book.allocate("a", "10.1.1.3", 1)
    book.told(book.begin("renumber", "a>"), ("a>", "10.1.1.4", 2))


def test_a_name_on_its_way_owns_both_addresses() -> None:
    """What it is renumbered to is nobody else's, as is what it leaves."""
    book = Book()
    renumbered(book)
    book.allocate("b", "10.1.1.4", 3)
    book.allocate("c", "10.1.1.3", 3)
    owners = " ".join(book.violations("two owners"))
    assert "10.1.1.4 has two owners: a> (generation 2) and b" in owners
    assert "10.1.1.3 has two owners: a (generation 1) and c" in owners


@pytest.mark.parametrize(
    ("kind", "names", "made", "held"),
    [
        ("finish", ["a", "a>"], [("a", "10.1.1.4", 2)], "10.1.1.4"),
        ("abort", ["a>"], [], "10.1.1.3"),
        ("release", ["a", "a>"], [], None),
    ],
)
def test_the_end_of_a_renumbering_leaves_what_it_should(
    kind: str, names: list[str], made: list[tuple[str, str, int]], held: str | None
) -> None:
    """One of the two addresses, or none; while it is not known, neither is certain that may be gone."""
    book = Book()
    renumbered(book)
    number = book.begin(kind, *names)
    assert {book.fate(name) for name in names} == {Fate.UNSURE}
    book.told(number, *made)
    assert book.violations() == []
    history = History(book.entries)
    assert set(history.held()) == ({held} if held else set())
    assert {one.address for one in history.released()} == {"10.1.1.3", "10.1.1.4"} - {held}


def test_a_name_that_arrives_elsewhere_is_found() -> None:
    """It is told another address or generation than what it was renumbered to."""
    book = Book()
    renumbered(book)
    book.told(book.begin("finish", "a", "a>"), ("a", "10.1.1.4", 3))
    assert "it was renumbered to" in book.violations("answers")[0]


NAMES, ADDRESSES = ("a", "b", "c", "d"), ("10.1.1.3", "10.1.1.4")
EVENTS = st.one_of(
    st.tuples(st.just("allocated"), st.sampled_from(NAMES), st.sampled_from(ADDRESSES)),
    st.tuples(st.just("unanswered"), st.sampled_from(NAMES), st.just("")),
    st.tuples(st.sampled_from(("release begun", "released")), st.sampled_from(NAMES), st.just("")),
)


@settings(max_examples=300)
@given(st.lists(EVENTS, max_size=24))
def test_no_two_owners_escape(events: list[tuple[str, str, str]]) -> None:
    """Exactly the addresses that were acknowledged while another name owned them are found, in any history."""
    book, owned, doubled = Book(), dict[str, str](), set[str]()
    for generation, (what, name, address) in enumerate(events):
        if what == "allocated":
            book.allocate(name, address, generation)
            doubled |= {address} & {its for other, its in owned.items() if other != name}
            owned[name] = address
        elif what == "unanswered":
            book.failed(book.begin("allocate", name), "dhcpd_unavailable")
        else:
            release = book.begin("release", name)
            owned.pop(name, None)
            if what == "released":
                book.told(release)
    assert {one.partition(" has two owners")[0] for one in book.violations("two owners")} == doubled


def test_a_release_that_has_begun_ends_the_ownership() -> None:
    """Between the start of a release and its answer the address may be somebody else's."""
    book = Book()
    book.allocate("a", "10.1.1.3", 1)
    release = book.begin("release", "a")
    book.allocate("b", "10.1.1.3", 2)
    book.told(release)
    assert book.violations() == []


@pytest.mark.parametrize("code", ["service_unavailable", "dhcpd_unavailable", "registry_unavailable"])
def test_a_release_without_an_answer_is_unsure(code: str) -> None:
    """Neither held nor gone, until it is asked again."""
    book = Book()
    book.allocate("a", "10.1.1.3", 1)
    book.failed(book.begin("release", "a"), code)
    assert book.fate("a") is Fate.UNSURE
    book.release("a")
    assert book.fate("a") is Fate.GONE


def test_asking_again_takes_nothing_away() -> None:
    """A held name stays held when a repeated allocation gets no answer."""
    book = Book()
    book.allocate("a", "10.1.1.3", 1)
    book.failed(book.begin("allocate", "a"), "dhcpd_unavailable")
    assert book.fate("a") is Fate.HELD


def test_what_was_refused_or_taken_back_is_gone_and_what_was_not_answered_is_unsure() -> None:
    """A full pool keeps nothing; a refusal of dhcpd keeps nothing only if it says so."""
    book = Book()
    book.failed(book.begin("allocate", "full"), "pool_exhausted")
    book.failed(
        book.begin("allocate", "back"), "dhcpd_refused", "No. Nothing was allocated; it is put aside."
    )
    book.failed(book.begin("allocate", "kept"), "dhcpd_refused", "No.")
    book.begin("allocate", "killed")
    assert [book.fate(one) for one in ("full", "back", "kept")] == [Fate.GONE, Fate.GONE, Fate.UNSURE]
    assert book.violations() == []


def test_a_generation_that_repeats_is_found() -> None:
    """Two names with one generation of one address, though one after the other."""
    book = Book()
    book.allocate("a", "10.1.1.3", 5)
    book.release("a")
    book.allocate("b", "10.1.1.3", 5)
    assert any("with one generation, 5" in one for one in book.violations())


def test_a_generation_that_falls_is_found() -> None:
    """A later allocation of an address has a higher generation."""
    book = Book()
    book.allocate("a", "10.1.1.3", 5)
    book.release("a")
    book.allocate("b", "10.1.1.3", 4)
    assert any("generation 4 after 5 of a" in one for one in book.violations())


def test_what_was_released_cannot_be_told_as_held_again() -> None:
    """The same name with the same generation, after its release was acknowledged."""
    book = Book()
    book.allocate("a", "10.1.1.3", 1)
    book.release("a")
    book.allocate("a", "10.1.1.3", 1)
    assert any("was released and is told as held again" in one for one in book.violations())


def test_a_held_name_that_changes_or_is_refused_is_found() -> None:
    """To ask again must find the same allocation."""
    book = Book()
    book.allocate("a", "10.1.1.3", 1)
    book.allocate("a", "10.1.1.4", 2)
    book.failed(book.begin("allocate", "a"), "pool_exhausted")
    assert len(book.violations()) == 2


@pytest.mark.parametrize("code", ["invariant_violation", "unexpected"])
def test_a_defect_is_a_violation(code: str) -> None:
    """An answer that no fault explains."""
    book = Book()
    book.failed(book.begin("allocate", "a"), code, "what")
    assert any("met a defect: what" in one for one in book.violations())


def test_a_domain_that_was_seen_must_be_released_by_itself() -> None:
    """After the destroy of a domain macbind knew, its name is gone; of one it never saw, nobody knows."""
    book = Book()
    for name, address in (("seen", "10.1.1.3"), ("unseen", "10.1.1.4")):
        book.allocate(name, address, 1)
    book.claimed("seen")
    for name in ("seen", "unseen"):
        book.told(book.begin("destroy", name))
    history = History(book.entries)
    assert history.names["seen"].fate is Fate.GONE
    assert history.names["seen"].by_itself
    assert history.names["unseen"].fate is Fate.UNSURE


def test_a_machine_may_have_a_second_life() -> None:
    """Its name is allocated again; what was known of its first domain says nothing of the second."""
    book = Book()
    book.allocate("a", "10.1.1.3", 1)
    book.claimed("a")
    book.told(book.begin("destroy", "a"))
    book.allocate("a", "10.1.1.3", 2)
    history = History(book.entries)
    assert history.violations == []
    one = history.names["a"]
    assert (one.fate, one.claimed, one.by_itself) == (Fate.HELD, False, False)


@pytest.mark.parametrize("kind", sorted(RISKS))
def test_what_is_done_to_a_machine_changes_nothing_unless_it_fails(kind: str) -> None:
    """Saved, restored and rebooted machines are held all the time; after a failure nobody knows since it began."""
    book = Book()
    book.allocate("a", "10.1.1.3", 1)
    book.told(book.begin(kind, "a"))
    assert book.fate("a") is Fate.HELD
    number = book.begin(kind, "a")
    book.allocate("b", "10.1.1.3", 2)
    assert "two owners" in str(book.violations())
    book.failed(number, "libvirt")
    assert book.fate("a") is Fate.UNSURE
    assert book.violations() == []


PASSED_OVER = "a stranger is passed over"


def test_what_a_stranger_uses_all_the_time_must_not_be_handed_out() -> None:
    """From before it is asked for until after it is acknowledged, whatever was asked for and not answered between."""
    book = Book()
    book.there("s", "10.1.6.3", "10.1.6.4")
    book.failed(book.begin("allocate", "a"), "service_unavailable")
    book.allocate("a", "10.1.6.4", 1)
    book.gone("s")
    (found,) = book.violations(PASSED_OVER)
    assert "10.1.6.4 was handed out to a, while a stranger, s, used it" in found


@pytest.mark.parametrize("is_late", [True, False], ids=["it comes too late", "it goes too early"])
def test_a_stranger_who_was_not_there_all_the_time_proves_nothing(is_late: bool) -> None:
    """One that comes after the question may answer too late, and one that goes before the answer too early."""
    book = Book()
    if not is_late:
        book.there("s", "10.1.6.3")
    number = book.begin("allocate", "a")
    if is_late:
        book.there("s", "10.1.6.3")
    else:
        book.gone("s")
    book.told(number, ("a", "10.1.6.3", 1))
    book.gone("s")
    assert book.violations() == []


def test_what_was_held_before_a_stranger_came_is_no_fault() -> None:
    """To ask again for what is held is told the same; and another address may be handed out, which is counted."""
    book = Book()
    book.allocate("a", "10.1.6.3", 1)
    book.there("s", "10.1.6.3")
    book.allocate("a", "10.1.6.3", 1)
    book.allocate("b", "10.1.6.4", 1)
    history = History(book.entries)
    assert history.violations == []
    assert [one.chances for one in history.presences] == [1]


def test_a_presence_may_end_before_its_end_was_noticed() -> None:
    """A foreign host counts until it was last known that nothing had touched dhcpd."""
    book = Book()
    book.there("printer", "10.1.6.3")
    book.allocate("a", "10.1.6.3", 1)
    book.gone("printer", until=1.5)
    assert book.violations() == []


def test_after_an_older_registry_everything_begins_anew() -> None:
    """What was held is gone, generations begin anew, and a name that always stays is held."""
    book = Book()
    book.allocate(f"{CROWD}-1", "10.2.0.3", 1)
    book.allocate("a", "10.1.1.3", 5)
    book.there("s", "10.1.1.4")
    book.anew()
    book.allocate("b", "10.1.1.3", 2)
    book.allocate("c", "10.1.1.4", 2)
    assert book.violations() == []
    assert [book.fate(one) for one in (f"{CROWD}-1", "a", "b")] == [Fate.HELD, Fate.GONE, Fate.HELD]


@pytest.mark.parametrize("faults", [("registry",), ("registry", "libvirtd")])
def test_troubles_are_odd_while_a_fault_is_there(tmp_path: Path, faults: tuple[str, ...]) -> None:
    """Whoever finds the same even number before and after knows that there was none."""
    control = Control(tmp_path / "control")
    seen = [control.troubles]
    for begins in (True, False):
        for _ in faults:
            control.trouble(begins=begins)
            seen.append(control.troubles)
    assert len(set(seen)) == len(seen)
    assert [one % 2 for one in seen] == [0, *[1] * (len(seen) - 2), 0]


@pytest.mark.parametrize("kind", SITES, ids=lambda kind: kind.name)
def test_the_same_seed_draws_the_same_faults(kind: Any) -> None:
    """A schedule follows from seed, site and round alone, and differs between seeds and rounds."""
    first = draw(kind, 1, 1, 30.0)
    assert first == draw(kind, 1, 1, 30.0)
    assert first != draw(kind, 2, 1, 30.0)
    assert first != draw(kind, 1, 2, 30.0)


@pytest.mark.parametrize("kind", SITES, ids=lambda kind: kind.name)
def test_every_round_ends_in_a_calm(kind: Any) -> None:
    """Every fault is drawn to be over before the last part of a round, in which nothing but work goes on."""
    slots = [slot for seed in range(20) for slot in draw(kind, seed, 1, 10.0)]
    assert slots
    assert all(slot.begins < slot.ends <= 10.0 * STORM or slot.begins == slot.ends for slot in slots)


def test_a_torn_lease_file_has_no_whole_record_under_a_name_that_nobody_gave() -> None:
    """A piece is gone, wherever it may have been, but no host is left with a part of its name alone missing."""
    record = "host macbind-10.1.1.{0}-g1250 {{\n  dynamic;\n  fixed-address 10.1.1.{0};\n}}\n"
    hosts = "".join(record.format(number) for number in range(3, 30))
    content = f"{hosts}host printer-1 {{\n  dynamic;\n}}\n{hosts}".encode()
    torn = [cut(content, random.Random(seed)) for seed in range(300)]
    assert len({content[: len(one)] != one for one in torn}) == 2  # in the middle, and at the end
    for one in torn:
        assert len(content) - 60 <= len(one) <= len(content)
        heads = [words for line in one.decode().splitlines() if len(words := line.split()) == 3]
        names = [name for word, name, end in heads if (word, end) == ("host", "{")]
        assert all(owner_of(name) for name in names if name != "printer-1")


def test_pieces_are_tiny_and_follow_from_the_seed() -> None:
    """Every size is drawn to be each of the tiny ones, at some start."""
    drawn = [pieces.draw(7, "sqlite", start) for start in range(1, 101)]
    assert drawn == [pieces.draw(7, "sqlite", start) for start in range(1, 101)]
    assert drawn != [pieces.draw(8, "sqlite", start) for start in range(1, 101)]
    for field in fields(Sizes):
        assert {one[field.name] for one in drawn if field.name in one} == set(pieces.TINY)


@pytest.mark.parametrize("kind", SITES[:2], ids=lambda kind: kind.name)
def test_every_database_has_a_crowd_with_one_seed_and_tiny_pieces_with_the_next(kind: Any) -> None:
    """Never both and never neither, and what comes after a crowd is tiny."""
    dressed = [dress(kind, number) for number in range(4)]
    assert [one.crowd for one in dressed] == [True, False, True, False]
    assert [one.tiny for one in dressed] == [False, True, False, True]


def test_the_crowd_is_larger_than_any_usual_piece_of_the_comparison() -> None:
    """Those that stay fill more than three slices, and each slice of them has holes in which others come and go."""
    everyone, size = addresses(CROWD), Sizes().slice
    assert len(everyone) - len(everyone[HOLES]) > 3 * size
    for start in range(0, len(everyone), size):
        assert set(everyone[start : start + size]) & set(everyone[HOLES])


def test_every_step_is_in_the_product() -> None:
    """All seams exist, and every step has its own name in each kind of registry."""
    for step in STEPS:
        resolve(step.target)
    for registry in ("sqlite", "postgresql"):
        names = [step.name for step in STEPS if step.registry in ("", registry)]
        assert len(names) == len(set(names))


@pytest.mark.parametrize(
    "target",
    ["macbind.engine.dhcp_writer:DhcpWriter.gone", "macbind.gone:x", "macbind.engine.dhcp_writer:Gone.apply"],
)
def test_a_seam_that_is_gone_is_no_silent_matter(target: str) -> None:
    """To wrap what is not there fails at once, with its name."""
    with pytest.raises(MissingSeam, match=target):
        replace(target, lambda original: original)


A, B = sql.Bound("10.2.0.3", "00:16:3e:02:00:03", 4, "a"), sql.Bound("10.2.0.4", "00:16:3e:02:00:04", 4, "b")


def moment(epoch: int = 6, since: str | None = "noon", *bound: sql.Bound) -> Moment:
    """A moment at which everything is well, unless it is said otherwise."""
    return Moment(epoch, since, {one.address: one for one in bound})


def test_a_look_in_a_calm_proves_something() -> None:
    """macbind has confirmed a change in this epoch, and serves before and after since the same moment."""
    assert proves(6, moment(), moment())


@pytest.mark.parametrize(
    ("proven", "before", "after"),
    [
        pytest.param(4, moment(), moment(), id="macbind has not spoken with this dhcpd yet"),
        pytest.param(6, moment(), moment(epoch=7), id="a fault began"),
        pytest.param(6, moment(), moment(epoch=8), id="a fault came and went"),
        pytest.param(7, moment(epoch=7), moment(epoch=7), id="a fault is there"),
        pytest.param(6, moment(since=None), moment(), id="macbind did not serve before"),
        pytest.param(6, moment(), moment(since=None), id="macbind does not serve after"),
        pytest.param(6, moment(since=None), moment(since=None), id="macbind does not serve at all"),
        pytest.param(6, moment(), moment(since="one"), id="macbind stopped serving and serves again"),
    ],
)
def test_a_look_in_a_storm_proves_nothing(proven: int, before: Moment, after: Moment) -> None:
    """Whatever is missing then may be missing with right."""
    assert not proves(proven, before, after)


@pytest.mark.parametrize(
    "after",
    [
        pytest.param((), id="released, or in doubt"),
        pytest.param((dataclasses.replace(A, generation=5),), id="released and taken again"),
        pytest.param((dataclasses.replace(A, name="c"),), id="another's now"),
        pytest.param((B,), id="another one was confirmed"),
    ],
)
def test_what_did_not_stay_bound_is_not_judged(after: tuple[sql.Bound, ...]) -> None:
    """Only the same allocation before and after has to be served between the two."""
    assert stayed(moment(6, "noon", A), moment(6, "noon", *after), [A.address]) == []
    assert stayed(moment(6, "noon", A), moment(6, "noon", A, *after[1:]), [A.address]) == [A]


class World:
    """One address, one dhcpd and an honest macbind; each step of the lookout is one event among all the others."""

    def __init__(self) -> None:
        self.epoch, self.proven = 0, -1
        self.host: int | None = 1  # the generation that dhcpd serves
        self.lives: int | None = 1  # the one that the registry has, and the one it has as confirmed
        self.told: int | None = 1
        self.spoken_with: int | None = 0  # the epoch of the dhcpd that macbind is connected to
        self.since: int | None = 0
        self.newest, self.moments = 1, 0
        self.read: list[Any] = []
        self.missed: list[int] = []

    def breaks(self) -> None:
        """dhcpd is killed, and forgets."""
        self.epoch, self.host = self.epoch | 1, None

    def mends(self) -> None:
        """dhcpd runs again."""
        self.epoch += self.epoch % 2

    def notices(self) -> None:
        """macbind learns that the dhcpd it is connected to has gone, or is itself started anew."""
        self.spoken_with = self.since = None

    def connects(self) -> None:
        """macbind connects to the dhcpd that runs; it compares from now on, and does what is due meanwhile."""
        if self.spoken_with is None and self.epoch % 2 == 0:
            self.spoken_with = self.epoch

    def serves(self) -> None:
        """The comparison after a connection is over: what is missing is no longer confirmed."""
        if self.is_connected() and self.since is None:
            self.told = self.told if self.told == self.host else None
            self.moments += 1
            self.since = self.moments

    def is_connected(self) -> bool:
        """Whether what macbind says reaches dhcpd, and what it hears comes from there."""
        return self.spoken_with == self.epoch

    def allocates(self) -> None:
        """A free address is allocated under a new generation."""
        if self.lives is None:
            self.newest += 1
            self.lives = self.newest

    def releases(self) -> None:
        """What lives is released."""
        self.lives = None

    def drains(self) -> None:
        """dhcpd does what is due, and that is confirmed."""
        if self.is_connected() and self.told != self.lives:
            self.host = self.told = self.lives

    def looks(self) -> None:
        """The lookout takes its next step; before the first, macbind may confirm what it asks for."""
        parts = ("epoch", "since", "bound", "host", "bound", "since", "epoch")
        if not self.read and self.is_connected():
            self.proven = self.epoch
        part = parts[len(self.read)]
        bound = self.lives if self.lives == self.told else None
        self.read.append(bound if part == "bound" else getattr(self, part))
        if len(self.read) == len(parts):
            self.judges(*self.read)
            self.read = []

    def judges(self, *read: Any) -> None:
        """By the lookout's own rule."""
        first, since, bound, host, still, after, last = read

        def moment(epoch: int, since: int | None, generation: int | None) -> Moment:
            one = sql.Bound("10.2.0.3", "mac", generation, "a") if generation is not None else None
            return Moment(epoch, None if since is None else str(since), {one.address: one} if one else {})

        before, afterwards = moment(first, since, bound), moment(last, after, still)
        if before.bound and proves(self.proven, before, afterwards):
            self.missed += [
                one.generation for one in stayed(before, afterwards, before.bound) if one.generation != host
            ]


HONEST = ("breaks", "mends", "notices", "connects", "serves", "allocates", "releases", "drains")


HAPPENS = st.one_of(
    st.sampled_from(HONEST).map(lambda event: [event]), st.integers(1, 7).map(lambda steps: ["looks"] * steps)
)


@settings(max_examples=500)
@given(st.lists(HAPPENS, max_size=24).map(lambda parts: [event for part in parts for event in part]))
def test_no_false_alarm_whatever_happens_in_the_middle_of_a_look(events: list[str]) -> None:
    """An honest macbind is never blamed, whatever dhcpd loses, and whenever macbind notices it."""
    world = World()
    for event in events:
        getattr(world, event)()
    assert world.missed == []


def test_a_macbind_that_removes_what_is_bound_is_found() -> None:
    """In the same world, a host that vanishes while macbind serves is a miss in the next look."""
    world = World()
    world.looks()
    world.host = None
    for _ in range(7):
        world.looks()
    assert world.missed == [1]


def test_bound_is_what_every_dhcpd_has_confirmed(tmp_path: Path) -> None:
    """Not what is released, nor what one dhcpd has not confirmed, or confirmed under an older generation."""
    file = tmp_path / "registry.db"
    with closing(sqlite3.connect(file)) as db:
        db.executescript(
            """
            CREATE TABLE dhcpd (id INTEGER, name TEXT);
            CREATE TABLE confirmed (dhcpd_id INTEGER, ip INTEGER, gen INTEGER);
            CREATE TABLE allocation (ip INTEGER, mac INTEGER, gen INTEGER, name TEXT, free_at REAL);
            INSERT INTO dhcpd VALUES (1, 'one'), (2, 'two');
            INSERT INTO allocation VALUES (1, 17, 4, 'bound', NULL), (2, 18, 4, 'released', 9.0),
                (3, 19, 4, 'half', NULL), (4, 20, 4, 'older', NULL), (5, 21, 4, 'pending', NULL);
            INSERT INTO confirmed VALUES
                (1, 1, 4), (2, 1, 4), (1, 2, 4), (2, 2, 4), (1, 3, 4), (1, 4, 4), (2, 4, 3);
            """
        )
    with sql.connected(f"sqlite:///{file}") as ask:
        assert sql.bound(ask) == {"0.0.0.1": sql.Bound("0.0.0.1", "00:00:00:00:00:11", 4, "bound")}


def test_the_lowest_free_addresses_are_those_that_are_handed_out_next(tmp_path: Path) -> None:
    """Of one pool, from interval to interval, and no more than there are; each is in its pool."""
    file, (first, _) = tmp_path / "registry.db", RANGES["asked"]
    low = int(IPv4Address(first))
    with closing(sqlite3.connect(file)) as db:
        db.execute("CREATE TABLE pool (id INTEGER, name TEXT)")
        db.execute("CREATE TABLE free_extent (pool_id INTEGER, lo INTEGER, hi INTEGER)")
        db.executemany("INSERT INTO pool VALUES (?, ?)", [(1, "asked"), (2, "shared")])
        free = [(1, low + 5, low + 5), (1, low, low + 1), (2, 1, 9)]
        db.executemany("INSERT INTO free_extent VALUES (?, ?, ?)", free)
        db.commit()
    with sql.connected(f"sqlite:///{file}") as ask:
        assert sql.lowest_free(ask, "asked", 2) == addresses("asked")[:2]
        found = sql.lowest_free(ask, "asked", 9)
        assert found == [addresses("asked")[number] for number in (0, 1, 5)]
    assert {pool_of(one) for one in found} == {"asked"}
    assert pool_of("10.9.0.1") == ""


def test_a_miss_is_a_violation_and_what_is_served_or_undecided_is_only_counted() -> None:
    """What the lookout writes down: counts without a name, and each miss with its machine."""
    book = Book()
    book.allocate("a", "10.2.0.3", 1)
    book.looked(True, count=150)
    book.looked(None, count=20)
    assert book.violations() == []
    book.looked(False, name="a", address="10.2.0.3", seen="dhcpd has None")
    assert book.violations("served all the time") == ["served all the time: dhcpd has None"]


def test_every_check_that_has_found_something_is_heard() -> None:
    """A bug that one check finds very often does not hide what others say of it; the first of each come first."""
    often = [Violation("held", f"held {number}") for number in range(30)]
    seldom = [Violation("two owners", f"two {number}") for number in range(3)]
    shown = choose([*often, *seldom], MOST)
    assert shown == [*often[: MOST - 3], *seldom]
    assert choose(seldom, MOST) == seldom
    many = [Violation(f"check {number}", "what") for number in range(MOST + 5)]
    assert choose([*many, *often], MOST) == [*many, often[0]]


def test_report_counts_by_check(capsys: pytest.CaptureFixture[str]) -> None:
    """How many violations each check has found, some of each with its name, how many are not shown, and all."""
    found = [*[Violation("held", "x holds")] * 12, Violation("two owners", "10.1.1.3 has two owners")]
    print_report(Report(7, violations=found))
    told = capsys.readouterr().out.splitlines()
    table = told[told.index(f"{'violations found by the check':<42} {'times':>9}") + 1 :]
    assert [line.split() for line in table[:2]] == [["held", "12"], ["two", "owners", "1"]]
    assert f"VIOLATION {MOST} (two owners): 10.1.1.3 has two owners" in told
    assert told[-3:] == ["… and 3 more", "", "violations  13"]


def calls(took_s: float, begins: float, count: int, worker: str = "w0") -> list[Entry]:
    """So many calls of a worker that took so long, one after the other."""
    made: list[Entry] = []
    for number in range(count):
        about = {"w": worker, "op": int(begins) + number}
        made.append({"t": begins + number, "e": "start", "kind": "allocate", "names": ["x"], **about})
        made.append({"t": begins + number + took_s, "e": "ok", **about})
    return made


def test_what_attackers_cost_is_measured_in_the_same_run() -> None:
    """Medians of rounds without and with attackers are compared; twice as long is allowed, more is a violation."""
    windows = [Window(0.0, 500.0, attacked=False), Window(1000.0, 1500.0, attacked=True)]
    for took_s, expected in ((0.019, 0), (0.021, 1)):
        entries = [*calls(0.01, 0.0, ENOUGH), *calls(took_s, 1000.0, ENOUGH)]
        found = measure("sqlite", entries, windows)
        assert found.calls == (ENOUGH, ENOUGH)
        assert len(found.violations()) == expected
    assert "sqlite: a call took 21.0 ms with attackers, 10.0 ms without" in found.violations()[0].what


def test_few_calls_prove_nothing_about_attackers() -> None:
    """Neither do those of other processes, or between the rounds."""
    windows = [Window(0.0, 500.0, attacked=False), Window(1000.0, 1500.0, attacked=True)]
    entries = [
        *calls(0.01, 0.0, ENOUGH),
        *calls(0.5, 1000.0, ENOUGH - 1),
        *calls(0.5, 1200.0, ENOUGH, "vm"),
        *calls(0.5, 600.0, ENOUGH, "w1"),
    ]
    found = measure("sqlite", entries, windows)
    assert found.calls == (ENOUGH, ENOUGH - 1)
    assert found.violations() == []


def test_attackers_are_told_when_it_is_their_turn(tmp_path: Path) -> None:
    """The page of memory says so to every process."""
    harness, attacker = Control(tmp_path / "control"), Control(tmp_path / "control")
    assert not attacker.attacked
    harness.attacked = True
    assert attacker.attacked
