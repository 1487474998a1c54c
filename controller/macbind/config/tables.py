"""The shape of each table of the configuration: its keys, their types, bounds and defaults.

What the values mean together (do pools overlap, is a gateway on its subnet) is decided in
:mod:`macbind.config.build`; :mod:`macbind.config.document` turns what is refused here into sentences.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError

from macbind.config.settings import DhcpdSettings, RegistrySettings, ServiceSettings

SECONDS_PER_DAY = 86_400
MAX_SOCKET_PATH = 107
"""What fits into ``sun_path`` of a Unix socket address, with its final NUL (unix(7))."""


def _form(pattern: str, meaning: str, *, secret: bool = False) -> AfterValidator:
    """A check that the text has a certain form; a secret one is not repeated in the error."""

    def check(text: str) -> str:
        if not re.fullmatch(pattern, text):
            told = "" if secret else f", not {json.dumps(text)}"
            raise PydanticCustomError("form", "must be {meaning}{told}", {"meaning": meaning, "told": told})
        return text

    return AfterValidator(check)


# File names end up between quotes in dhcpd's configuration, which has no way to escape a quote.
FilePath = Annotated[
    str, _form(r"/(?:[ !#-\[\]-~]{0,998}[!#-\[\]-~])", 'an absolute path of printable ASCII without " and \\')
]
SocketPath = Annotated[
    str,
    _form(
        rf"/[!#-\[\]-~]{{1,{MAX_SOCKET_PATH - 1}}}", f"an absolute path of at most {MAX_SOCKET_PATH} bytes"
    ),
]
Name = Annotated[str, _form("[a-z0-9][a-z0-9-]{0,31}", "1 to 32 lower-case letters, digits and hyphens")]
UserName = Annotated[
    str, _form(r"\*|@?[A-Za-z0-9_][A-Za-z0-9_.-]{0,31}", "a user, a @group or * for everyone")
]
LogPlace = Annotated[
    str,
    _form(
        r"/(?:[ !#-\[\]-~]{0,998}[!#-\[\]-~])|journal:[A-Za-z0-9][A-Za-z0-9:_.@-]{0,254}",
        'an absolute path of printable ASCII without " and \\, or journal:UNIT',
    ),
]
Interface = Annotated[str, _form("[A-Za-z0-9._-]{1,15}", "the name of a network interface")]
GroupName = Annotated[str, _form(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,31}", "the name of a group")]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class RegistryTable(_Table):
    """``[registry]``."""

    url: Annotated[
        str,
        _form(
            r"sqlite:////[^\s/][^\s]*|postgresql(\+psycopg)?://\S+",
            "sqlite:////ABSOLUTE/PATH or postgresql://USER@HOST/DATABASE",
            secret=True,
        ),
    ] = "sqlite:////var/lib/macbind/registry.db"
    audit_keep_days: Annotated[int, Field(ge=1, le=36_500)] = 90

    def settings(self) -> RegistrySettings:
        """The table as settings; PostgreSQL is spoken to by psycopg 3."""
        url = self.url.replace("postgresql://", "postgresql+psycopg://", 1)
        return RegistrySettings(url, self.audit_keep_days)


class ServiceTable(_Table):
    """``[service]``."""

    socket: SocketPath = "/run/macbind/macbind.sock"
    socket_mode: Annotated[str, _form("0[0-7]{3}", 'an octal mode such as "0660"')] = "0660"
    socket_group: GroupName | None = None
    may_change: list[UserName] = ["root", "@macbind"]
    may_read: list[UserName] = ["*"]
    timeout_s: Annotated[float, Field(ge=0.1, le=3600)] = 10.0
    log_format: Literal["auto", "json", "console"] = "auto"
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    def settings(self) -> ServiceSettings:
        """The table as settings."""
        return ServiceSettings(
            socket=Path(self.socket),
            socket_mode=int(self.socket_mode, 8),
            socket_group=self.socket_group,
            may_change=tuple(self.may_change),
            may_read=tuple(self.may_read),
            timeout_s=self.timeout_s,
            log_format=self.log_format,
            log_level=self.log_level,
        )


class DhcpdTable(_Table):
    """``[dhcpd.NAME]``."""

    host: Annotated[str, _form("[A-Za-z0-9][A-Za-z0-9.-]{0,252}", "a host name or address")] = "127.0.0.1"
    port: Annotated[int, Field(ge=1, le=65_535)] = 7911
    key_name: Annotated[
        str, _form("[A-Za-z][A-Za-z0-9.-]{0,62}", "up to 63 letters, digits, dots and hyphens")
    ] = "macbind"
    key_file: FilePath = "/etc/dhcp/macbind.key"
    key_algorithm: Literal[
        "hmac-md5", "hmac-sha1", "hmac-sha224", "hmac-sha256", "hmac-sha384", "hmac-sha512"
    ] = "hmac-sha256"
    config_file: FilePath = "/etc/dhcp/macbind.conf"
    leases_file: FilePath | None = None
    log: LogPlace | None = None
    probe: Interface | None = None
    probe_interval_s: Annotated[float, Field(ge=1, le=3600)] = 30.0
    resync_s: Annotated[float, Field(ge=1, le=SECONDS_PER_DAY)] = 300.0
    fsync: bool = False
    authoritative: bool = True

    def settings(self, name: str) -> DhcpdSettings:
        """The table as settings, with the name from its header."""
        return DhcpdSettings(
            name=name,
            host=self.host,
            port=self.port,
            key_name=self.key_name,
            key_file=Path(self.key_file),
            key_algorithm=self.key_algorithm,
            config_file=Path(self.config_file),
            leases_file=None if self.leases_file is None else Path(self.leases_file),
            log=self.log,
            probe=self.probe,
            probe_interval_s=self.probe_interval_s,
            resync_s=self.resync_s,
            fsync=self.fsync,
            authoritative=self.authoritative,
        )


class _OptionKeys(_Table):
    """The DHCP options a subnet or a pool may set; their values are checked by ``DhcpOptions``."""

    routers: list[str] = []
    domain_name_servers: list[str] = []
    domain_name: str | None = None
    next_server: str | None = None
    filename: str | None = None
    static_routes: list[str] = []

    def options(self) -> dict[str, Any]:
        """The options that are set, in their textual form."""
        values = {name: getattr(self, name) for name in _OptionKeys.model_fields}
        return {name: value for name, value in values.items() if value not in (None, [])}


class SubnetTable(_OptionKeys):
    """``[subnet."NETWORK"]``."""

    gateway: str | None = None
    lease_time_s: Annotated[int, Field(ge=60, le=365 * SECONDS_PER_DAY)] = 600
    dynamic: list[str] = []


class PoolTable(_OptionKeys):
    """``[pool.NAME]``."""

    subnet: str
    ranges: list[str] = []
    exclude: list[str] = []
    mac_prefix: str = "00:16:3e"
    mode: Literal["live", "static"] = "live"
    cooldown_s: Annotated[float, Field(ge=0, le=365 * SECONDS_PER_DAY)] = 0.0
    dhcpd: list[str] | None = None
    release: Literal["destroy", "undefine", "never"] = "destroy"
    claim_timeout_s: Annotated[float, Field(ge=0, le=365 * SECONDS_PER_DAY)] = 900.0
    arp_probe: Interface | None = None
    gateway: str | None = None
    ipv6_prefix: str | None = None


class HypervisorTable(_Table):
    """``[hypervisor.NAME]``."""

    uri: Annotated[str, _form(r"[a-z][a-z0-9+]*:///?[!-~]+", "a libvirt URI such as qemu:///system")]


class Tables(_Table):
    """The whole file."""

    registry: RegistryTable = RegistryTable()
    service: ServiceTable = ServiceTable()
    dhcpd: dict[Name, DhcpdTable] = {}
    subnet: dict[str, SubnetTable] = {}
    pool: dict[Name, PoolTable] = {}
    hypervisor: dict[Name, HypervisorTable] = {}


TABLES: Mapping[str, type[BaseModel]] = {
    "registry": RegistryTable,
    "service": ServiceTable,
    "dhcpd": DhcpdTable,
    "subnet": SubnetTable,
    "pool": PoolTable,
    "hypervisor": HypervisorTable,
}
