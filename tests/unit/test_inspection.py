"""What a lease file tells an admin, and what one sentence says of a comparison."""

from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Network

import pytest

from macbind.core.address_plan import AddressPlan
from macbind.core.address_range import AddressRange
from macbind.core.evidence import Source
from macbind.core.findings import Finding
from macbind.dhcp.isc.audit import audit, divide
from macbind.dhcp.isc.lease_file import MAX_PROBLEMS, parse
from macbind.dhcp.isc.memory import Memory
from macbind.engine.reconciler import Cycle

NOW = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)
PLANS = [
    AddressPlan.build(
        IPv4Network("10.1.0.0/16"), "00:16:3e", ranges=[AddressRange.parse("10.1.1.3-10.1.1.9")]
    )
]


def host(name: str, mac: str, address: str, *more: str) -> str:
    """A host record as dhcpd writes it."""
    lines = ["dynamic;", f"hardware ethernet {mac};", f"fixed-address {address};", *more]
    return f"host {name} {{\n" + "".join(f"  {line}\n" for line in lines) + "}\n"


def lease(address: str, state: str, ends: str) -> str:
    """A lease record as dhcpd writes it."""
    return (
        f"lease {address} {{\n  starts 4 2026/04/30 12:00:00;\n  ends {ends};\n  binding state {state};\n"
        "  hardware ethernet 00:11:22:33:44:55;\n}\n"
    )


def look(text: str) -> list[Finding]:
    """The findings of a lease file."""
    return [*audit("main", parse(text.encode()), PLANS, NOW).findings]


OURS = host("macbind-10.1.1.3-g7", "00:16:3e:01:01:03", "10.1.1.3")


def test_file_of_our_own_hosts_has_nothing_to_look_at() -> None:
    """Our hosts, what is left of one, hosts of others elsewhere, and what was leased from a range are in order."""
    elsewhere = host("printer", "00:11:22:33:44:55", "10.1.9.9")
    elsewhere += "host macbind-10.1.1.8-g7 {\n  dynamic;\n  fixed-address 10.1.1.8;\n}\n"
    assert look(OURS + elsewhere + lease("10.1.250.1", "active", "5 2027/01/01 00:00:00")) == []
    ours, maimed, others = divide(parse((OURS + elsewhere).encode()))
    assert [(str(address), host.name) for address, host in ours] == [("10.1.1.3", "macbind-10.1.1.3-g7")]
    assert maimed == ["macbind-10.1.1.8-g7"]
    assert [one.name for one in others] == ["printer"]


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        (
            host("printer", "00:11:22:33:44:55", "10.1.1.4"),
            "foreign_host",
            "gives 10.1.1.4 to 00:11:22:33:44:55",
        ),
        (
            host("old", "00:16:3e:01:01:05", "10.200.0.1"),
            "foreign_host",
            "the MAC of 10.1.1.5: 10.1.1.5 is passed",
        ),
        (host("two", "00:11:22:33:44:55", "10.9.0.1, 10.1.1.4"), "foreign_host", "gives 10.1.1.4"),
        (
            lease("10.1.1.4", "active", "5 2026/05/01 12:00:01"),
            "leased_address",
            "until 2026-05-01 12:00:01 UTC",
        ),
        (lease("10.1.1.4", "active", "never"), "leased_address", "for ever"),
        (
            "host macbind-static-10.1.1.4 {\n  deleted;\n}\n",
            "host_masked",
            "ignores the host 'macbind-static-10.1.1.4'",
        ),
        ("host torn {\n  dynamic;\n" + OURS, "lease_file_damaged", "damaged at line 1"),
    ],
)
def test_what_is_in_the_way_is_found(text: str, code: str, words: str) -> None:
    """Each is one finding of its kind, with the address concerned and a hint."""
    (found,) = look(text)
    assert found.code == code
    assert words in found.message
    assert found.hint.endswith(".")


