"""Gateways by rule, as machines experience them: by subnet, by pool, by allocation, live, static and dynamic."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from labkit.clients import dhclient, udhcpc
from labkit.dhcp import Ack, DhcpClient, Route
from labkit.farm import Farm
from labkit.lease import Lease
from labkit.mac2ip import batch_decisions, powershell_decisions
from labkit.wine import Scene, wine
from macbind.client.client import Client
from macbind.core.dhcp_options import DhcpOptions
from macbind.core.errors import InvalidOption
from macbind.machines.guest_data import GuestData

POOLS = """
[subnet."10.0.0.0/8"]
gateway = "x.x.0.1"
dynamic = ["10.200.0.9", "10.201.0.9"]

[pool.seed]
subnet = "10.0.0.0/8"
ranges = ["10.1.255.254-10.2.0.3"]

[pool.fixed]
subnet = "10.0.0.0/8"
ranges = ["10.3.0.254-10.3.1.2"]
mode = "static"
gateway = "x.x.x.1"

[pool.routed]
subnet = "10.0.0.0/8"
ranges = ["10.4.7.9-10.4.7.12"]
gateway = "{rule}"
static_routes = ["10.9.0.0/16 via 10.0.0.7"]
ipv6_prefix = "2001:db8:1::/64"

[pool.own]
subnet = "10.0.0.0/8"
ranges = ["10.5.1.1-10.5.1.9"]
routers = ["10.0.0.8"]

[pool.default]
subnet = "10.0.0.0/8"
ranges = ["10.6.1.1-10.6.1.9"]
static_routes = ["0.0.0.0/0 via 10.0.0.7"]

[pool.beside]
subnet = "11.1.128.0/17"
mac_prefix = "0a:58"
ranges = ["11.1.129.1-11.1.129.9"]
gateway = "x.x.x.254"
""".replace("{rule}", "x.x.x.1")


@pytest.fixture
def client(farm: Farm) -> Iterator[Client]:
    """The Python API."""
    with farm.client() as client:
        yield client


def boot(farm: Farm, mac: object) -> Lease:
    """What DHCP tells the machine with this MAC."""
    port = farm.lab.ports.get("machines") or farm.lab.port("machines")
    lease = DhcpClient(port, str(mac)).dora()
    assert lease is not None
    return lease


def test_each_machine_gets_the_gateway_of_its_own_address(farm: Farm, client: Client) -> None:
    """On both sides of 10.2.0.0 the subnet's rule names another gateway, which itself is never handed out."""
    made = client.allocate_group("seed", "speck", 5)
    assert [str(one.address) for one in made] == [
        "10.1.255.254",
        "10.1.255.255",
        "10.2.0.0",
        "10.2.0.2",
        "10.2.0.3",
    ]
    for one in made:
        lease = boot(farm, one.mac)
        assert (lease.address, lease.routers) == (one.address, (one.gateway,))
    assert [str(one.gateway) for one in made] == ["10.1.0.1"] * 2 + ["10.2.0.1"] * 3
    client.release_group("speck")


def test_real_clients_route_by_the_gateway_of_the_rule(farm: Farm, client: Client) -> None:
    """udhcpc and dhclient set the default route that the machine's address stands for, or its own routers."""
    plain = client.allocate("seed", "plain", address="10.2.0.3")
    own = client.allocate("seed", "own", options=DhcpOptions(routers=(IPv4Address("10.0.0.6"),)))
    for run, one, gateway in ((udhcpc, plain, "10.2.0.1"), (dhclient, own, "10.0.0.6")):
        port = farm.lab.port(run.__name__, str(one.mac))
        assert run(port).address == one.address
        route = farm.lab.run(["ip", "-json", "route", "show", "default"], port).stdout
        assert [entry["gateway"] for entry in json.loads(route)] == [gateway] == [str(one.gateway)]
    client.release("plain")
    client.release("own")


