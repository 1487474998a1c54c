"""From what was gathered of an address, one answer in sentences. Pure.

The configuration says what an address may be, the registry who has it, DHCP servers and hypervisors what they have
confirmed and seen. The first reason is the answer in one sentence; the others are what else is to be known.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from macbind.core.allocation import Allocation, AuditEntry, State
from macbind.core.mac_address import MacAddress
from macbind.core.why import Because, Facts, Moment, Reason, Why


def explain(facts: Facts) -> Why:
    """The answer for one address."""
    one = facts.allocation
    if one is not None and one.released_at is None:
        reasons = [*_held(facts, one), *_others(facts, one.mac)]
    else:
        reasons = [*facts.configured, *_released(facts), *_others(facts, None)]
        if not reasons:
            sentence = f"{facts.address} is free: the pool '{facts.pool}' may hand it out."
            reasons = [Because(Reason.FREE, sentence)]
        reasons += _last_holder(facts)
    return Why(
        query=facts.query,
        address=facts.address,
        code=reasons[0].code,
        answer=reasons[0].sentence,
        reasons=tuple(reasons),
        timeline=_timeline(facts),
        allocation=one,
        evidence=facts.evidence,
    )


def former_name(query: str, name: str, history: tuple[AuditEntry, ...]) -> Why:
    """The answer for a name that has no address any more, from its audit log, newest first."""
    last = history[0]
    sentence = f"'{name}' has no address: {_ended(last)}." if last.address else f"'{name}' has no address."
    return _alone(query, Because(Reason.NAME_NOT_ALLOCATED, sentence), tuple(map(_moment, history[::-1])))


def strange_mac(query: str, mac: MacAddress) -> Why:
    """The answer for a MAC of nobody's."""
    sentence = f"{mac} is the MAC of no pool and of no reservation, and was not seen to use an address."
    return _alone(query, Because(Reason.MAC_OF_NO_POOL, sentence))


def strange_ipv6(query: str) -> Why:
    """The answer for an IPv6 address that tells no MAC of ours."""
    sentence = (
        f"{query} is no address that a machine makes of its MAC, with the prefix of a pool or link-local."
    )
    return _alone(query, Because(Reason.IPV6_OF_NO_MAC, sentence))


def _alone(query: str, because: Because, timeline: tuple[Moment, ...] = ()) -> Why:
    return Why(query, None, because.code, because.sentence, (because,), timeline)


# -- of what is held -----------------------------------------------------------------------------------------


def _held(facts: Facts, one: Allocation) -> Iterator[Because]:
    yield _holder(facts, one)
    if facts.renumbers_to is not None:
        sentence = f"'{one.name}' is being renumbered to {facts.renumbers_to}."
        yield Because(Reason.RENUMBERS_TO, sentence)
    for name in facts.confirmed:
        yield Because(Reason.CONFIRMED, f"dhcpd '{name}' has confirmed the binding.")
    for name, problem in facts.missing:
        sentence = _with(f"dhcpd '{name}' has yet to confirm the binding.", problem)
        yield Because(Reason.WAITS_FOR_DHCPD, sentence)
    yield from _domain(facts, one)
    if one.labels:
        said = ", ".join(f"{key}={value}" for key, value in one.labels.items())
        yield Because(Reason.LABELS, f"It has the labels {said}.")
    if facts.sign is not None:
        sentence = f"Its machine was last seen at {moment(facts.sign.at)}: {facts.sign.what}."
        yield Because(Reason.SEEN, sentence)
    if one.expires_at is not None:
        yield Because(Reason.EXPIRES, f"It is released by itself at {moment(one.expires_at)}.")


def _holder(facts: Facts, one: Allocation) -> Because:
    made = next((entry for entry in facts.history if entry.generation == one.generation), None)
    by = "" if made is None else f" by {made.actor}"
    since = f"since {moment(one.created_at)}{by}"
    if one.renumbers_from is not None:
        sentence = (
            f"{one.address} is held for '{one.name}', which is being renumbered from {one.renumbers_from}"
        )
        return Because(Reason.RENUMBERING, f"{sentence}, {since}.")
    if one.pinned:
        return Because(Reason.RESERVED, f"{one.address} is reserved for '{one.name}' {since}.")
    return Because(Reason.ALLOCATED, f"{one.address} is allocated to '{one.name}' {since}.")


