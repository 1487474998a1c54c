"""A stranger who uses an address is noticed before the address is handed out."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest

from labkit.farm import Farm
from labkit.net import Lab, Port
from labkit.wait import until
from macbind.client.client import Client
from macbind.core.errors import AddressAnswered, AddressInUse, NetworkUnavailable, PoolExhausted

STRANGER = "02:00:00:00:00:99"
POOLS = """
[subnet."10.0.0.0/8"]
routers = ["10.0.0.1"]

[pool.farm]
subnet = "10.0.0.0/8"
ranges = ["10.1.1.3-10.1.1.99"]
arp_probe = "br0"

[pool.small]
subnet = "10.0.0.0/8"
ranges = ["10.1.3.3-10.1.3.9"]
arp_probe = "br0"

[pool.blind]
subnet = "10.0.0.0/8"
ranges = ["10.1.2.3-10.1.2.9"]
arp_probe = "nowhere0"
"""


@pytest.fixture
def farm(make_farm: Callable[..., Farm]) -> Farm:
    """A farm whose pools ask the network."""
    return make_farm(pools=POOLS)


def _squatter(lab: Lab, addresses: Iterable[str], name: str = "squatter", mac: str = STRANGER) -> Port:
    """A machine with static addresses."""
    port = lab.port(name, mac)
    for address in addresses:
        port.add_address(f"{address}/8")
    return port


def _ask(client: Client, name: str, pool: str = "farm") -> str:
    return str(client.allocate(pool, name).address)


def test_one_call_passes_over_twenty_static_machines(lab: Lab, farm: Farm) -> None:
    """One `allocate` gets a free address, and dhcpd serves no address of theirs; the next call asks none of them."""
    _squatter(lab, [f"10.1.1.{last}" for last in range(3, 23)])
    with farm.client() as client:
        assert _ask(client, "vm") == "10.1.1.23"
        assert [one.name for one in client.list()] == ["vm"]
        assert farm.dhcpd.omshell_host("00:16:3e:01:01:03") is None
        assert [one.name for one in client.history() if one.address is not None] == [
            "vm"
        ]  # none was ever taken
        usage = next(one for one in client.pools() if one.pool == "farm")
        assert usage.used_by_others == 20
        assert usage.free == usage.size - 21


def test_a_group_keeps_the_members_that_are_fine(lab: Lab, farm: Farm) -> None:
    """Ten names get ten addresses in one call, in order; those that answer are passed over."""
    _squatter(lab, ["10.1.1.4", "10.1.1.6", "10.1.1.13"])
    with farm.client() as client:
        made = client.allocate_group("farm", "web", 10)
        free = [last for last in range(3, 16) if last not in (4, 6, 13)]
        assert [(one.name, str(one.address)) for one in made] == [
            (f"web-{number}", f"10.1.1.{last}") for number, last in enumerate(free, 1)
        ]
        assert {one.address for one in client.allocate_group("farm", "web", 10)} == {
            one.address for one in made
        }


def test_an_address_that_is_wanted_and_answers_is_refused(lab: Lab, farm: Farm) -> None:
    """The caller hears who answers, nothing is allocated, and the admin may say whose the address is."""
    _squatter(lab, ["10.1.1.5", "10.1.1.6"])
    with farm.client() as client:
        with pytest.raises(AddressAnswered, match=f"10.1.1.5 is in use: {STRANGER}") as caught:
            client.allocate("farm", "vm", address="10.1.1.5")
        assert caught.value.details["holder"] == caught.value.details["mac"] == STRANGER
        assert caught.value.details["address"] == "10.1.1.5"
        assert "Nothing was allocated." in caught.value.hint
        assert list(client.list()) == []
        with pytest.raises(AddressInUse, match=f"is used by '{STRANGER}'"):
            client.allocate("farm", "vm", address="10.1.1.5")
        with pytest.raises(AddressAnswered):
            client.reserve("printer", "10.1.1.6", mac="02:00:00:00:00:98")
        until(lambda: not list(client.list(released=True)), 60, "what was withdrawn to be gone")
        assert str(client.reserve("printer", "10.1.1.6", mac=STRANGER).mac) == STRANGER


def test_one_machine_that_answers_for_everything_is_named(lab: Lab, farm: Farm) -> None:
    """A call ends after so many addresses; the error says that one MAC answers for them all."""
    _squatter(lab, [f"10.1.1.{last}" for last in range(3, 100)])
    with farm.client() as client:
        with pytest.raises(AddressAnswered, match=rf"{STRANGER} answers for \d+ of them") as caught:
            client.allocate("farm", "vm")
        assert "proxy ARP" in caught.value.hint
        assert list(client.list()) == []


def test_a_pool_whose_addresses_are_all_in_use_says_so(lab: Lab, farm: Farm) -> None:
    """The members of a group that were fine are withdrawn, too."""
    _squatter(lab, [f"10.1.3.{last}" for last in range(4, 10)])
    with farm.client() as client:
        with pytest.raises(PoolExhausted) as caught:
            client.allocate_group("small", "group", 2)
        assert caught.value.details["used_by_others"] >= 1
        assert "others use them" in caught.value.hint
        assert list(client.list()) == []
        until(lambda: not list(client.list(released=True)), 60, "what was withdrawn to be gone")
        assert _ask(client, "vm", "small") == "10.1.3.3"


def test_an_interface_that_does_not_exist_is_told(farm: Farm) -> None:
    """A pool that cannot be asked about hands nothing out, and says why."""
    with farm.client() as client:
        with pytest.raises(NetworkUnavailable, match="nowhere0"):
            client.allocate("blind", "vm")
        assert list(client.list()) == []
