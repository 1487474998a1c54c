"""Named steps at which the daemon can be killed: the only place that knows macbind's inside.

A step is a place in a function of the product, found by its name when the daemon starts; one that is not there
any more stops it at once. When a step is armed and reached, the process kills itself as a power cut would.
"""

import functools
import importlib
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any


class When(Enum):
    """Where in a function a step is."""

    BEFORE = auto()
    AFTER = auto()
    INSIDE = auto()  # of a context manager: after the block, before its own end
    OUTSIDE = auto()  # of a context manager: when it has ended well
    SENT = auto()  # of a function that connects: after bytes were sent
    HALF_SENT = auto()  # of a function that connects: in the middle of them


class Need(Enum):
    """What the harness does so that a step is reached: nothing, since work reaches it, or a fault."""

    WORK = auto()
    RECONNECT = auto()
    LOSS = auto()  # dhcpd forgets reservations
    GHOSTS = auto()  # dhcpd remembers what was deleted
    REFUSAL = auto()  # dhcpd refuses
    RESTART = auto()
    DOMAINS = auto()


Condition = Callable[[tuple[Any, ...], Any], Any]
"""Whether a call counts, given its arguments and (afterwards) its result."""


@dataclass(frozen=True)
class Step:
    """A place to die: `target` is module:attribute."""

    name: str
    target: str
    when: When
    need: Need = Need.WORK
    only: Condition = lambda _arguments, _result: True
    registry: str = ""  # only with this kind of registry


def _changes(arguments: tuple[Any, ...], _: Any) -> bool:
    from macbind.client import codec

    written = (codec.PAGE, codec.ALLOCATION, codec.RELEASED, codec.RENUMBERING)
    return any(arguments[0] is one for one in written)


def _by_caller(arguments: tuple[Any, ...], _: Any) -> bool:
    return bool(arguments[1] != "writer")


def _by_writer(arguments: tuple[Any, ...], _: Any) -> bool:
    return bool(arguments[1] == "writer")


def _between_windows(arguments: tuple[Any, ...], _: Any) -> bool:
    session = arguments[0]
    return bool(session.ready and session._queue and not session._in_flight)


def _some(arguments: tuple[Any, ...], _: Any) -> bool:
    return bool(arguments[1])


_WRITE = "macbind.registry.store:Registry.write"
_DHCPD = "macbind.dhcp.isc.server:IscDhcpd"
_WRITER = "macbind.engine.dhcp_writer:DhcpWriter"
_RECONCILER = "macbind.engine.reconciler:Reconciler"
_VERDICTS = "macbind.engine.domains.verdicts"
_SESSION = "macbind.dhcp.isc.omapi:Session"
_B, _A = When.BEFORE, When.AFTER

STEPS = (
    # a request, and its transaction
    Step("request read", "macbind.service.changes:Changes.commit", _B),
    Step("queued for the committer", "macbind.engine.group_commit:GroupCommitter.submit", _A),
    Step("change made, not committed", _WRITE, When.INSIDE, only=_by_caller),
    Step("change committed", _WRITE, When.OUTSIDE, only=_by_caller),
    Step("before callers hear of the commit", "macbind.daemon.controller:Controller._wake", _B),
    # the writer's batch
    Step(
        "due changes read",
        "macbind.registry.pending_changes:pending_changes",
        _A,
        only=lambda _, found: found,
    ),
    Step("before dhcpd is told", f"{_DHCPD}.apply", _B, only=_some),
    Step("OMAPI: request half sent", "macbind.dhcp.isc.connection:tcp", When.HALF_SENT),
    Step("OMAPI: request sent", "macbind.dhcp.isc.connection:tcp", When.SENT),
    Step("OMAPI: reply arrived", f"{_SESSION}.feed", _B, only=lambda given, _: given[0].ready),
    Step("OMAPI: between two windows", f"{_SESSION}.feed", _A, Need.RECONNECT, only=_between_windows),
    Step("hosts created", f"{_DHCPD}._create", _A, only=_some),
    Step("hosts looked at and deleted", f"{_DHCPD}._look_and_act", _A, only=_some),
    Step("before leases are ended", "macbind.dhcp.isc.leases:end_leases", _B, only=_some),
    Step("dhcpd has done it", f"{_DHCPD}.apply", _A, only=_some),
    Step("confirmation made, not committed", _WRITE, When.INSIDE, only=_by_writer),
    Step("confirmation committed", _WRITE, When.OUTSIDE, only=_by_writer),
    Step("before those who wait hear", "macbind.engine.confirmations:Confirmations.confirmed", _B),
    Step("those who wait have heard", "macbind.engine.confirmations:Confirmations.confirmed", _A),
    Step("before the answer leaves", "macbind.http.operation:written", _B, only=_changes),
    Step(
        "before a refused allocation is taken back",
        "macbind.service.changes:Changes._withdraw",
        _B,
        Need.REFUSAL,
        only=_some,
    ),
    Step("rested addresses swept", "macbind.registry.resting:sweep", _A),
    # connecting and comparing
    Step("leader", "macbind.registry.leader:FileLeader.acquire", _A, Need.RESTART, registry="sqlite"),
    Step("leader", "macbind.registry.leader:AdvisoryLeader.acquire", _A, Need.RESTART, registry="postgresql"),
    Step("OMAPI: connected", "macbind.dhcp.isc.connection:OmapiClient.__init__", _A, Need.RECONNECT),
    Step("comparison begins", f"{_WRITER}._compare", _B, Need.RECONNECT),
    Step("comparison: some looked up", f"{_DHCPD}.observe", _A, Need.RECONNECT),
    Step("comparison: differences marked", f"{_RECONCILER}._doubt", _A, Need.LOSS, only=_some),
    Step("comparison: lease file read", f"{_DHCPD}.audit", _A, Need.RECONNECT),
    Step("comparison: before leftovers are removed", f"{_RECONCILER}._clear", _B, Need.GHOSTS, only=_some),
    Step("comparison: leftovers removed", f"{_RECONCILER}._clear", _A, Need.GHOSTS, only=_some),
    Step("comparison over", f"{_WRITER}._compare", _A, Need.RECONNECT),
    # domains
    Step(
        "before a domain is recorded",
        "macbind.engine.domains.adoption:record_users",
        _B,
        Need.DOMAINS,
        only=lambda given, _: bool(given[2]),
    ),
    Step("domain judged", f"{_VERDICTS}:apply", _B, Need.DOMAINS),
    Step(
        "domain's address released",
        f"{_VERDICTS}:Verdicts.carry_out",
        _A,
        Need.DOMAINS,
        only=lambda given, _: given[2],
    ),
)


