"""The composition root: builds every part from the configuration, runs them, and takes them down in order."""

from __future__ import annotations

import contextlib
import grp
import os
import signal
import socket
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self

import structlog
import uvicorn
from fastapi import FastAPI

from macbind import __version__
from macbind.committer import Committer
from macbind.config import DhcpdSettings, ServiceSettings, Settings
from macbind.confirmations import Confirmations
from macbind.dhcpd.client import OmapiClient, tcp
from macbind.dhcpd.key import read_key
from macbind.dhcpd.leases import LeaseFile, parse
from macbind.dhcpd.omapi import Algorithm
from macbind.dhcpd.server import IscDhcpd
from macbind.errors import ConfigError, DhcpdUnavailable, MacbindError, PeerError
from macbind.registry.leader import leader_for
from macbind.registry.store import Registry
from macbind.sdnotify import notify
from macbind.service.addresses import AddressService
from macbind.service.app import create_app
from macbind.service.peer import Access, PeerProtocol
from macbind.writer import Writer

_log = structlog.get_logger()

CHORES_S = 0.5
"""How often expiry, cool-down and long waits are looked after."""
TRIM_EVERY = timedelta(hours=1)
BACKLOG = 512
"""Connections that may wait to be accepted."""


def dhcpd_from(settings: DhcpdSettings) -> IscDhcpd:
    """A dhcpd as configured; its key and lease file are read when they are needed, so they may change."""

    def open_client() -> OmapiClient:
        try:
            key = read_key(settings.key_file, settings.key_name)
        except ConfigError as error:  # mended by an admin while we run: try again later
            raise DhcpdUnavailable(
                f"dhcpd '{settings.name}' cannot be spoken to: {error.message}", hint=error.hint
            ) from error
        credentials = (key.name, Algorithm(settings.key_algorithm), key.secret)
        return OmapiClient(settings.name, tcp(settings.host, settings.port), credentials)

    def read_lease_file() -> LeaseFile | None:
        if settings.leases_file is None:
            return None
        try:
            return parse(settings.leases_file.read_bytes())
        except OSError as error:
            _log.warning(
                "lease file", dhcpd=settings.name, file=str(settings.leases_file), problem=error.strerror
            )
            return None

    return IscDhcpd(settings.name, open_client, read_lease_file)


class Daemon:
    """Everything that runs, as a context manager: started on entry, taken down in reverse on exit.

    Raises:
        ConfigError: The registry contradicts the configuration.
        RegistryUnavailable: The registry cannot be opened.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.defect: BaseException | None = None
        self.on_defect: Callable[[], object] = lambda: None
        self._confirmations = Confirmations()
        self._registry = Registry(settings.registry.url, settings.pools, settings.dhcpds)
        self._writers = {name: self._writer(one) for name, one in settings.dhcpds.items()}
        self._committer = Committer(self._registry, self._wake)
        self.service = AddressService(self._registry, self._committer, self._confirmations, self._writers)
        self._stop = threading.Event()
        self._keeper = threading.Thread(target=self._keep, name="housekeeper", daemon=True)

    def _writer(self, settings: DhcpdSettings) -> Writer:
        leader = leader_for(self._registry.url, self._registry.ids.dhcpds[settings.name])
        return Writer(
            dhcpd_from(settings), self._registry, leader, self._confirmations, on_defect=self._on_defect
        )

    def _wake(self) -> None:
        for writer in self._writers.values():
            writer.wake()

    def _on_defect(self, error: BaseException) -> None:
        self.defect = error
        self.on_defect()

    def __enter__(self) -> Self:
        for writer in self._writers.values():
            writer.start()
        self._committer.start()
        self._keeper.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._keeper.join()
        self._committer.close()
        for writer in self._writers.values():
            writer.close()
        self._registry.close()

    def _keep(self) -> None:
        """Housekeeping, and the service manager's status line."""
        said, trimmed_at = "", datetime.min.replace(tzinfo=UTC)
        keep = timedelta(days=self._settings.registry.audit_keep_days)
        while not self._stop.wait(CHORES_S):
            try:
                self.service.chores()
                now = datetime.now(UTC)
                if now - trimmed_at > TRIM_EVERY:
                    self.service.trim(now - keep)
                    trimmed_at = now
            except PeerError as error:
                _log.warning("housekeeping", problem=str(error))
            except MacbindError as error:
                _log.critical("housekeeping stopped", exc_info=error)
                self._on_defect(error)
                return
            if self.service.summary != said:
                said = self.service.summary
                notify(STATUS=said)


