"""What callers asked and were told: append-only files, one JSON line per event, times of CLOCK_MONOTONIC."""

import json
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

Entry = dict[str, Any]
"""One line: `t` when, `w` which worker, `op` its operation, `e` what happened, and what belongs to it."""


class Journal:
    """Writes one worker's journal. Each line is one write(2): whoever dies, the lines before are whole."""

    def __init__(self, path: Path, worker: str) -> None:
        self._worker = worker
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def write(self, event: str, op: int, **fields: Any) -> None:
        """Appends a line."""
        entry = {"t": time.monotonic(), "w": self._worker, "op": op, "e": event, **fields}
        os.write(self._fd, (json.dumps(entry) + "\n").encode())


def read(paths: Iterable[Path]) -> list[Entry]:
    """The lines of several journals in the order of time; a torn last line is none."""
    lines = [line for path in paths for line in path.read_text().splitlines(keepends=True)]
    entries: list[Entry] = [json.loads(line) for line in lines if line.endswith("\n")]
    return sorted(entries, key=lambda entry: float(entry["t"]))
