"""Bugs to plant, each with the faults that bring it to light: the checker must find every one of them."""

import functools
import random
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from chaos.seams import replace, resolve
from labkit.wait import until


@dataclass(frozen=True)
class Plant:
    """A bug.

    Attributes:
        plant: Puts it into the product, in the daemon's process.
        weights: The faults to draw from while it is hunted.
        domains: Whether it shows only where domains end.
        recovers: Whether macbind, with this bug, is as it should be after a while, as far as it can tell.
        crowd: Whether it shows only among many machines.
        resync_s: How often macbind compares everything even without a reason; often enough would mend some bugs.
        old_registries: The share of rounds after which an older registry is put back.
        round_s: How long a round works, in seconds: what shows only during the work needs some of it.
        attackers: Whether it shows only while somebody attacks.
        acts: What the worker of domains does how often while it is hunted; empty for what it does by itself.
        found_by: The checks one of which has to find it, whatever others find before; empty if any will do.
    """

    plant: Callable[[], None]
    weights: Mapping[str, float] = field(default_factory=dict)
    domains: bool = False
    recovers: bool = True
    crowd: bool = False
    resync_s: float = 300.0
    found_by: tuple[str, ...] = ()
    old_registries: float = 0.0
    round_s: float = 3.0
    attackers: bool = False
    acts: Mapping[str, float] = field(default_factory=dict)


_SLOW = {"OMAPI slow": 3.0, "macbind killed": 1.0}
_LOST = ("two owners", "answers", "held", "released", "held in SQL", "found by its machine in time")
"""Checks that find that something was released which is used."""


def _free_before_confirm() -> None:
    """A release frees the row at once and answers, and dhcpd is never told."""
    from macbind.registry.resting import free

    def release(original: Any) -> Any:
        def released(txn: Any, **what: Any) -> Any:
            gone = original(txn, **what)
            for one in gone:
                free(txn, txn.pools[one.pool], [int(one.address)])
            return gone

        return released

    replace("macbind.registry.release:release", release)
    replace("macbind.engine.confirmations:Confirmations.expect_gone", lambda _: lambda *_: None)


def _answer_before_confirm() -> None:
    """An allocation is answered when it is committed."""
    replace("macbind.engine.confirmations:Confirmations.expect_bound", lambda _: lambda *_, **__: None)


def _forget_delete() -> None:
    """A removal is recorded as confirmed without dhcpd having heard of it."""
    from macbind.core.binding_plan import Ensure

    def apply(original: Any) -> Any:
        def applied(self: Any, changes: Any) -> Any:
            told = iter(original(self, [one for one in changes if isinstance(one, Ensure)]))
            return [next(told) if isinstance(one, Ensure) else None for one in changes]

        return applied

    replace("macbind.dhcp.isc.server:IscDhcpd.apply", apply)


def _double_allocate() -> None:
    """Now and then a confirmed allocation loses its row: the address is handed out again."""
    from macbind.registry.queries import find
    from macbind.registry.resting import free

    luck = random.Random(1)

    def confirm(original: Any) -> Any:
        def confirmed(txn: Any, dhcpd: str, done: Any) -> Any:
            completed = original(txn, dhcpd, done)
            for one in done:
                if one.confirms is not None and luck.random() < 0.1:
                    for row in find(txn, addresses=[one.address]):
                        free(txn, txn.pools[row.pool], [int(row.address)])
            return completed

        return confirmed

    replace("macbind.registry.pending_changes:confirm", confirm)


def _keep_aims() -> None:
    """A renumbering that is aborted keeps the address it was to end at, and answers that it is released."""
    from macbind.registry.queries import renumberings

    def abort(_: Any) -> Any:
        def aborted(txn: Any, name: str, *_: Any, **__: Any) -> Any:
            return [one.new for one in renumberings(txn, name=name)]

        return aborted

    replace("macbind.registry.renumber:abort_renumber", abort)
    replace("macbind.engine.confirmations:Confirmations.expect_gone", lambda _: lambda *_: None)


