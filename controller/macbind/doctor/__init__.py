"""``macbind doctor``: named checks of everything that macbind rests on, with the commands that mend what they find.

A check needs no service: with the service down it looks itself, with the functions that the service uses. With the
service up, what the service has found is a part of the result.
"""

from __future__ import annotations

from macbind.doctor.check import Check, Need, Result, State
from macbind.doctor.checks import CHECKS, chosen
from macbind.doctor.run import before_start, exit_code, missing, run
from macbind.doctor.site import Site

__all__ = [
    "CHECKS",
    "Check",
    "Need",
    "Result",
    "Site",
    "State",
    "before_start",
    "chosen",
    "exit_code",
    "missing",
    "run",
]
