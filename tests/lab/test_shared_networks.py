"""Several subnets on one wire, and subnets that nothing brings to dhcpd: what real dhcpd does, and what is said."""

import json
import socket
from collections.abc import Iterator
from ipaddress import IPv4Address

import pytest
from scapy.layers.dhcp import BOOTP, DHCP

from lab.conftest import whole_farm
from labkit.dhcp import DhcpClient, expect_silence
from labkit.dhcpd import DhcpdDied
from labkit.farm import Farm
from labkit.net import Lab, Port
from labkit.wait import until
from labkit.wire import NOBODY, bootp

NORTH = '[subnet."10.1.0.0/24"]\nrouters = ["10.1.0.1"]\n[pool.north]\nsubnet = "10.1.0.0/24"\n'
SOUTH = '[subnet."10.2.0.0/24"]\nrouters = ["10.2.0.1"]\n{more}\n[pool.south]\nsubnet = "10.2.0.0/24"\n'
BOTH = NORTH + SOUTH.format(more="")
RELAYED = NORTH + SOUTH.format(more="relayed = true")
UNREACHED = (
    "No interface of dhcpd 'main' and no relay reaches the subnet 10.2.0.0/24: nobody is served there."
)


@pytest.fixture
def north() -> Iterator[Lab]:
    """A network whose bridge has one address, on the first subnet."""
    with Lab(("10.1.0.1/24",)) as lab:
        yield lab


def served(port: Port, farm: Farm, pool: str, name: str) -> None:
    """An allocation of this pool is served on the port, with its own subnet's mask and gateway."""
    with farm.client() as client:
        made = client.allocate(pool, name)
    lease = DhcpClient(port, str(made.mac)).dora()
    assert lease is not None
    assert (lease.address, str(lease.mask)) == (made.address, "255.255.255.0")
    assert list(lease.routers) == [made.gateway]
    assert farm.dhcpd.omshell_host(str(made.mac)) is not None


def test_subnets_of_one_interface_are_served_over_one_bridge() -> None:
    """With two addresses on br0 and a pool on each, both are served, and nothing has to be configured for it."""
    with Lab(("10.1.0.1/24", "10.2.0.1/24")) as lab, whole_farm(lab, pools=BOTH) as farm:
        port = lab.port("machines")
        served(port, farm, "north", "a")
        served(port, farm, "south", "b")
        with farm.client() as client:
            witness = DhcpClient(lab.port("witness"), str(client.get("a").mac))
            mac = str(client.get("b").mac)
            client.release("b")
        expect_silence(DhcpClient(port, mac), witness=witness)
        assert farm.findings() == {}
        assert 'shared-network "interface br0" {' in (farm.directory / "macbind.conf").read_text()


def test_a_subnet_that_nothing_reaches_is_said_once(north: Lab) -> None:
    """With one address on br0, the pool of another subnet is a finding, and `check` and `render` say so, too."""
    with whole_farm(north, pools=BOTH) as farm:
        assert farm.findings() == {"subnet_unreachable": UNREACHED}
        hint = 'Give dhcpd\'s interface an address there, or write relayed = true in [subnet."10.2.0.0/24"].'
        assert farm.macbind("check").count(f"! {UNREACHED} {hint}\n") == 1
        assert farm.run("render").stderr == f"! {UNREACHED} {hint}\n"
        assert json.loads(farm.macbind("check", "--json"))["changes"]["unreachable"] == [
            f"{UNREACHED} {hint}"
        ]
        north.server.ip("addr add 10.2.0.1/24 dev br0")
        farm.macbind("render")
        farm.dhcpd.restart()
        until(lambda: farm.findings() == {}, 60, "nothing to be found")
        served(north.port("machines"), farm, "south", "b")


def test_an_interface_that_dhcpd_does_not_listen_on_reaches_nothing(north: Lab) -> None:
    """An address on another interface of the machine, which dhcpd does not serve, is no way to dhcpd."""
    north.server.ip("link add br1 type bridge", "addr add 10.2.0.1/24 dev br1", "link set br1 up")
    with whole_farm(north, pools=BOTH) as farm:
        assert farm.findings() == {"subnet_unreachable": UNREACHED}


def test_a_relayed_subnet_of_a_shared_network_is_served(north: Lab) -> None:
    """Subnets of one `shared_network` behind a relay are served through it, from the relay's subnet or the other."""
    more = 'relayed = true\nshared_network = "campus"'
    other = '[subnet."10.3.0.0/24"]\nshared_network = "campus"\n[pool.other]\nsubnet = "10.3.0.0/24"\n'
    with whole_farm(north, pools=NORTH + SOUTH.format(more=more) + other) as farm:
        assert farm.findings() == {}
        relay = north.port("relay")
        relay.namespace.ip("addr add 10.1.0.254/24 dev eth0", "addr add 10.2.0.254/24 dev eth0")
        north.server.ip("route add 10.2.0.0/24 via 10.1.0.254")
        with farm.client() as client:
            for pool in ("south", "other"):
                made = client.allocate(pool, pool)
                assert relayed_offer(relay, str(made.mac)) == made.address


def relayed_offer(relay: Port, mac: str) -> IPv4Address:
    """What dhcpd offers a machine with this MAC by a relay whose address is 10.2.0.254."""
    question = bootp(mac, 7, NOBODY)
    question[BOOTP].giaddr = "10.2.0.254"

    def ask() -> bytes:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as here:
            here.bind(("10.2.0.254", 67))
            here.settimeout(60)
            here.sendto(
                bytes(question / DHCP(options=[("message-type", "discover"), "end"])), ("10.1.0.1", 67)
            )
            return here.recv(2000)

    return IPv4Address(BOOTP(relay.namespace.call(ask)).yiaddr)


def test_why_dhcpd_does_not_start_is_shown(north: Lab) -> None:
    """dhcpd's own last words are a finding until it serves; `render` then makes what it accepts."""
    with whole_farm(north, pools=RELAYED) as farm:
        farm.reload(dhcpd=f'log = "{farm.dhcpd.log_file}"\n')
        farm.wait_loaded(1)
        north.server.ip("addr add 10.2.0.1/24 dev br0")
        farm.dhcpd.stop()
        farm.dhcpd.start()
        with pytest.raises(DhcpdDied):
            farm.dhcpd.wait_ready()
        until(lambda: "dhcpd_ended" in farm.findings(), 60, "the finding")
        assert farm.findings()["dhcpd_ended"] == (
            "dhcpd 'main' does not start; it says: Interface br0 matches multiple shared networks."
        )
        farm.macbind("render")
        farm.dhcpd.start()
        farm.dhcpd.wait_ready()
        farm.wait_serving()
        until(lambda: "dhcpd_ended" not in farm.findings(), 60, "the finding to go")
        served(north.port("machines"), farm, "south", "b")


def test_two_names_on_one_interface_are_refused() -> None:
    """Subnets that one interface has addresses on cannot be in two shared networks: dhcpd would not start."""
    text = BOTH.replace('routers = ["10.1.0.1"]', 'routers = ["10.1.0.1"]\nshared_network = "a"')
    with Lab(("10.1.0.1/24", "10.2.0.1/24")) as lab, whole_farm(lab, pools=text) as farm:
        assert 'shared-network "a" {' in (farm.directory / "macbind.conf").read_text()
        farm.configure(
            pools=text.replace('routers = ["10.2.0.1"]', 'routers = ["10.2.0.1"]\nshared_network = "b"')
        )
        refused = farm.run("render")
        assert refused.returncode == 3
        assert "The interface br0 has addresses on the shared networks a and b.\n" in refused.stderr
