"""Why names cannot be written just now: for an admin, and for no caller."""

from __future__ import annotations

from macbind.core.findings import Finding


class Trouble(Exception):
    """Names cannot be written now, or not all of them.

    Args:
        finding: Why, and what mends it.
    """

    def __init__(self, finding: Finding) -> None:
        super().__init__(str(finding))
        self.finding = finding


class Contested(Trouble):
    """Somebody else has changed the same names since they were compared; nothing was written."""
