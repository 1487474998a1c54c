"""A DHCP server that passes everything on, for tests that meddle with one thing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from typing_extensions import override

from macbind.core.address_plan import AddressPlan
from macbind.core.binding import Binding
from macbind.core.binding_plan import Change
from macbind.core.errors import MacbindError
from macbind.core.evidence import Evidence
from macbind.core.mac_address import MacAddress
from macbind.dhcp.port import Audit, DhcpServer, HealthWatch


@dataclass
class Relay(DhcpServer):
    """Hands every call to the server behind it."""

    inner: DhcpServer

    @property
    def name(self) -> str:  # type: ignore[override]  # nobody sets it
        """Its name in the configuration."""
        return self.inner.name

    @override
    def connect(self) -> None:
        self.inner.connect()

    @override
    def close(self) -> None:
        self.inner.close()

    @override
    def fileno(self) -> int:
        return self.inner.fileno()

    @override
    def observe(self, macs: Sequence[MacAddress]) -> list[Binding | None]:
        return self.inner.observe(macs)

    @override
    def apply(self, changes: Sequence[Change]) -> list[MacbindError | None]:
        return self.inner.apply(changes)

    @override
    def audit(self, plans: Sequence[AddressPlan], pause: Callable[[float], object]) -> Audit | None:
        return self.inner.audit(plans, pause)

    @override
    def still_has(self, plans: Sequence[AddressPlan], gone: Sequence[Evidence]) -> list[bool]:
        return self.inner.still_has(plans, gone)

    @override
    def forget(self, names: Sequence[str]) -> int:
        return self.inner.forget(names)

    @override
    def health(self) -> HealthWatch:
        return self.inner.health()
