"""Why an address is as it is: every reason, as text and as JSON."""

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest

from macbind.cli.formats import plain
from macbind.client import codec
from macbind.config import Settings, load
from macbind.config.places import pool_of, reasons
from macbind.core.allocation import Allocation, AuditEntry, State
from macbind.core.evidence import Evidence, Source
from macbind.core.explain import explain, former_name, strange_ipv6, strange_mac
from macbind.core.mac_address import MacAddress
from macbind.core.why import Because, Facts, Reason, Sign, Why

NOW = datetime(2030, 1, 1, 12, tzinfo=UTC)
EARLIER, LATER = NOW - timedelta(hours=1), NOW + timedelta(hours=1)
ADDRESS = IPv4Address("10.1.1.3")
MAC, OTHER = MacAddress.parse("00:16:3e:01:01:03"), MacAddress.parse("aa:bb:cc:00:00:01")
HELD = Allocation(ADDRESS, MAC, "web", "farm", 5, State.BOUND, EARLIER)
GONE = replace(HELD, state=State.COOLING, released_at=EARLIER)


def entry(action: str, generation: int = 5, **detail: Any) -> AuditEntry:
    """A line of the audit log."""
    return AuditEntry(EARLIER, "root (uid 0, pid 1)", action, ADDRESS, generation, "web", detail)


def seen(source: Source = Source.HOST, mac: MacAddress | None = OTHER) -> Evidence:
    """Somebody uses the address."""
    return Evidence(source, "main", ADDRESS, mac, "printer", EARLIER, NOW)


def facts(**known: Any) -> Facts:
    """What is known of the address."""
    return Facts("10.1.1.3", ADDRESS, NOW, **{"pool": "farm", **known})


def told(**known: Any) -> Why:
    """The answer."""
    return explain(facts(**known))


BY = "since 2030-01-01 11:00:00 UTC by root (uid 0, pid 1)"
CASES: list[tuple[Why, Reason, str]] = [
    (told(), Reason.FREE, "10.1.1.3 is free: the pool 'farm' may hand it out."),
    (
        told(allocation=HELD, history=(entry("allocate"),)),
        Reason.ALLOCATED,
        f"10.1.1.3 is allocated to 'web' {BY}.",
    ),
    (
        told(allocation=replace(HELD, pinned=True), history=(entry("reserve"),)),
        Reason.RESERVED,
        f"10.1.1.3 is reserved for 'web' {BY}.",
    ),
    (
        told(allocation=replace(HELD, renumbers_from=IPv4Address("10.1.1.9")), history=(entry("renumber"),)),
        Reason.RENUMBERING,
        f"10.1.1.3 is held for 'web', which is being renumbered from 10.1.1.9, {BY}.",
    ),
    (
        told(allocation=HELD, renumbers_to=IPv4Address("10.1.1.8")),
        Reason.RENUMBERS_TO,
        "'web' is being renumbered to 10.1.1.8.",
    ),
    (told(allocation=HELD, confirmed=("main",)), Reason.CONFIRMED, "dhcpd 'main' has confirmed the binding."),
    (
        told(allocation=HELD, missing=(("main", "It does not answer."),)),
        Reason.WAITS_FOR_DHCPD,
        "dhcpd 'main' has yet to confirm the binding. It does not answer.",
    ),
    (
        told(allocation=replace(HELD, domain="web"), hypervisor="kvm1", phase="running"),
        Reason.DOMAIN,
        "The domain 'web' on the hypervisor 'kvm1' uses it; it is running.",
    ),
    (
        told(allocation=HELD, is_watched=True),
        Reason.WAITS_FOR_DOMAIN,
        "No domain was seen with its MAC 00:16:3e:01:01:03 yet.",
    ),
    (
        told(allocation=replace(HELD, doubted_at=EARLIER)),
        Reason.DOMAIN_MISSING,
        "Its domain has not been seen to run since 2030-01-01 11:00:00 UTC; it keeps its address.",
    ),
    (
        told(allocation=HELD, sign=Sign("DHCPREQUEST", EARLIER)),
        Reason.SEEN,
        "Its machine was last seen at 2030-01-01 11:00:00 UTC: DHCPREQUEST.",
    ),
    (
        told(allocation=replace(HELD, labels={"job": "4711", "owner": "ci"})),
        Reason.LABELS,
        "It has the labels job=4711, owner=ci.",
    ),
    (
        told(allocation=replace(HELD, expires_at=LATER)),
        Reason.EXPIRES,
        "It is released by itself at 2030-01-01 13:00:00 UTC.",
    ),
    (
        told(allocation=replace(GONE, state=State.RELEASING), missing=(("main", ""),)),
        Reason.RELEASED,
        "10.1.1.3 was released by 'web' at 2030-01-01 11:00:00 UTC, and not every DHCP server has confirmed it.",
    ),
    (
        told(allocation=GONE, free_at=LATER, history=(entry("release", reason="asked"),)),
        Reason.RESTING,
        "10.1.1.3 rests until 2030-01-01 13:00:00 UTC, or until its pool runs short.",
    ),
    (
        told(
            allocation=GONE,
            free_at=LATER,
            history=(entry("put aside", rest_s=300.0), entry("release", reason="address_answered")),
        ),
        Reason.PUT_ASIDE,
        "10.1.1.3 is put aside until 2030-01-01 13:00:00 UTC: address_answered.",
    ),
    (
        told(evidence=(seen(),)),
        Reason.USED_BY_OTHERS,
        (
            "10.1.1.3 is used by 'printer' (MAC aa:bb:cc:00:00:01): a host of dhcpd 'main' that macbind did not "
            "make, seen since 2030-01-01 11:00:00 UTC, last at 2030-01-01 12:00:00 UTC."
        ),
    ),
    (
        told(history=(entry("release", reason="its domain has ended"), entry("allocate"))),
        Reason.LAST_HOLDER,
        (
            "'web' had 10.1.1.3 until 2030-01-01 11:00:00 UTC; released by root (uid 0, pid 1), because: its domain "
            "has ended."
        ),
    ),
    (
        former_name("web", "web", (entry("unreserve"),)),
        Reason.NAME_NOT_ALLOCATED,
        "'web' has no address: 'web' had 10.1.1.3 until 2030-01-01 11:00:00 UTC; released by root (uid 0, pid 1).",
    ),
    (
        strange_mac("aabbcc000001", OTHER),
        Reason.MAC_OF_NO_POOL,
        "aa:bb:cc:00:00:01 is the MAC of no pool and of no reservation, and was not seen to use an address.",
    ),
    (
        strange_ipv6("2001:db8::1"),
        Reason.IPV6_OF_NO_MAC,
        "2001:db8::1 is no address that a machine makes of its MAC, with the prefix of a pool or link-local.",
    ),
]

