"""`python -m audit`: status 1 if a pinned version has a known fault; with `--release` also if the list is old."""

import argparse
import sys
from collections.abc import Sequence
from datetime import UTC, datetime

from audit import LIST, OLD_DAYS, PINS, ROOT, Advisories, audit, pinned


def main(arguments: Sequence[str] | None = None) -> int:
    """Compares the files of constraints with the list."""
    parser = argparse.ArgumentParser(prog="audit", description="Known faults of what we depend on.")
    parser.add_argument("--release", action="store_true", help="an old list is an error, too")
    options = parser.parse_args(arguments)
    known = Advisories.from_json(LIST.read_text(encoding="utf-8"))
    pins = {path: pinned((ROOT / path).read_text(encoding="utf-8")) for path in PINS}
    faults = audit(known, pins)
    days = known.age_days(datetime.now(UTC).date())
    if days > OLD_DAYS:
        said = f"{LIST.relative_to(ROOT)}: last looked at {days} days ago. Look again, at most every {OLD_DAYS} days."
        if options.release:
            faults.append(said)
        else:
            print(f"warning: {said}", file=sys.stderr)
    print("\n".join(faults), end="\n" if faults else "", file=sys.stderr)
    count = sum(map(len, known.packages.values()))
    print(
        f"audit: {len(known.packages)} packages, {count} advisories known on {known.looked_at}, {len(faults)} faults"
    )
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
