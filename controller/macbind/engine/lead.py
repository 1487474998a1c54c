"""The lead of one DHCP server: when it is taken, kept, given up and handed over.

Whoever has the registry's lock leads. A controller that does not reach the server gives the lock up, and reaches the
server again before it takes the lock again. So another one that reaches it gets it. Where the leads of several
servers have come apart, the controller that leads most of them gets the others, too, once it reaches them.
"""

from __future__ import annotations

import threading
import time
from typing import Protocol

from typing_extensions import override

from macbind.core.errors import PeerError, RegistryUnavailable
from macbind.dhcp.port import DhcpServer
from macbind.registry.leader import Leader

STANDBY_S = 0.5
"""How often a controller that does not lead tries to: another may have been killed."""
PATIENCE_S = 2.0
"""A server that was served a shorter time ago may just be starting anew; its lead is kept."""
CLAIM_S = 5.0
"""How often a controller that leads other servers looks whether it reaches this one, too."""
SORE_S = 30.0
"""How long it does not, after it lost this one."""
HAND_OVER_S = 2.0
"""How long a lead that another claims is left to it."""


class Others(Protocol):
    """What the lead of a server depends on beside its lock. Any thread may ask it."""

    def claims(self, dhcpd: str) -> bool:
        """Whether another controller should have the lead of a server that this one has."""

    def may_claim(self, dhcpd: str) -> bool:
        """Whether this controller should have the lead of a server that another one has."""

    def look_soon(self) -> None:
        """This controller leads, wants or says something else."""


class Alone(Others):
    """There are no others."""

    @override
    def claims(self, dhcpd: str) -> bool:
        return False

    @override
    def may_claim(self, dhcpd: str) -> bool:
        return False

    @override
    def look_soon(self) -> None:
        """Nobody is told."""


class LeadHolder:
    """The lead of one DHCP server, for its writer. Used by the writer's thread, where nothing else is said.

    Args:
        dhcpd: The server.
        leader: The lock.
        others: The other controllers.

    Attributes:
        is_held: Whether this controller leads. Any thread may read it.
        is_wanted: Whether it reaches the server, and should lead it instead of another one. Any thread may read it.
    """

    def __init__(self, dhcpd: DhcpServer, leader: Leader, others: Others) -> None:
        self._dhcpd, self._leader, self._others = dhcpd, leader, others
        self.is_held = self.is_wanted = False
        self._is_out_of_reach = self._is_connected = False
        self._well_at = self._lost_at = self._claim_at = self._left_until = float("-inf")
        self._look = threading.Event()

    def look_soon(self) -> None:
        """The lead may be free, or wanted. Any thread may call it."""
        self._look.set()

    def has_news(self) -> None:
        """There is something new to say of it."""
        self._others.look_soon()

    def take(self) -> bool:
        """Takes the lead if it is free; False if another has it.

        Raises:
            PeerError: The server was out of reach, and still is; or the registry is.
        """
        if self._is_out_of_reach:
            self._dhcpd.connect()
            self._is_connected = True
        if not self._leader.acquire():
            self._dhcpd.close()
            self._set(held=False)
            self._is_out_of_reach = self._is_connected = False
            return False
        self._set(held=True)
        return True

    def reach(self) -> None:
        """Connects to the server, unless it is already.

        Raises:
            PeerError: It cannot be reached.
        """
        if not self._is_connected:
            self._dhcpd.connect()
        self._is_out_of_reach = self._is_connected = False

    def check(self) -> None:
        """Makes sure that the lead is still ours, while all is well.

        Raises:
            RegistryUnavailable: It may not be; nothing more may be written.
        """
        self._leader.check()
        self._well_at = time.monotonic()

    @property
    def is_claimed(self) -> bool:
        """Whether another controller should have it."""
        return self._others.claims(self._dhcpd.name)

    def broke(self, error: PeerError) -> None:
        """What was done with the server ended with this: the lead is given up if the server is out of reach."""
        self._is_connected = False
        if isinstance(error, RegistryUnavailable):
            self._set(held=False)
        elif time.monotonic() - self._well_at > PATIENCE_S:
            self._is_out_of_reach, self._lost_at = True, time.monotonic()
            self.let_go()

    def hand_over(self) -> None:
        """Leaves the lead to the one that claims it, and gives that one time to take it."""
        self._dhcpd.close()
        self.let_go()
        self._left_until = time.monotonic() + HAND_OVER_S

    def let_go(self) -> None:
        """Lets another controller have it."""
        self._leader.release()
        self._set(held=False)

    def wait(self, stopping: threading.Event) -> None:
        """Waits until it may be worth while to take the lead, and looks whether it should be claimed."""
        now = time.monotonic()
        if not self._others.may_claim(self._dhcpd.name):
            self._want(wanted=False)
        elif now >= max(self._claim_at, self._lost_at + SORE_S):
            self._want(wanted=self._is_within_reach())
            self._claim_at = time.monotonic() + CLAIM_S
        if now < self._left_until:
            stopping.wait(self._left_until - now)
        self._look.wait(STANDBY_S)
        self._look.clear()

    def _is_within_reach(self) -> bool:
        try:
            self._dhcpd.connect()
        except PeerError:
            return False
        finally:
            self._dhcpd.close()
        return True

    def _want(self, *, wanted: bool) -> None:
        if wanted is not self.is_wanted:
            self.is_wanted = wanted
            self._others.look_soon()

    def _set(self, *, held: bool) -> None:
        if held is not self.is_held:
            self.is_held = held
            self.is_wanted = self.is_wanted and not held
            self._others.look_soon()
