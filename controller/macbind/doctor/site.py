"""What the checks look at: the configuration, the service if it answers, and the registry."""

from __future__ import annotations

import os
import pwd
import shlex
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from macbind.client.client import Client
from macbind.config import DEFAULT_PATH, DhcpdSettings, Settings, load
from macbind.core.errors import ConfigError, MacbindError
from macbind.core.findings import RESTART_DHCPD, Status
from macbind.dhcp.isc.build import isc_dhcpd
from macbind.dhcp.isc.conf_look import is_local
from macbind.dhcp.isc.log import JOURNAL
from macbind.dhcp.port import Audit
from macbind.registry.database import sqlite_path
from macbind.registry.muted import Muted, all_muted
from macbind.registry.store import Registry

_USER = "macbind"
_ANSWER_S = 5.0


@dataclass(frozen=True, slots=True)
class User:
    """The user that the service runs as, with all its groups."""

    name: str
    uid: int
    groups: frozenset[int]


@dataclass
class Site:
    """A site as the checks see it; several threads may use it.

    Attributes:
        config: The configuration file.
        settings: The configuration; None if it is refused.
        refused: Why it is.
        status: What the service says; None if it does not answer.
        silent: Why it does not.
    """

    config: Path
    settings: Settings | None = None
    refused: ConfigError | None = None
    status: Status | None = None
    silent: MacbindError | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _audits: dict[str, Audit | None] = field(default_factory=dict, repr=False)

    @classmethod
    def at(cls, config: Path, socket: str | Path | None = None, *, ask: bool = True) -> Site:
        """Reads the configuration, and asks the service unless told not to; raises nothing."""
        site = cls(config)
        try:
            site.settings = load(config)
        except ConfigError as error:
            site.refused = error
        if ask:
            site._ask(socket)
        return site

    def _ask(self, socket: str | Path | None) -> None:
        place = socket or (None if self.settings is None else self.settings.service.socket)
        try:
            with Client(place, timeout_s=_ANSWER_S) as client:
                self.status = client.status()
        except MacbindError as error:
            self.silent = error

    @property
    def configured(self) -> Settings:
        """The configuration, for checks that need one."""
        assert self.settings is not None
        return self.settings

    def local_dhcpds(self) -> Mapping[str, DhcpdSettings]:
        """The dhcpds of this machine, by name."""
        dhcpds = {} if self.settings is None else self.settings.dhcpds
        return {name: one for name, one in dhcpds.items() if is_local(one.host)}

    def restart(self, dhcpd: str) -> tuple[str, ...]:
        """The command that restarts a dhcpd; its log may name the unit."""
        log = self.configured.dhcpds[dhcpd].log or ""
        if log.startswith(JOURNAL):
            return (f"systemctl restart {shlex.quote(log.removeprefix(JOURNAL).removesuffix('.service'))}",)
        return RESTART_DHCPD

    def command(self, name: str) -> str:
        """A command of macbind that reads this configuration."""
        option = "" if self.config == DEFAULT_PATH else f" --config {shlex.quote(str(self.config))}"
        return f"macbind {name}{option}"

    def audit(self, dhcpd: str) -> Audit | None:
        """What lease file and configuration of a dhcpd say; looked at once for all checks."""
        with self._lock:
            if dhcpd not in self._audits:
                server = isc_dhcpd(dhcpd, self.configured.dhcpds[dhcpd])
                plans = [pool.plan for pool in self.configured.pools_of(dhcpd)]
                self._audits[dhcpd] = server.audit(plans, lambda _: False)
            return self._audits[dhcpd]

    @contextmanager
    def registry(self) -> Iterator[Registry | None]:
        """The registry as it is, for looking; None where a SQLite file is yet to be made.

        Raises:
            ConfigError: Its driver is not installed.
        """
        url = self.configured.registry.url
        path = sqlite_path(url)
        if path is not None and not path.exists():
            yield None
            return
        registry = Registry(url)
        try:
            yield registry
        finally:
            registry.close()

    def muted(self) -> list[Muted]:
        """What is muted; nothing where the registry cannot say."""
        if self.settings is None:
            return []
        with suppress(MacbindError), self.registry() as registry:
            if registry is not None:
                with registry.read() as view:
                    return all_muted(view, datetime.now(UTC))
        return []

    def service_user(self) -> User:
        """Whom the service runs as: the owner of its registry, else the user made for it, else this one."""
        path = None if self.settings is None else sqlite_path(self.settings.registry.url)
        uid = os.geteuid()
        with suppress(KeyError):
            uid = pwd.getpwnam(_USER).pw_uid
        if path is not None:
            with suppress(OSError):
                uid = path.stat().st_uid
        try:
            found = pwd.getpwuid(uid)
        except KeyError:
            return User(str(uid), uid, frozenset())
        return User(found.pw_name, uid, frozenset(os.getgrouplist(found.pw_name, found.pw_gid)))
