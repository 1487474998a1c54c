"""What can go wrong, whose fault it is, and what the caller should do about it.

::

    MacbindError
    ├── ConfigError              the configuration file must be mended
    ├── RequestError             the caller's fault: asking again changes nothing
    │   ├── InvalidRequest       the request is not well formed
    │   ├── InvalidAddress       not an IPv4 address, MAC or range
    │   ├── InvalidLabel         not a label, or too many
    │   ├── InvalidOption        a DHCP option value that dhcpd must not be given
    │   ├── NotInPool            an address no pool may hand out
    │   ├── AddressInUse         somebody else holds the address or the MAC
    │   ├── PoolExhausted        no unoccupied address is left
    │   ├── NotFound             no pool or allocation of that name
    │   ├── Conflict             the same name with other parameters
    │   └── NotPermitted         the caller may not do this
    │       ├── TokenInvalid     no token, or none that there is
    │       └── TokenExpired     the token's time is over
    ├── PeerError                a peer's fault: asking again later may succeed
    │   ├── DhcpdUnavailable     dhcpd did not answer in time
    │   ├── DhcpdRefused         dhcpd answered, and said no
    │   │   └── StorageFailed    dhcpd cannot write down what it is to serve
    │   ├── RegistryUnavailable  the database is locked, full or gone
    │   ├── AddressAnswered      a stranger uses the address; asking again takes another
    │   ├── NetworkUnavailable   an interface cannot be used
    │   ├── LogUnavailable       dhcpd's log cannot be read
    │   ├── HypervisorUnavailable  libvirt does not answer; no address is released meanwhile
    │   ├── NotYet               what was waited for has not happened in time
    │   ├── MachineFailed        a machine did not start, or started and did not answer in time
    │   └── ServiceUnavailable   the macbind daemon cannot be reached
    └── InvariantViolation       a defect of macbind itself

Every class has a stable ``code`` that programs may compare; ``message`` says what is wrong and where,
``hint`` how to mend it. An error travels through the HTTP API as :meth:`MacbindError.to_dict` and is raised
again, as the same class, by the Python client.
"""

from __future__ import annotations

from typing import Any, ClassVar


class MacbindError(Exception):
    """Base of everything macbind raises on purpose; never raised itself.

    Args:
        message: One sentence: what is wrong, and where.
        hint: One sentence: how to mend it. Empty if the message says it already.
        details: Machine-readable facts (strings and numbers), e.g. ``{"pool": "farm"}``.
    """

    code: ClassVar[str] = "error"
    _by_code: ClassVar[dict[str, type[MacbindError]]] = {}

    def __init__(self, message: str, *, hint: str = "", **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.details = details

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        MacbindError._by_code[cls.code] = cls

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".rstrip()

    def to_dict(self) -> dict[str, Any]:
        """Returns the JSON shape of the error: ``code``, ``message``, ``hint``, ``details``."""
        return {"code": self.code, "message": self.message, "hint": self.hint, "details": self.details}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> MacbindError:
        """Rebuilds the error that :meth:`to_dict` described; an unknown code becomes a ServiceUnavailable."""
        kind = cls._by_code.get(str(data.get("code")))
        if kind is None:
            return ServiceUnavailable(
                f"The service answered with an error this client does not know: {data!r}.",
                hint="Use a client of the same version as the service.",
            )
        error = kind(str(data.get("message", "")), hint=str(data.get("hint", "")))
        error.details = dict(data.get("details") or {})
        return error


class ConfigError(MacbindError):
    """The configuration cannot be used; nothing was changed."""

    code = "config_error"


class RequestError(MacbindError):
    """The caller's fault. The same request will fail again."""

    code = "request_error"


class InvalidRequest(RequestError):
    """The request is not well formed."""

    code = "invalid_request"


class InvalidAddress(RequestError):
    """A text is not an IPv4 address, MAC address or address range."""

    code = "invalid_address"


class InvalidOption(RequestError):
    """A DHCP option value that dhcpd must never be given."""

    code = "invalid_option"


class InvalidLabel(RequestError):
    """A label that an allocation cannot have, or too many of them."""

    code = "invalid_label"


class NotInPool(RequestError):
    """The address is not one the pool may hand out."""

    code = "not_in_pool"


class AddressInUse(RequestError):
    """The address or the MAC belongs to somebody else; ``details`` say to whom."""

    code = "address_in_use"


class PoolExhausted(RequestError):
    """The pool has fewer unoccupied addresses than were asked for; none was taken."""

    code = "pool_exhausted"


class NotFound(RequestError):
    """No pool or allocation of that name."""

    code = "not_found"


class Conflict(RequestError):
    """The name is held already, with other parameters."""

    code = "conflict"


class NotPermitted(RequestError):
    """The caller's user may not do this."""

    code = "not_permitted"


class TokenInvalid(NotPermitted):
    """The page was asked without a token, or with one that there is not."""

    code = "token_invalid"


class TokenExpired(NotPermitted):
    """The page was asked with a token whose time is over."""

    code = "token_expired"


class PeerError(MacbindError):
    """A peer's fault. The same request may succeed later."""

    code = "peer_error"


class DhcpdUnavailable(PeerError):
    """dhcpd did not confirm in time. What it did is unknown until it has been asked again."""

    code = "dhcpd_unavailable"


class DhcpdRefused(PeerError):
    """dhcpd answered and refused; ``details['result']`` is its result code where there is one."""

    code = "dhcpd_refused"


class StorageFailed(DhcpdRefused):
    """dhcpd cannot write down what it is to serve: it would not know it after its next start."""

    code = "storage_failed"


class RegistryUnavailable(PeerError):
    """The registry's database is locked, full or gone. Nothing was changed, unless ``outcome`` is "unknown"."""

    code = "registry_unavailable"


class AddressAnswered(PeerError):
    """A machine that nobody allocated answers for the address; ``details['mac']`` says who. It is passed over."""

    code = "address_answered"


class NetworkUnavailable(PeerError):
    """A network interface cannot be used."""

    code = "network_unavailable"


class LogUnavailable(PeerError):
    """dhcpd's log cannot be read; nothing else depends on it."""

    code = "log_unavailable"


class HypervisorUnavailable(PeerError):
    """libvirt does not answer. Nothing is known about its domains, so none of their addresses is released."""

    code = "hypervisor_unavailable"


class MachineFailed(PeerError):
    """A machine did not start, or started and did not answer in time; ``details['step']`` says how far it came."""

    code = "machine_failed"


class NotYet(PeerError):
    """What was waited for has not happened in time; ``details['names']`` says for which names."""

    code = "not_yet"


class ServiceUnavailable(PeerError):
    """The macbind daemon cannot be reached."""

    code = "service_unavailable"


class InvariantViolation(MacbindError):
    """A defect of macbind itself: the registry and its rules disagree. Nothing was changed."""

    code = "invariant_violation"