@pytest.mark.parametrize(
    "text",
    [
        lease("10.1.1.4", "free", "5 2027/01/01 00:00:00"),
        lease("10.1.1.4", "active", "5 2026/05/01 11:59:59"),
        "host macbind-static-10.1.1.4 {\n  dynamic;\n  deleted;\n}\n",
    ],
)
def test_what_is_over_is_not_found(text: str) -> None:
    """A free lease, one that has ended, and a deleted host of OMAPI's are no reason to look."""
    assert look(text) == []


def test_damage_without_end_is_not_said_to_have_one() -> None:
    """Of more damage than is listed, the number told is said to be the least."""
    (found,) = look("host x\n" * (MAX_PROBLEMS + 1))
    assert f"There are at least {MAX_PROBLEMS} of these." in found.message


def test_many_of_a_kind_are_one_finding() -> None:
    """The first is told, and how many there are."""
    text = "".join(
        host(f"printer{last}", f"00:11:22:33:44:0{last}", f"10.1.1.{last}") for last in range(4, 9)
    )
    (found,) = look(text)
    assert "'printer4'" in found.message
    assert found.message.endswith("There are 5 of these.")


def shown(text: str, now: datetime = NOW) -> list[tuple[str, str, str, str]]:
    """Source, address, MAC and holder of each evidence in a lease file."""
    seen = audit("main", parse(text.encode()), PLANS, now).evidence
    return [(str(one.source), str(one.address), str(one.mac), one.holder) for one in seen]


PRINTER = "00:11:22:33:44:55"


@pytest.mark.parametrize(
    ("text", "evidence"),
    [
        (host("printer", PRINTER, "10.1.1.4"), [("host", "10.1.1.4", PRINTER, "printer")]),
        (
            host("two", PRINTER, "10.1.1.4,10.9.9.9,10.1.1.5"),
            [("host", "10.1.1.4", PRINTER, "two"), ("host", "10.1.1.5", PRINTER, "two")],
        ),
        (
            host("old", "00:16:3e:01:01:05", "10.200.0.1"),
            [("host", "10.1.1.5", "00:16:3e:01:01:05", "old")],
        ),
        (
            host("old", "00:16:3e:01:01:05", "10.1.1.5"),
            [("host", "10.1.1.5", "00:16:3e:01:01:05", "old")],
        ),
        (
            host("static", PRINTER, "10.1.1.4").replace("  dynamic;\n", ""),
            [("host", "10.1.1.4", PRINTER, "static")],
        ),
        (
            "host nobody {\n  dynamic;\n  fixed-address 10.1.1.4;\n}\n",
            [("host", "10.1.1.4", "None", "nobody")],
        ),
        (lease("10.1.1.4", "active", "5 2026/05/01 12:00:01"), [("lease", "10.1.1.4", PRINTER, PRINTER)]),
        (lease("10.1.1.4", "active", "never"), [("lease", "10.1.1.4", PRINTER, PRINTER)]),
        (
            lease("10.1.1.4", "abandoned", "6 2026/05/02 12:00:00").replace(
                f"  hardware ethernet {PRINTER};\n", ""
            ),
            [("lease", "10.1.1.4", "None", "a machine that dhcpd does not know")],
        ),
        (OURS, []),
        (host("macbind-probe", "02:6d:62:00:00:00", "10.1.1.4").replace("  dynamic;\n", ""), []),
        (host("elsewhere", PRINTER, "10.1.9.9"), []),
        (lease("10.1.250.1", "active", "never"), []),
        (lease("10.1.1.4", "active", "5 2026/05/01 12:00:00"), []),
        (lease("10.1.1.4", "free", "5 2027/01/01 00:00:00"), []),
        (lease("10.1.1.4", "active", "never") + lease("10.1.1.4", "released", "never"), []),
    ],
)
def test_what_others_have_of_a_pool_is_evidence(text: str, evidence: list[tuple[str, str, str, str]]) -> None:
    """Each address of a pool that a host or lease of others has, or whose MAC it has, is named with its holder."""
    assert shown(text) == evidence


