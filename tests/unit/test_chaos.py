"""What the fault suite's own judge makes of journals; its schedule; its table of seams."""

from itertools import count
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chaos.__main__ import MOST, choose, print_report
from chaos.campaign import SITES, Report
from chaos.history import Fate, History, Violation
from chaos.journal import Entry
from chaos.schedule import draw
from chaos.seams import STEPS, MissingSeam, replace, resolve


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


def moving(book: Book) -> None:
    """`a` has one address and is moving to another."""
    book.allocate("a", "10.1.1.3", 1)
    book.told(book.begin("move", "a>"), ("a>", "10.1.1.4", 2))


def test_a_name_on_its_way_owns_both_addresses() -> None:
    """What it is moving to is nobody else's, as is what it leaves."""
    book = Book()
    moving(book)
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
def test_the_end_of_a_move_leaves_what_it_should(
    kind: str, names: list[str], made: list[tuple[str, str, int]], held: str | None
) -> None:
    """One of the two addresses, or none; while it is not known, neither is certain that may be gone."""
    book = Book()
    moving(book)
    number = book.begin(kind, *names)
    assert {book.fate(name) for name in names} == {Fate.UNSURE}
    book.told(number, *made)
    assert book.violations() == []
    history = History(book.entries)
    assert set(history.held()) == ({held} if held else set())
    assert {one.address for one in history.released()} == {"10.1.1.3", "10.1.1.4"} - {held}


def test_a_name_that_arrives_elsewhere_is_found() -> None:
    """It is told another address or generation than what it was moving to."""
    book = Book()
    moving(book)
    book.told(book.begin("finish", "a", "a>"), ("a", "10.1.1.4", 3))
    assert "it was moving to" in book.violations("answers")[0]


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


@pytest.mark.parametrize("kind", SITES, ids=lambda kind: kind.name)
def test_the_same_seed_draws_the_same_faults(kind: Any) -> None:
    """A schedule follows from seed, site and round alone, and differs between seeds and rounds."""
    first = draw(kind, 1, 1, 30.0)
    assert first == draw(kind, 1, 1, 30.0)
    assert first != draw(kind, 2, 1, 30.0)
    assert first != draw(kind, 1, 2, 30.0)


def test_every_step_is_in_the_product() -> None:
    """All seams exist, and every step has its own name in each kind of registry."""
    for step in STEPS:
        resolve(step.target)
    for registry in ("sqlite", "postgresql"):
        names = [step.name for step in STEPS if step.registry in ("", registry)]
        assert len(names) == len(set(names))


@pytest.mark.parametrize(
    "target", ["macbind.writer:Writer.gone", "macbind.gone:x", "macbind.writer:Gone.apply"]
)
def test_a_seam_that_is_gone_is_no_silent_matter(target: str) -> None:
    """To wrap what is not there fails at once, with its name."""
    with pytest.raises(MissingSeam, match=target):
        replace(target, lambda original: original)


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