def _domain(facts: Facts, one: Allocation) -> Iterator[Because]:
    if facts.hypervisor is not None:
        what = f"The domain '{one.domain}' on the hypervisor '{facts.hypervisor}' uses it"
        yield Because(Reason.DOMAIN, f"{what}; it is {facts.phase}.")
    elif facts.is_watched and not one.pinned:
        yield Because(Reason.WAITS_FOR_DOMAIN, f"No domain was seen with its MAC {one.mac} yet.")
    if one.doubted_at is not None:
        sentence = (
            f"Its domain has not been seen to run since {moment(one.doubted_at)}; it keeps its address."
        )
        yield Because(Reason.DOMAIN_MISSING, sentence)


# -- of what is not held -------------------------------------------------------------------------------------


def _released(facts: Facts) -> Iterator[Because]:
    one = facts.allocation
    if one is None or one.released_at is None:
        return
    if one.state is State.RELEASING:
        yield Because(
            Reason.RELEASED,
            f"{one.address} was released by '{one.name}' at {moment(one.released_at)}, and not every DHCP server has "
            "confirmed it.",
        )
        for name, problem in facts.missing:
            sentence = _with(f"dhcpd '{name}' has yet to confirm that the binding is gone.", problem)
            yield Because(Reason.WAITS_FOR_DHCPD, sentence)
    if facts.free_at is None or facts.free_at <= facts.now:
        return
    last = next((entry for entry in facts.history if entry.generation == one.generation), None)
    if last is not None and last.action == "put aside":
        refused = next(
            (
                one.detail["reason"]
                for one in facts.history
                if "reason" in one.detail and one.action == "release"
            ),
            "refused",
        )
        sentence = f"{one.address} is put aside until {moment(facts.free_at)}: {refused}."
        yield Because(Reason.PUT_ASIDE, sentence)
    else:
        sentence = f"{one.address} rests until {moment(facts.free_at)}, or until its pool runs short."
        yield Because(Reason.RESTING, sentence)


def _last_holder(facts: Facts) -> Iterator[Because]:
    last = next((one for one in facts.history if one.action in ("release", "unreserve")), None)
    if last is not None:
        yield Because(Reason.LAST_HOLDER, f"{_ended(last)}.")


def _ended(entry: AuditEntry) -> str:
    """How an allocation ended, as the end of a sentence."""
    reason = f", because: {entry.detail['reason']}" if "reason" in entry.detail else ""
    return f"'{entry.name}' had {entry.address} until {moment(entry.at)}; released by {entry.actor}{reason}"


def _others(facts: Facts, mac: MacAddress | None) -> Iterator[Because]:
    for one in facts.evidence:
        if mac is not None and one.mac == mac:
            continue  # its own machine
        which = "" if one.mac is None else f" (MAC {one.mac})"
        until = "" if one.until is None else f"; it counts until {moment(one.until)}"
        yield Because(
            Reason.USED_BY_OTHERS,
            f"{facts.address} is used by '{one.holder}'{which}: {one.described}, seen since {moment(one.since)}, "
            f"last at {moment(one.seen_at)}{until}.",
        )


# -- of time -------------------------------------------------------------------------------------------------


def _timeline(facts: Facts) -> tuple[Moment, ...]:
    found = [_moment(one) for one in facts.history]
    found += [Moment(one.since, f"first seen with '{one.holder}': {one.described}") for one in facts.evidence]
    if facts.sign is not None:
        found.append(Moment(facts.sign.at, f"seen: {facts.sign.what}"))
    return tuple(sorted(found, key=lambda one: one.at))


def _moment(entry: AuditEntry) -> Moment:
    reason = f" ({entry.detail['reason']})" if "reason" in entry.detail else ""
    name = f" '{entry.name}'" if entry.name else ""
    return Moment(entry.at, f"{entry.action}{name}{reason}", entry.actor)


def moment(at: datetime) -> str:
    """A time in a sentence."""
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"


def _with(sentence: str, problem: str) -> str:
    return f"{sentence} {problem}".rstrip()
