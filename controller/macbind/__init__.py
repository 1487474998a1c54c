"""macbind: one allocation for the IP and the MAC of a virtual machine, made real in a DHCP server.

The public names are here, and those of :mod:`macbind.machines`. Everything else may change between versions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from macbind.client.client import (
        Client as Client,
    )
    from macbind.core.address_map import (
        MapBlock as MapBlock,
    )
    from macbind.core.address_map import (
        MapBlocks as MapBlocks,
    )
    from macbind.core.address_map import (
        MapRun as MapRun,
    )
    from macbind.core.address_map import (
        MapState as MapState,
    )
    from macbind.core.allocation import (
        Allocation as Allocation,
    )
    from macbind.core.allocation import (
        AuditEntry as AuditEntry,
    )
    from macbind.core.allocation import (
        NetworkSettings as NetworkSettings,
    )
    from macbind.core.allocation import (
        Released as Released,
    )
    from macbind.core.allocation import (
        Renumbering as Renumbering,
    )
    from macbind.core.allocation import (
        State as State,
    )
    from macbind.core.dhcp_options import (
        DhcpOptions as DhcpOptions,
    )
    from macbind.core.errors import (
        AddressAnswered as AddressAnswered,
    )
    from macbind.core.errors import (
        AddressInUse as AddressInUse,
    )
    from macbind.core.errors import (
        ConfigError as ConfigError,
    )
    from macbind.core.errors import (
        Conflict as Conflict,
    )
    from macbind.core.errors import (
        DhcpdRefused as DhcpdRefused,
    )
    from macbind.core.errors import (
        DhcpdUnavailable as DhcpdUnavailable,
    )
    from macbind.core.errors import (
        HypervisorUnavailable as HypervisorUnavailable,
    )
    from macbind.core.errors import (
        InvalidAddress as InvalidAddress,
    )
    from macbind.core.errors import (
        InvalidLabel as InvalidLabel,
    )
    from macbind.core.errors import (
        InvalidOption as InvalidOption,
    )
    from macbind.core.errors import (
        InvalidRequest as InvalidRequest,
    )
    from macbind.core.errors import (
        InvariantViolation as InvariantViolation,
    )
    from macbind.core.errors import (
        LogUnavailable as LogUnavailable,
    )
    from macbind.core.errors import (
        MacbindError as MacbindError,
    )
    from macbind.core.errors import (
        MachineFailed as MachineFailed,
    )
    from macbind.core.errors import (
        NetworkUnavailable as NetworkUnavailable,
    )
    from macbind.core.errors import (
        NotFound as NotFound,
    )
    from macbind.core.errors import (
        NotInPool as NotInPool,
    )
    from macbind.core.errors import (
        NotPermitted as NotPermitted,
    )
    from macbind.core.errors import (
        NotYet as NotYet,
    )
    from macbind.core.errors import (
        PeerError as PeerError,
    )
    from macbind.core.errors import (
        PoolExhausted as PoolExhausted,
    )
    from macbind.core.errors import (
        RegistryUnavailable as RegistryUnavailable,
    )
    from macbind.core.errors import (
        RequestError as RequestError,
    )
    from macbind.core.errors import (
        ServiceUnavailable as ServiceUnavailable,
    )
    from macbind.core.errors import (
        StorageFailed as StorageFailed,
    )
    from macbind.core.errors import (
        TokenExpired as TokenExpired,
    )
    from macbind.core.errors import (
        TokenInvalid as TokenInvalid,
    )
    from macbind.core.event import (
        Change as Change,
    )
    from macbind.core.event import (
        Event as Event,
    )
    from macbind.core.event import (
        FindingsNow as FindingsNow,
    )
    from macbind.core.event import (
        Gap as Gap,
    )
    from macbind.core.findings import (
        ControllerStatus as ControllerStatus,
    )
    from macbind.core.findings import (
        DhcpdState as DhcpdState,
    )
    from macbind.core.findings import (
        DhcpdStatus as DhcpdStatus,
    )
    from macbind.core.findings import (
        Finding as Finding,
    )
    from macbind.core.findings import (
        HypervisorStatus as HypervisorStatus,
    )
    from macbind.core.findings import (
        Lead as Lead,
    )
    from macbind.core.findings import (
        Severity as Severity,
    )
    from macbind.core.findings import (
        Status as Status,
    )
    from macbind.core.free_range import (
        FreeRange as FreeRange,
    )
    from macbind.core.mac_address import MacAddress as MacAddress
    from macbind.core.pool import (
        PoolUsage as PoolUsage,
    )
    from macbind.core.static_route import (
        StaticRoute as StaticRoute,
    )
    from macbind.core.why import (
        Because as Because,
    )
    from macbind.core.why import (
        Moment as Moment,
    )
    from macbind.core.why import (
        Reason as Reason,
    )
    from macbind.core.why import (
        Why as Why,
    )

_HOME_OF = {
    "Client": "client.client",
    "MacAddress": "core.mac_address",
    "MapBlock": "core.address_map",
    "MapBlocks": "core.address_map",
    "MapRun": "core.address_map",
    "MapState": "core.address_map",
    "Allocation": "core.allocation",
    "AuditEntry": "core.allocation",
    "NetworkSettings": "core.allocation",
    "Released": "core.allocation",
    "Renumbering": "core.allocation",
    "State": "core.allocation",
    "DhcpOptions": "core.dhcp_options",
    "AddressAnswered": "core.errors",
    "AddressInUse": "core.errors",
    "ConfigError": "core.errors",
    "Conflict": "core.errors",
    "DhcpdRefused": "core.errors",
    "DhcpdUnavailable": "core.errors",
    "HypervisorUnavailable": "core.errors",
    "InvalidAddress": "core.errors",
    "InvalidLabel": "core.errors",
    "InvalidOption": "core.errors",
    "InvalidRequest": "core.errors",
    "InvariantViolation": "core.errors",
    "LogUnavailable": "core.errors",
    "MacbindError": "core.errors",
    "MachineFailed": "core.errors",
    "NetworkUnavailable": "core.errors",
    "NotFound": "core.errors",
    "NotInPool": "core.errors",
    "NotPermitted": "core.errors",
    "NotYet": "core.errors",
    "PeerError": "core.errors",
    "PoolExhausted": "core.errors",
    "RegistryUnavailable": "core.errors",
    "RequestError": "core.errors",
    "ServiceUnavailable": "core.errors",
    "StorageFailed": "core.errors",
    "TokenExpired": "core.errors",
    "TokenInvalid": "core.errors",
    "ControllerStatus": "core.findings",
    "DhcpdState": "core.findings",
    "DhcpdStatus": "core.findings",
    "Finding": "core.findings",
    "HypervisorStatus": "core.findings",
    "Lead": "core.findings",
    "Severity": "core.findings",
    "Status": "core.findings",
    "Change": "core.event",
    "Event": "core.event",
    "FindingsNow": "core.event",
    "Gap": "core.event",
    "FreeRange": "core.free_range",
    "PoolUsage": "core.pool",
    "StaticRoute": "core.static_route",
    "Because": "core.why",
    "Moment": "core.why",
    "Reason": "core.why",
    "Why": "core.why",
}

__all__ = sorted([*_HOME_OF, "__version__"])  # noqa: PLE0605  # the type checker reads the imports above


def __getattr__(name: str) -> Any:
    """Imports a public name when it is first used: the command line must not pay for all of them."""
    if name in _HOME_OF:
        from importlib import import_module

        globals()[name] = getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)
        return globals()[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