class MissingSeam(RuntimeError):
    """macbind has no longer what a step or a plant is about; adapt the table."""


def resolve(target: str) -> tuple[Any, str, Any]:
    """The owner, the attribute's name and the attribute that `module:attribute` names.

    Raises:
        MissingSeam: There is no such thing.
    """
    module, _, path = target.partition(":")
    *owners, name = path.split(".")
    try:
        owner = importlib.import_module(module)
        for part in owners:
            owner = getattr(owner, part)
        # What a class only inherits would be replaced for its children alone.
        return owner, name, vars(owner)[name]
    except (ImportError, AttributeError, KeyError) as error:
        raise MissingSeam(f"macbind has no {target} any more: adapt chaos/seams.py or plants.py") from error


def replace(target: str, make: Callable[[Any], Any]) -> None:
    """Puts `make(original)` in the place of a function of the product, also where it was imported by its name."""
    owner, name, original = resolve(target)
    new = functools.wraps(original)(make(original))
    setattr(owner, name, new)
    for module in [one for key, one in sys.modules.items() if key.startswith("macbind.")]:
        if vars(module).get(name) is original:
            setattr(module, name, new)


def install(registry: str, reached: Callable[[str], None]) -> None:
    """Has `reached` called with the name of every step that is come to.

    Raises:
        MissingSeam: macbind has changed.
    """
    for step in STEPS:
        if step.registry in ("", registry):
            replace(step.target, functools.partial(_wrap, step, reached))


def kill_self() -> None:
    """Ends this process at once: nothing is flushed, closed or said."""
    os.kill(os.getpid(), signal.SIGKILL)


def _wrap(step: Step, reached: Callable[[str], None], original: Any) -> Any:
    match step.when:
        case When.BEFORE | When.AFTER:

            def call(*arguments: Any, **named: Any) -> Any:
                if step.when is When.BEFORE and step.only(arguments, None):
                    reached(step.name)
                result = original(*arguments, **named)
                if step.when is When.AFTER and step.only(arguments, result):
                    reached(step.name)
                return result

            return call
        case When.INSIDE | When.OUTSIDE:

            @contextmanager
            def manager(*arguments: Any, **named: Any) -> Iterator[Any]:
                with original(*arguments, **named) as value:
                    yield value
                    if step.when is When.INSIDE and step.only(arguments, value):
                        reached(step.name)
                if step.when is When.OUTSIDE and step.only(arguments, value):
                    reached(step.name)

            return manager
        case When.SENT | When.HALF_SENT:

            def connecting(*arguments: Any, **named: Any) -> Any:
                connect = original(*arguments, **named)
                return lambda timeout_s: _Wire.around(connect(timeout_s), step, reached)

            return connecting


class _Wire(socket.socket):
    """A connected socket that tells of what it sends."""

    _steps: list[Step]
    _reached: Callable[[str], None]

    @classmethod
    def around(cls, connected: socket.socket, step: Step, reached: Callable[[str], None]) -> "_Wire":
        timeout_s = connected.gettimeout()
        earlier = connected if isinstance(connected, _Wire) else None
        wire = cls(fileno=connected.detach())
        wire.settimeout(timeout_s)
        wire._steps = [*(earlier._steps if earlier else []), step]
        wire._reached = reached
        return wire

    def sendall(self, data: Any, *flags: Any) -> None:
        """Sends."""
        half = len(data) // 2
        steps = {step.when: step for step in self._steps}
        super().sendall(data[:half], *flags)
        if When.HALF_SENT in steps:
            self._reached(steps[When.HALF_SENT].name)
        super().sendall(data[half:], *flags)
        if When.SENT in steps:
            self._reached(steps[When.SENT].name)