CONFIG = """\
[dhcpd.main]

[subnet."10.0.0.0/8"]
routers = ["10.0.0.1"]
domain_name_servers = ["10.0.0.53"]
next_server = "10.0.0.69"
static_routes = ["192.0.2.0/24 via 10.0.0.2"]
dynamic = ["10.9.1.0-10.9.1.255"]

[pool.farm]
subnet = "10.0.0.0/8"
ranges = ["10.1.0.0/16"]
exclude = [
  "10.1.5.0-10.1.5.9",
  "10.1.7.1",
]
gateway = "x.x.0.254"
"""
CONFIGURED: list[tuple[str, Reason, str, int | None]] = [
    ("192.168.1.1", Reason.OUTSIDE, "is on no subnet of the configuration; it has 10.0.0.0/8.", None),
    ("10.0.0.0", Reason.NETWORK_ADDRESS, "is the network address of 10.0.0.0/8.", None),
    ("10.255.255.255", Reason.BROADCAST_ADDRESS, "is the broadcast address of 10.0.0.0/8.", None),
    ("10.0.0.1", Reason.GATEWAY, 'is the gateway of the machines of [subnet."10.0.0.0/8"]', 4),
    ("10.0.0.2", Reason.GATEWAY, "is the gateway to 192.0.2.0/24 for the machines of", 7),
    ("10.1.0.254", Reason.GATEWAY, "is a gateway of the machines of [pool.farm], by the rule x.x.0.254", 17),
    ("10.0.0.53", Reason.SERVER, "is a DNS server of the machines of", 5),
    ("10.0.0.69", Reason.SERVER, "is the boot server of the machines of", 6),
    (
        "10.9.1.7",
        Reason.DYNAMIC,
        "is in the dynamic range 10.9.1.0-10.9.1.255, which dhcpd hands out by itself",
        8,
    ),
    ("10.1.5.9", Reason.EXCLUDED, "is excluded from [pool.farm] by 10.1.5.0-10.1.5.9", 14),
    ("10.1.7.1", Reason.EXCLUDED, "is excluded from [pool.farm] by 10.1.7.1", 15),
    (
        "10.2.0.1",
        Reason.NOT_IN_RANGES,
        "is on the subnet 10.0.0.0/8, and no pool has it in its ranges.",
        None,
    ),
]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A configuration with everything that keeps an address from a pool."""
    path = tmp_path / "macbind.toml"
    path.write_text(CONFIG)
    return load(path)


def sentences(answer: Why) -> dict[Reason, str]:
    """Its sentences by their codes."""
    return {one.code: one.sentence for one in answer.reasons}


@pytest.mark.parametrize(("answer", "code", "sentence"), CASES, ids=[code for _, code, _ in CASES])
def test_each_reason_has_its_sentence(answer: Why, code: Reason, sentence: str) -> None:
    """As text, and the same in JSON, from which the client makes the same value again."""
    assert sentences(answer)[code] == sentence
    assert (answer.code, answer.answer) == (answer.reasons[0].code, answer.reasons[0].sentence)
    written = json.loads(codec.WHY.dump_json([answer]))
    assert {"code": str(code), "sentence": sentence, "where": None} in written[0]["reasons"]
    assert codec.WHY.validate_python(written) == [answer]
    assert json.loads(json.dumps(plain(answer)))["code"] == written[0]["code"]


@pytest.mark.parametrize(
    ("address", "code", "sentence", "line"), CONFIGURED, ids=[one[0] for one in CONFIGURED]
)
def test_the_configuration_says_why(
    settings: Settings, address: str, code: Reason, sentence: str, line: int | None
) -> None:
    """With the line that says so."""
    asked = IPv4Address(address)
    assert pool_of(settings, asked) is None
    (because,) = reasons(settings, asked)
    where = None if line is None else f"{settings.document.path} line {line}"
    assert because.code is code
    assert because.sentence.startswith(f"{address} {sentence}")
    assert because.where == where
    if where is not None:
        assert because.sentence.endswith(f" ({where}).")


def test_what_a_pool_hands_out_has_no_reason(settings: Settings) -> None:
    """Next to what is excluded."""
    assert pool_of(settings, IPv4Address("10.1.5.10")) == "farm"
    assert reasons(settings, IPv4Address("10.1.5.10")) == ()


def test_every_reason_is_shown() -> None:
    """No code without a case."""
    shown: Sequence[Reason] = [code for _, code, _ in CASES] + [code for _, code, _, _ in CONFIGURED]
    assert set(shown) == set(Reason)


def test_the_first_reason_is_the_strongest() -> None:
    """Who holds it comes before who uses it; the configuration before who had it."""
    told_of = told(allocation=HELD, evidence=(seen(),), confirmed=("main",))
    assert [one.code for one in told_of.reasons] == [
        Reason.ALLOCATED,
        Reason.CONFIRMED,
        Reason.USED_BY_OTHERS,
    ]
    outside = Because(Reason.OUTSIDE, "It is outside.")
    assert told(configured=(outside,), allocation=GONE, free_at=LATER, pool=None).code is Reason.OUTSIDE


def test_its_own_machine_is_no_other() -> None:
    """Evidence with the MAC of the allocation is not held against it."""
    assert Reason.USED_BY_OTHERS not in sentences(told(allocation=HELD, evidence=(seen(mac=MAC),)))
    assert Reason.USED_BY_OTHERS in sentences(told(allocation=HELD, evidence=(seen(mac=None),)))


def test_a_rest_that_is_over_is_none() -> None:
    """An address that is about to be swept is free."""
    assert told(allocation=GONE, free_at=EARLIER).code is Reason.FREE


def test_the_timeline_is_in_order() -> None:
    """What was done and what was seen, oldest first."""
    late = replace(entry("release", reason="asked"), at=NOW)
    answer = told(history=(late, entry("allocate")), evidence=(seen(),), sign=Sign("DHCPREQUEST", LATER))
    assert [one.what for one in answer.timeline] == [
        "allocate 'web'",
        "first seen with 'printer': a host of dhcpd 'main' that macbind did not make",
        "release 'web' (asked)",
        "seen: DHCPREQUEST",
    ]
    assert next(one.actor for one in answer.timeline) == "root (uid 0, pid 1)"
