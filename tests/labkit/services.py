"""A lab's `systemctl` and `timedatectl`: shell lines of the documentation start and stop the real parts of the lab.

A lab has no systemd. So a directory on the PATH has programs of these names, which pass their words on to this
process over a socket. It does what was asked with the lab's own dhcpd, libvirtd and macbind.
"""

import socket
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

_PROGRAM = """#!{python} -I
import socket, sys
with socket.socket(socket.AF_UNIX) as link:
    link.connect("{socket}")
    link.sendall(" ".join(["{name}", *sys.argv[1:]]).encode())
    link.shutdown(socket.SHUT_WR)
    said = link.makefile().read()
if said:
    print(said, file=sys.stderr)
raise SystemExit(1 if said else 0)
"""


class Services:
    """The programs, in a directory. A context manager: they work inside.

    Args:
        directory: Where programs and socket go.
        actions: What each command line does, such as ``systemctl restart isc-dhcp-server``.
    """

    def __init__(self, directory: Path, actions: Mapping[str, Callable[[], object]]) -> None:
        self.directory, self._actions = directory, dict(actions)
        self._place = directory / "services"
        self._link = socket.socket(socket.AF_UNIX)
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> Self:
        self.directory.mkdir()
        for name in {line.split()[0] for line in self._actions}:
            program = self.directory / name
            program.write_text(_PROGRAM.format(python=sys.executable, socket=self._place, name=name))
            program.chmod(0o755)
        self._link.bind(str(self._place))
        self._link.listen()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._link.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._link.close()

    def _serve(self) -> None:
        while True:
            try:
                caller, _ = self._link.accept()
            except OSError:
                return
            with caller, caller.makefile() as asked:
                caller.sendall(self._do(asked.read()).encode())

    def _do(self, line: str) -> str:
        action = self._actions.get(line)
        if action is None:
            return f"there is no such service: {line}"
        try:
            action()
        except Exception as error:  # noqa: BLE001  # whoever asked is told
            return f"{line}: {error}"
        return ""
