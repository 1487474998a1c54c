"""What a process takes of the machine, as the kernel counts it."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Self


@dataclass(frozen=True)
class Usage:
    """Open files, threads, bytes of memory, and the most it was since :func:`forget_peak`."""

    files: int
    threads: int
    memory: int
    peak: int

    @classmethod
    def of(cls, pid: int) -> Self:
        """What a process takes now."""
        place = Path(f"/proc/{pid}")
        status = (place / "status").read_text()
        memory, peak = (
            int(kib) << 10
            for name in ("VmRSS", "VmHWM")
            for kib in re.findall(rf"{name}:\s+(\d+) kB", status)
        )
        files, threads = (len(list((place / name).iterdir())) for name in ("fd", "task"))
        return cls(files, threads, memory, peak)


def forget_peak(pid: int) -> None:
    """Begins to measure the peak of a process's memory anew (proc(5), clear_refs)."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")
