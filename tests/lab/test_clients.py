"""The DHCP clients that real machines run, each with what was allocated for it."""

from collections.abc import Callable
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from labkit.clients import ClientRun, dhclient, dhcpcd, udhcpc
from labkit.farm import Farm
from macbind.core.dhcp_options import DhcpOptions

POOLS = """
[subnet."10.0.0.0/8"]
routers = ["10.0.0.1"]
domain_name_servers = ["10.0.0.1"]
domain_name = "farm.example.org"

[pool.farm]
subnet = "10.0.0.0/8"
ranges = ["10.1.1.3-10.1.1.250"]
"""
ROUTER = {"udhcpc": "router", "dhclient": "new_routers", "dhcpcd": "new_routers"}
HOSTNAME = {"udhcpc": "hostname", "dhclient": "new_host_name", "dhcpcd": "new_host_name"}


@pytest.mark.parametrize("boot", [udhcpc, dhclient, dhcpcd])
def test_real_client_gets_exactly_what_was_allocated(farm: Farm, boot: Callable[..., ClientRun]) -> None:
    """A machine that boots with the allocated MAC has address, gateway and host name, and can be pinged."""
    kind = boot.__name__
    options = DhcpOptions.parse({"routers": ["10.0.0.2"], "hostname": f"vm-{kind}"})
    with farm.client() as client:
        made = client.allocate("farm", kind, options=options)
    run = boot(farm.lab.port(kind, str(made.mac)))
    assert run.address == made.address, run.output
    assert run.variables[ROUTER[kind]] == "10.0.0.2"
    assert run.variables[HOSTNAME[kind]] == f"vm-{kind}"
    assert farm.lab.ping(made.address)


@pytest.mark.parametrize("boot", [dhclient, dhcpcd])
def test_cloned_disk_boots_with_its_own_address(
    farm: Farm, tmp_path: Path, boot: Callable[..., ClientRun]
) -> None:
    """Two machines with the same disk, and so the same DHCP identity and memory, get an address each."""
    kind, disk = boot.__name__, tmp_path / "disk"
    with farm.client() as client:
        template, clone = client.allocate_group("farm", f"clones-{kind}", 2)
    ports = [farm.lab.port(f"{kind}-{n}", str(one.mac)) for n, one in enumerate((template, clone))]
    for port, one in zip(ports, (template, clone), strict=True):
        run = boot(port, state=disk)
        assert run.address == one.address, run.output
    assert all(farm.lab.ping(one.address) for one in (template, clone))


def test_next_machine_with_the_same_address_boots_at_once(farm: Farm) -> None:
    """The successor on a released address has it like the first, and peers reach it: the MAC is the same."""
    with farm.client() as client:
        made = client.allocate("farm", "first", address="10.1.1.200")
        port = farm.lab.port("first", str(made.mac))
        assert udhcpc(port).address == made.address
        assert farm.lab.ping(made.address)
        client.release("first")
        port.mac = "02:00:00:00:00:01"
        port.flush()
        again = client.allocate("farm", "second", address="10.1.1.200")
    run = udhcpc(farm.lab.port("second", str(again.mac)))
    assert run.address == IPv4Address("10.1.1.200")
    assert farm.lab.ping(again.address)