def _keep_ghosts() -> None:
    """A comparison does not remove what should not be there."""
    replace("macbind.engine.reconciler:Reconciler._clear", lambda _: lambda *_: [])


def _trust_after_reconnect() -> None:
    """After a reconnect nothing is compared."""
    from macbind.core.findings import DhcpdState

    def compare(_: Any) -> Any:
        def compared(self: Any) -> None:
            self._confirmations.trusted(self._dhcpd.name)
            self._confirmations.recheck(self._registry)
            self._enter(DhcpdState.SERVING)

        return compared

    replace("macbind.engine.dhcp_writer:DhcpWriter._compare", compare)


def _deaf_warden() -> None:
    """What libvirt says of a domain's end is not heard."""
    replace("macbind.engine.domains.verdicts:apply", lambda _: lambda *_: False)


def _leak_secret() -> None:
    """The OMAPI secret is logged."""
    import structlog

    def read_key(original: Any) -> Any:
        def read(*arguments: Any) -> Any:
            key = original(*arguments)
            structlog.get_logger().info("key read", secret=key.secret.hex())
            return key

        return read

    replace("macbind.dhcp.isc.build:read_key", read_key)


def _compare_parts() -> None:
    """What is on disk of a slice is cut into pieces, and from the second on they are compared with no allocations.

    What the first piece accounted for then counts as a leftover, and nobody asks the registry before it is removed.
    """
    from macbind.core.binding_plan import plan
    from macbind.dhcp.port import Audit
    from macbind.engine.reconciler import Cycle, _Slices
    from macbind.registry.pending_changes import desired

    def cycle(_: Any) -> Any:
        def compared(self: Any, between: Any, pause: Any) -> Cycle | None:
            name, size = self._dhcpd.name, self._sizes.slice
            audit = self._dhcpd.audit(self._plans(), pause)
            seen = audit or Audit()
            on_disk = _Slices(seen.ours)
            cleared = self._dhcpd.forget(seen.maimed) if seen.maimed else 0
            bindings = mended = 0
            after: int | None = -1
            while after is not None:
                if not between():
                    return None
                with self._registry.read() as view:
                    wanted = desired(view, name, after=after, limit=size)
                after = int(wanted[-1].address) if wanted else None
                leftovers, _ = on_disk.take(after, len(seen.ours))
                while True:
                    found = plan(wanted, self._observe(wanted, leftovers[:size]))
                    self._doubt([one.address for one in found.mend])
                    self._dhcpd.apply(found.clear)
                    bindings, mended = bindings + len(wanted), mended + len(found.mend)
                    cleared += len(found.clear)
                    wanted, leftovers = [], leftovers[size:]
                    if not leftovers:
                        break
                    if not between():
                        return None
            return Cycle(name, bindings, mended, cleared, seen.foreign, audit is not None, 0.0, ())

        return compared

    replace("macbind.engine.reconciler:Reconciler.cycle", cycle)


def _ignore_answers() -> None:
    """Nobody is heard who answers for an address."""
    replace("macbind.probes.arp:probe", lambda _: lambda *_, **__: {})


def _miss_foreign_hosts() -> None:
    """What dhcpd shows of others does not come to the registry."""
    replace("macbind.engine.evidence_intake:EvidenceIntake.take", lambda _: lambda *_: True)


def _ask_no_evidence() -> None:
    """Evidence is recorded, and its addresses stay free."""
    replace("macbind.registry.free_space:take_all", lambda _: lambda *_: None)


def _remove_foreign_hosts() -> None:
    """A comparison takes the hosts of others for damaged ones of ours."""

    def divide(original: Any) -> Any:
        def divided(*arguments: Any) -> Any:
            ours, maimed, others = original(*arguments)
            return ours, [*maimed, *(one.name for one in others if one.dynamic)], others

        return divided

    replace("macbind.dhcp.isc.audit:divide", divide)
    replace("macbind.dhcp.isc.server:_has_mac", lambda _: lambda _: False)


