"""A connection to libvirt for changing things, and what its errors mean for whoever asked."""

from __future__ import annotations

import errno
import queue
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit
from uuid import UUID

from macbind.core.errors import (
    ConfigError,
    HypervisorUnavailable,
    InvalidRequest,
    MacbindError,
    MachineFailed,
    NotPermitted,
)
from macbind.virt.next_step import next_step

try:
    import libvirt
except ImportError as error:
    raise ConfigError("libvirt-python is not installed here.", hint="Install macbind[libvirt].") from error

__all__ = ["KEEPALIVE_COUNT", "KEEPALIVE_S", "Hypervisor", "is_missing", "libvirt", "run_event_loop"]

KEEPALIVE_S = 5
KEEPALIVE_COUNT = 3
"""A hypervisor that does not answer for 15 s is taken for lost, also in the middle of a call."""
OPEN_S = 15.0

_LOST = {libvirt.VIR_ERR_NO_CONNECT, libvirt.VIR_ERR_INVALID_CONN, libvirt.VIR_ERR_RPC}
_FORBIDDEN = {
    libvirt.VIR_ERR_ACCESS_DENIED,
    libvirt.VIR_ERR_AUTH_CANCELLED,
    libvirt.VIR_ERR_AUTH_FAILED,
    libvirt.VIR_ERR_AUTH_UNAVAILABLE,
    libvirt.VIR_ERR_OPERATION_DENIED,
}
_BAD_XML = {
    libvirt.VIR_ERR_CONFIG_UNSUPPORTED,
    libvirt.VIR_ERR_INVALID_ARG,
    libvirt.VIR_ERR_XML_DETAIL,
    libvirt.VIR_ERR_XML_ERROR,
    libvirt.VIR_ERR_XML_INVALID_SCHEMA,
}

_LOG_FOLDERS = {"QEMU": "qemu", "Xen": "libxl", "LXC": "lxc", "CH": "ch"}
"""Below /var/log/libvirt, by driver."""

_loop_lock = threading.Lock()
_loop_runs = False


def run_event_loop() -> None:
    """Starts libvirt's event loop, once per process; it must run before a connection is opened."""
    global _loop_runs  # noqa: PLW0603  # libvirt's loop is the process's, too
    with _loop_lock:
        if _loop_runs:
            return
        libvirt.virEventRegisterDefaultImpl()
        libvirt.registerErrorHandler(lambda *_: None, None)  # errors are raised; do not print them as well
        threading.Thread(target=_spin, name="libvirt-events", daemon=True).start()
        _loop_runs = True


def _spin() -> None:
    while True:
        libvirt.virEventRunDefaultImpl()


def _try_to_open(uri: str, answers: queue.SimpleQueue[Any]) -> None:
    try:
        answers.put(libvirt.open(uri))
    except libvirt.libvirtError as error:
        answers.put(error)


def is_missing(error: libvirt.libvirtError) -> bool:
    """Whether libvirt says that there is no such thing."""
    return error.get_error_code() in (
        libvirt.VIR_ERR_NO_DOMAIN,
        libvirt.VIR_ERR_NO_STORAGE_POOL,
        libvirt.VIR_ERR_NO_STORAGE_VOL,
    )


