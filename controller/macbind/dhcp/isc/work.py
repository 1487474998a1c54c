"""A change on its way through one run of OMAPI messages, and the words in which dhcpd refuses it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from macbind.core.binding_plan import Change, Ensure, Remove
from macbind.core.errors import DhcpdRefused, MacbindError, StorageFailed
from macbind.dhcp.isc.messages import Reply, Request, ResultCode

Exchange = Callable[[Iterable[Request]], list[Reply]]
"""Sends requests to dhcpd and returns its replies, in their order."""


@dataclass
class Work:
    """One change, and its outcome.

    Attributes:
        dhcpd: The dhcpd's name in the configuration.
        change: The change.
        done: Whether nothing is left to do.
        error: Why dhcpd refused.
        is_foreign: Whether the MAC, and any lease of it, belong to somebody else.
    """

    dhcpd: str
    change: Change
    done: bool = False
    error: MacbindError | None = None
    is_foreign: bool = False

    @property
    def has_host(self) -> bool:
        """Whether the change is about a host of OMAPI's, and not about leases alone."""
        return isinstance(self.change, Ensure) or self.change.has_binding

    @property
    def is_removed(self) -> bool:
        """Whether the host is gone, and leases may be ended."""
        return isinstance(self.change, Remove) and not self.error and not self.is_foreign

    def finish(self, error: MacbindError | None = None) -> None:
        """Ends the work; without an error dhcpd has confirmed it."""
        self.done, self.error = True, error

    def leave_alone(self) -> None:
        """Ends the work, since nothing of ours is left to remove."""
        self.done = self.is_foreign = True

    def refuse(
        self, why: str, result: int | None = None, *, hint: str = "", holder: str | None = None
    ) -> None:
        """Ends the work with a refusal.

        Args:
            why: The reason, for the middle of a sentence.
            result: dhcpd's result code; it ends the sentence.
            hint: How to mend it.
            holder: The host of somebody else that is in the way, if one is.
        """
        kind = StorageFailed if result == ResultCode.IO_ERROR else DhcpdRefused
        details: dict[str, int | str] = {} if result is None else {"result": int(result)}
        if holder is not None:
            details["holder"] = holder
        if result is not None:
            why = f"{why}: {ResultCode.describe(result)}" if why else ResultCode.describe(result)
        error = kind(
            f"dhcpd '{self.dhcpd}' did not accept {self.change.address} with {self.change.mac}: {why}.",
            hint=hint or "`macbind status` shows what else it reports.",
            dhcpd=self.dhcpd,
            address=str(self.change.address),
            **details,
        )
        self.finish(error)