@contextlib.contextmanager
def listening(settings: ServiceSettings) -> Iterator[socket.socket]:
    """The service's Unix socket, with its owner and mode set before anybody can connect.

    Raises:
        ConfigError: Another macbind listens there, or the socket cannot be made.
    """
    path = settings.socket
    probe = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        probe.connect(str(path))
    except OSError:
        pass  # nobody there: a file left by a killed daemon may be replaced
    else:
        raise ConfigError(
            f"Another macbind already listens at {path}.", hint="Stop it first, or use another socket."
        )
    finally:
        probe.close()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        path.unlink(missing_ok=True)
        before = os.umask(0o777)  # nobody may connect until mode and group are right
        try:
            listener.bind(str(path))
        finally:
            os.umask(before)
        if settings.socket_group is not None:
            os.chown(path, -1, grp.getgrnam(settings.socket_group).gr_gid)
        path.chmod(settings.socket_mode)
        listener.listen(BACKLOG)
    except (OSError, KeyError) as error:
        listener.close()
        what = error.strerror if isinstance(error, OSError) else f"no group '{settings.socket_group}'"
        raise ConfigError(
            f"The socket {path} cannot be made: {what}.",
            hint="Make its directory writable for macbind's user, and create the group.",
        ) from error
    try:
        yield listener
    finally:
        listener.close()
        path.unlink(missing_ok=True)


def set_up_logging(settings: ServiceSettings) -> None:
    """Structured logs on standard error: for people on a terminal, as JSON lines elsewhere."""
    for_people = settings.log_format == "console" or (settings.log_format == "auto" and sys.stderr.isatty())
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.StackInfoRenderer(),
            *(
                [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]
                if for_people
                else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
            ),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(settings.log_level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )


def serve(settings: Settings) -> None:
    """Runs the service until SIGTERM or SIGINT.

    Raises:
        ConfigError, RegistryUnavailable: It cannot start; nothing was changed.
        InvariantViolation: It stopped because of a defect.
    """
    set_up_logging(settings.service)
    for number in (signal.SIGTERM, signal.SIGINT):
        # uvicorn takes these while it runs and raises them again afterwards, when we still have to clean up.
        signal.signal(number, lambda *_: None)
    Path(settings.service.socket).parent.mkdir(parents=True, exist_ok=True)
    with listening(settings.service) as listener, Daemon(settings) as daemon:

        @contextlib.asynccontextmanager
        async def lifespan(_: FastAPI) -> AsyncIterator[None]:
            _log.info("ready", version=__version__, socket=str(settings.service.socket), pid=os.getpid())
            notify(READY=1, STATUS=daemon.service.summary)
            yield
            notify(STOPPING=1)
            _log.info("stopping")

        app = create_app(
            daemon.service,
            Access(settings.service.may_change, settings.service.may_read),
            timeout_s=settings.service.timeout_s,
            lifespan=lifespan,
        )
        server = uvicorn.Server(
            uvicorn.Config(
                app,
                http=PeerProtocol,
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=10,
                backlog=BACKLOG,
            )
        )
        daemon.on_defect = lambda: os.kill(os.getpid(), signal.SIGTERM)
        server.run(sockets=[listener])
        if daemon.defect is not None:
            raise daemon.defect
    _log.info("stopped")
