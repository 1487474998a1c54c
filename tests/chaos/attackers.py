"""Processes that mean harm, in some rounds: the others must not notice, and nobody may lose what is theirs.

=========  ================================================================================================
*guest*    DHCP with the MACs, addresses and names of others: texts that break out of quotes, a flood of them
*user*     whoever may connect: takes every place under many users, asks large and odd things, never reads
*owner*    domains with the MACs, names, UUIDs and metadata of others' machines, on two hypervisors
=========  ================================================================================================

A fourth is a fault: who writes where dhcpd keeps its leases puts a pipe or an endless file there.

Rounds with and without them take turns at each site, so that one run tells what they cost the others. When the
others rest, nothing of them is left. The guest and the owner give way to the others for the processor: in truth they
use that of another machine.
"""

import os
import time
from contextlib import suppress

from chaos.control import Phase
from chaos.worker import PAUSE_S, Caller, Orders
from labkit.netns import CommandFailed
from labkit.priority import set_nice
from macbind.core.errors import MacbindError

GUEST, USER, OWNER = "attacker-guest", "attacker-user", "attacker-own"
"""The roles, which are the names of the processes, too."""
_POLITE = 10


class Attacker(Caller):
    """Attacks while it is told to, and takes everything back when it is not."""

    pause_s = PAUSE_S
    """How long it rests between two acts."""
    is_elsewhere = True
    """Whether it would use another machine's processor."""

    def __init__(self, orders: Orders) -> None:
        super().__init__(orders)
        self._since: dict[str, int] = {}

    def run(self) -> None:
        """Until the end."""
        if self.is_elsewhere:
            set_nice(os.getpid(), _POLITE)
        while (turn := self.control.turn).phase is not Phase.END:
            if turn.phase is Phase.WORK and self.control.attacked:
                with suppress(MacbindError, CommandFailed, OSError):
                    self.act()
            elif self.leave() and turn.phase is Phase.REST:
                self._report()
                self.control.rests(self.orders.number, turn.round)
            time.sleep(self.pause_s)
        self.leave()

    def act(self) -> None:
        """One attack."""
        raise NotImplementedError

    def leave(self) -> bool:
        """Takes everything back; whether nothing is left."""
        raise NotImplementedError

    def count(self, what: str, times: int = 1) -> None:
        """So many attacks of a kind were made."""
        self._since[what] = self._since.get(what, 0) + times

    def _report(self) -> None:
        for what, times in self._since.items():
            self.operations += 1
            self.journal.write("attack", self.operations, what=what, count=times)
        self._since.clear()
