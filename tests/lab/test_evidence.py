"""Addresses that others have in a real dhcpd are passed over, and free when they no longer have them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lab.conftest import open_directory
from labkit.dhcp import DhcpClient
from labkit.farm import POOLS, Farm, defects_in, unconfirmed
from labkit.net import Lab
from labkit.wait import until
from macbind.client.client import Client
from macbind.core.errors import AddressInUse, ServiceUnavailable

SOON_S = 60.0
PRINTER = "aa:bb:cc:00:00:01"


@pytest.fixture
def place() -> Iterator[Path]:
    """Where the farm of this test keeps its files."""
    with open_directory() as place:
        yield place


@contextmanager
def farm_in(
    lab: Lab, place: Path, own: str = "", dhcpd: str = "resync_s = 1\n"
) -> Iterator[tuple[Farm, Client]]:
    """A farm that compares every second by default; its dhcpd runs with the site's own file that includes ours."""
    farm = Farm(lab, place, dhcpd=dhcpd)
    farm.dhcpd.config = place / "site.conf"
    _write(place, own)
    with farm, farm.client() as client:
        yield farm, client
        assert farm.defects() == []


def _write(place: Path, own: str) -> None:
    (place / "site.conf").write_text(f'{own}\ninclude "{place}/macbind.conf";\n')


def _others(client: Client, count: int) -> None:
    """Waits until so many addresses of the pool are known to be used by others."""

    def known() -> bool:
        return next(one for one in client.pools() if one.pool == "farm").used_by_others == count

    until(known, SOON_S, f"{count} addresses that others use")


def test_a_host_that_somebody_made_keeps_its_address(lab: Lab, place: Path) -> None:
    """A printer made with omshell is no VM's neighbour; deleted, its address is the next one's."""
    with farm_in(lab, place) as (farm, client):
        first = client.allocate("farm", "first").address
        used = first + 1
        farm.dhcpd.omshell(
            f'new host\nset name = "printer"\nset hardware-address = {PRINTER}\nset hardware-type = 1\n'
            f"set ip-address = {used}\ncreate\n"
        )
        _others(client, 1)
        assert "it is passed over" in farm.findings()["foreign_host"]
        with pytest.raises(AddressInUse, match="is used by 'printer'") as refused:
            client.allocate("farm", "wants-it", address=str(used))
        assert refused.value.details["holder"] == "printer"
        assert client.allocate("farm", "vm").address == used + 1
        farm.dhcpd.omshell('new host\nset name = "printer"\nopen\nremove\n')
        _others(client, 0)
        assert client.allocate("farm", "next").address == used


def test_a_host_in_the_sites_own_file_keeps_its_address(lab: Lab, place: Path) -> None:
    """Nobody has told macbind of it: it stands in the file that dhcpd runs with."""
    own = f"host printer {{ hardware ethernet {PRINTER}; fixed-address 10.1.1.3; }}"
    with farm_in(lab, place, own) as (_, client):
        _others(client, 1)
        assert str(client.allocate("farm", "vm").address) == "10.1.1.4"


def test_a_client_keeps_its_lease_when_its_range_is_taken_out(lab: Lab, place: Path) -> None:
    """dhcpd forgets the lease at its start, and the machine goes on: its address is passed over until the end."""
    with farm_in(lab, place) as (farm, client):
        ours = place / "macbind.conf"
        text = ours.read_text()
        assert "deny unknown-clients;" in text
        ours.write_text(text.replace("deny unknown-clients;", "range 10.1.1.3 10.1.1.5;"))
        farm.dhcpd.restart()
        lease = DhcpClient(lab.port("client", "02:00:00:00:00:77")).dora()
        assert lease is not None
        _others(client, 3)
        until(lambda: "leased_address" in farm.findings(), SOON_S, "the lease to be seen")
        ours.write_text(text)
        farm.dhcpd.restart()

        def only_the_lease() -> bool:
            return next(one for one in client.pools() if one.pool == "farm").used_by_others == 1

        until(only_the_lease, SOON_S, "the range to be gone and the lease to stay")
        got = {client.allocate("farm", f"vm-{number}").address for number in range(5)}
        assert lease.address not in got
        with pytest.raises(AddressInUse, match="02:00:00:00:00:77"):
            client.allocate("farm", "wants-it", address=str(lease.address))


def test_the_first_allocation_after_a_start_knows_of_others(lab: Lab, place: Path) -> None:
    """dhcpd is silent, so nothing can be compared: its files tell already who has an address."""
    with farm_in(lab, place) as (farm, _):
        farm.stop()
        _write(place, f"host printer {{ hardware ethernet {PRINTER}; fixed-address 10.1.1.3, 10.1.1.4; }}")
        farm.dhcpd.restart()
        farm.dhcpd.freeze()
        try:
            farm.start()
            farm.wait_answering()
            with farm.client(timeout_s=1.0) as hasty:
                late = unconfirmed(lambda: hasty.allocate("farm", "vm"))
        finally:
            farm.dhcpd.thaw()
        assert late.details["addresses"] == ["10.1.1.5"]
        farm.wait_serving()


