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
import http.client
import json
import os
import socket as sockets
import struct
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from ipaddress import IPv4Address
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, NotRequired, Self, TypeVar, Unpack
from urllib.parse import quote, urlencode
from uuid import uuid4

from pydantic import TypeAdapter, ValidationError
from typing_extensions import TypedDict, override

from macbind.addressing import MacAddress, parse_address
from macbind.errors import InvalidRequest, MacbindError, NotPermitted, ServiceUnavailable
from macbind.model import NO_OPTIONS, Allocation, AuditEntry, Move, PoolUsage, Released, Status, Told
from macbind.options import DhcpOptions

if TYPE_CHECKING:
    from macbind.machine import How, Machine

DEFAULT_SOCKET = Path("/run/macbind/macbind.sock")
SOCKET_VARIABLE = "MACBIND_SOCKET"
"""Environment variable that names another socket."""

_T = TypeVar("_T")
_GRACE_S = 5.0
"""How much longer than the service the client waits, so that the service's own error arrives."""
_CONNECT_TIMEOUT = struct.pack("@ll", 3, 0)
"""How long to wait while the service accepts no connection: 3 seconds, as a ``struct timeval``."""
_MAX_IDLE = 20
"""Connections kept for the next calls."""
_MAX_ANSWER = 256 << 20
"""Bytes of an answer: 65,536 allocations have 42 MB, and more with options."""
_PIECE = 1 << 20


