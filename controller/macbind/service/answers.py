"""Asks again for addresses that machines answered for, and forgets the answers when nobody gives them any more.

An address is passed over for as long as its machine answers. All are asked for once a minute, a few at a time. A
machine that is silent several times in a row has gone. A look that could not be made withdraws nothing.

The kernel's neighbour table is not read: an entry there says that a machine answered the host some time ago, and the
probe before an address is handed out asks that machine itself.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from ipaddress import IPv4Address

import structlog

from macbind.core.errors import NetworkUnavailable
from macbind.core.evidence import Evidence, Source
from macbind.core.mac_address import MacAddress
from macbind.engine.group_commit import GroupCommitter
from macbind.probes import arp
from macbind.registry import evidence
from macbind.registry.store import Registry
from macbind.registry.transaction import Transaction
from macbind.service.search import answer

_log = structlog.get_logger()

EVERY_S = 60.0
"""How often every address is asked for."""
AT_ONCE = 64
"""How many addresses are asked for at a time, at most."""
SILENT_LOOKS = 3
"""So often in a row must nobody answer: an answer may be lost, and a machine may restart."""

Probe = Callable[[str, Sequence[IPv4Address]], Mapping[IPv4Address, MacAddress]]


class Answers:
    """Keeps the evidence of answers true. Used in one thread.

    Args:
        registry: Has the evidence.
        committer: Changes it.
        probe: Asks the network.
        clock: Tells the time in seconds; never goes back.
    """

    def __init__(
        self,
        registry: Registry,
        committer: GroupCommitter,
        *,
        probe: Probe = arp.probe,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._registry, self._committer, self._probe, self._clock = registry, committer, probe, clock
        self._round_at = clock()
        self._left: list[Evidence] = []
        self._silent: Counter[tuple[str, IPv4Address]] = Counter()

    def tend(self) -> None:
        """Asks for some addresses, if it is time. Call often."""
        now = self._clock()
        if not self._left and now >= self._round_at:
            self._begin()
            self._round_at = now + EVERY_S
        if self._left:
            self._ask()

    def _begin(self) -> None:
        with self._registry.read() as view:
            found = evidence.all_of(view, source=Source.ANSWER)
        self._left = sorted(found, key=lambda one: (one.origin, one.address))
        known = {(one.origin, one.address) for one in found}
        self._silent = Counter({key: count for key, count in self._silent.items() if key in known})

    def _ask(self) -> None:
        interface = self._left[0].origin
        asked = [one for one in self._left[:AT_ONCE] if one.origin == interface]
        self._left = self._left[len(asked) :]
        try:
            answers = self._probe(interface, [one.address for one in asked])
        except NetworkUnavailable as error:
            _log.warning("arp", interface=interface, problem=str(error))
            self._left = [one for one in self._left if one.origin != interface]
            return
        changed = [
            answer(interface, one.address, mac)
            for one in asked
            if (mac := answers.get(one.address)) is not None and mac != one.mac
        ]
        gone = [one.address for one in asked if self._is_gone(one, answers)]
        if changed or gone:

            def work(txn: Transaction) -> None:
                evidence.add(txn, changed)
                evidence.withdraw(txn, Source.ANSWER, interface, gone)

            self._committer.submit("macbind", work).result()

    def _is_gone(self, one: Evidence, answers: Mapping[IPv4Address, MacAddress]) -> bool:
        key = one.origin, one.address
        if one.address in answers:
            self._silent.pop(key, None)
            return False
        self._silent[key] += 1
        return self._silent[key] >= SILENT_LOOKS
