"""A site whose dhcpd.conf includes ours: what else stands there is seen, and machines keep their names."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from lab.conftest import open_directory
from lab.test_health import dnsmasq
from labkit.dhcp import DhcpClient
from labkit.farm import POOLS, Farm
from labkit.net import Lab
from labkit.wait import until
from macbind.client.client import Client
from macbind.core.dhcp_options import DhcpOptions
from macbind.core.errors import AddressInUse
from macbind.dhcp.isc.conf_look import running_dhcpds

SOON_S = 60.0
HOST = "host printer { hardware ethernet 00:11:22:33:44:55; fixed-address 10.1.1.7; }"


@pytest.fixture
def place() -> Iterator[Path]:
    """Where the farm of this test keeps its files."""
    with open_directory() as place:
        yield place


@contextmanager
def farm_in(
    lab: Lab, place: Path, own: str, dhcpd: str = "", pools: str = POOLS
) -> Iterator[tuple[Farm, Client]]:
    """A serving farm whose dhcpd runs with the site's own file, in which ours is included."""
    farm = Farm(lab, place, pools=pools, dhcpd=f"resync_s = 1\n{dhcpd}")
    site = place / "site.conf"
    site.write_text(f'{own}\ninclude "{place}/macbind.conf";\n')
    farm.dhcpd.config = site
    with farm, farm.client() as client:
        yield farm, client
        assert farm.defects() == []


def sentence(farm: Farm, code: str) -> str:
    """The sentence of this finding, once there is one."""
    return until(lambda: farm.findings().get(code, ""), SOON_S, f"the finding {code}")


def all_findings(client: Client) -> list[str]:
    """The sentences of all findings, also of several with one code."""
    return [one.message for one in client.status().findings]


def test_host_of_the_site_is_found_in_the_file_that_dhcpd_runs_with(lab: Lab, place: Path) -> None:
    """Which file that is, is not configured: the running dhcpd says it. A restart ends what was taken out."""
    with farm_in(lab, place, HOST) as (farm, client):
        site = place / "site.conf"
        assert site in [one.conf for one in lab.server.call(lambda: list(running_dhcpds()))]
        assert f"'printer' of dhcpd 'main' in {site} line 1 gives 10.1.1.7" in sentence(farm, "foreign_host")
        with pytest.raises(AddressInUse) as refused:
            client.allocate("farm", "vm", address="10.1.1.7")
        assert refused.value.details["holder"] == "printer"
        names = [f"vm{number}" for number in range(6)]
        assert IPv4Address("10.1.1.7") not in [client.allocate("farm", name).address for name in names]
        site.write_text(f'include "{place}/macbind.conf";\n')
        until(lambda: "not made by macbind" in sentence(farm, "foreign_host"), SOON_S, "the file to be read")
        farm.dhcpd.restart()
        until(lambda: farm.findings() == {}, SOON_S, "nothing to be found")


def test_file_in_use_that_cannot_be_read_is_found(lab: Lab, place: Path) -> None:
    """A file that is named and gone is a finding; what was found there before stays."""
    other = place / "other.conf"
    other.write_text(HOST)
    own = f'include "{other}";'
    with farm_in(lab, place, own, f'conf_file = "{place}/site.conf"\n') as (farm, client):
        assert "other.conf line 1" in sentence(farm, "foreign_host")
        other.unlink()
        assert f"cannot read {other}" in sentence(farm, "conf_file_unreadable")
        assert "foreign_host" in farm.findings()
        farm.dhcpd.omshell(
            'new host\nset name = "scanner"\nset hardware-address = 00:11:22:33:44:66\nset hardware-type = 1\n'
            "set ip-address = 0a:01:01:08\ncreate\n"
        )
        until(lambda: "'scanner'" in "".join(all_findings(client)), SOON_S, "the new host to be found")
        for address in ("10.1.1.7", "10.1.1.8"):
            with pytest.raises(AddressInUse):
                client.allocate("farm", "vm", address=address)
        assert client.allocate("farm", "vm").state == "bound"


def test_range_of_the_site_over_a_pool_is_found(lab: Lab, place: Path) -> None:
    """dhcpd hands the pool's addresses out by itself."""
    own = "subnet 10.0.0.0 netmask 255.0.0.0 { range 10.1.1.240 10.1.1.255; }"
    with farm_in(lab, place, own) as (farm, _):
        assert "hands out 10.1.1.240-10.1.1.255 by itself" in sentence(farm, "foreign_range")


