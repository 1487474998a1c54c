"""How much of the processors a process gets beside others."""

import os
from pathlib import Path


def set_nice(pid: int, nice: int) -> None:
    """Lets a process that leads a session go before others, or give way to them: -20 to 19, as nice(1) has it.

    The kernel shares processors among sessions before it looks at processes (sched(7), autogroup). Each process that
    the laboratory starts leads one, so its own nice value alone changes nothing.
    """
    os.setpriority(os.PRIO_PROCESS, pid, nice)
    of_session = Path(f"/proc/{pid}/autogroup")
    if of_session.exists():  # the kernel may be built without
        of_session.write_text(str(nice))