def _yield_to_thieves() -> None:
    """Whatever domain starts with the MAC of an allocation becomes its machine."""
    from macbind.core.domain import DomainState
    from macbind.core.ownership import Standing

    def standing(original: Any) -> Any:
        def stands(claim: Any, domain: Any, recorded: Any, **more: Any) -> Any:
            found = original(claim, domain, recorded, **more)
            takes = domain.state is DomainState.ACTIVE and claim.macs & domain.macs
            return Standing.HEIR if takes and found is Standing.STRANGER else found

        return stands

    replace("macbind.core.ownership:standing", standing)


def _judge_wrongly(is_end: Callable[[Any, Any], bool]) -> None:
    """Takes what is no end of a machine for one: asked with the event and the verdict."""
    from macbind.core.domain import NOTHING_SAID
    from macbind.core.release_policy import Release

    def judge(original: Any) -> Any:
        def judged(claim: Any, policy: Any, domain: Any, event: Any = NOTHING_SAID, **more: Any) -> Any:
            verdict = original(claim, policy, domain, event, **more)
            return Release("its domain has ended", certain=True) if is_end(event, verdict) else verdict

        return judged

    replace("macbind.core.release_policy:judge", judge)


def _release_saved() -> None:
    """A machine that is saved is taken for one that has ended."""
    from macbind.core.domain import StopCause

    _judge_wrongly(lambda event, _: event.cause is StopCause.SAVED)


def _release_rebooting() -> None:
    """A machine that stopped by itself has no grace."""
    from macbind.core.release_policy import Rest

    _judge_wrongly(lambda _, verdict: isinstance(verdict, Rest))


def _one_life() -> None:
    """A machine that has had an allocation is not found to use another one."""
    known: dict[str, Any] = {}

    def new_users(original: Any) -> Any:
        def found(*arguments: Any) -> Any:
            users = original(*arguments)
            return [
                (claim, domain)
                for claim, domain in users
                if known.setdefault(domain.uuid, claim.generation) == claim.generation
            ]

        return found

    replace("macbind.engine.domains.adoption:new_users", new_users)


def _wait_for_others() -> None:
    """What becomes of a domain waits for all other hypervisors."""
    from macbind.core.errors import MacbindError

    def answers(watcher: Any) -> bool:
        with suppress(MacbindError):
            watcher.look("6d616362-696e-6420-6368-616f73000000")
            return True
        return False

    def carry_out(original: Any) -> Any:
        def carried_out(self: Any, hypervisor: str, looks: Any, pools: Any) -> None:
            some = list(looks)
            for name, watcher in self._watchers.items():
                if some and name != hypervisor:
                    until(functools.partial(answers, watcher), 60.0, "another hypervisor to answer")
            original(self, hypervisor, some, pools)

        return carried_out

    replace("macbind.engine.domains.verdicts:Verdicts.carry_out", carry_out)


def _miss_domains() -> None:
    """Domains that use addresses of nobody are not seen."""
    replace("macbind.engine.domains.evidence:DomainEvidence.take_look", lambda _: lambda *_: None)
    _miss_lists()


def _miss_lists() -> None:
    """Domains that ran when the service started are not seen to use addresses."""
    replace("macbind.engine.domains.evidence:DomainEvidence.take_list", lambda _: lambda *_: None)


def _hear_no_others() -> None:
    """Other DHCP servers are not heard."""
    replace("macbind.engine.serving:Serving.others", lambda _: lambda _: [])


def _keep_no_place() -> None:
    """No place is kept for root and the service's own user."""
    owner, name, _ = resolve("macbind.http.limits:OURS_SHARE")
    setattr(owner, name, 1 << 30)