def test_a_pool_says_more_than_its_subnet(farm: Farm, client: Client) -> None:
    """A pool's routers beat the subnet's rule; a pool's rule is the default route among static routes, too."""
    fixed, routed = client.allocate("own", "named"), client.allocate("routed", "routed")
    assert boot(farm, fixed.mac).routers == (IPv4Address("10.0.0.8"),) == (fixed.gateway,)
    lease = boot(farm, routed.mac)
    assert lease.routers == (IPv4Address("10.4.7.1"),)
    assert [_text(route) for route in lease.routes] == [
        "10.9.0.0/16 via 10.0.0.7",
        "0.0.0.0/0 via 10.4.7.1",
    ]
    pinned = client.reserve("pinned", "10.77.3.9", mac="b8:27:eb:00:00:01")
    assert boot(farm, pinned.mac).routers == (IPv4Address("10.77.0.1"),) == (pinned.gateway,)
    client.unreserve("pinned")
    client.release("named")
    client.release("routed")


def _text(route: Route) -> str:
    return f"{route.network} via {route.gateway}"


def test_a_static_pool_has_them_in_the_file(farm: Farm) -> None:
    """With the service stopped every machine of a static pool gets its /24's gateway, which none of them is."""
    assert farm.stop() == 0
    leases = [boot(farm, f"00:16:3e:03:{low}") for low in ("00:fe", "00:ff", "01:00", "01:02")]
    assert [str(lease.routers[0]) for lease in leases] == ["10.3.0.1"] * 2 + ["10.3.1.1"] * 2
    farm.start()
    farm.wait_serving()


def test_unknown_machines_get_the_gateway_of_their_range(farm: Farm) -> None:
    """dhcpd gives dynamic addresses with the rule's gateway as well, without asking macbind."""
    leases = [boot(farm, f"02:00:00:00:00:0{number}") for number in (1, 2)]
    assert {(str(lease.address), *map(str, lease.routers)) for lease in leases} == {
        ("10.200.0.9", "10.200.0.1"),
        ("10.201.0.9", "10.201.0.1"),
    }


def test_a_changed_rule_reaches_machines_that_run(farm: Farm, client: Client) -> None:
    """After a restart of the service, and of nothing else, the next renewal brings the new gateway."""
    made = client.allocate("routed", "moving")
    port = farm.lab.port("moving", str(made.mac))
    machine = DhcpClient(port)
    lease = machine.dora(bind=True)
    assert lease is not None
    assert lease.routers == (IPv4Address("10.4.7.1"),)
    farm.stop()
    farm.configure(pools=POOLS.replace('"x.x.x.1"\nstatic_routes', '"x.x.0.3"\nstatic_routes'))
    farm.start()
    farm.wait_serving()
    answer = machine.rebind(lease)
    assert isinstance(answer, Ack)
    assert answer.lease.routers == (IPv4Address("10.4.0.3"),) == (client.get("moving").gateway,)
    client.release("moving")


