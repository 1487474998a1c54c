"""Moving into a site that has a dhcpd already: its own clients are answered at every step, whichever way is chosen.

The site's own configuration has three subnets, one of them in a file that it includes: a range for everybody on the
network of br0, which has a printer, too; another network on br1; and one behind a relay.
"""

from collections.abc import Iterator
from ipaddress import IPv4Address

import pytest

from labkit.dhcp import DhcpClient
from labkit.installed import Installed, Parts
from labkit.net import Lab, Port
from labkit.wait import until

OWN = """\
default-lease-time 600;
use-host-decl-names on;
subnet 10.0.0.0 netmask 255.0.0.0 {
  option routers 10.0.0.254;
  range 10.0.9.1 10.0.9.99;  # for everybody
  host printer { hardware ethernet b8:27:eb:00:00:01; fixed-address 10.0.8.8; }
}
include "/etc/dhcp/more.conf";"""
MORE = """\
subnet 172.20.0.0 netmask 255.255.0.0 { range 172.20.1.1 172.20.1.99; }
subnet 172.21.0.0 netmask 255.255.0.0 { }
"""
PRINTER = "b8:27:eb:00:00:01"


@pytest.fixture
def site(tmp_path_factory: pytest.TempPathFactory, parts: Parts) -> Iterator[Installed]:
    """A machine that serves its own networks by Debian's dhcpd; macbind is not installed yet."""
    with Lab() as lab:
        lab.server.ip(
            "link add br1 type bridge forward_delay 0", "addr add 172.20.0.1/16 dev br1", "link set br1 up"
        )
        with Installed(lab, parts, tmp_path_factory.mktemp("machine")) as machine:
            machine.run("sh", "-c", "cat >/etc/dhcp/dhcpd.conf", stdin=OWN)
            machine.run("sh", "-c", "cat >/etc/dhcp/more.conf", stdin=MORE)
            listen = 's/^INTERFACESv4=.*/INTERFACESv4="br0 br1"/'
            machine.run("sed", "-i", listen, "/etc/default/isc-dhcp-server")
            machine.run("systemctl", "restart", "isc-dhcp-server")
            yield machine


class Clients:
    """The site's own clients: an unknown machine on each of two wires, and the printer."""

    def __init__(self, site: Installed) -> None:
        self.guest = site.lab.port("guest")
        self.printer = DhcpClient(self.guest, PRINTER)
        self.other = site.lab.port("other")
        site.lab.server.ip("link set to-other master br1")

    def answered(self, timeout_s: float = 15.0) -> dict[str, str]:
        """What each of them gets, by name; those who meet silence are missing."""
        asked = {"guest": DhcpClient(self.guest), "printer": self.printer, "other": DhcpClient(self.other)}
        leases = {name: client.dora(timeout_s) for name, client in asked.items()}
        return {name: str(lease.address) for name, lease in leases.items() if lease is not None}

    def wait_served(self) -> dict[str, str]:
        """The answers once all three are answered; after a restart dhcpd needs a moment."""
        served: dict[str, str] = {}

        def all_served() -> bool:
            served.update(self.answered(2.0))
            return len(served) == 3

        until(all_served, 90, "the site's own clients")
        return served


def vm_is_served(site: Installed, port: Port, name: str) -> bool:
    """Whether an allocation is served with exactly its address, and not by the site's range."""
    made = site.macbind_json("allocate", "farm", name)
    lease = DhcpClient(port, made["mac"]).dora()
    assert lease is not None
    return lease.address == IPv4Address(made["address"])


