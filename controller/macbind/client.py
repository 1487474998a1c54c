"""The Python API: what the program that runs the farm calls.

::

    with macbind.Client() as client:
        vm = client.allocate("farm", "build-7")   # dhcpd has confirmed: start the machine with vm.mac
        ...
        client.release("build-7")                 # gone from dhcpd: the address is free again

Values and exceptions are the ones the service itself uses. Every call may be repeated: the same name finds
the same allocation, and releasing what is gone succeeds and says so.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from ipaddress import IPv4Address
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import quote
from uuid import uuid4

import httpx
from pydantic import TypeAdapter, ValidationError

from macbind.addressing import MacAddress, parse_address
from macbind.errors import InvalidRequest, MacbindError, NotPermitted, ServiceUnavailable
from macbind.model import NO_OPTIONS, Allocation, AuditEntry, PoolUsage, Released, Status
from macbind.options import DhcpOptions

DEFAULT_SOCKET = Path("/run/macbind/macbind.sock")
SOCKET_VARIABLE = "MACBIND_SOCKET"
"""Environment variable that names another socket."""

_T = TypeVar("_T")
_LIMITS = httpx.Limits(max_connections=None, max_keepalive_connections=20)
_GRACE_S = 5.0
"""How much longer than the service the client waits, so that the service's own error arrives."""


