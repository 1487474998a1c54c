"""What a process takes of the machine, as the kernel counts it."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Self


@dataclass(frozen=True)
class Usage:
    """Open files, threads, and bytes of memory."""

    files: int
    threads: int
    memory: int

    @classmethod
    def of(cls, pid: int) -> Self:
        """What a process takes now."""
        place = Path(f"/proc/{pid}")
        resident = re.search(r"VmRSS:\s+(\d+) kB", (place / "status").read_text())
        assert resident
        files, threads = (len(list((place / name).iterdir())) for name in ("fd", "task"))
        return cls(files, threads, int(resident[1]) << 10)
