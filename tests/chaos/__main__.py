"""`python -m chaos`: rounds of work and faults until time is over; status 1 after any violation."""

import argparse
import random
import shutil
import signal
import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from chaos.campaign import ORDER, ROUND_S, Campaign, Report
from chaos.plants import PLANTS

_MOST = 10
"""Violations printed in full."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a campaign and prints its report."""
    parser = argparse.ArgumentParser(prog="make chaos", description="Pull every plug; nothing may be lost.")
    parser.add_argument("--seconds", type=float, default=300.0, help="how long it may take")
    parser.add_argument("--seed", type=int, default=None, help="the same plugs and choices again")
    parser.add_argument("--plant", choices=sorted(PLANTS), default="", help="a bug that must be found")
    parser.add_argument("--round", type=float, default=ROUND_S, help="how long one round works, in seconds")
    parser.add_argument("--rounds", type=int, default=1, help="at least so many, however long they take")
    parser.add_argument(
        "--sites", default="", help="the order of sites, e.g. 0,1: sqlite, postgresql, clocks"
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
            round_s=options.round,
            least=options.rounds,
            place=place,
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
    steps = sorted((name, report.hits[name]) for name in report.steps)
    _table("died at step", steps)
    checks: defaultdict[str, dict[str, int]] = defaultdict(dict)
    for (what, how), count in report.checks.items():
        checks[what][how] = count
    print(f"\n{'checks':<42} {'decided':>9} {'undecided':>9}")
    for what, by in sorted(checks.items()):
        print(f"  {what:<40} {by.get('decided', 0):>9} {by.get('undecided', 0):>9}")
    for number, violation in enumerate(report.violations[:_MOST], 1):
        print(f"\nVIOLATION {number}: {violation.what}")
        for line in violation.lines:
            print(f"  {line}")
    if len(report.violations) > _MOST:
        print(f"\n… and {len(report.violations) - _MOST} more")
    print(f"\nviolations  {len(report.violations)}")


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
