"""The composition root: builds every part from the configuration, runs them, and takes them down in order."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import fcntl
import functools
import grp
import logging
import os
import signal
import socket
import stat
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Self

import structlog
import uvicorn
from fastapi import FastAPI
from typing_extensions import override

from macbind import __version__
from macbind.committer import Committer
from macbind.config import DhcpdSettings, ServiceSettings, Settings
from macbind.confirmations import Confirmations
from macbind.dhcpd.client import OmapiClient, tcp
from macbind.dhcpd.key import read_key
from macbind.dhcpd.leases import LeaseFile, parse
from macbind.dhcpd.omapi import Algorithm
from macbind.dhcpd.server import IscDhcpd
from macbind.errors import ConfigError, DhcpdUnavailable, PeerError
from macbind.health import Monitor
from macbind.pulse import Beat, Part, Pulse
from macbind.registry.leader import leader_for
from macbind.registry.store import Registry
from macbind.sdnotify import notify
from macbind.service.addresses import AddressService
from macbind.service.app import create_app
from macbind.service.connection import PeerProtocol
from macbind.service.limits import ACCEPTED_AT_ONCE, BACKLOG, Limits, Visitors, connections_within
from macbind.service.peer import Access
from macbind.writer import Writer

if TYPE_CHECKING:
    from macbind.warden import Warden

_log = structlog.get_logger()

CHORES_S = 0.5
"""How often expiry, cool-down and long waits are looked after."""
HANGS_S = 120.0
"""A part of the service that shows no progress for longer than this hangs. Far more than any wait of ours may take:
5 s for an answer of dhcpd or for SQLite's lock, 30 s for a statement of PostgreSQL."""
TRIM_EVERY = timedelta(hours=1)


def dhcpd_from(settings: DhcpdSettings, progress: Callable[[], None] = lambda: None) -> IscDhcpd:
    """A dhcpd as configured; its key and lease file are read when they are needed, so they may change.

    Args:
        settings: The dhcpd.
        progress: Called for every answer of it.
    """

    def open_client() -> OmapiClient:
        try:
            key = read_key(settings.key_file, settings.key_name)
        except ConfigError as error:  # mended by an admin while we run: try again later
            raise DhcpdUnavailable(
                f"dhcpd '{settings.name}' cannot be spoken to: {error.message}", hint=error.hint
            ) from error
        credentials = (key.name, Algorithm(settings.key_algorithm), key.secret)
        return OmapiClient(settings.name, tcp(settings.host, settings.port), credentials, progress=progress)

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
        self.answering, self._keeping = Beat(), Beat()
        self._parts = [Part("http", HANGS_S, self.answering.silent_s)]
        self._writers: dict[str, Writer] = {}
        self._monitors: dict[str, Monitor] = {}
        for one in settings.dhcpds.values():
            self._look_after(one)
        self._committer = Committer(self._registry, self._wake)
        self._parts += [
            Part("committer", HANGS_S, lambda: self._committer.busy_s),
            Part("housekeeper", HANGS_S, self._keeping.silent_s),
        ]
        self._pulse = Pulse(self._parts)
        self._warden = self._guard(settings)
        self.service = AddressService(
            self._registry, self._committer, self._confirmations, self._writers, self._warden, self._monitors
        )
        self._stop = threading.Event()
        self._keeper = threading.Thread(target=self._keep, name="housekeeper", daemon=True)

    def _look_after(self, settings: DhcpdSettings) -> None:
        """Makes what writes to a dhcpd, and what watches it."""
        leader = leader_for(self._registry.url, self._registry.ids.dhcpds[settings.name])
        beat = Beat()
        dhcpd = dhcpd_from(settings, beat)
        self._writers[settings.name] = Writer(
            dhcpd,
            self._registry,
            leader,
            self._confirmations,
            resync_s=settings.resync_s,
            beat=beat,
            on_defect=self._on_defect,
        )
        self._parts.append(Part(f"writer {settings.name}", HANGS_S, beat.silent_s))
        self._monitors[settings.name] = Monitor(settings, lambda: dhcpd.local_port, on_defect=self._on_defect)

    def _guard(self, settings: Settings) -> Warden | None:
        if not settings.hypervisors:
            return None
        try:
            from macbind.warden import Warden
        except ModuleNotFoundError as error:
            raise ConfigError(
                f"{settings.path}: [hypervisor.…] needs libvirt-python, which is not installed.",
                hint="Install macbind[libvirt], or remove the table.",
            ) from error
        return Warden(self._registry, self._committer, settings.hypervisors, on_defect=self._on_defect)

    def _wake(self) -> None:
        for writer in self._writers.values():
            writer.wake()

    def _on_defect(self, error: BaseException) -> None:
        self.defect = error
        self.on_defect()

    def __enter__(self) -> Self:
        for writer in self._writers.values():
            writer.start()
        for monitor in self._monitors.values():
            monitor.start()
        self._committer.start()
        if self._warden is not None:
            self._warden.start()
        self._keeper.start()
        self._pulse.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._pulse.close()
        self._stop.set()
        self._keeper.join()
        if self._warden is not None:
            self._warden.close()
        self._committer.close()
        self.service.close()
        for monitor in self._monitors.values():
            monitor.close()
        for writer in self._writers.values():
            writer.close()
        self._registry.close()

    def _keep(self) -> None:
        """Housekeeping, and the service manager's status line."""
        said, trimmed_at = "", datetime.min.replace(tzinfo=UTC)
        keep = timedelta(days=self._settings.registry.audit_keep_days)
        while not self._stop.wait(CHORES_S):
            self._keeping()
            try:
                self.service.chores()
                now = datetime.now(UTC)
                if now - trimmed_at > TRIM_EVERY:
                    trimmed_at = now  # also if it fails: it can wait
                    while not self._stop.is_set() and self.service.trim(now - keep):
                        self._keeping()
            except PeerError as error:
                _log.warning("housekeeping", problem=str(error))
            except Exception as error:  # noqa: BLE001  # a defect: never silently without housekeeping
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
        ConfigError: Another service listens there, or the socket cannot be made.
    """
    path = settings.socket
    with contextlib.ExitStack() as undo:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # Of two daemons that start together, both could find the other's socket not there yet.
            lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            undo.callback(os.close, lock)
            if not _is_ours(lock) or _is_taken(path):
                raise ConfigError(
                    f"Another service already listens at {path}.",
                    hint="Stop it first, or use another socket.",
                )
            listener = undo.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            path.unlink(missing_ok=True)
            undo.callback(path.unlink, missing_ok=True)
            before = os.umask(0o777)  # nobody may connect until mode and group are right
            try:
                listener.bind(str(path))
            finally:
                os.umask(before)
            if settings.socket_group is not None:
                os.chown(path, -1, grp.getgrnam(settings.socket_group).gr_gid)
            path.chmod(settings.socket_mode)
            listener.listen(BACKLOG)
        except KeyError as error:
            raise ConfigError(
                f"The socket {path} cannot be given to the group '{settings.socket_group}': there is no such "
                "group.",
                hint="Create it with addgroup, or correct socket_group in [service].",
            ) from error
        except OSError as error:
            raise ConfigError(
                f"The socket {path} cannot be made: {error.strerror}.",
                hint="Make its directory writable for macbind's user, or use another socket.",
            ) from error
        yield listener


def _is_ours(lock: int) -> bool:
    """Takes the lock; False if another daemon has it. The kernel frees it when its holder ends."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_taken(path: Path) -> bool:
    """Whether some other program listens there.

    Raises:
        OSError: What is there is no socket left by a killed daemon and must not be removed.
    """
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise FileExistsError(0, "a file that is no socket is in its place")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
            probe.connect(str(path))
    except (FileNotFoundError, ConnectionRefusedError):
        return False
    except BlockingIOError:
        pass  # somebody listens who does not even accept
    return True