def _believe_uuids() -> None:
    """A domain that runs with the UUID of a machine is taken for it, on whatever hypervisor."""
    from macbind.core.domain import DomainState
    from macbind.core.ownership import Standing

    def standing(original: Any) -> Any:
        def stands(claim: Any, domain: Any, recorded: Any, **more: Any) -> Any:
            found = original(claim, domain, recorded, **more)
            takes = domain.state is DomainState.ACTIVE and claim.uuid == domain.uuid
            return Standing.HEIR if takes and found is Standing.STRANGER else found

        return stands

    replace("macbind.core.ownership:standing", standing)


PLANTS: Mapping[str, Plant] = {
    "free-before-confirm": Plant(_free_before_confirm, _SLOW),
    "answer-before-confirm": Plant(_answer_before_confirm, _SLOW),
    "forget-delete": Plant(_forget_delete, _SLOW),
    "double-allocate": Plant(
        _double_allocate, _SLOW, found_by=("two owners", "answers", "held", "released", "held in SQL")
    ),
    "keep-aims": Plant(_keep_aims, _SLOW),
    "keep-ghosts": Plant(_keep_ghosts, {"dhcpd killed, lease file of old": 1.0}),
    "trust-after-reconnect": Plant(_trust_after_reconnect, {"dhcpd killed, lease file gone": 1.0}),
    "deaf-warden": Plant(_deaf_warden, domains=True, recovers=False),
    "compare-parts": Plant(
        _compare_parts, crowd=True, resync_s=1.0, round_s=8.0, found_by=("served all the time",)
    ),
    "leak-secret": Plant(_leak_secret, {"OMAPI cut in a message": 1.0}),
    "ignore-answers": Plant(_ignore_answers, round_s=10.0, found_by=("a stranger is passed over",)),
    "miss-foreign-hosts": Plant(
        _miss_foreign_hosts, resync_s=1.0, round_s=6.0, found_by=("a foreign host is passed over",)
    ),
    "ask-no-evidence": Plant(
        _ask_no_evidence, resync_s=1.0, round_s=6.0, found_by=("a foreign host is passed over", "pools tiled")
    ),
    "remove-foreign-hosts": Plant(
        _remove_foreign_hosts, resync_s=1.0, round_s=6.0, found_by=("foreign host kept",)
    ),
    "yield-to-thieves": Plant(
        _yield_to_thieves,
        domains=True,
        acts={"steal": 3.0, "end": 1.0},
        round_s=10.0,
        recovers=False,
        found_by=("a thief leaves the owner alone",),
    ),
    "release-saved": Plant(
        _release_saved, domains=True, round_s=10.0, acts={"save": 3.0, "end": 1.0}, found_by=_LOST
    ),
    "release-rebooting": Plant(
        _release_rebooting, domains=True, round_s=10.0, acts={"reboot": 3.0, "end": 1.0}, found_by=_LOST
    ),
    "one-life": Plant(
        _one_life,
        domains=True,
        round_s=10.0,
        recovers=False,
        acts={"end": 1.0},
        found_by=("found by its machine in time",),
    ),
    "wait-for-others": Plant(
        _wait_for_others,
        {"other libvirtd frozen": 1.0},
        domains=True,
        round_s=26.0,
        acts={"end": 1.0},
        found_by=("freed in time",),
    ),
    "keep-no-place": Plant(_keep_no_place, attackers=True, round_s=8.0, found_by=("root has a place",)),
    "believe-uuids": Plant(
        _believe_uuids,
        domains=True,
        attackers=True,
        round_s=12.0,
        recovers=False,
        found_by=("attackers leave the owner alone",),
    ),
    "hear-no-others": Plant(_hear_no_others, round_s=10.0, found_by=("a second DHCP server is found",)),
    "miss-domains": Plant(
        _miss_domains,
        domains=True,
        round_s=12.0,
        acts={"squat": 1.0},
        found_by=("a domain is passed over",),
    ),
    "miss-lists": Plant(
        _miss_lists, domains=True, round_s=10.0, old_registries=1.0, found_by=("an older registry",)
    ),
}