def test_every_way_names_the_same_gateway(farm: Farm, client: Client, tmp_path: Path) -> None:
    """DHCP, the scripts for Linux and both Windows, and the channels: of rules, routers and a default route."""
    asked = {
        "seed": "10.2.0.2",
        "routed": "10.4.7.10",
        "own": "10.5.1.3",
        "default": "10.6.1.3",
        "beside": "11.1.129.5",
    }
    made = [client.allocate(pool, f"same-{pool}", address=address) for pool, address in asked.items()]
    made.append(client.reserve("same-pinned", "11.1.200.7"))
    macs = [str(one.mac) for one in made]
    told = [f"{client.network_settings(one.name).interface} {one.gateway}" for one in made]
    assert told == [
        "10.2.0.2/8 10.2.0.1",
        f"10.4.7.10/8 {made[1].gateway}",
        "10.5.1.3/8 10.0.0.8",
        "10.6.1.3/8 10.0.0.7",
        "11.1.129.5/17 11.1.129.254",
        "11.1.200.7/17 11.1.200.254",
    ]
    for one in made[:4]:  # dhcpd serves the other subnet to its own network only
        lease = boot(farm, one.mac)
        default = [route.gateway for route in lease.routes if route.network.prefixlen == 0]
        assert [*default, *lease.routers][0] == one.gateway
    for one in made:
        who, _ = GuestData().identity(client, one)
        assert (str(who.interface), who.gateway) == (
            f"{one.address}/{who.interface.network.prefixlen}",
            one.gateway,
        )
    kinds = ("linux", "windows", "windows-batch")
    linux, windows, batch = (str(farm.macbind_json("guest-script", kind)["script"]) for kind in kinds)
    (tmp_path / "mac2ip").write_text(linux)
    shell = subprocess.run(
        ["sh", tmp_path / "mac2ip", "--decode", *macs], capture_output=True, text=True, check=True
    )
    assert shell.stdout.splitlines() == told
    assert powershell_decisions(windows) == batch_decisions(batch)
    with wine(tmp_path / "wine") as cmd:
        (done,) = cmd.play({"decode": Scene(batch, (f"/decode {' '.join(macs)}",))})["decode"]
    assert done.output.splitlines() == told
    client.unreserve("same-pinned")
    for one in made[:-1]:
        client.release(one.name)


def test_a_gateway_of_its_own_is_refused_by_every_door(farm: Farm, client: Client) -> None:
    """The command line, in one sentence with a hint and status 4, and the Python API; nothing is taken."""
    for router, words in (
        ("11.0.0.1", "is not a machine's address"),
        ("10.4.7.10", "is an unoccupied address"),
    ):
        with pytest.raises(AssertionError, match=words):
            farm.macbind("allocate", "routed", "edge", "--router", router)
        with pytest.raises(InvalidOption, match=words) as caught:
            client.allocate_group("routed", "edges", 2, options=DhcpOptions(routers=(IPv4Address(router),)))
        assert caught.value.details == {"option": "routers", "address": router}
    assert not [one for one in client.list(pool="routed") if one.name.startswith("edge")]


def test_people_and_programs_see_it(farm: Farm, client: Client) -> None:
    """show and list --wide print gateway and IPv6 addresses, JSON has them always, and show finds by them."""
    made = client.allocate("routed", "seen", address="10.4.7.12")
    link_local, ipv6 = "fe80::216:3eff:fe04:70c", "2001:db8:1:0:216:3eff:fe04:70c"
    assert (str(made.link_local), str(made.ipv6)) == (link_local, ipv6)
    for what in ("seen", link_local, f"{link_local}%br0", ipv6.upper()):
        shown = [line.split(None, 1) for line in farm.macbind("show", what).splitlines()]
        for key, value in (("link_local:", link_local), ("ipv6:", ipv6), ("gateway:", str(made.gateway))):
            assert [key, value] in shown
    with pytest.raises(AssertionError, match="is not allocated"):
        farm.macbind("show", "2001:db8:2:0:216:3eff:fe04:70c")
    (listed,) = json.loads(farm.macbind("list", "--json", "--pool", "routed"))
    assert (listed["gateway"], listed["link_local"], listed["ipv6"]) == (str(made.gateway), link_local, ipv6)
    assert "LINK-LOCAL" not in farm.macbind("list")
    client.reserve("kept", "10.4.7.11")
    header, pinned, line = (
        row.split() for row in farm.macbind("list", "--wide", "--pool", "routed").splitlines()
    )
    assert header[5:] == ["GATEWAY", "LINK-LOCAL", "IPV6", "LABELS", "SEEN", "STATE"]
    assert [*line[5:9], *line[10:]] == [str(made.gateway), link_local, ipv6, "-", "bound"]
    assert (pinned[5], pinned[10:]) == (str(made.gateway), ["bound", "pinned"]), (
        "two words end a line and move no column"
    )
    client.unreserve("kept")
    client.release("seen")
