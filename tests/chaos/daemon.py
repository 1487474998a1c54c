"""`macbind serve` as the harness starts it: with steps to die at, pieces of any size, and a bug if one is planted."""

import json
import os
from pathlib import Path
from typing import Any

from chaos import plants, seams
from chaos.control import Arm


def main(place: str, registry: str, plant: str, pieces: str, go: str) -> None:
    """Runs macbind's command line, prepared.

    Args:
        place: Directory with the armed step, and for the list of steps at which it died.
        registry: The kind of registry: sqlite or postgresql.
        plant: The bug to plant; empty for none.
        pieces: The sizes of pieces that are not the usual ones, as JSON.
        go: A pipe to wait at when everything is imported, which takes a second, until somebody opens it.
    """
    from macbind.cli import main as macbind
    from macbind.core.sizes import Sizes

    sizes = Sizes(**json.loads(pieces))

    def cut(original: Any) -> Any:
        return lambda self, settings, _=None, **how: original(self, settings, sizes, **how)

    arm = Arm(Path(place) / "armed")
    hits = os.open(Path(place) / "hits", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def reached(step: str) -> None:
        if arm.step == step:
            arm.step = ""
            os.write(hits, f"{step}\n".encode())
            seams.kill_self()

    # A machine that answered and has gone is passed over for seconds, not for minutes.
    owner, name, _ = seams.resolve("macbind.service.answers:EVERY_S")
    setattr(owner, name, 0.5)
    seams.replace("macbind.daemon.controller:Controller.__init__", cut)
    seams.install(registry, reached)
    if plant:
        plants.PLANTS[plant].plant()
    Path(go).read_bytes()
    macbind()
