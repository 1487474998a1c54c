"""Pools in static mode: every address is in dhcpd's file, and DHCP works with the controller gone."""

from collections.abc import Iterator
from ipaddress import IPv4Address

import pytest

from labkit.dhcp import DhcpClient, expect_silence
from labkit.farm import Farm
from macbind.client.client import Client
from macbind.core.allocation import State
from macbind.core.dhcp_options import DhcpOptions
from macbind.core.errors import AddressInUse, Conflict, PoolExhausted

POOLS = """
[subnet."10.0.0.0/8"]
routers = ["10.0.0.1"]

[pool.fixed]
subnet = "10.0.0.0/8"
ranges = ["10.3.0.3-10.3.0.12"]
routers = ["10.0.0.3"]
mode = "static"

[pool.live]
subnet = "10.0.0.0/8"
ranges = ["10.1.1.3-10.1.1.250"]
"""
FIRST = IPv4Address("10.3.0.3")
MACS = [f"00:16:3e:03:00:{number:02x}" for number in range(3, 13)]


@pytest.fixture
def client(farm: Farm) -> Iterator[Client]:
    """The Python API."""
    with farm.client() as client:
        yield client


def test_every_address_is_served_with_the_controller_gone(farm: Farm) -> None:
    """With the service stopped each MAC of a static pool is served its address; a live pool's MAC is not."""
    assert farm.stop() == 0
    port = farm.lab.port("fixed")
    for offset, mac in enumerate(MACS):
        lease = DhcpClient(port, mac).dora()
        assert lease is not None
        assert (lease.address, lease.routers) == (FIRST + offset, (IPv4Address("10.0.0.3"),))
    expect_silence(DhcpClient(port, "00:16:3e:01:01:03"), DhcpClient(port, MACS[0]))
    farm.start()
    farm.wait_serving()


def test_allocating_and_releasing_is_bookkeeping_and_leaves_dhcpds_file_alone(
    farm: Farm, client: Client
) -> None:
    """dhcpd serves the machine before, during and after, and its lease file never hears of the allocation."""
    before = farm.leases.read_bytes()
    machine = DhcpClient(farm.lab.port("book"), MACS[0])
    made = client.allocate("fixed", "one")
    assert (made.address, str(made.mac), made.state) == (FIRST, MACS[0], State.BOUND)
    assert client.allocate("fixed", "one") == made
    lease = machine.dora()
    assert lease is not None
    assert lease.address == FIRST
    assert client.release("one").allocations[0].address == FIRST
    lease = machine.dora()
    assert lease is not None
    assert lease.address == FIRST
    assert client.allocate("fixed", "two").address == FIRST
    client.release("two")
    assert farm.leases.read_bytes() == before
    with pytest.raises(PoolExhausted):
        client.allocate_group("fixed", "too-many", 11)


def test_allocating_works_while_dhcpd_is_down(farm: Farm, client: Client) -> None:
    """An allocation from a static pool needs no dhcpd: it is bound at once."""
    farm.dhcpd.kill()
    try:
        made = client.allocate("fixed", "offline")
        assert made.state is State.BOUND
        with pytest.raises(AddressInUse, match="held by 'offline'"):
            client.allocate("fixed", "other", address=made.address)
    finally:
        farm.dhcpd.restart()
        farm.wait_serving()
    assert client.release("offline").allocations[0].address == made.address


def test_options_of_one_machine_are_refused(farm: Farm, client: Client) -> None:
    """Options cannot differ within a static pool, because they stand in dhcpd's file."""
    with pytest.raises(Conflict, match="static mode"):
        client.allocate("fixed", "n", options=DhcpOptions(hostname="n"))
    with pytest.raises(Conflict, match="static mode"):
        client.reserve("n", FIRST, mac="b8:27:eb:00:00:01")
    assert list(client.list(pool="fixed", released=True)) == []


def test_pinned_address_of_a_static_pool_is_passed_by(farm: Farm, client: Client) -> None:
    """A static pool's address can be pinned with its own MAC; allocate then takes the next."""
    pinned = client.reserve("kept", FIRST)
    assert (pinned.state, str(pinned.mac)) == (State.BOUND, MACS[0])
    assert client.allocate("fixed", "next").address == FIRST + 1
    client.release("next")
    client.unreserve("kept")
    assert client.allocate("fixed", "again").address == FIRST
    client.release("again")
