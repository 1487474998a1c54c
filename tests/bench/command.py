"""How long the command line takes to start."""

import os
import subprocess
import sys

from bench.rows import By, Result, Row, at_most
from bench.sites import open_farm, timed


def measure(*, quick: bool) -> Result:
    """`macbind` against a Python that does nothing."""
    rounds = 5 if quick else 15
    with open_farm() as farm:
        environment = {**os.environ, "MACBIND_SOCKET": str(farm.socket)}
        commands = {"`macbind --help`": [*farm.command, "--help"], "`macbind list`": [*farm.command, "list"]}
        rows = {
            what: Row(what, "`python -c pass`", "s", at_most(0.25, "s more"), by=By.EXCESS)
            for what in commands
        }

        def run(command: list[str]) -> float:
            return timed(subprocess.run, command, env=environment, capture_output=True, check=True)

        for _ in range(rounds):
            for what, command in commands.items():
                rows[what].base.append(run([sys.executable, "-c", "pass"]))
                rows[what].ours.append(run(command))
    return Result(list(rows.values()))
