"""macbind: one allocation for the IP and the MAC of a virtual machine, made real in ISC dhcpd.

The public names; everything else may change between versions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from macbind.addressing import MacAddress
    from macbind.client import Client
    from macbind.errors import (
        AddressInUse,
        ConfigError,
        Conflict,
        DhcpdRefused,
        DhcpdUnavailable,
        InvalidAddress,
        InvalidOption,
        InvalidRequest,
        InvariantViolation,
        MacbindError,
        NotFound,
        NotInPool,
        NotPermitted,
        PeerError,
        PoolExhausted,
        RegistryUnavailable,
        RequestError,
        ServiceUnavailable,
    )
    from macbind.model import Allocation, AuditEntry, PoolUsage, Released, State, Status, Told
    from macbind.options import DhcpOptions, StaticRoute

__all__ = [
    "AddressInUse",
    "Allocation",
    "AuditEntry",
    "Client",
    "ConfigError",
    "Conflict",
    "DhcpOptions",
    "DhcpdRefused",
    "DhcpdUnavailable",
    "InvalidAddress",
    "InvalidOption",
    "InvalidRequest",
    "InvariantViolation",
    "MacAddress",
    "MacbindError",
    "NotFound",
    "NotInPool",
    "NotPermitted",
    "PeerError",
    "PoolExhausted",
    "PoolUsage",
    "RegistryUnavailable",
    "Released",
    "RequestError",
    "ServiceUnavailable",
    "State",
    "StaticRoute",
    "Status",
    "Told",
    "__version__",
]

_HOMES = ("errors", "model", "options", "addressing", "client")


def __getattr__(name: str) -> Any:
    """Imports a public name when it is first used: the command line must not pay for all of them."""
    if name in __all__:
        from importlib import import_module

        for home in _HOMES:
            module = import_module(f"{__name__}.{home}")
            if hasattr(module, name):
                globals()[name] = getattr(module, name)
                return globals()[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
