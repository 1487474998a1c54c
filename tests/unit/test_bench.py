"""The arithmetic of the benchmark: what a row says, when a target is met, and what the documents show."""

from ipaddress import IPv4Network
from pathlib import Path

import pytest

from bench import fill, report
from bench.__main__ import PERFORMANCE, README, measure_all
from bench.rows import TOLD, By, Result, Row, Target, at_least, at_most, p99
from contract.invariant import check_invariant
from macbind.core.address_plan import AddressPlan
from macbind.core.pool import Pool, Subnet
from macbind.registry.allocate import Wanted, allocate
from macbind.registry.pending_changes import backlog
from macbind.registry.store import Registry


def row(target: Target = TOLD, *, by: By = By.RATIO, detail: bool = False) -> Row:
    """Three rounds; the second one was disturbed."""
    return Row("what", "that", "ms", target, [2.0, 30.0, 4.0], [1.0, 3.0, 1.0], by, detail=detail)


def test_99_of_100_do_not_exceed_it() -> None:
    """The 99th percentile is a measured value: the 99th of 100, the largest of a few."""
    assert p99([float(value) for value in range(100, 0, -1)]) == 99
    assert p99([float(value) for value in range(200)]) == 197
    assert p99([3.0, 1.0, 2.0]) == 3
    assert p99([1.0]) == 1


def test_each_round_is_judged_by_itself() -> None:
    """The ratio is the median of the rounds' ratios, not the ratio of the medians."""
    assert row().judged == [2, 10, 4]
    assert row().value == 4
    assert row(by=By.EXCESS).judged == [1, 27, 3]
    assert row(by=By.OURS).value == 4


@pytest.mark.parametrize(
    ("target", "met"),
    [(at_most(4), True), (at_most(3.99), False), (at_least(4), True), (at_least(4.01), False), (TOLD, True)],
)
def test_a_limit_itself_is_allowed(target: Target, met: bool) -> None:
    """At most and at least include the limit; a row without one is never missed."""
    assert row(target).met is met


def test_what_was_not_measured_is_no_row() -> None:
    """A row without rounds, or with rounds of one side only, has no value."""
    with pytest.raises(ValueError, match="'what' has no value"):
        _ = Row("what", "that", "ms", TOLD).value
    with pytest.raises(ValueError, match="shorter"):
        _ = Row("what", "that", "ms", TOLD, [1.0, 2.0], [1.0]).value


def test_the_table_says_it_all() -> None:
    """A line has both values, the median with its spread, the target, and whether it is met."""
    assert report.table([row(at_most(3))]).splitlines()[-1] == (
        "| what | 4 ms | that | 1 ms | 4.00 (2.00-10.00) | ≤ 3 | **missed** |"
    )
    excess = report.table([row(at_most(3, "ms more"), by=By.EXCESS)]).splitlines()[-1]
    assert excess == "| what | 4 ms | that | 1 ms | +3 ms (+1 to +27) | ≤ 3 ms more | met |"
    told = report.table([Row("drops", "none", "", TOLD, [0.0], by=By.OURS)]).splitlines()[-1]
    assert told == "| drops | 0 | none |  | 0 (0-0) | - |  |"


def test_a_missed_target_is_told_and_a_missing_row_fails() -> None:
    """Only what could not be measured makes the exit status 1; both are named."""
    assert report.outcome([row(at_most(4)), row()], {}) == ("1 of 1 targets met.", 0)
    text, status = report.outcome([row(at_most(1))], {})
    assert (text, status) == ("0 of 1 targets met.\n- Missed: what, against that.", 0)
    text, status = report.outcome([row(at_most(4))], {"peers": "OSError: no dnsmasq"})
    assert (text, status) == ("1 of 1 targets met.\n- Not measured: peers: OSError: no dnsmasq", 1)


def test_one_group_that_fails_does_not_end_the_others() -> None:
    """What could not be measured is named with its reason; what comes after it is measured."""

    def broken(*, quick: bool) -> Result:
        raise OSError("no dnsmasq")

    def sound(*, quick: bool) -> Result:
        assert quick
        return Result([row()])

    results, failures = measure_all(
        ["peers", "load"], quick=True, find={"peers": broken, "load": sound}.__getitem__
    )
    assert [one.what for result in results for one in result.rows] == ["what"]
    assert failures == {"peers (against other ways)": "OSError: no dnsmasq"}


def test_only_what_is_between_the_comments_changes() -> None:
    """Text around them stays; written twice, the same comes out; without both of them nothing is written."""
    text = f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n"
    once = report.replace_between(text, "new\n")
    assert once == f"before\n{report.BEGIN}\n\nnew\n\n{report.END}\nafter\n"
    assert report.replace_between(once, "new") == once
    for broken in ("no comments", text + text, f"{report.END}{report.BEGIN}"):
        with pytest.raises(ValueError, match="once each"):
            report.replace_between(broken, "new")


@pytest.mark.parametrize("page", [README, PERFORMANCE], ids=lambda page: page.name)
def test_the_documents_have_a_place_for_the_table(page: Path) -> None:
    """`make bench` can write into them as they are."""
    assert "| new |" in report.replace_between(page.read_text(), "| new |")


def test_the_readme_shows_headlines() -> None:
    """The short table has the rows that are marked, with both values and no verdict."""
    shown = Row("this", "that", "ms", TOLD, [2.0], [1.0], headline=True)
    assert report.headlines([row(), shown]).splitlines()[2:] == ["| this | 2 ms | 1 ms: that |"]


@pytest.mark.parametrize(("count", "gap", "first"), [(0xFFFE, 2, 2), (100, 0, 101), (99, 16, 16)])
def test_a_registry_filled_around_the_product_is_sound(
    tmp_path: Path, count: int, gap: int, first: int
) -> None:
    """Extents and allocations tile the pool, all is bound, and the next address is the lowest hole."""
    network = IPv4Network("10.1.0.0/16")
    plan = AddressPlan.build(network, "00:16:3e")
    pools = {"farm": Pool("farm", plan, Subnet(network), ("main",))}
    url = f"sqlite:///{tmp_path / 'registry.db'}"
    fill.occupy(url, pools, "farm", count, gap=gap)
    check_invariant(url, pools)
    registry = Registry.open(url, pools, ["main"])
    with registry.write("test") as txn:
        assert backlog(txn, "main") == 0
        (one,) = allocate(txn, Wanted("farm", ("next",)))
    registry.close()
    assert int(one.address) - int(network[0]) == first
    check_invariant(url, pools)