def test_machines_of_a_site_with_names_of_hosts_have_their_own(lab: Lab, place: Path) -> None:
    """use-host-decl-names on: a machine has the name of its allocation, or none, and never that of its binding."""
    port = lab.port("machine")
    with farm_in(lab, place, "use-host-decl-names on;") as (_, client):
        for name, hostname in (("plain", None), ("named", "web-1")):
            made = client.allocate("farm", name, options=DhcpOptions(hostname=hostname))
            lease = DhcpClient(port, str(made.mac)).dora()
            assert lease is not None
            assert (lease.address, lease.hostname) == (made.address, hostname)


# -- its log -----------------------------------------------------------------------------------------------


def test_stranger_that_is_given_an_address_of_a_pool_is_found_at_once(lab: Lab, place: Path) -> None:
    """A host made with omshell: the line of its first lease is enough, the next comparison is minutes away."""
    port, stranger = lab.port("machine"), "00:11:22:33:44:55"
    with Farm(lab, place, dhcpd=f'log = "{place}/dhcpd.log"\n') as farm, farm.client() as client:
        farm.dhcpd.omshell(
            f'new host\nset name = "printer"\nset hardware-address = {stranger}\nset hardware-type = 1\n'
            "set ip-address = 0a:01:01:03\ncreate\n"
        )
        lease = DhcpClient(port, stranger).dora()
        assert lease is not None
        assert lease.address == IPv4Address("10.1.1.3")
        assert f"gave 10.1.1.3 of the pool 'farm' to {stranger}" in sentence(farm, "stranger_in_pool")
        with pytest.raises(AddressInUse):
            client.allocate("farm", "vm", address="10.1.1.3")
        assert client.allocate("farm", "vm").address == IPv4Address("10.1.1.4")
        assert farm.defects() == []


def test_machine_that_is_given_the_address_of_another_host_is_found(lab: Lab, place: Path) -> None:
    """A host with a dhcp-client-identifier beats the MAC: who gets its address instead of the own one is told."""
    trap = 'host trap { option dhcp-client-identifier "clone"; fixed-address 10.1.1.200; }'
    port = lab.port("machine")
    with farm_in(lab, place, trap, f'log = "{place}/dhcpd.log"\n') as (farm, client):
        made = client.allocate("farm", "vm")
        lease = DhcpClient(port, str(made.mac), client_id=b"clone").dora()
        assert lease is not None
        assert lease.address == IPv4Address("10.1.1.200")
        told = sentence(farm, "wrong_address")
        assert f"gave 10.1.1.200 to {made.mac}, which is 'vm' and has {made.address}" in told


def test_machine_that_takes_the_offer_of_another_server_is_found(lab: Lab, place: Path) -> None:
    """Its request names the other server, and dhcpd writes that down."""
    port, other = lab.port("machine"), lab.port("other")
    log = f'log = "{place}/dhcpd.log"\n'
    with farm_in(lab, place, "", log) as (farm, _), dnsmasq(other, place / "other.log"):
        machine = DhcpClient(port, "00:11:22:33:44:55")
        until(machine.dora, SOON_S, "the other server's address")
        assert "another DHCP server than dhcpd 'main': 10.0.0.77." in sentence(farm, "second_dhcp_server")


SITES_SUBNET = "ping-check false;\nsubnet 10.0.0.0 netmask 255.0.0.0 { range 10.9.0.10 10.9.0.20; }"
POOL = '[pool.farm]\nsubnet = "10.0.0.0/8"\nranges = ["10.1.1.3-10.1.1.250"]\n'


@pytest.mark.parametrize(
    ("own", "subnet", "addresses"),
    [(SITES_SUBNET, "rendered = false", 1), ("", 'dynamic = ["10.9.0.10-10.9.0.20"]', 2)],
    ids=["the site's", "ours"],
)
def test_clones_take_one_address_in_turns_in_a_subnet_of_the_site(
    lab: Lab, place: Path, own: str, subnet: str, addresses: int
) -> None:
    """The doctor names both machines. In a subnet of ours dhcpd keeps no identifier, and each has its own address."""
    pools = f'[subnet."10.0.0.0/8"]\n{subnet}\n{POOL}'
    with farm_in(lab, place, own, f'conf_file = "{place}/site.conf"\n', pools) as (farm, _):
        clones = [DhcpClient(lab.port(name), client_id=b"\0clone") for name in ("one", "two")]
        leases = [until(one.dora, SOON_S, "a lease") for one in clones]
        assert len({one.address for one in leases if one is not None}) == addresses
        found = json.loads(farm.run("doctor", "clones", "--json").stdout)["checks"][-1]
        assert (found["check"], found["note"]) == ("clones", "")
        said = [one["message"] for one in found["findings"]]
        assert len(said) == (addresses == 1)
        assert all(clone.mac in one for one in said for clone in clones)