class Client:
    """A connection to the macbind service. May be used by several threads.

    Args:
        socket: The service's Unix socket; by default $MACBIND_SOCKET or /run/macbind/macbind.sock.
        timeout_s: How long a change may wait for dhcpd, in seconds.
    """

    def __init__(self, socket: str | Path | None = None, *, timeout_s: float = 10.0) -> None:
        self.socket = Path(socket or os.environ.get(SOCKET_VARIABLE) or DEFAULT_SOCKET)
        self.timeout_s = timeout_s
        self._idle: deque[_Connection] = deque()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections; the next call would open another."""
        while self._idle:
            self._idle.pop().close()

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
        made = _read(_PAGE, self._post("/v1/allocations", request))["allocations"]
        if not made:
            raise _not_macbind(self.socket)
        return made

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

    # -- moves -----------------------------------------------------------------------------------------

    def begin_move(
        self,
        name: str,
        to: IPv4Address | str,
        *,
        deadline_s: float = 300.0,
        generation: int | None = None,
    ) -> Move:
        """Takes the address a name is to move to; when this returns, the machine may be given its MAC.

        Both addresses are held until :meth:`finish_move` or :meth:`abort_move`, and the move is this process's own
        until it ends or ``deadline_s`` is over: others are refused (``Conflict``). To move a machine with everything
        that belongs to it, see :func:`macbind.machine.renumber`.

        Args:
            name: The name.
            to: An address of its pool, or of another pool on the same network.
            deadline_s: After so many seconds the move is settled by itself: by the MAC the machine has then.
            generation: Only to go on with the move to the allocation of this generation, for more time.

        Returns:
            The move; with the same allocation twice if the name has the address already.
        """
        body = {
            "name": name,
            "to": str(parse_address(str(to))),
            "deadline_s": deadline_s,
            "generation": generation,
        }
        return _read(_MOVE, self._post("/v1/moves", body))

    def finish_move(self, name: str, generation: int) -> Move:
        """The machine has arrived: when this returns, its old address can be allocated again.

        Args:
            name: The name.
            generation: Of the allocation it moves to.
        """
        return _read(_MOVE, self._post("/v1/moves/finish", {"name": name, "generation": generation}))

    def abort_move(self, name: str, *, generation: int | None = None) -> Released:
        """Gives a move up: the name keeps its address, and the other one can be allocated again.

        Args:
            name: The name.
            generation: Only if it moves to the allocation of this generation.
        """
        return _read(_RELEASED, self._post("/v1/moves/abort", {"name": name, "generation": generation}))

    def moves(self) -> Sequence[Move]:
        """The moves under way."""
        return _read(_MOVES, self._call("GET", "/v1/moves"))

    # -- machines --------------------------------------------------------------------------------------

    def machine(
        self, template: str | Path, pool: str, *, name: str | None = None, **how: Unpack[How]
    ) -> AbstractContextManager[Machine]:
        """A machine for as long as a ``with`` block lasts; see :func:`macbind.machine.launch`."""
        from macbind import machine

        return machine.machine(self, template, pool, name, **how)

    def machines(
        self, template: str | Path, pool: str, group: str, count: int, **how: Unpack[How]
    ) -> AbstractContextManager[Sequence[Machine]]:
        """Several machines, all or none, for as long as a ``with`` block lasts."""
        from macbind import machine

        return machine.machines(self, template, pool, group, count, **how)

    # -- questions -------------------------------------------------------------------------------------

    def get(self, name: str) -> Allocation:
        """The allocation of that name.

        Raises:
            NotFound: There is none.
        """
        return _read(_ALLOCATION, self._call("GET", f"/v1/allocations/{_segment(name)}"))

    def told(self, name: str) -> Told:
        """What the machine of that name is told of its place in the network: mask, gateway, DNS and the rest.

        Raises:
            NotFound: There is no such allocation.
        """
        return _read(_TOLD, self._call("GET", f"/v1/told/{_segment(name)}"))

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
        last: IPv4Address | None = None
        while True:
            page = _read(_PAGE, self._call("GET", "/v1/allocations", params=params))
            yield from page["allocations"]
            following = page.get("next")
            if following is None:
                return
            if last is not None and following <= last:
                raise _not_macbind(self.socket)  # it would never end
            last = following
            params["after"] = str(following)

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
        return self._call("POST", path, body=filled | {"timeout_s": self.timeout_s})

    def _call(
        self,
        method: str,
        path: str,
        *,
        params: dict[str, Any] | None = None,
        body: dict[str, Any] | None = None,
    ) -> Any:
        try:
            data = None if body is None else json.dumps(body, allow_nan=False).encode()
            url = f"{path}?{urlencode(params)}" if params else path
        except ValueError as error:  # a number that is none, a text that is no Unicode
            raise InvalidRequest(
                f"The request cannot be written down: {error}.", hint="Check the values given."
            ) from error
        status, content = self._exchange(method, url, data)
        try:
            answer = json.loads(content)
            if status < http.HTTPStatus.BAD_REQUEST:
                return answer
            problem = MacbindError.from_dict(answer["error"])
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise _not_macbind(self.socket) from error
        raise problem

    def _exchange(self, method: str, url: str, data: bytes | None) -> tuple[int, bytes]:
        """Status and body of the answer. Every thread that calls at the same time has its own connection."""
        while True:
            try:
                connection, is_fresh = self._idle.pop(), False
            except IndexError:
                connection, is_fresh = _Connection(self.socket, self.timeout_s + _GRACE_S), True
            try:
                if is_fresh:
                    connection.open()
                response, content = connection.exchange(method, url, data)
            except (OSError, http.client.HTTPException, ValueError) as error:  # ValueError: a chunk's size
                connection.close()
                if not is_fresh and isinstance(error, ConnectionError):
                    continue  # closed by the service while it was idle; every call may be repeated
                raise ServiceUnavailable(
                    f"The macbind service at {self.socket} did not answer: {str(error) or type(error).__name__}.",
                    hint="What it did is unknown; the same call may be repeated safely.",
                ) from error
            except BaseException:  # e.g. KeyboardInterrupt: the answer is still on its way
                connection.close()
                raise
            if connection.sock is None or len(self._idle) >= _MAX_IDLE:
                connection.close()
            else:
                self._idle.append(connection)
            return response.status, content


class _Socket(sockets.socket):
    """A socket with a deadline for all that is received, however slowly it trickles in."""

    deadline = 0.0

    @override
    def recv_into(self, *arguments: Any) -> int:
        left_s = self.deadline - time.monotonic()
        if left_s <= 0:
            raise TimeoutError("timed out")
        self.settimeout(left_s)
        return super().recv_into(*arguments)


class _Connection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    sock: _Socket | None

    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__("macbind", timeout=timeout_s)
        self._path, self._timeout_s = path, timeout_s

    def exchange(self, method: str, url: str, data: bytes | None) -> tuple[http.client.HTTPResponse, bytes]:
        """One request and its answer with its body.

        Raises:
            OSError, HTTPException: The connection broke, nothing came in time, or it is not HTTP.
        """
        assert self.sock is not None
        self.sock.settimeout(self._timeout_s)
        self.sock.deadline = time.monotonic() + self._timeout_s
        # A service that refuses to read the request may have said why before it closed the connection.
        with suppress(BrokenPipeError, ConnectionResetError):
            self.request(method, url, data, {"Content-Type": "application/json"} if data else {})
        response = self.getresponse()
        content = bytearray()
        while piece := response.read(_PIECE):
            content += piece
            if len(content) > _MAX_ANSWER:
                raise http.client.HTTPException(f"more than {_MAX_ANSWER >> 20} MiB were sent")
        if response.length:
            raise http.client.IncompleteRead(bytes(content), response.length)
        return response, bytes(content)

    @override
    def connect(self) -> None:
        self.sock = _Socket(sockets.AF_UNIX, sockets.SOCK_STREAM)
        # Without a timeout of Python's own the kernel lets us wait while the service's backlog is full.
        self.sock.setsockopt(sockets.SOL_SOCKET, sockets.SO_SNDTIMEO, _CONNECT_TIMEOUT)
        self.sock.connect(str(self._path))
        self.sock.settimeout(self.timeout)

    def open(self) -> None:
        """Connects.

        Raises:
            ServiceUnavailable, NotPermitted: It is not possible.
        """
        try:
            self.connect()
        except OSError as error:
            self.close()
            raise _unreachable(self._path, error) from error


def _segment(name: str) -> str:
    """A name as one segment of a path, slashes included.

    Raises:
        InvalidRequest: It is no Unicode text.
    """
    try:
        return quote(name, safe="")
    except UnicodeError:
        raise InvalidRequest(
            f"{name!r} cannot be a name.", hint="Use letters and digits; it is no Unicode text."
        ) from None


def _unreachable(socket: Path, error: OSError) -> MacbindError:
    start = "Start it with `systemctl start macbind` or `macbind serve`."
    match error.errno:
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


def _not_macbind(socket: Path) -> ServiceUnavailable:
    return ServiceUnavailable(
        f"What answers at {socket} is not a macbind service of this version.",
        hint="Check the path of the socket, and that client and service are of one version.",
    )


def _read(adapter: TypeAdapter[_T], data: Any) -> _T:
    try:
        return adapter.validate_python(data)
    except (ValidationError, MacbindError) as error:  # our own types say what is wrong with them themselves
        what = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error.message.rstrip(".")
        raise ServiceUnavailable(
            f"The service's answer is not what this client understands: {what}.",
            hint="Use a client of the same version as the service.",
        ) from error


class _Page(TypedDict):
    """Allocations, and where the next page begins."""

    allocations: list[Allocation]
    next: NotRequired[IPv4Address | None]


_ALLOCATION = TypeAdapter(Allocation)
_PAGE = TypeAdapter(_Page)
_RELEASED = TypeAdapter(Released)
_MOVE = TypeAdapter(Move)
_MOVES = TypeAdapter(list[Move])
_POOLS = TypeAdapter(list[PoolUsage])
_STATUS = TypeAdapter(Status)
_TOLD = TypeAdapter(Told)
_HISTORY = TypeAdapter(list[AuditEntry])
