"""What is decided about one address, case by case."""

from ipaddress import IPv4Address

import pytest

from macbind.core.binding import Binding, binding_name
from macbind.core.binding_plan import Change, Ensure, Remove, Step, decide
from macbind.core.mac_address import MacAddress

HERE, ELSEWHERE = IPv4Address("10.1.1.3"), IPv4Address("10.1.1.4")
MAC = MacAddress.parse("00:16:3e:01:01:03")


def host(generation: int, address: IPv4Address = HERE, at: IPv4Address | None = HERE) -> Binding:
    """The reservation that generation made for an address; ``at`` is what it serves."""
    return Binding(binding_name(address, generation), MAC, at)


ENSURE = Ensure(HERE, 5, host(5))
REMOVE = Remove(HERE, 5, MAC)
FOREIGN = Binding("printer", MAC, HERE)

CASES: list[tuple[str, Change, Binding | None, Step]] = [
    ("a missing reservation is made", ENSURE, None, Step.CREATE),
    ("one that is there is left alone", ENSURE, host(5), Step.NOTHING),
    ("an older generation makes way", ENSURE, host(4), Step.DELETE),
    ("a newer generation stays", ENSURE, host(6), Step.SUPERSEDED),
    ("a torn one without its address is replaced", ENSURE, host(5, at=None), Step.DELETE),
    ("a torn one with another address is replaced", ENSURE, host(5, at=ELSEWHERE), Step.DELETE),
    ("a leftover of another address makes way", ENSURE, host(9, ELSEWHERE, ELSEWHERE), Step.DELETE),
    ("another's host stays", ENSURE, FOREIGN, Step.FOREIGN),
    ("nothing is to be removed where nothing is", REMOVE, None, Step.NOTHING),
    ("the released generation goes", REMOVE, host(5), Step.DELETE),
    ("an older one goes as well", REMOVE, host(1), Step.DELETE),
    ("a torn one goes as well", REMOVE, host(5, at=None), Step.DELETE),
    ("a successor stays", REMOVE, host(6), Step.SUPERSEDED),
    ("what the MAC was bound to since then stays", REMOVE, host(4, ELSEWHERE, ELSEWHERE), Step.SUPERSEDED),
    ("another's host stays though it has the address", REMOVE, FOREIGN, Step.FOREIGN),
]


@pytest.mark.parametrize(
    ("change", "observed", "step"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_next_step(change: Change, observed: Binding | None, step: Step) -> None:
    """Each pair of what should be and what is has one next step."""
    assert decide(change, observed) is step


@pytest.mark.parametrize(
    "name",
    [
        "macbind-10.1.1.3",
        "macbind-10.1.1.3-g0",
        "macbind-10.1.1.3-g05",
        "macbind-10.1.1.3-g5x",
        "macbind-10.1.1.3-g-5",
        "macbind-999.1.1.1-g5",
        "macbind-static-10.1.1.3",
        "Macbind-10.1.1.3-g5",
        "xmacbind-10.1.1.3-g5",
        "",
    ],
)
def test_names_that_only_resemble_ours_are_foreign(name: str) -> None:
    """A host is ours by the exact form of its name; all others are never touched."""
    observed = Binding(name, MAC, HERE)
    assert decide(ENSURE, observed) is Step.FOREIGN
    assert decide(REMOVE, observed) is Step.FOREIGN


def test_change_of_a_machine_is_looked_up_under_its_own_mac() -> None:
    """Both kinds of change name the MAC that dhcpd is asked about."""
    assert (ENSURE.mac, REMOVE.mac) == (MAC, MAC)
