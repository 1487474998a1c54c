"""`macbind serve` as the harness starts it: with steps to die at, and with a planted bug if one is asked for."""

import os
from pathlib import Path

from chaos import plants, seams
from chaos.control import Arm


def main(place: str, registry: str, plant: str, go: str) -> None:
    """Runs macbind's command line, prepared.

    Args:
        place: Directory with the armed step, and for the list of steps at which it died.
        registry: The kind of registry: sqlite or postgresql.
        plant: The bug to plant; empty for none.
        go: A pipe to wait at when everything is imported, which takes a second, until somebody opens it.
    """
    from macbind.cli import main as macbind

    arm = Arm(Path(place) / "armed")
    hits = os.open(Path(place) / "hits", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def reached(step: str) -> None:
        if arm.step == step:
            arm.step = ""
            os.write(hits, f"{step}\n".encode())
            seams.kill_self()

    seams.install(registry, reached)
    if plant:
        plants.PLANTS[plant].plant()
    Path(go).read_bytes()
    macbind()
