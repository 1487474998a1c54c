"""Writing what a Xen domain is told into Xenstore, over xenstored's socket on the hypervisor itself.

Source of the protocol: Xen's ``docs/misc/xenstore.txt`` and ``xen/include/public/io/xs_wire.h``. A message is a
header of four 32-bit numbers in the machine's byte order (type, request, transaction, length of what follows) and
a payload. The one library for it, pyxs, has had no release since 2016, and three messages are all that is needed:
nobody reads before the domain runs, and what a failure leaves goes with the domain, so there is no transaction.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from macbind.errors import HypervisorUnavailable, InvalidRequest, MachineFailed, NotPermitted

DEFAULT_SOCKET = Path("/run/xenstored/socket")
SOCKET_VARIABLE = "XENSTORED_PATH"
"""Environment variable that names another socket, also to Xen's own tools."""
SUBTREE = "vm-data/macbind"
"""Where a guest finds what it is told, below its own directory."""

_HEADER = struct.Struct("=IIII")
_WRITE, _MKDIR, _SET_PERMS = 11, 12, 14
_WATCH_EVENT, _ERROR = 15, 16
_MAX_PAYLOAD = 4096
_TIMEOUT_S = 10.0
_NO_TRANSACTION = 0


def keys(lines: Iterable[str]) -> Mapping[str, str]:
    """The keys below :data:`SUBTREE` and their values.

    Xenstore's names have no dots, so each becomes a level: ``data.a.b`` is ``data/a/b``.

    Raises:
        InvalidRequest: A key has a dot with nothing on one side of it.
    """
    found = {}
    for line in lines:
        key, _, value = line.partition("=")
        path = key.replace(".", "/")
        if "//" in path or path.endswith("/"):
            raise InvalidRequest(
                f"Xenstore cannot have the key {key.removeprefix('data.')!r}.",
                hint="Every dot in it must stand between two other characters.",
            )
        found[path] = value
    return found


def tell(domain_id: int, values: Mapping[str, str], path: Path | None = None) -> None:
    """Writes values into the directory of a domain that does not run yet, so that this domain may read them.

    Args:
        domain_id: The domain's number.
        values: By key; see :func:`keys`.
        path: xenstored's socket.

    Raises:
        HypervisorUnavailable: xenstored does not answer.
        NotPermitted: The user may not use its socket.
        MachineFailed: It refuses; what was written before stays until the domain ends.
    """
    with _Xenstore(path or Path(os.environ.get(SOCKET_VARIABLE) or DEFAULT_SOCKET)) as store:
        store.write_all(domain_id, values)


def _folders(place: str, values: Iterable[str]) -> list[bytes]:
    """The directories of our own; what is above them belongs to others and is made by need."""
    folders = {place}
    for key in values:
        steps = key.split("/")[:-1]
        folders |= {"/".join((place, *steps[: depth + 1])) for depth in range(len(steps))}
    return [folder.encode() for folder in sorted(folders)]


class _Refused(Exception):
    """xenstored's word for an error, e.g. ``EACCES``."""


class _Xenstore:
    """One connection to xenstored."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._requests = 0
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)

    def __enter__(self) -> Self:
        try:
            # xenstored lets one connection wait. The kernel lets others wait, too, unless Python has set a timeout.
            self._socket.setsockopt(
                socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("@ll", int(_TIMEOUT_S), 0)
            )
            self._socket.connect(str(self._path))
            self._socket.settimeout(_TIMEOUT_S)
        except OSError as error:
            self._socket.close()
            raise self._unavailable(error) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def write_all(self, domain_id: int, values: Mapping[str, str]) -> None:
        """Writes everything, with the permissions of each node."""
        place = f"/local/domain/{domain_id}/{SUBTREE}"
        # Domain 0 owns it; no other but the guest may read it, and nobody but domain 0 write it.
        permissions = f"n0\0r{domain_id}\0".encode()
        try:
            for folder in _folders(place, values):
                self._ask(_MKDIR, folder + b"\0")
                self._ask(_SET_PERMS, folder + b"\0" + permissions)
            for key, value in values.items():
                node = f"{place}/{key}".encode() + b"\0"
                self._ask(_WRITE, node + value.encode())
                self._ask(_SET_PERMS, node + permissions)
        except _Refused as error:
            raise MachineFailed(
                f"Xenstore does not take what domain {domain_id} is to be told: {error}.",
                hint="xenstored's log on the hypervisor may say more.",
                step="xenstore",
            ) from error
        except (OSError, ValueError) as error:
            raise self._unavailable(error) from error

    def _ask(self, kind: int, payload: bytes) -> None:
        """Sends a request and waits until it is done.

        Raises:
            _Refused: xenstored says no.
            OSError, ValueError: The connection broke, or what answers is no xenstored.
        """
        if len(payload) > _MAX_PAYLOAD:
            raise _Refused(f"{len(payload)} bytes are more than a message may have")
        self._requests += 1
        self._socket.sendall(_HEADER.pack(kind, self._requests, _NO_TRANSACTION, len(payload)) + payload)
        while True:
            answered, request, _, size = _HEADER.unpack(self._receive(_HEADER.size))
            if size > _MAX_PAYLOAD:
                raise ValueError(f"an answer of {size} bytes")
            content = self._receive(size)
            if answered == _WATCH_EVENT:
                continue  # nothing is watched; they may come at any time all the same
            if request != self._requests or answered not in (kind, _ERROR):
                raise ValueError(f"an answer of type {answered} to request {request}")
            if answered == _ERROR:
                raise _Refused(content.rstrip(b"\0").decode("ascii", "replace"))
            return

    def _receive(self, size: int) -> bytes:
        received = bytearray()
        while len(received) < size:
            piece = self._socket.recv(size - len(received))
            if not piece:
                raise ConnectionResetError("it closed the connection")
            received += piece
        return bytes(received)

    def _unavailable(self, error: OSError | ValueError) -> HypervisorUnavailable | NotPermitted:
        if isinstance(error, PermissionError):
            return NotPermitted(
                f"Your user may not use xenstored's socket {self._path}.",
                hint="Ask as root.",
                step="xenstore",
            )
        return HypervisorUnavailable(
            f"xenstored at {self._path} does not answer: {error}.",
            hint="The channel xenstore works on the hypervisor itself (domain 0), where xenstored runs.",
            step="xenstore",
        )
