"""Bugs to plant, each with the faults that bring it to light: the checker must find every one of them."""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from chaos.seams import replace


@dataclass(frozen=True)
class Plant:
    """A bug.

    Attributes:
        plant: Puts it into the product, in the daemon's process.
        weights: The faults to draw from while it is hunted.
        domains: Whether it shows only where domains end.
        recovers: Whether macbind, with this bug, is as it should be after a while, as far as it can tell.
    """

    plant: Callable[[], None]
    weights: Mapping[str, float] = field(default_factory=dict)
    domains: bool = False
    recovers: bool = True


_SLOW = {"OMAPI slow": 3.0, "macbind killed": 1.0}


def _free_before_confirm() -> None:
    """A release frees the row at once and answers, and dhcpd is never told."""

    def release(original: Any) -> Any:
        def released(self: Any, **what: Any) -> Any:
            gone = original(self, **what)
            for one in gone:
                self._free(self.pools[one.pool], [int(one.address)])
            return gone

        return released

    replace("macbind.registry.releasing:Releasing.release", release)
    replace("macbind.confirmations:Confirmations.expect_gone", lambda _: lambda *_: None)


def _answer_before_confirm() -> None:
    """An allocation is answered when it is committed."""
    replace("macbind.confirmations:Confirmations.expect_bound", lambda _: lambda *_: None)


def _forget_delete() -> None:
    """A removal is recorded as confirmed without dhcpd having heard of it."""
    from macbind.plan import Ensure

    def apply(original: Any) -> Any:
        def applied(self: Any, changes: Any) -> Any:
            told = iter(original(self, [one for one in changes if isinstance(one, Ensure)]))
            return [next(told) if isinstance(one, Ensure) else None for one in changes]

        return applied

    replace("macbind.dhcpd.server:IscDhcpd.apply", apply)


def _double_allocate() -> None:
    """Now and then a confirmed allocation loses its row: the address is handed out again."""
    luck = random.Random(1)

    def confirm(original: Any) -> Any:
        def confirmed(self: Any, dhcpd: str, done: Any) -> None:
            original(self, dhcpd, done)
            for one in done:
                if one.confirms is not None and luck.random() < 0.1:
                    for row in self.find(addresses=[one.address]):
                        self._free(self.pools[row.pool], [int(row.address)])

        return confirmed

    replace("macbind.registry.transaction:Transaction.confirm", confirm)


def _keep_aims() -> None:
    """A move that is given up keeps the address it was to end at, and answers that it is released."""

    def abort(_: Any) -> Any:
        def aborted(self: Any, name: str, *_: Any, **__: Any) -> Any:
            return [move.new for move in self.moves(name=name)]

        return aborted

    replace("macbind.registry.moving:Moving.abort_move", abort)
    replace("macbind.confirmations:Confirmations.expect_gone", lambda _: lambda *_: None)


def _keep_ghosts() -> None:
    """A comparison does not remove what should not be there."""
    replace("macbind.reconciler:Reconciler._clear", lambda _: lambda *_: [])


def _trust_after_reconnect() -> None:
    """After a reconnect nothing is compared."""
    from macbind.model import DhcpdState

    def compare(_: Any) -> Any:
        def compared(self: Any) -> None:
            self._confirmations.trusted(self._dhcpd.name)
            self._confirmations.recheck(self._registry)
            self._enter(DhcpdState.SERVING)

        return compared

    replace("macbind.writer:Writer._compare", compare)


def _deaf_warden() -> None:
    """What libvirt says of a domain's end is not heard."""
    replace("macbind.warden:_apply", lambda _: lambda *_: False)


def _leak_secret() -> None:
    """The OMAPI secret is logged."""
    import structlog

    def read_key(original: Any) -> Any:
        def read(*arguments: Any) -> Any:
            key = original(*arguments)
            structlog.get_logger().info("key read", secret=key.secret.hex())
            return key

        return read

    replace("macbind.daemon:read_key", read_key)


PLANTS: Mapping[str, Plant] = {
    "free-before-confirm": Plant(_free_before_confirm, _SLOW),
    "answer-before-confirm": Plant(_answer_before_confirm, _SLOW),
    "forget-delete": Plant(_forget_delete, _SLOW),
    "double-allocate": Plant(_double_allocate, _SLOW),
    "keep-aims": Plant(_keep_aims, _SLOW),
    "keep-ghosts": Plant(_keep_ghosts, {"dhcpd killed, lease file of old": 1.0}),
    "trust-after-reconnect": Plant(_trust_after_reconnect, {"dhcpd killed, lease file gone": 1.0}),
    "deaf-warden": Plant(_deaf_warden, domains=True, recovers=False),
    "leak-secret": Plant(_leak_secret, {"OMAPI cut in a message": 1.0}),
}
