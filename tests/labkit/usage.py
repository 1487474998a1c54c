"""What a process takes of the machine, as the kernel counts it."""

import os
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


def processor_s(pid: int) -> float:
    """The processor time that a process has taken, in seconds: what else the machine does is no part of it."""
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def forget_peak(pid: int) -> None:
    """Begins to measure the peak of a process's memory anew (proc(5), clear_refs)."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def exact_processor_s(pid: int) -> float:
    """The same for a process whose threads all live on, to the nanosecond (proc(5), schedstat)."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9
