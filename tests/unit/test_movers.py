"""Whose a move is: processes, told apart and asked whether they live."""

import os
import subprocess
import sys
from pathlib import Path

from macbind.service.peer import Peer

BOOT = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def test_a_process_that_has_ended_is_known_to() -> None:
    """One that lives is not, nor is one of another user, of another host, or one that cannot be seen from here."""
    mover = Peer(os.getpid(), os.getuid(), os.getgid()).mover
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        other = Peer(process.pid, 0, 0).mover
        assert other.key != mover.key
        assert BOOT in other.key
        assert not mover.has_ended(other.key)
        process.communicate(b"\n")
    assert mover.has_ended(other.key)
    assert not mover.has_ended(mover.key)
    assert not mover.has_ended(Peer(1, 0, 0).mover.key)
    assert not mover.has_ended(other.key.replace(BOOT, "another-boot"))
    assert not mover.has_ended(Peer(0, 0, 0).mover.key)
