"""The lease by which one process renumbers a machine, renewed in the background while it works.

macbind gives it to whoever knows its token, and to nobody else until it expires. A process that dies or stands still
renews nothing: when the lease has expired, anybody may take it over and go on. So before it touches a machine, each
process checks the lease, by a clock that began before macbind's did.
"""

from __future__ import annotations

import secrets
import threading
import time
from contextlib import suppress
from ipaddress import IPv4Address
from types import TracebackType
from typing import TYPE_CHECKING, Self

from macbind.core.allocation import Renumbering
from macbind.core.errors import MacbindError, MachineFailed, PeerError, RequestError

if TYPE_CHECKING:
    from macbind.client.client import Client

LEASE_S = 30.0
"""How long a renumbering is held for a process that has died."""
_RENEWALS = 3
"""How many times a lease is renewed in its own time: macbind may be away for most of it."""
_AT_ONCE_S = 0.001


class Lease:
    """A lease of one renumbering. A context manager that renews it until the block ends, and then gives it up.

    Args:
        client: The connection to macbind.
        name: Of the allocation.
        lease_s: How long the lease lives.
    """

    def __init__(self, client: Client, name: str, lease_s: float) -> None:
        self._client, self._name, self._lease_s = client, name, lease_s
        self.token = secrets.token_urlsafe(16)
        self._expires_at = time.monotonic()
        self._lost: RequestError | None = None
        self._ended = threading.Event()
        self._renewing = threading.Thread(target=self._renew, name=f"lease-{name}", daemon=True)

    def begin(self, to: IPv4Address) -> Renumbering:
        """Begins a renumbering, or goes on with one that was broken off.

        Raises:
            MacbindError: It cannot be begun, or somebody else has the lease.
        """
        try:
            begun = self._client.begin_renumber(self._name, to, lease_s=self._lease_s, token=self.token)
        except PeerError:  # what it took is recorded, and the same call is to find it
            self._give_up()
            raise
        # A dhcpd may have taken longer to confirm than the lease lives.
        return begun if begun.token is None else self.take()

    def take(self) -> Renumbering:
        """Takes the lease of a renumbering under way, or renews it.

        Raises:
            Conflict: Somebody else has it, or there is no such renumbering any more.
            PeerError: macbind cannot be asked.
        """
        began_at = time.monotonic()
        leased = self._client.lease_renumber(self._name, self.token, lease_s=self._lease_s)
        self._expires_at = began_at + self._lease_s
        return leased

    def check(self) -> None:
        """Lets a process go on only while it has the lease.

        Raises:
            MachineFailed, Conflict: It has not, and must not touch the machine.
        """
        if self._lost is not None:
            raise self._lost
        if time.monotonic() >= self._expires_at:
            raise MachineFailed(
                f"The lease of the renumbering of '{self._name}' has expired.",
                hint="macbind was away, or this process stood still. Ask again.",
                step="exchange",
                machine=self._name,
            )

    def __enter__(self) -> Self:
        self._renewing.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._renewing.join()
        self._give_up()

    def _give_up(self) -> None:
        with suppress(MacbindError):  # it has ended with the renumbering, or macbind is away: then it expires
            self._client.lease_renumber(self._name, self.token, lease_s=_AT_ONCE_S)

    def _renew(self) -> None:
        while not self._ended.wait(self._lease_s / _RENEWALS):
            try:
                self.take()
            except RequestError as error:
                self._lost = error
                return
            except MacbindError:
                continue  # macbind is away; the lease lives for what is left of it
