"""A terminal with a command in it: what people see, and what they type."""

import codecs
import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

_CONTROL = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]|\x1b[=>()][0-9A-B]?|\x1b\][^\x07]*\x07|[\x07\x08\r]")


class Terminal:
    """Runs a command in a pseudo terminal of a certain size, as its controlling terminal."""

    def __init__(
        self,
        command: Sequence[str],
        env: Mapping[str, str] | None = None,
        *,
        lines: int = 40,
        columns: int = 120,
    ) -> None:
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        self.process = subprocess.Popen(
            ["setsid", "--ctty", *command],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env={**os.environ, "TERM": "xterm", **(env or {})},
        )
        os.close(theirs)
        self._decode = codecs.getincrementaldecoder("utf-8")(
            "replace"
        ).decode  # a piece may end within a character
        self.raw = ""
        """All that came so far."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(60)
        os.close(self._ours)

    @property
    def text(self) -> str:
        """What came so far, without what moves the cursor or colours."""
        return _CONTROL.sub("", self.raw)

    @property
    def screen(self) -> str:
        """What came since the screen was last cleared."""
        return _CONTROL.sub("", self.raw.rpartition("\x1b[J")[2])

    def type(self, text: str) -> None:
        """Types a text."""
        os.write(self._ours, text.encode())

    def wait_for(self, text: str, deadline_s: float = 60.0, *, on_screen: bool = False) -> None:
        """Waits until a text is seen; fails with what is seen instead."""
        ends_at = time.monotonic() + deadline_s
        while text not in (self.screen if on_screen else self.text):
            if not self._read(ends_at):
                raise AssertionError(f"{text!r} did not appear in:\n{self.text}")

    def exit_status(self, deadline_s: float = 60.0) -> int:
        """Reads to the end, and returns the command's exit status."""
        ends_at = time.monotonic() + deadline_s
        while self._read(ends_at):
            pass
        return self.process.wait(max(0.1, ends_at - time.monotonic()))

    def _read(self, ends_at: float) -> bool:
        """Whether something more came."""
        left_s = max(0.0, ends_at - time.monotonic())
        if not select.select([self._ours], [], [], left_s)[0]:
            return False
        try:
            piece = os.read(self._ours, 65_536)
        except OSError:  # the other side is closed
            return False
        self.raw += self._decode(piece)
        return bool(piece)