def test_a_lease_says_when_it_ends() -> None:
    """Evidence of a lease counts until its end; one that never ends has none."""
    text = lease("10.1.1.4", "active", "5 2026/05/01 12:00:01") + lease("10.1.1.5", "active", "never")
    seen = audit("main", parse(text.encode()), PLANS, NOW)
    assert [one.until for one in seen.evidence] == [datetime(2026, 5, 1, 12, 0, 1, tzinfo=UTC), None]
    assert seen.looked == {Source.HOST, Source.LEASE}


@pytest.mark.parametrize("state", ["free", "expired", "released", "reset", "backup"])
def test_a_lease_that_is_over_is_said_to_be(state: str) -> None:
    """What dhcpd has written down as over withdraws the evidence of it."""
    seen = audit("main", parse(lease("10.1.1.4", state, "5 2027/01/01 00:00:00").encode()), PLANS, NOW)
    assert [str(one) for one in seen.ended] == ["10.1.1.4"]


def test_a_torn_file_withdraws_nothing() -> None:
    """What stands behind a cut is not known to be gone."""
    text = host("printer", PRINTER, "10.1.1.4") + "host torn {\n  dyn"
    seen = audit("main", parse(text.encode()), PLANS, NOW)
    assert [one.holder for one in seen.evidence] == ["printer"]
    assert seen.looked == frozenset()


@pytest.mark.parametrize(
    ("later", "minutes", "left"),
    [
        ("", 1, ["10.1.1.4"]),
        (OURS, 9, ["10.1.1.4"]),
        ("", 11, []),
        (lease("10.1.1.4", "free", "5 2026/05/01 12:00:05"), 1, []),
        (lease("10.1.1.4", "active", "never"), 99, ["10.1.1.4"]),
    ],
)
def test_a_lease_counts_until_its_end_though_dhcpd_has_forgotten_it(
    later: str, minutes: int, left: list[str]
) -> None:
    """A range was taken out and dhcpd restarted: its lease of ten minutes counts on, unless it is said to be over."""
    memory, then = Memory(), NOW + timedelta(minutes=minutes)
    text = lease("10.1.1.4", "active", "5 2026/05/01 12:10:00")
    memory.after(audit("main", parse(text.encode()), PLANS, NOW), NOW)
    for _ in range(2):
        seen = memory.after(audit("main", parse(later.encode()), PLANS, then), then)
    assert [str(one.address) for one in seen.evidence] == left


def test_a_look_that_failed_keeps_the_findings() -> None:
    """What was found stays to be found; nothing is withdrawn."""
    memory = Memory()
    text = host("printer", PRINTER, "10.1.1.4")
    memory.after(audit("main", parse(text.encode()), PLANS, NOW), NOW)
    seen = memory.after_a_look_that_failed()
    assert [one.code for one in seen.findings] == ["foreign_host"]
    assert (seen.looked, list(seen.ended)) == (frozenset(), [])


@pytest.mark.parametrize(
    ("cycle", "sentence"),
    [
        (
            Cycle("main", 60, 0, 0, 0, True, 0.1, ()),
            "dhcpd 'main': all 60 bindings are there.",
        ),
        (
            Cycle("main", 60, 2, 1, 3, True, 0.1, ()),
            (
                "dhcpd 'main': 2 of 60 bindings were missing or different and are made anew, 1 leftover removed, "
                "3 foreign bindings left alone."
            ),
        ),
        (
            Cycle("main", 1, 1, 0, 0, False, 0.1, ()),
            (
                "dhcpd 'main': 1 of 1 bindings were missing or different and are made anew, leftovers were not "
                "looked for without its files."
            ),
        ),
    ],
)
def test_comparison_is_told_in_one_sentence(cycle: Cycle, sentence: str) -> None:
    """What was found, what was done, and what could not be looked at."""
    assert str(cycle) == sentence
