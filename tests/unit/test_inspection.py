"""What a lease file tells an admin, and what one sentence says of a comparison."""

from datetime import UTC, datetime
from ipaddress import IPv4Network

import pytest

from macbind.addressing import AddressPlan, AddressRange
from macbind.dhcpd.inspection import divide, inspect
from macbind.dhcpd.leases import parse
from macbind.model import Finding
from macbind.reconciler import Cycle

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
    file = parse(text.encode())
    return inspect("main", file, divide(file)[-1], PLANS, NOW)


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
            "the MAC of 10.1.1.5: 10.1.1.5 cannot be",
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


def test_many_of_a_kind_are_one_finding() -> None:
    """The first is told, and how many there are."""
    text = "".join(
        host(f"printer{last}", f"00:11:22:33:44:0{last}", f"10.1.1.{last}") for last in range(4, 9)
    )
    (found,) = look(text)
    assert "'printer4'" in found.message
    assert found.message.endswith("There are 5 of these.")


@pytest.mark.parametrize(
    ("cycle", "sentence"),
    [
        (
            Cycle("main", 60, 0, 0, 0, True, 0.1, ()),
            "dhcpd 'main': all 60 reservations are there.",
        ),
        (
            Cycle("main", 60, 2, 1, 3, True, 0.1, ()),
            (
                "dhcpd 'main': 2 of 60 reservations were missing or different and are made anew, 1 leftover removed, "
                "3 foreign hosts left alone."
            ),
        ),
        (
            Cycle("main", 1, 1, 0, 0, False, 0.1, ()),
            (
                "dhcpd 'main': 1 of 1 reservations were missing or different and are made anew, leftovers were not "
                "looked for without its lease file."
            ),
        ),
    ],
)
def test_comparison_is_told_in_one_sentence(cycle: Cycle, sentence: str) -> None:
    """What was found, what was done, and what could not be looked at."""
    assert str(cycle) == sentence