def test_beside_and_back(site: Installed) -> None:
    """Installing and a reboot change nothing; init --yes goes beside; uninstall takes away what it brought."""
    clients = Clients(site)
    before = clients.wait_served()
    assert before["printer"] == "10.0.8.8"

    site.make("install")
    assert clients.answered() == before
    site.reboot()
    assert clients.wait_served() == before
    assert "7911" not in site.run("ss", "-H", "-l", "-t", "-n").stdout
    assert site.run("nft", "list", "ruleset").stdout == ""

    done = site.run("macbind", "init", "--yes", "--interface", "br0")
    assert "Found /etc/dhcp/dhcpd.conf, which serves 10.0.0.0/8, 172.20.0.0/16, 172.21.0.0/16." in done.stderr
    assert (
        "The subnet 10.0.0.0/8 stays as it is declared there; macbind declares no second one." in done.stderr
    )
    added = 'include "/etc/dhcp/macbind.conf"; # by macbind init'
    assert site.run("cat", "/etc/dhcp/dhcpd.conf").stdout == f"{OWN}\n{added}\n"
    assert clients.answered() == before
    for command in done.stdout.partition("Now run:\n")[2].splitlines()[:-1]:
        site.run(*command.split())
    site.wait_serving()
    assert clients.wait_served() == before
    assert vm_is_served(site, clients.guest, "vm")
    assert clients.answered() == before

    site.reboot()
    site.wait_serving()
    assert clients.wait_served() == before
    assert vm_is_served(site, clients.guest, "vm-2")
    assert "tcp dport 7911" in site.run("nft", "list", "ruleset").stdout

    site.make("uninstall")
    assert site.run("cat", "/etc/dhcp/dhcpd.conf").stdout == f"{OWN}\n"
    assert clients.answered() == before
    site.run("systemctl", "restart", "isc-dhcp-server")
    assert clients.wait_served() == before
    assert "7911" not in site.run("ss", "-H", "-l", "-t", "-n").stdout


def test_instead_is_said_and_taken_back(site: Installed) -> None:
    """The own subnets that would no longer be served are named; after uninstall they are served again."""
    clients = Clients(site)
    before = clients.wait_served()
    site.make("install")
    done = site.run("macbind", "init", "--yes", "--interface", "br0", "--instead", "--range", "10.1.0.0/24")
    assert "No longer served: 172.20.0.0/16, 172.21.0.0/16." in done.stderr
    assert "No longer served on 10.0.0.0/8: clients that macbind does not know." in done.stderr
    assert clients.answered() == before
    for command in done.stdout.partition("Now run:\n")[2].splitlines()[:-1]:
        site.run(*command.split())
    site.wait_serving()
    assert vm_is_served(site, clients.guest, "vm")
    assert clients.answered(2.0) == {}
    assert site.run("cat", "/etc/dhcp/dhcpd.conf").stdout == OWN

    site.make("uninstall")
    site.run("systemctl", "restart", "isc-dhcp-server")
    assert set(clients.wait_served()) == {"guest", "printer", "other"}


def test_what_cannot_be_beside_is_refused(site: Installed) -> None:
    """Each obstacle is one sentence with a way out, and nothing is written."""
    site.make("install")
    init = ("macbind", "init", "--yes", "--interface", "br0")

    def refused(change: str, back: str, *flags: str) -> str:
        site.run("sh", "-c", change)
        said = site.run(*init, *flags, status=4).stderr
        site.run("sh", "-c", back)
        return said

    said = refused("cp /etc/dhcp/more.conf /tmp; echo 'omapi-port 7911;' >>/etc/dhcp/more.conf",
                   "cp /tmp/more.conf /etc/dhcp")  # fmt: skip
    assert "/etc/dhcp/dhcpd.conf opens OMAPI port 7911 for others" in said
    said = refused("cp /etc/default/isc-dhcp-server /tmp; echo INTERFACESv4=br1 >>/etc/default/isc-dhcp-server",
                   "cp /tmp/isc-dhcp-server /etc/default")  # fmt: skip
    assert "has dhcpd listen on br1 only, and not on br0" in said
    said = refused("true", "true", "--subnet", "10.0.0.0/16")
    assert "serves 10.0.0.0/8, which overlaps 10.0.0.0/16" in said
    said = refused("ip addr add 10.7.0.1/24 dev br1", "ip addr del 10.7.0.1/24 dev br1", "--interface", "br1",
                   "--subnet", "10.7.0.0/24")  # fmt: skip
    assert "which overlaps 10.7.0.0/24" in said
    said = site.run("macbind", "init", "--yes", status=4).stderr
    assert "2 bridges could be the machines': br0 (10.0.0.1/8), br1 (172.20.0.1/16)." in said
    assert "Say which with --interface." in said
    assert site.run("ls", "/etc/macbind").stdout == "omapi.nft\n"
    assert site.run("cat", "/etc/dhcp/dhcpd.conf").stdout == OWN
