"""The tables of the configuration file: their keys, their types, bounds and defaults.

The tables ``[registry]``, ``[service]``, ``[metrics]``, ``[page]``, ``[api]``, ``[names]`` and ``[dhcpd.NAME]``
are used as they were read. Subnets and pools depend on other tables, so :mod:`macbind.config.build` makes them.
:mod:`macbind.config.document` turns what is refused here into sentences.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, Strict
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from macbind.core.listen_address import ListenAddress
from macbind.core.pool import Confirm, PoolMode, ReleasePolicy

_T = TypeVar("_T")

TRANSITION_S = 15.0
"""Longer than any transition measured: for 3 to 11 s a machine of Xen's is off when it reboots."""

GRACE_S = 30.0
"""Longer than it takes to start a machine again that an installation has switched off."""

SECONDS_PER_DAY = 86_400
MAX_SOCKET_PATH = 107
"""What fits into ``sun_path`` of a Unix socket address, with its final NUL (unix(7))."""


@dataclass(frozen=True)
class _Text:
    """A text of a certain form in the file, and the value that is made of it.

    Attributes:
        pattern: The form.
        meaning: The form in words, for the error.
        make: Makes the value.
        secret: Whether the error must not repeat the text.
    """

    pattern: str
    meaning: str
    make: Callable[[str], object] = str
    secret: bool = False

    def __get_pydantic_core_schema__(self, _source: Any, _handler: Any) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._read, core_schema.str_schema(strict=True))

    def _read(self, text: str) -> object:
        if not re.fullmatch(self.pattern, text):
            given = "" if self.secret else f", not {json.dumps(text)}"
            raise PydanticCustomError(
                "form", "must be {meaning}{given}", {"meaning": self.meaning, "given": given}
            )
        return self.make(text)


