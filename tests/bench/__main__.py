"""`python -m bench`: measures, prints the table, and keeps it with its figures."""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path

from bench import report
from bench.rows import Result

GROUPS = {
    "single": "allocating one by one",
    "crowd": "32 clients",
    "batch": "10,000 in one batch",
    "peers": "against other ways",
    "registry": "the registry in pools of every size",
    "growth": "from 100 to 100,000 machines",
    "load": "DHCP while the writer runs flat out",
    "destroy": "destroyed machines",
    "several": "several controllers",
    "farm": "a farm of a million machines",
    "static": "rendering a static pool",
    "command": "the start of the command line",
}
"""The modules, in the order of the table, and what their rows are about."""

_REPOSITORY = Path(__file__).parents[2]
README = _REPOSITORY / "README.md"
PERFORMANCE = _REPOSITORY / "controller" / "docs" / "inside" / "performance.md"
RESULTS = Path(__file__).with_name("results")
_PARTIAL = _REPOSITORY / ".cache" / "bench"
"""Results that are quick or incomplete never replace the ones that are shown."""


def _measure_of(name: str) -> Callable[..., Result]:
    """How to measure a group; what it needs is imported only now, so that what is missing fails that group."""
    measure: Callable[..., Result] = import_module(f"bench.{name}").measure
    return measure


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures; returns 0 when every row could be measured, whatever it says."""
    options = _options(arguments)
    results, failures = measure_all(options.only or list(GROUPS), quick=options.quick)
    is_complete = not (options.quick or options.only or failures)
    rows = [row for result in results for row in result.rows]
    verdict, status = report.outcome(rows, failures)
    print(f"\n{report.table(rows)}\n\n{verdict}")
    head = report.circumstances("QUICK=1" if options.quick else "all rounds")
    _keep(options.output or (RESULTS if is_complete else _PARTIAL), results, head, verdict)
    if is_complete and options.output is None:
        README.write_text(report.replace_between(README.read_text(), report.headlines(rows)))
        table = report.table([row for row in rows if not row.detail])
        PERFORMANCE.write_text(report.replace_between(PERFORMANCE.read_text(), f"{head}\n\n{table}"))
    return status


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Measure against baselines in the same run. Exit status 1: a row could not be measured.",
    )
    parser.add_argument("--quick", action="store_true", help="fewer rounds and smaller sizes, the same rows")
    parser.add_argument("--only", action="append", choices=GROUPS, help="only this group; may be repeated")
    parser.add_argument("--output", type=Path, help="where table and figures go")
    return parser.parse_args(arguments)


def measure_all(
    chosen: Sequence[str], *, quick: bool, find: Callable[[str], Callable[..., Result]] = _measure_of
) -> tuple[list[Result], dict[str, str]]:
    """Measures every group, also after one that failed; and says why those that failed did."""
    results: list[Result] = []
    failures: dict[str, str] = {}
    for name in chosen:
        print(f"{name}: {GROUPS[name]} ...", end=" ", file=sys.stderr, flush=True)
        started = time.monotonic()
        try:
            results.append(find(name)(quick=quick))
            print(f"{time.monotonic() - started:.0f} s", file=sys.stderr)
        except Exception as error:  # noqa: BLE001  # the other rows are measured all the same
            failures[f"{name} ({GROUPS[name]})"] = f"{type(error).__name__}: {error}"
            print("failed", file=sys.stderr)
    return results, failures


def _keep(where: Path, results: Sequence[Result], head: str, verdict: str) -> None:
    where.mkdir(parents=True, exist_ok=True)
    figures = {name: draw for result in results for name, draw in result.figures.items()}
    for name, draw in figures.items():
        draw(where / f"{name}.png")
    rows = [row for result in results for row in result.rows]
    parts = ["# Measured", head, report.table(rows), verdict, *(f"![{name}]({name}.png)" for name in figures)]
    (where / "README.md").write_text("\n\n".join(parts) + "\n")


if __name__ == "__main__":
    sys.exit(main())
