"""`python -m chaos`: rounds of work and faults until time is over; status 1 after any violation."""

import argparse
import random
import shutil
import signal
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import islice, zip_longest
from pathlib import Path

from chaos.campaign import ORDER, ROUND_S, Campaign, Report
from chaos.history import Violation
from chaos.latency import Latency
from chaos.plants import PLANTS

MOST = 10
"""Violations printed in full, unless more checks than that have found something: one of each always is."""

LINE = 300
"""Characters of a journal's line that are printed: that of a group of many names is long."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a campaign and prints its report."""
    parser = argparse.ArgumentParser(prog="make chaos", description="Pull every plug; nothing may be lost.")
    parser.add_argument("--seconds", type=float, default=300.0, help="how long it may take")
    parser.add_argument("--seed", type=int, default=None, help="the same plugs and choices again")
    parser.add_argument("--plant", choices=sorted(PLANTS), default="", help="a bug that must be found")
    parser.add_argument("--round", type=float, help="how long one round works, in seconds")
    parser.add_argument("--rounds", type=int, default=1, help="at least so many, however long they take")
    parser.add_argument(
        "--sites", default="", help="the order of sites, e.g. 0,1: sqlite, postgresql, clocks"
    )
    parser.add_argument(
        "--attackers", action="store_true", help="in every second round of a site some mean harm"
    )
    options = parser.parse_args(arguments)
    seed = random.SystemRandom().randrange(1_000_000) if options.seed is None else options.seed
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: sys.exit(128 + number))  # so that everything is taken down
    print(f"seed {seed}", flush=True)
    place = Path(tempfile.mkdtemp(prefix="chaos-"))
    place.chmod(0o755)
    order = [int(one) for one in options.sites.split(",")] if options.sites else ORDER
    if options.plant:
        order = [0]
    try:
        campaign = Campaign(
            seed,
            options.seconds,
            plant=options.plant,
            say=lambda line: print(line, flush=True),
            round_s=options.round or (PLANTS[options.plant].round_s if options.plant else ROUND_S),
            least=options.rounds,
            place=place,
            attackers=options.attackers,
        )
        report = campaign.run(order)
    except SystemExit:  # told to end
        shutil.rmtree(place)
        raise
    except BaseException:
        print(f"the harness failed with seed {seed}; kept: {place}", file=sys.stderr)
        raise
    print_report(report)
    if report.violations:
        print(f"kept: {place}")
    else:
        shutil.rmtree(place)
    print(f"seed {seed}")
    return 1 if report.violations else 0


def print_report(report: Report) -> None:
    """Prints what was done and what was found."""
    print(f"\nrounds      {', '.join(f'{count} {name}' for name, count in report.rounds.items())}")
    _print_operations(report)
    _table("faults", sorted(report.faults.items()))
    if report.attacks:
        _table("attacks", sorted(report.attacks.items()))
    _print_latencies(report.latencies)
    steps = sorted((name, report.hits[name]) for name in report.steps)
    _table("died at step", steps)
    checks: defaultdict[str, dict[str, int]] = defaultdict(dict)
    for (what, how), count in report.checks.items():
        checks[what][how] = count
    print(f"\n{'checks':<42} {'decided':>9} {'undecided':>9}")
    for what, by in sorted(checks.items()):
        print(f"  {what:<40} {by.get('decided', 0):>9} {by.get('undecided', 0):>9}")
    _print_violations(report.violations)


def _print_violations(violations: Sequence[Violation]) -> None:
    """How many each check has found, some of each in full, and the number of all."""
    if violations:
        _table("violations found by the check", list(Counter(one.check for one in violations).items()))
    shown = choose(violations, MOST)
    for number, violation in enumerate(shown, 1):
        print(f"\nVIOLATION {number} ({violation.check}): {violation.what}")
        for line in violation.lines:
            print(f"  {str(line)[:LINE]}")
    if len(violations) > len(shown):
        print(f"\n… and {len(violations) - len(shown)} more")
    print(f"\nviolations  {len(violations)}")


def choose(violations: Sequence[Violation], most: int) -> list[Violation]:
    """The first ones of every check, `most` in all or one of each: one bug is found by many checks, in many ways.

    They come check by check, in the order in which each check has found its first.
    """
    by_check: defaultdict[str, list[Violation]] = defaultdict(list)
    for one in violations:
        by_check[one.check].append(one)
    turns = (one for turn in zip_longest(*by_check.values()) for one in turn if one is not None)
    shown = Counter(one.check for one in islice(turns, max(most, len(by_check))))
    return [one for check, found in by_check.items() for one in found[: shown[check]]]


def _print_latencies(latencies: Sequence[Latency]) -> None:
    if latencies:
        print(
            f"\n{'a call of the others, median':<26} {'calls':>13} {'without':>11} {'attacked':>11} {'factor':>7}"
        )
    for one in latencies:
        without, attacked = (f"{1000 * each:.1f} ms" for each in one.medians_s)
        factor = f"{one.factor:.2f}" if one.is_decided else "-"
        calls = f"{one.calls[0]} + {one.calls[1]}"
        print(f"  {one.site:<24} {calls:>13} {without:>11} {attacked:>11} {factor:>7}")


def _print_operations(report: Report) -> None:
    kinds: defaultdict[str, dict[str, int]] = defaultdict(dict)
    for (kind, how), count in report.operations.items():
        kinds[kind][how] = count
    print(f"\n{'operations':<42} {'acked':>9}  otherwise")
    for kind, by in sorted(kinds.items()):
        rest = ", ".join(f"{count} {how}" for how, count in sorted(by.items()) if how != "acked")
        print(f"  {kind:<40} {by.get('acked', 0):>9}  {rest}")


def _table(title: str, rows: Sequence[tuple[str, int]]) -> None:
    print(f"\n{title:<42} {'times':>9}")
    for what, count in rows:
        print(f"  {what:<40} {count:>9}")


if __name__ == "__main__":
    sys.exit(main())