def test_a_range_that_is_added_is_looked_at_before_it_is_handed_out(lab: Lab, place: Path) -> None:
    """Whoever was no business of macbind's until then keeps its address."""
    with farm_in(lab, place, dhcpd="resync_s = 300\n") as (farm, client):
        for number in (3, 4):
            farm.dhcpd.omshell(
                f'new host\nset name = "printer{number}"\nset hardware-address = aa:bb:cc:00:00:0{number}\n'
                f"set hardware-type = 1\nset ip-address = 10.1.2.{number}\ncreate\n"
            )
        farm.reload(pools=f'{POOLS}[pool.new]\nsubnet = "10.0.0.0/8"\nranges = ["10.1.2.3-10.1.2.9"]\n')
        farm.wait_loaded(1)
        assert str(client.allocate("new", "vm").address) == "10.1.2.5"


def test_the_machine_of_dhcpd_keeps_its_own_addresses(lab: Lab, place: Path) -> None:
    """An address of an interface lies in a pool; only this machine may have it reserved."""
    with farm_in(lab, place) as (farm, client):
        lab.server.ip(f"addr add 10.1.1.3/8 dev {lab.bridge}")
        farm.stop()
        farm.start()
        farm.wait_serving()
        assert str(client.allocate("farm", "vm").address) == "10.1.1.4"
        with pytest.raises(AddressInUse, match="where macbind runs") as refused:
            client.reserve("other", "10.1.1.3")
        mac = refused.value.details["mac"]
        assert str(client.reserve("host", "10.1.1.3", mac=mac).mac) == mac


def test_what_is_taken_out_of_a_file_counts_until_dhcpd_has_read_it(lab: Lab, place: Path) -> None:
    """A running dhcpd goes on with hosts and ranges of the file that it was started with."""
    hosts = (
        f"host printer {{ hardware ethernet {PRINTER}; fixed-address 10.1.1.3, 10.1.1.4; }}\n"
        "group { host twin { hardware ethernet 00:16:3e:01:01:05; } }\n"
    )
    with farm_in(lab, place, hosts) as (farm, client):
        ours = place / "macbind.conf"
        text = ours.read_text()
        ours.write_text(text.replace("deny unknown-clients;", "range 10.1.1.6 10.1.1.7;"))
        farm.dhcpd.restart()
        _others(client, 5)
        ours.write_text(text)
        _write(place, "host half {")
        _compared_again(client)
        assert str(client.allocate("farm", "vm").address) == "10.1.1.8"
        _write(place, "")
        farm.dhcpd.restart()
        _others(client, 0)


def _compared_again(client: Client) -> None:
    """Waits for a comparison that begins after now."""
    for _ in range(2):
        before = client.status().dhcpds[0].compared_at
        until(lambda: client.status().dhcpds[0].compared_at != before, SOON_S, "a comparison")  # noqa: B023


def test_a_copied_configuration_ends_no_machine(lab: Lab, place: Path) -> None:
    """A second macbind with a registry of its own tells the same dhcpd: each passes over what the other has."""
    with farm_in(lab, place) as (farm, client):
        first = [client.allocate("farm", f"first-{number}") for number in range(5)]
        copy, socket = place / "copy.toml", place / "copy.sock"
        text = farm.config.read_text().replace("registry.db", "copy.db")
        copy.write_text(text.replace(str(farm.socket), str(socket)))
        log = place / "copy.log"
        process = lab.popen([*farm.command, "serve", "--config", str(copy)], output=log)
        try:
            with Client(socket) as other:
                until(lambda: _is_serving(other), SOON_S, "the second macbind to serve")
                second = [other.allocate("farm", f"second-{number}") for number in range(3)]
                assert {one.address for one in first}.isdisjoint(one.address for one in second)
                _others(other, 5)
                _others(client, 3)
                assert "other_registry" in {one.code for one in other.status().findings}
                assert client.allocate("farm", "next").address not in {one.address for one in second}
                cable = lab.port("client", "02:00:00:00:00:77")
                for one in (*first, *second):
                    lease = DhcpClient(cable, str(one.mac)).dora()
                    assert lease is not None
                    assert lease.address == one.address
                other.release("second-0")
                _others(client, 2)
        finally:
            process.terminate()
            process.wait(60)
        assert defects_in(log.read_text()) == []


def _is_serving(client: Client) -> bool:
    try:
        return all(one.state == "serving" for one in client.status().dhcpds)
    except ServiceUnavailable:
        return False