class Client:
    """A connection to the macbind service. May be used by several threads.

    Args:
        socket: The service's Unix socket; by default $MACBIND_SOCKET or /run/macbind/macbind.sock.
        timeout_s: How long a change may wait for dhcpd, in seconds.
    """

    def __init__(self, socket: str | Path | None = None, *, timeout_s: float = 10.0) -> None:
        self.socket = Path(socket or os.environ.get(SOCKET_VARIABLE) or DEFAULT_SOCKET)
        self.timeout_s = timeout_s
        self._http = httpx.Client(
            # As many connections as threads that call: none waits for its turn. There is no TLS on a Unix socket,
            # so the authorities' certificates (which take longer to load than a request to answer) stay out.
            transport=httpx.HTTPTransport(uds=str(self.socket), limits=_LIMITS, verify=False),
            base_url="http://macbind",
            timeout=httpx.Timeout(timeout_s + _GRACE_S, connect=5.0),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection."""
        self._http.close()

    # -- changes ---------------------------------------------------------------------------------------

    def allocate(
        self,
        pool: str,
        name: str | None = None,
        *,
        address: IPv4Address | str | None = None,
        options: DhcpOptions = NO_OPTIONS,
        group: str | None = None,
        domain: str | None = None,
        ttl_s: float | None = None,
    ) -> Allocation:
        """Takes the first unoccupied address of a pool; when this returns, the machine may be started.

        Args:
            pool: The pool.
            name: The key to find it again; made up if left out.
            address: This address and no other.
            options: DHCP options of this machine on top of the pool's.
            group: A group to release it with.
            domain: The libvirt domain it is for.
            ttl_s: Released by itself after so many seconds; asking again renews it.

        Raises:
            RequestError: It is not possible; asking again changes nothing.
            PeerError: dhcpd or the service is unavailable; the same call may succeed later.
        """
        body = {"name": f"vm-{uuid4().hex[:12]}" if name is None else name, "group": group}
        return self._allocate(pool, body, options, domain, ttl_s, address)[0]

    def allocate_group(
        self,
        pool: str,
        group: str,
        count: int | None = None,
        *,
        names: Sequence[str] | None = None,
        options: DhcpOptions = NO_OPTIONS,
        domain: str | None = None,
        ttl_s: float | None = None,
    ) -> list[Allocation]:
        """Takes several addresses, all or none.

        Args:
            pool: The pool.
            group: The group; release it as one with :meth:`release_group`.
            count: How many; the members are named ``group-1``, ``group-2`` …
            names: Their names, instead of a count.
            options: DHCP options of each of these machines.
            domain: The libvirt domain they are for.
            ttl_s: Released by themselves after so many seconds.

        Returns:
            The allocations in the order of their names as asked for.
        """
        body = {"group": group, "count": count, "names": None if names is None else list(names)}
        return self._allocate(pool, body, options, domain, ttl_s, None)

    def _allocate(
        self,
        pool: str,
        body: dict[str, Any],
        options: DhcpOptions,
        domain: str | None,
        ttl_s: float | None,
        address: IPv4Address | str | None,
    ) -> list[Allocation]:
        request = body | {"pool": pool, "options": options.to_dict(), "domain": domain, "ttl_s": ttl_s}
        if address is not None:
            request["address"] = str(parse_address(str(address)))
        answer = self._post("/v1/allocations", request)
        return _read(_ALLOCATION_LIST, answer["allocations"])

    def release(
        self,
        name: str | None = None,
        *,
        address: IPv4Address | str | None = None,
        generation: int | None = None,
        reason: str = "asked",
    ) -> Released:
        """Releases one allocation; when this returns, its address can be allocated again.

        Args:
            name: Its name.
            address: Or its address.
            generation: Only if it is still of this generation: a late call cannot hit a successor.
            reason: Why, for the audit log.

        Raises:
            InvalidRequest: Both or none of name and address are given.
        """
        body = {"name": name, "generation": generation, "reason": reason}
        if address is not None:
            body["address"] = str(parse_address(str(address)))
        return self._released(body)

    def release_group(self, group: str, *, reason: str = "asked") -> Released:
        """Releases every allocation of a group."""
        return self._released({"group": group, "reason": reason})

    def _released(self, body: dict[str, Any]) -> Released:
        return _read(_RELEASED, self._post("/v1/release", body))

    def reserve(
        self,
        name: str,
        address: IPv4Address | str,
        *,
        mac: MacAddress | str | None = None,
        options: DhcpOptions = NO_OPTIONS,
    ) -> Allocation:
        """Pins an address: only :meth:`unreserve` ends it.

        Args:
            name: Its name.
            address: An address of a pool's subnet.
            mac: A foreign MAC, e.g. of a printer; by default the address's own.
            options: DHCP options of this machine.
        """
        body: dict[str, Any] = {
            "name": name,
            "address": str(parse_address(str(address))),
            "options": options.to_dict(),
        }
        if mac is not None:
            body["mac"] = str(mac if isinstance(mac, MacAddress) else MacAddress.parse(mac))
        return _read(_ALLOCATION, self._post("/v1/reservations", body))

    def unreserve(self, name: str) -> Released:
        """Ends a pinned reservation."""
        path = f"/v1/reservations/{_segment(name)}"
        return _read(_RELEASED, self._call("DELETE", path, params={"timeout_s": self.timeout_s}))

    # -- questions -------------------------------------------------------------------------------------

    def get(self, name: str) -> Allocation:
        """The allocation of that name.

        Raises:
            NotFound: There is none.
        """
        return _read(_ALLOCATION, self._call("GET", f"/v1/allocations/{_segment(name)}"))

    def list(
        self,
        *,
        pool: str | None = None,
        group: str | None = None,
        address: IPv4Address | None = None,
        mac: MacAddress | None = None,
        released: bool = False,
    ) -> Iterator[Allocation]:
        """Allocations in the order of their addresses, fetched in pages.

        Args:
            pool: Only of this pool.
            group: Only of this group.
            address: Only this address.
            mac: Only this MAC.
            released: Whether released ones that are not gone yet are included.
        """
        params: dict[str, Any] = {"released": released, "limit": 1000}
        filters = {"pool": pool, "group": group, "address": address, "mac": mac}
        params |= {key: str(value) for key, value in filters.items() if value is not None}
        while True:
            page = self._call("GET", "/v1/allocations", params=params)
            yield from _read(_ALLOCATION_LIST, page["allocations"])
            if page["next"] is None:
                return
            params["after"] = page["next"]

    def pools(self) -> Sequence[PoolUsage]:
        """All pools in numbers."""
        return _read(_POOLS, self._call("GET", "/v1/pools"))

    def status(self) -> Status:
        """The service at a glance."""
        return _read(_STATUS, self._call("GET", "/v1/status"))

    def history(
        self, *, address: IPv4Address | str | None = None, name: str | None = None, limit: int = 100
    ) -> Sequence[AuditEntry]:
        """The latest changes, newest first, of an address or a name if given."""
        params: dict[str, Any] = {"limit": limit}
        if address is not None:
            params["address"] = str(parse_address(str(address)))
        if name is not None:
            params["name"] = name
        return _read(_HISTORY, self._call("GET", "/v1/history", params=params))

    # -- plumbing --------------------------------------------------------------------------------------

    def _post(self, path: str, body: dict[str, Any]) -> Any:
        filled = {key: value for key, value in body.items() if value is not None}
        return self._call("POST", path, json=filled | {"timeout_s": self.timeout_s})

    def _call(self, method: str, path: str, **request: Any) -> Any:
        try:
            message = self._http.build_request(method, path, **request)
        except ValueError as error:  # a text that is no Unicode, a number that is none
            raise InvalidRequest(
                f"The request cannot be written as JSON: {error}.", hint="Check the values given."
            ) from error
        try:
            response = self._http.send(message)
        except httpx.ConnectError as error:
            raise _unreachable(self.socket, error) from error
        except httpx.HTTPError as error:
            raise ServiceUnavailable(
                f"The macbind service at {self.socket} did not answer: {str(error) or type(error).__name__}.",
                hint="What it did is unknown; the same call may be repeated safely.",
            ) from error
        try:
            answer = response.json()
            if response.is_success:
                return answer
            problem = MacbindError.from_dict(answer["error"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise _not_macbind(self.socket) from error
        raise problem


def _segment(name: str) -> str:
    """A name as one segment of a path: with its slashes and dots, which httpx would resolve as in a file name.

    Raises:
        InvalidRequest: It is no Unicode text.
    """
    try:
        return quote(name, safe="").replace(".", "%2E")
    except UnicodeError:
        raise InvalidRequest(
            f"{name!r} cannot be a name.", hint="Use letters and digits; it is no Unicode text."
        ) from None


def _unreachable(socket: Path, error: Exception) -> MacbindError:
    start = "Start it with `systemctl start macbind` or `macbind serve`."
    match _errno(error):
        case errno.ENOENT:
            why, hint = "there is no such socket", start
        case errno.ECONNREFUSED:
            why, hint = "nobody listens", start
        case errno.EAGAIN:
            why, hint = "too many connections wait for it already", "Ask again in a moment."
        case errno.EACCES:
            return NotPermitted(
                f"Your user may not connect to the macbind service at {socket}: permission denied.",
                hint="Join the socket's group ([service] socket_group of macbind.toml), or ask as root.",
                socket=str(socket),
            )
        case _:
            why, hint = str(error), "Check the path of the socket."
    return ServiceUnavailable(
        f"The macbind service at {socket} cannot be reached: {why}.", hint=hint, socket=str(socket)
    )


def _errno(error: BaseException | None) -> int | None:
    """The number of the system's error that a transport's error was made of."""
    while error is not None:
        if isinstance(error, OSError) and error.errno is not None:
            return error.errno
        error = error.__cause__ or error.__context__
    return None


def _not_macbind(socket: Path) -> ServiceUnavailable:
    return ServiceUnavailable(
        f"What answers at {socket} is not a macbind service of this version.",
        hint="Check the path of the socket, and that client and service are of one version.",
    )


def _read(adapter: TypeAdapter[_T], data: Any) -> _T:
    try:
        return adapter.validate_python(data)
    except ValidationError as error:
        raise ServiceUnavailable(
            f"The service's answer is not what this client understands: {error.errors()[0]['msg']}.",
            hint="Use a client of the same version as the service.",
        ) from error


_ALLOCATION = TypeAdapter(Allocation)
_ALLOCATION_LIST = TypeAdapter(list[Allocation])
_RELEASED = TypeAdapter(Released)
_POOLS = TypeAdapter(list[PoolUsage])
_STATUS = TypeAdapter(Status)
_HISTORY = TypeAdapter(list[AuditEntry])