# dhcpd's configuration puts file names between quotes, and has no way to escape a quote.
_PATH, _PATH_MEANING = (
    r"/(?:[ !#-\[\]-~]{0,998}[!#-\[\]-~])",
    'an absolute path of printable ASCII without " and \\',
)
FilePath = Annotated[Path, _Text(_PATH, _PATH_MEANING, Path)]
SocketPath = Annotated[
    Path,
    _Text(
        rf"/[!#-\[\]-~]{{1,{MAX_SOCKET_PATH - 1}}}",
        f"an absolute path of at most {MAX_SOCKET_PATH} bytes",
        Path,
    ),
]
FileMode = Annotated[int, _Text("0[0-7]{3}", 'an octal mode such as "0660"', lambda text: int(text, 8))]
DatabaseUrl = Annotated[
    str,
    _Text(
        r"sqlite:////[^\s/][^\s]*|postgresql(\+psycopg)?://\S+",
        "sqlite:////ABSOLUTE/PATH or postgresql://USER@HOST/DATABASE",
        lambda text: text.replace("postgresql://", "postgresql+psycopg://", 1),
        secret=True,
    ),
]
Name = Annotated[str, _Text("[a-z0-9][a-z0-9-]{0,31}", "1 to 32 lower-case letters, digits and hyphens")]
UserName = Annotated[
    str, _Text(r"\*|@?[A-Za-z0-9_][A-Za-z0-9_.-]{0,31}", "a user, a @group or * for everyone")
]
LogPlace = Annotated[
    str,
    _Text(rf"{_PATH}|journal:[A-Za-z0-9][A-Za-z0-9:_.@-]{{0,254}}", f"{_PATH_MEANING}, or journal:UNIT"),
]
Interface = Annotated[str, _Text("[A-Za-z0-9._-]{1,15}", "the name of a network interface")]
GroupName = Annotated[str, _Text(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,31}", "the name of a group")]
HostName = Annotated[str, _Text("[A-Za-z0-9][A-Za-z0-9.-]{0,252}", "a host name or address")]
KeyName = Annotated[str, _Text("[A-Za-z][A-Za-z0-9.-]{0,62}", "up to 63 letters, digits, dots and hyphens")]
_LISTEN_MEANING = 'an address of this machine and a port, such as "127.0.0.1:9547" or "[::1]:9547"'


def _listen_address(text: str) -> ListenAddress:
    try:
        return ListenAddress.parse(text)
    except ValueError as error:
        meaning = {"meaning": _LISTEN_MEANING, "given": f", not {json.dumps(text)}"}
        raise PydanticCustomError("form", "must be {meaning}{given}", meaning) from error


def _server_address(text: str) -> ListenAddress:
    try:
        return ListenAddress.parse(text)
    except ValueError as error:
        meaning = {"meaning": _SERVER_MEANING, "given": f", not {json.dumps(text)}"}
        raise PydanticCustomError("form", "must be {meaning}{given}", meaning) from error


_SERVER_MEANING = 'an IP address and a port, such as "127.0.0.1:53"'
ServerAddress = Annotated[ListenAddress, _Text(r"(?s:.*)", _SERVER_MEANING, _server_address)]
_DNS_LABEL = "[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
DomainName = Annotated[
    str,
    _Text(
        rf"(?=.{{1,180}}\Z){_DNS_LABEL}(?:\.{_DNS_LABEL})*", "a DNS domain in lower case without a final dot"
    ),
]
_OCTET = "(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
ReverseZone = Annotated[
    str, _Text(rf"(?:{_OCTET}\.){{1,3}}in-addr\.arpa", 'a reverse zone such as "1.10.in-addr.arpa"')
]
Listen = Annotated[ListenAddress, _Text(r"(?s:.*)", _LISTEN_MEANING, _listen_address)]
LibvirtUri = Annotated[str, _Text(r"[a-z][a-z0-9+]*:///?[!-~]+", "a libvirt URI such as qemu:///system")]
Several = Annotated[tuple[_T, ...], Strict(strict=False)]
"""A list in the file."""


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class RegistrySettings(_Table):
    """``[registry]``: where allocations are kept.

    Attributes:
        url: SQLAlchemy URL; ``repr`` does not show it because it may hold a password.
        audit_keep_days: How long the audit log is kept, in days.
    """

    url: DatabaseUrl = Field("sqlite:////var/lib/macbind/registry.db", repr=False)
    audit_keep_days: Annotated[int, Field(ge=1, le=36_500)] = 90


class ServiceSettings(_Table):
    """``[service]``: how the daemon listens, and to whom.

    Attributes:
        socket: Its Unix socket.
        socket_mode: The socket's permissions.
        socket_group: The socket's group; None leaves it as created.
        may_change: Users, ``@groups`` or ``*`` that may change things.
        may_read: Users, ``@groups`` or ``*`` that may ask.
        timeout_s: How long a request waits for dhcpd unless it says otherwise, in seconds.
        log_format: The format of the log; ``auto`` is for people on a terminal and JSON elsewhere.
        log_level: The least important lines that are logged.
    """

    socket: SocketPath = Path("/run/macbind/macbind.sock")
    socket_mode: FileMode = 0o660
    socket_group: GroupName | None = None
    may_change: Several[UserName] = ("root", "@macbind-users")
    may_read: Several[UserName] = ("*",)
    timeout_s: Annotated[float, Field(ge=0.1, le=3600)] = 10.0
    log_format: Literal["auto", "json", "console"] = "auto"
    log_level: Literal["debug", "info", "warning", "error"] = "info"


class MetricsSettings(_Table):
    """``[metrics]``: where Prometheus finds the service in numbers, beside the Unix socket.

    Attributes:
        listen: A TCP address that answers ``GET /metrics`` and nothing else; None: there is none.
    """

    listen: Listen | None = None


class PageSettings(_Table):
    """``[page]``: the web page for admins; off unless it listens.

    Attributes:
        listen: Its address and TCP port; None: there is no page.
        tokens: The file of tokens; None: only this machine's users may see the page, and nobody may change anything.
        names: More names under which browsers know this machine.
    """

    listen: Listen | None = None
    tokens: FilePath | None = None
    names: Several[HostName] = ()


class ApiSettings(_Table):
    """``[api]``: where cores on other hosts reach the service, over TLS; off unless it listens.

    Attributes:
        listen: Its address and TCP port; None: there is only the Unix socket.
        certificate: The service's certificate, with those between it and its CA.
        key: The certificate's private key.
        client_ca: The CA of client certificates; None: tokens only.
        tokens: The file of tokens; None: that of ``[page]``.
    """

    listen: Listen | None = None
    certificate: FilePath = Path("/etc/macbind/api.crt")
    key: FilePath = Path("/etc/macbind/api.key")
    client_ca: FilePath | None = None
    tokens: FilePath | None = None


class NamesSettings(_Table):
    """``[names]``: where allocations are found by name; nowhere unless a file or a server is named.

    Attributes:
        domain: The domain of all names.
        hosts_file: A hosts file that macbind writes; None: there is none.
        server: A name server that takes updates (RFC 2136); None: there is none.
        zone: The zone there that has the names; None: it is called as the domain.
        reverse_zones: The zones there that have the names of addresses.
        tsig_key_file: The key that signs updates, as ``tsig-keygen`` writes it.
        ttl_s: How long others may remember a record, in seconds.
        resync_s: How often the zones are compared even without a reason, in seconds.
        owner: Tells our records from those of another registry.
    """

    domain: DomainName | None = None
    hosts_file: FilePath | None = None
    server: ServerAddress | None = None
    zone: DomainName | None = None
    reverse_zones: Several[ReverseZone] = ()
    tsig_key_file: FilePath = Path("/etc/macbind/names.key")
    ttl_s: Annotated[int, Field(ge=0, le=SECONDS_PER_DAY)] = 60
    resync_s: Annotated[float, Field(ge=1, le=SECONDS_PER_DAY)] = 300.0
    owner: Name = "macbind"


class DhcpdSettings(_Table):
    """``[dhcpd.NAME]``: one dhcpd, how to reach it and what is rendered for it.

    Attributes:
        host: Where its OMAPI port is.
        port: The OMAPI port.
        key_name: Name of the OMAPI key.
        key_file: The key stanza, the only place of the secret.
        key_algorithm: The key's algorithm.
        config_file: What ``macbind render`` writes.
        conf_file: The file dhcpd is started with, if that is another one and includes ``config_file``; None: it is
            looked for, and ``config_file`` is made as if dhcpd were started with it.
        leases_file: dhcpd's lease file, where the controller can read it.
        log: Where dhcpd logs: a file's path, or ``journal:`` and a systemd unit; None: it is not read.
        probe: The network interface on which dhcpd is asked for an address by DHCP; None: it is not asked.
        probe_interval_s: How often, in seconds.
        resync_s: How often every binding is compared even without a reason, in seconds.
        fsync: Whether dhcpd flushes its lease file to disk before it answers.
        authoritative: Whether dhcpd refuses addresses from elsewhere instead of staying silent.
    """

    host: HostName = "127.0.0.1"
    port: Annotated[int, Field(ge=1, le=65_535)] = 7911
    key_name: KeyName = "macbind"
    key_file: FilePath = Path("/etc/dhcp/macbind.key")
    key_algorithm: Literal[
        "hmac-md5", "hmac-sha1", "hmac-sha224", "hmac-sha256", "hmac-sha384", "hmac-sha512"
    ] = "hmac-sha256"
    config_file: FilePath = Path("/etc/dhcp/macbind.conf")
    conf_file: FilePath | None = None
    leases_file: FilePath | None = None
    log: LogPlace | None = None
    probe: Interface | None = None
    probe_interval_s: Annotated[float, Field(ge=1, le=3600)] = 30.0
    resync_s: Annotated[float, Field(ge=1, le=SECONDS_PER_DAY)] = 300.0
    fsync: bool = False
    authoritative: bool = True


class _OptionKeys(_Table):
    """The DHCP options a subnet or a pool may set; their values are checked by ``DhcpOptions``."""

    routers: list[str] = []
    domain_name_servers: list[str] = []
    domain_name: str | None = None
    domain_search: list[str] = []
    ntp_servers: list[str] = []
    mtu: int | None = None
    next_server: str | None = None
    filename: str | None = None
    boot: dict[str, str] = {}
    static_routes: list[str] = []
    raw: dict[str, str] = {}
    hostname: str | None = None

    def options(self) -> dict[str, Any]:
        """The options that are set, in their textual form."""
        values = {name: getattr(self, name) for name in _OptionKeys.model_fields}
        return {name: value for name, value in values.items() if value not in (None, [], {})}


class SubnetTable(_OptionKeys):
    """``[subnet."NETWORK"]``."""

    gateway: str | None = None
    lease_time_s: Annotated[int, Field(ge=60, le=365 * SECONDS_PER_DAY)] = 600
    dynamic: list[str] = []
    shared_network: Name | None = None
    relayed: bool = False
    rendered: bool = True


class PoolTable(_OptionKeys):
    """``[pool.NAME]``."""

    subnet: str
    ranges: list[str] = []
    exclude: list[str] = []
    mac_prefix: str = "00:16:3e"
    mode: Annotated[PoolMode, Strict(strict=False)] = PoolMode.LIVE
    cooldown_s: Annotated[float, Field(ge=0, le=365 * SECONDS_PER_DAY)] = 0.0
    dhcpd: list[str] | None = None
    confirm: Annotated[Confirm, Strict(strict=False)] = Confirm.ALL
    release: Annotated[ReleasePolicy, Strict(strict=False)] = ReleasePolicy.DESTROY
    claim_timeout_s: Annotated[float, Field(ge=0, le=365 * SECONDS_PER_DAY)] = 900.0
    arp_probe: Interface | None = None
    gateway: str | None = None
    ipv6_prefix: str | None = None


class HypervisorSettings(_Table):
    """``[hypervisor.NAME]``."""

    uri: LibvirtUri
    transition_s: Annotated[float, Field(ge=1, le=3600)] = TRANSITION_S
    """How long a domain may be missing or off on its way to another state, in seconds."""
    grace_s: Annotated[float, Field(ge=0, le=3600)] = GRACE_S
    """How long a machine that stopped by itself keeps its address, in seconds."""


class Tables(_Table):
    """The whole file, each table by itself."""

    registry: RegistrySettings = RegistrySettings()
    service: ServiceSettings = ServiceSettings()
    metrics: MetricsSettings = MetricsSettings()
    page: PageSettings = PageSettings()
    api: ApiSettings = ApiSettings()
    names: NamesSettings = NamesSettings()
    dhcpd: dict[Name, DhcpdSettings] = {}
    subnet: dict[str, SubnetTable] = {}
    pool: dict[Name, PoolTable] = {}
    hypervisor: dict[Name, HypervisorSettings] = {}


TABLES: Mapping[str, type[BaseModel]] = {
    "registry": RegistrySettings,
    "service": ServiceSettings,
    "metrics": MetricsSettings,
    "page": PageSettings,
    "api": ApiSettings,
    "names": NamesSettings,
    "dhcpd": DhcpdSettings,
    "subnet": SubnetTable,
    "pool": PoolTable,
    "hypervisor": HypervisorSettings,
}
