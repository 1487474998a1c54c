"""A stranger who uses an address is noticed before the address is handed out."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from labkit.farm import Farm
from labkit.net import Lab
from macbind.errors import AddressAnswered, NetworkUnavailable

POOLS = """
[subnet."10.0.0.0/8"]
routers = ["10.0.0.1"]

[pool.farm]
subnet = "10.0.0.0/8"
ranges = ["10.1.1.3-10.1.1.9"]
arp_probe = "br0"

[pool.blind]
subnet = "10.0.0.0/8"
ranges = ["10.1.2.3-10.1.2.9"]
arp_probe = "nowhere0"
"""


def test_a_stranger_keeps_an_address_from_being_handed_out(lab: Lab, make_farm: Callable[..., Farm]) -> None:
    """The caller is told who answered, nothing is allocated, and the next request gets the next address."""
    farm = make_farm(pools=POOLS)
    squatter = lab.port("squatter", "02:00:00:00:00:99")
    squatter.add_address("10.1.1.3/8")
    with farm.client() as client:
        with pytest.raises(AddressAnswered) as caught:
            client.allocate("farm", "vm")
        assert caught.value.details["mac"] == "02:00:00:00:00:99"
        assert caught.value.details["address"] == "10.1.1.3"
        assert list(client.list()) == []
        assert farm.dhcpd.omshell_host("00:16:3e:01:01:03") is None
        assert str(client.allocate("farm", "vm").address) == "10.1.1.4"
        assert [str(one.address) for one in client.allocate_group("farm", "group", 2)] == [
            "10.1.1.5",
            "10.1.1.6",
        ]


def test_an_interface_that_does_not_exist_is_told(make_farm: Callable[..., Farm]) -> None:
    """A pool that cannot be asked about hands nothing out, and says why."""
    farm = make_farm(pools=POOLS)
    with farm.client() as client:
        with pytest.raises(NetworkUnavailable, match="nowhere0"):
            client.allocate("blind", "vm")
        assert list(client.list()) == []