class _LibraryLogs(logging.Handler):
    """What libraries log, in our format."""

    @override
    def emit(self, record: logging.LogRecord) -> None:
        _log.log(record.levelno, record.getMessage(), logger=record.name, exc_info=record.exc_info)


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
    logging.basicConfig(handlers=[_LibraryLogs()], level=logging.WARNING, force=True)
    # What uvicorn warns of is bad clients, once for each request; service/limits.py logs them in fewer lines.
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
    logging.captureWarnings(capture=True)


class _Server(uvicorn.Server):
    """uvicorn's server, which lets requests that wait for dhcpd be answered before it ends."""

    @override
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for listener in sockets or ():
            listener.listen(BACKLOG)  # uvicorn has one number for this and for what is accepted at once

    @override
    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self.config.app.state.deadlines.hurry()  # type: ignore[union-attr]
        await super().shutdown(sockets)


async def _beat(answering: Beat) -> None:
    """Shows that the event loop goes on."""
    while True:
        answering()
        await asyncio.sleep(1)


def serve(settings: Settings, limits: Limits = Limits()) -> None:  # noqa: B008  # it is frozen
    """Runs the service until SIGTERM or SIGINT.

    Args:
        settings: The configuration.
        limits: What one client may ask for; fewer connections if the open-file limit demands it.

    Raises:
        ConfigError, RegistryUnavailable: It cannot start; nothing was changed.
        InvariantViolation: It stopped because of a defect.
    """
    set_up_logging(settings.service)
    limits = dataclasses.replace(limits, connections=connections_within(limits))
    asked: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        # uvicorn takes these while it runs and raises them again afterwards, when we still have to clean up.
        signal.signal(number, lambda number, _: asked.append(number))
    with listening(settings.service) as listener, Daemon(settings) as daemon:

        @contextlib.asynccontextmanager
        async def lifespan(_: FastAPI) -> AsyncIterator[None]:
            if asked or daemon.defect is not None:  # while we started, before anybody could end the server
                server.should_exit = True
            else:
                _log.info("ready", version=__version__, socket=str(settings.service.socket), pid=os.getpid())
                notify(READY=1, STATUS=daemon.service.summary)
            beating = asyncio.create_task(_beat(daemon.answering))
            yield
            beating.cancel()
            notify(STOPPING=1)
            _log.info("stopping")

        app = create_app(
            daemon.service,
            Access(settings.service.may_change, settings.service.may_read),
            timeout_s=settings.service.timeout_s,
            limits=limits,
            lifespan=lifespan,
        )
        server = _Server(
            uvicorn.Config(
                app,
                http=functools.partial(PeerProtocol, visitors=Visitors(limits)),  # type: ignore[arg-type]
                loop="asyncio",  # never uvloop, which buffers more than the limits of service/connection.py know of
                ws="none",
                # A header must not be able to replace the kernel's word about who is calling, whatever
                # FORWARDED_ALLOW_IPS says.
                proxy_headers=False,
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=10,
                backlog=ACCEPTED_AT_ONCE,
            )
        )
        daemon.on_defect = lambda: os.kill(os.getpid(), signal.SIGTERM)
        server.run(sockets=[listener])
        if daemon.defect is not None:
            raise daemon.defect
    _log.info("stopped")