class Hypervisor:
    """One libvirt connection, opened again if it broke. A context manager; may be used by several threads.

    Args:
        uri: Its libvirt URI.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self._lock = threading.Lock()
        self._connection: Any = None
        self._driver: str | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._discard()

    @property
    def connection(self) -> Any:
        """The connection.

        Raises:
            HypervisorUnavailable: There is none to be had.
            NotPermitted: The user may not connect.
            InvalidRequest: The URI is none.
        """
        with self._lock:
            if self._connection is not None and not self._is_alive():
                self._discard()
            if self._connection is None:
                self._connection = self._open()
            return self._connection

    def _open(self) -> Any:
        run_event_loop()
        answers: queue.SimpleQueue[Any] = queue.SimpleQueue()
        # libvirt waits for ever for one that takes the connection and says nothing.
        threading.Thread(target=_try_to_open, args=(self.uri, answers), daemon=True).start()
        try:
            connection = answers.get(timeout=OPEN_S)
        except queue.Empty:
            raise HypervisorUnavailable(
                f"libvirt at {self.uri} does not answer within {OPEN_S:g} s.",
                hint="Check libvirtd: it takes connections and says nothing.",
                uri=self.uri,
            ) from None
        if isinstance(connection, libvirt.libvirtError):
            raise self._unopened(connection) from connection
        with suppress(libvirt.libvirtError):  # not every driver can; those are in this process
            connection.setKeepAlive(KEEPALIVE_S, KEEPALIVE_COUNT)
        return connection

    def _is_alive(self) -> bool:
        try:
            return bool(self._connection.isAlive())
        except libvirt.libvirtError:
            return False

    def _discard(self) -> None:
        if self._connection is not None:
            with suppress(libvirt.libvirtError):  # it was broken already
                self._connection.close()
            self._connection = None

    def _unopened(self, error: libvirt.libvirtError) -> MacbindError:
        code = error.get_error_code()
        if code in _FORBIDDEN or error.get_int1() == errno.EACCES:
            return NotPermitted(
                f"Your user may not use libvirt at {self.uri}: {error}.",
                hint="Join the group libvirt, or ask as root.",
                uri=self.uri,
            )
        if code in _BAD_XML or re.search("no connection driver|Unable to parse URI", str(error)):
            return InvalidRequest(
                f"{self.uri!r} is not a usable libvirt URI: {error}.",
                hint="Write it as qemu:///system or qemu+ssh://root@host/system.",
            )
        return HypervisorUnavailable(
            f"libvirt at {self.uri} does not answer: {error}.",
            hint=next_step(self.uri, str(error)) or "Check that libvirtd runs, and the URI.",
            uri=self.uri,
        )

    def log_of(self, domain: str) -> str | None:
        """The file on the hypervisor in which its driver logs what becomes of a domain; None if it keeps none."""
        folder = _LOG_FOLDERS.get(self.driver)
        if folder is None or urlsplit(self.uri).path == "/session":
            return None
        return f"/var/log/libvirt/{folder}/{domain}.log"

    @property
    def driver(self) -> str:
        """The hypervisor's driver in libvirt's spelling, such as ``QEMU``, ``Xen``, ``LXC`` or ``TEST``."""
        if self._driver is None:
            connection = self.connection
            with self.doing("libvirt could not say which driver it is"):
                self._driver = str(connection.getType())
        return self._driver

    # -- errors ----------------------------------------------------------------------------------------

    @contextmanager
    def doing(self, what: str, **details: Any) -> Iterator[None]:
        """Translates libvirt's errors.

        Args:
            what: What failed if it fails, e.g. "The domain 'web' could not be started".
            details: For the error.

        Raises:
            HypervisorUnavailable: The connection broke: whether it was done is unknown.
            NotPermitted: The user may not do this.
            InvalidRequest: libvirt cannot use the XML.
            MachineFailed: It did not work.
        """
        try:
            yield
        except libvirt.libvirtError as error:
            raise self._meaning(error, what, details) from error

    def _meaning(self, error: libvirt.libvirtError, what: str, details: dict[str, Any]) -> MacbindError:
        code = error.get_error_code()
        details |= {"uri": self.uri, "libvirt_code": code}
        if code in _LOST or self._connection is None or not self._is_alive():
            return HypervisorUnavailable(
                f"{what}: the connection to libvirt at {self.uri} broke ({error}).",
                hint="Check that libvirtd runs. Whether it was done is unknown.",
                **details,
            )
        if code in _FORBIDDEN:
            return NotPermitted(
                f"{what}: your user may not do this ({error}).", hint="Ask as root.", **details
            )
        if code in _BAD_XML:
            return InvalidRequest(
                f"{what}: {error}.", hint="Check the template; `virt-xml-validate` helps.", **details
            )
        return MachineFailed(
            f"{what}: {error}.", hint="libvirt's log on the hypervisor may say more.", **details
        )

    # -- questions -------------------------------------------------------------------------------------

    def find(self, name: str) -> Any | None:
        """The domain of that name, None if there is none."""
        return self._look_up(f"The domain '{name}' could not be looked up", "lookupByName", name)

    def find_uuid(self, uuid: UUID) -> Any | None:
        """The domain of that UUID, None if there is none."""
        return self._look_up(f"The domain {uuid} could not be looked up", "lookupByUUIDString", str(uuid))

    def _look_up(self, what: str, method: str, key: str) -> Any | None:
        connection = self.connection
        with self.doing(what):
            try:
                return getattr(connection, method)(key)
            except libvirt.libvirtError as error:
                if is_missing(error):
                    return None
                raise

    def described(self) -> Iterator[tuple[Any, str]]:
        """All domains, each with its XML; one that ends meanwhile is passed over."""
        connection = self.connection
        with self.doing("The domains could not be listed"):
            for domain in connection.listAllDomains():
                try:
                    xml = domain.XMLDesc(0)
                except libvirt.libvirtError as error:
                    if is_missing(error):
                        continue
                    raise
                yield domain, xml
