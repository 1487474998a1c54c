"""macbind's side of OMAPI against the real dhcpd, judged by omshell and by machines that ask for an address."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from contract.dhcpd_site import (
    ACTIVE,
    ADDRESS,
    FREE,
    MAC,
    Site,
    addresses,
    apply_all,
    config,
    ensure,
    mac_of,
    open_site,
    pool_of,
    remove,
)
from labkit.dhcp import expect_silence
from labkit.lease import Route
from labkit.wait import until
from macbind.core.binding import Binding, binding_name
from macbind.core.binding_plan import Remove
from macbind.core.binding_size import MAX_STATEMENTS, size_of
from macbind.core.dhcp_options import DhcpOptions
from macbind.core.errors import DhcpdRefused, DhcpdUnavailable, MacbindError
from macbind.core.mac_address import MacAddress
from macbind.core.static_route import StaticRoute
from macbind.dhcp.isc.connection import OmapiClient
from macbind.dhcp.isc.files import how_to_read, open_ordinary
from macbind.dhcp.isc.lease_file import parse
from macbind.dhcp.isc.messages import find_host, has_lease
from macbind.dhcp.isc.omapi import Algorithm
from macbind.dhcp.isc.server import IscDhcpd

OURS = binding_name(ADDRESS, 1)
OTHER_MAC = MacAddress.parse("00:16:3e:63:00:01")
WITNESS = MacAddress.parse("00:16:3e:63:00:09")
DYNAMIC = IPv4Address("10.99.0.1")
DEADLINE_S = 5.0
SOON_S = 60.0


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A dhcpd without a dynamic range: only reserved machines are served."""
    with open_site(tmp_path) as site:
        yield site


@pytest.fixture
def range_site(tmp_path: Path) -> Iterator[Site]:
    """A dhcpd with one dynamic address, which anybody may lease."""
    with open_site(tmp_path, dynamic=str(DYNAMIC)) as site:
        yield site


def refusal(outcomes: list[MacbindError | None]) -> DhcpdRefused:
    """The one outcome, which is a refusal."""
    assert len(outcomes) == 1
    assert isinstance(outcomes[0], DhcpdRefused)
    return outcomes[0]


# -- reservations ------------------------------------------------------------------------------------------


def test_reservation_is_made_and_serves_its_machine(site: Site) -> None:
    """After Ensure dhcpd has the host by name, MAC and address, and its machine gets the address."""
    apply_all(site.server(), [ensure()])
    assert site.dhcpd.omshell_host(str(MAC)) == {"name": OURS, "mac": str(MAC), "ip": str(ADDRESS)}
    lease = site.machine().dora()
    assert lease is not None
    assert lease.address == ADDRESS


def test_everything_can_be_repeated(site: Site) -> None:
    """Making what is there, and removing what is gone, succeeds and changes nothing."""
    server = site.server()
    for _ in range(3):
        apply_all(server, [ensure()])
        assert site.held() == OURS
    for _ in range(3):
        apply_all(server, [remove()])
        assert site.held() is None


def test_removed_reservation_serves_nobody_and_stays_away_over_a_restart(site: Site) -> None:
    """After Remove the machine meets silence, now and after dhcpd has started again."""
    server, vm, witness = site.server(), site.machine(), site.machine(WITNESS)
    site.add_host("witness", WITNESS, IPv4Address("10.1.9.9"))
    apply_all(server, [ensure()])
    assert vm.dora() is not None
    apply_all(server, [remove()])
    expect_silence(vm, witness)
    site.dhcpd.restart()
    expect_silence(vm, witness)


@pytest.mark.parametrize("old", [1, 4])
def test_older_generation_makes_way(site: Site, old: int) -> None:
    """A reservation left from an earlier generation is replaced, with its options."""
    server = site.server()
    apply_all(server, [ensure(old, options=DhcpOptions(hostname="old"))])
    apply_all(server, [ensure(5, options=DhcpOptions(hostname="new"))])
    assert site.held() == binding_name(ADDRESS, 5)
    lease = site.machine().dora()
    assert lease is not None
    assert lease.hostname == "new"


@pytest.mark.invariant(5)
def test_late_messages_leave_a_successor_alone(site: Site) -> None:
    """Removing or making generation 5 when 6 is there leaves 6 serving."""
    server = site.server()
    apply_all(server, [ensure(6)])
    apply_all(server, [remove(5)])
    assert "macbind-10.1.1.3-g6" in str(refusal(server.apply([ensure(5)])))
    assert site.held() == binding_name(ADDRESS, 6)
    assert site.machine().dora() is not None


@pytest.mark.invariant(5)
def test_late_removal_leaves_alone_what_its_mac_was_bound_to_since(site: Site) -> None:
    """A MAC that was pinned to one address and now to another keeps the other when the first is removed late."""
    server, other = site.server(), IPv4Address("10.1.1.4")
    apply_all(server, [ensure(5), remove(5)])
    apply_all(server, [ensure(6, other, MAC)])
    apply_all(server, [remove(5)])
    assert site.held() == binding_name(other, 6)


@pytest.mark.invariant(6)
def test_hosts_of_others_are_refused_by_name_and_never_touched(site: Site) -> None:
    """Where a foreign host holds the MAC, Ensure says whose it is, Remove does nothing, and the host stays."""
    site.add_host("printer", address=IPv4Address("10.7.7.7"))
    server = site.server()
    assert "'printer'" in str(refusal(server.apply([ensure()])))
    apply_all(server, [remove()])
    assert site.dhcpd.omshell_host(str(MAC)) == {"name": "printer", "mac": str(MAC), "ip": "10.7.7.7"}


def test_refused_change_does_not_hinder_the_others_of_its_batch(site: Site) -> None:
    """Of a batch with one foreign MAC all other reservations are made."""
    batch = addresses(100)
    site.add_host("printer", mac_of(batch[50]), IPv4Address("10.7.7.7"))
    outcomes = site.server().apply([ensure(address=address) for address in batch])
    assert [isinstance(outcome, DhcpdRefused) for outcome in outcomes] == [n == 50 for n in range(100)]
    assert [site.held(mac_of(batch[n])) for n in (49, 50, 51)] == [
        binding_name(batch[49], 1),
        "printer",
        binding_name(batch[51], 1),
    ]


def test_name_under_another_mac_is_a_remnant_of_ours(site: Site) -> None:
    """A host that has our very name with another MAC makes way for the right one."""
    site.add_host(OURS, OTHER_MAC)
    apply_all(site.server(), [ensure()])
    assert (site.held(OTHER_MAC), site.held(MAC)) == (None, OURS)


def test_torn_host_without_address_is_completed(site: Site) -> None:
    """A host of ours that lost its address in a torn lease-file record is made anew."""
    site.add_host(OURS, address=None)
    apply_all(site.server(), [ensure()])
    assert site.dhcpd.omshell_host(str(MAC)) == {"name": OURS, "mac": str(MAC), "ip": str(ADDRESS)}


def test_observing_tells_what_dhcpd_holds(site: Site) -> None:
    """Hosts are seen by MAC, ours and others', in the order asked for."""
    site.add_host("printer", OTHER_MAC, None)
    server = site.server()
    apply_all(server, [ensure()])
    assert server.observe([OTHER_MAC, WITNESS, MAC]) == [
        Binding("printer", OTHER_MAC, None),
        None,
        Binding(OURS, MAC, ADDRESS),
    ]


def unchecked(filename: str) -> DhcpOptions:
    """Options with a boot file that our own checks would refuse."""
    options = DhcpOptions()
    object.__setattr__(options, "filename", filename)
    return options


def test_statements_dhcpd_cannot_parse_are_refused_and_leave_nothing(site: Site) -> None:
    """What dhcpd refuses to parse is an error of that machine alone, and no host remains."""
    error = refusal(
        site.server().apply([ensure(options=unchecked('x"; option no-such-option 5; filename "y'))])
    )
    assert error.details["result"] == 393224
    assert site.held() is None


def test_too_many_statements_are_an_error_of_that_machine_alone(site: Site) -> None:
    """A reservation too large for a message is refused; the others of its batch are made."""
    large = ensure(options=unchecked("s" * 4000))
    outcomes = site.server().apply([large, ensure(address=IPv4Address("10.1.1.4"))])
    assert outcomes[0] is not None
    assert outcomes[0].code == "invalid_option"
    assert outcomes[1] is None


def test_own_options_of_a_machine_reach_it(site: Site) -> None:
    """Router, host name, boot file and routes of one reservation are what its machine is told."""
    options = DhcpOptions(
        hostname="web-1",
        routers=(IPv4Address("10.0.0.9"),),
        domain_name="farm.example.org",
        domain_name_servers=(IPv4Address("10.0.0.53"), IPv4Address("10.0.0.54")),
        next_server=IPv4Address("10.0.0.7"),
        filename="pxe/boot file (1).img",
        static_routes=(StaticRoute.parse("10.9.0.0/16 via 10.1.0.2"),),
    )
    host = pool_of("10.1.1.0/24").binding(ADDRESS, MAC, 1, options)
    apply_all(site.server(), [replace(ensure(), binding=host)])
    lease = site.machine().dora()
    assert lease is not None
    assert lease.routers == (IPv4Address("10.0.0.9"),)
    assert (lease.hostname, lease.domain) == ("web-1", "farm.example.org")
    assert lease.dns == (IPv4Address("10.0.0.53"), IPv4Address("10.0.0.54"))
    assert (lease.next_server, lease.filename) == (IPv4Address("10.0.0.7"), "pxe/boot file (1).img")
    assert lease.routes == (
        Route(IPv4Network("10.9.0.0/16"), IPv4Address("10.1.0.2")),
        Route(IPv4Network("0.0.0.0/0"), IPv4Address("10.0.0.9")),
    )


def longest_options() -> DhcpOptions:
    """Every option as long as it may be."""
    many = tuple(addresses(63, "200.200.200.100"))
    routes = [f"200.200.200.{number}/32 via 200.200.200.200" for number in range(100, 127)]
    return DhcpOptions(
        hostname="h" * 63,
        routers=many,
        domain_name_servers=many,
        domain_name=".".join(["d" * 63] * 3 + ["d" * 61]),
        next_server=many[0],
        filename="f" * 127,
        static_routes=tuple(map(StaticRoute.parse, [*routes, "0.0.0.0/0 via 200.200.200.200"])),
    )


@pytest.mark.parametrize("algorithm", list(Algorithm))
def test_every_algorithm_carries_the_longest_reservation(tmp_path: Path, algorithm: Algorithm) -> None:
    """With each of dhcpd's algorithms the largest message we can make is taken, served and removed."""
    host = pool_of("10.1.1.0/24").binding(ADDRESS, MAC, 10**18, longest_options())
    with open_site(tmp_path, algorithm=algorithm.value) as site:
        server = site.server()
        batch = [replace(ensure(10**18), binding=host)]
        batch += [ensure(7, address) for address in addresses(60, "10.2.0.0")]
        apply_all(server, batch)
        lease = site.machine().dora()
        assert lease is not None
        assert (lease.address, lease.filename) == (ADDRESS, "f" * 127)
        apply_all(server, [Remove(one.address, one.generation, one.mac) for one in batch])
        assert {site.held(one.mac) for one in batch[::20]} == {None}


def raw_options(last: int) -> DhcpOptions:
    """Four options of 255 bytes, and one of so many."""
    sizes = {"224": 255, "225": 255, "226": 255, "227": 255, "228": last}
    return DhcpOptions(raw={code: f"hex:{'00' * size}" for code, size in sizes.items()})


def test_as_much_as_is_allowed_reaches_the_machine_and_survives_restarts(site: Site) -> None:
    """dhcpd takes options of the largest size that we accept, sends them, and has them after two restarts."""
    last = max(size for size in range(1, 256) if size_of(raw_options(size)) <= MAX_STATEMENTS)
    apply_all(site.server(), [ensure(options=raw_options(last)), ensure(address=IPv4Address("10.1.1.4"))])
    for _ in range(3):
        lease = site.machine(says={57: (1500).to_bytes(2)}, wanted=(224, 228)).dora()
        assert lease is not None
        assert lease.options[224] == bytes(255)
        assert lease.options[228] == bytes(last)
        assert site.held(mac_of(IPv4Address("10.1.1.4"))) is not None
        site.dhcpd.restart()
        site.dhcpd.wait_ready()


# -- keys and connections ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ({"name": "another"}, "no OMAPI key of this name and algorithm"),
        ({"algorithm": "hmac-md5"}, "no OMAPI key of this name and algorithm"),
        ({"secret": b"wrong"}, "secrets differ"),
    ],
    ids=["name", "algorithm", "secret"],
)
def test_wrong_key_is_told_from_a_dead_server(site: Site, key: dict[str, str], reason: str) -> None:
    """A wrong name, algorithm or secret is refused while connecting, with its cause; dhcpd serves on."""
    with pytest.raises(DhcpdRefused, match=reason):
        site.client(**key)  # type: ignore[arg-type]
    apply_all(site.server(), [ensure()])


def test_dhcpd_that_demands_no_key_still_takes_ours(tmp_path: Path) -> None:
    """A dhcpd whose omapi-key line is missing knows the key all the same, and works."""
    with open_site(tmp_path) as site:
        site.dhcpd.stop()
        site.dhcpd.config.write_text(site.dhcpd.config.read_text().replace("omapi-key omapi;", ""))
        site.dhcpd.key = None
        site.dhcpd.start()
        site.dhcpd.wait_ready()
        with site.client() as client:  # dhcpd knows the key, and asks nobody for it
            assert client.exchange([find_host(MAC)])[0].result == 23


GREETING = """
import socket
with socket.create_server(("127.0.0.1", 8080)) as listener:
    print("listening", flush=True)
    while True:
        connection, _ = listener.accept()
        connection.sendall(b"HTTP/1.1 400 Bad Request\\r\\n\\r\\n")
        connection.close()
"""


def test_wrong_port_is_recognised(site: Site, tmp_path: Path) -> None:
    """A web server where dhcpd should be is no OMAPI; where nobody listens, nobody can be reached."""
    log = tmp_path / "http.log"
    site.lab.popen([sys.executable, "-c", GREETING], output=log)
    until(lambda: "listening" in log.read_text(), SOON_S, "the web server")
    with pytest.raises(DhcpdUnavailable, match="not OMAPI"):
        site.client(port=8080)
    with pytest.raises(DhcpdUnavailable, match="cannot be reached"):
        site.client(port=8081)


def test_frozen_dhcpd_costs_no_more_than_the_deadline(site: Site) -> None:
    """While dhcpd is stopped, changes and new connections fail in time; thawed, it is brought up to date."""
    server = site.server(timeout_s=DEADLINE_S)
    apply_all(server, [ensure(1)])
    site.dhcpd.freeze()
    for _ in range(2):  # on the open connection, and on a new one, which a stopped process still accepts
        began = time.monotonic()
        with pytest.raises(DhcpdUnavailable, match="did not answer within"):
            server.apply([ensure(2)])
        assert time.monotonic() - began < 5 * DEADLINE_S
        server.close()
    site.dhcpd.thaw()
    server = site.server()
    apply_all(server, [ensure(3)])
    assert site.held() == binding_name(ADDRESS, 3)


def test_closed_connection_is_unavailable_and_a_new_one_serves(site: Site) -> None:
    """After a failure the connection is of no use, for waiting either, until it is opened again."""
    client = site.client(timeout_s=DEADLINE_S)
    site.dhcpd.freeze()
    with pytest.raises(DhcpdUnavailable):
        client.exchange([find_host(MAC)])
    site.dhcpd.thaw()
    with pytest.raises(DhcpdUnavailable):
        client.exchange([find_host(MAC)])
    with pytest.raises(DhcpdUnavailable, match="closed"):
        client.fileno()
    with site.client() as fresh:
        assert fresh.fileno() > 0


def test_dhcpd_killed_in_the_middle_of_a_batch(site: Site) -> None:
    """A dhcpd that dies while it works is unavailable, and the same batch completes after its restart."""
    server, batch = site.server(), [ensure(address=address) for address in addresses(3000)]

    def kill_when_some_are_made() -> None:
        if site.dhcpd.alive and site.dhcpd.leases.stat().st_size > 20_000:
            site.dhcpd.kill()

    def watched() -> OmapiClient:
        client = site.client()
        client._progress = kill_when_some_are_made  # between two answers, however slow this machine is
        return client

    server.open_client = watched
    with pytest.raises(DhcpdUnavailable):
        server.apply(batch)
    site.dhcpd.restart()
    server.open_client = site.client
    server.connect()
    apply_all(server, batch)
    assert server.observe([one.mac for one in batch]) == [one.binding for one in batch]


# -- what could end dhcpd ----------------------------------------------------------------------------------


def test_hosts_of_others_with_the_longest_names_do_not_end_dhcpd(tmp_path: Path) -> None:
    """Looking up MACs that foreign hosts hold, all of them as large as can be, leaves dhcpd alive."""
    macs = [mac_of(address) for address in addresses(60)]
    hosts = [
        f"host {'n' * (195 + number)} {{ hardware ethernet {mac}; "
        f'option dhcp-client-identifier "{"c" * (195 + number)}"; fixed-address 10.7.7.7; }}'
        for number, mac in enumerate(macs)
    ]
    with open_site(tmp_path, algorithm="hmac-sha512", more="\n".join(hosts)) as site:
        server, pid = site.server(), site.dhcpd.pid
        for start in range(len(macs)):
            observed = server.observe(macs[start:] + macs[:start])
            assert all(host is not None and host.owner is None for host in observed)
        assert site.dhcpd.pid == pid


def test_leases_a_guest_has_stuffed_do_not_end_dhcpd(tmp_path: Path) -> None:
    """Clearing leases whose clients chose the longest identifiers and names leaves dhcpd alive."""
    with open_site(tmp_path, dynamic="10.99.0.1 10.99.0.40") as site:
        machines = addresses(40)
        for number, address in enumerate(machines):
            # With these lengths the signature of every fifth reply would end just behind dhcpd's buffer.
            hostname, client_id = "h" * (233 + number // 5), b"\0%03d" % number + b"i" * 247
            assert site.machine(mac_of(address), client_id=client_id, hostname=hostname).dora()
        server, pid = site.server(), site.dhcpd.pid
        apply_all(server, [remove(address=one) for one in machines])
        assert site.dhcpd.pid == pid
        assert {site.lease_state(address) for address in addresses(40, "10.99.0.1")} == {FREE}


def test_asking_for_a_lease_has_no_effect(range_site: Site) -> None:
    """The question whether there is a lease is answered in all cases, and writes nothing."""
    known, vm = OTHER_MAC, range_site.machine(OTHER_MAC)
    assert vm.dora() is not None
    before = range_site.dhcpd.leases.read_bytes()
    with range_site.client() as client:
        replies = client.exchange([has_lease(key) for key in (known, MAC, DYNAMIC, ADDRESS)])
    assert [reply.result for reply in replies] == [18, 27, 18, 27]
    assert range_site.dhcpd.leases.read_bytes() == before
    assert range_site.lease_state(DYNAMIC) == ACTIVE


# -- leases ------------------------------------------------------------------------------------------------


def test_lease_taken_before_the_reservation_goes_with_it(range_site: Site) -> None:
    """A machine's dynamic lease from before it was reserved is ended by Remove: the next one gets it at once."""
    server, vm, stranger = range_site.server(), range_site.machine(), range_site.machine(OTHER_MAC)
    first = vm.dora()
    assert first is not None
    assert first.address == DYNAMIC
    apply_all(server, [ensure()])
    second = vm.dora()
    assert second is not None
    assert second.address == ADDRESS
    assert stranger.discover(timeout_s=0.1) is None
    apply_all(server, [remove()])
    assert range_site.lease_state(DYNAMIC) == FREE
    third = stranger.dora()
    assert third is not None
    assert third.address == DYNAMIC


def test_lease_of_the_released_address_goes_whoever_has_it(range_site: Site) -> None:
    """Remove ends the lease of the address itself, though another machine holds it."""
    assert range_site.machine(OTHER_MAC).dora() is not None
    apply_all(range_site.server(), [remove(address=DYNAMIC)])
    lease = range_site.machine(WITNESS).dora()
    assert lease is not None
    assert lease.address == DYNAMIC


def test_abandoned_address_is_cleared(range_site: Site) -> None:
    """An address that a client declined is usable again after Remove."""
    vm = range_site.machine(OTHER_MAC)
    lease = vm.dora()
    assert lease is not None
    vm.decline(lease)
    until(lambda: range_site.lease_state(DYNAMIC) not in (FREE, ACTIVE), SOON_S, "the lease to be abandoned")
    apply_all(range_site.server(), [remove(address=DYNAMIC)])
    assert range_site.lease_state(DYNAMIC) == FREE


def test_lease_of_a_foreign_host_stays(range_site: Site) -> None:
    """Where the MAC belongs to a host of somebody else, Remove leaves that machine's lease alone."""
    range_site.add_host("nas", address=None)
    assert range_site.machine().dora() is not None
    apply_all(range_site.server(), [remove()])
    assert range_site.lease_state(DYNAMIC) == ACTIVE


def test_lease_of_a_successor_stays(range_site: Site) -> None:
    """A late Remove leaves alone the lease that a newer generation's machine still has."""
    assert range_site.machine().dora() is not None
    server = range_site.server()
    apply_all(server, [ensure(6), remove(5)])
    assert range_site.lease_state(DYNAMIC) == ACTIVE


def test_static_reservations_are_not_touched_when_leases_are_cleared(tmp_path: Path) -> None:
    """In static mode Remove ends leases only: the host in the configuration file serves on."""
    host = f"host macbind-static-10.1.1.3 {{ hardware ethernet {MAC}; fixed-address {ADDRESS}; }}"
    with open_site(tmp_path, dynamic=str(DYNAMIC), more=host) as site:
        apply_all(site.server(), [Remove(ADDRESS, 1, MAC, has_binding=False)])
        assert site.machine().dora() is not None
        assert site.held() == "macbind-static-10.1.1.3"
        assert "deleted" not in site.dhcpd.leases.read_text()


def test_several_leases_of_one_machine(tmp_path: Path) -> None:
    """Leases that OMAPI cannot list are found in the lease file and ended; without it they hold up nothing."""
    with open_site(tmp_path, dynamic="10.99.0.1 10.99.0.3") as site:
        for number in (b"1", b"2", b"3"):
            assert site.machine(client_id=b"\0" + number).dora() is not None
        apply_all(site.server(sees_leases=False), [remove()])
        held = addresses(3, "10.99.0.1")
        assert {site.lease_state(address) for address in held} == {ACTIVE}
        apply_all(site.server(), [remove()])
        assert {site.lease_state(address) for address in held} == {FREE}
        assert site.machine(OTHER_MAC).dora() is not None


# -- a full disk -------------------------------------------------------------------------------------------


@contextmanager
def small_disk(place: Path, size: str = "64k") -> Iterator[Path]:
    """A file system of 64 kB, or another size."""
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)]
    subprocess.run(command, check=True, timeout=SOON_S)
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True, timeout=SOON_S)


def fill(disk: Path) -> Path:
    """A file that takes all the space that is left."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (4096, 1):
            try:
                while file.write(b"x" * size) == size:
                    pass
            except OSError:
                continue
    return filler


def test_reservation_that_cannot_be_written_to_disk_is_taken_back(tmp_path: Path) -> None:
    """On a full disk dhcpd would serve what it will forget: it is refused, withdrawn, and serves nobody."""
    with small_disk(tmp_path / "disk") as disk, open_site(disk) as site:
        server, vm = site.server(), site.machine()
        site.add_host("witness", WITNESS, IPv4Address("10.1.9.9"))
        filler = fill(disk)
        used = addresses(200)
        outcomes = server.apply([ensure(address=address) for address in [*used, ADDRESS]])
        error = refusal(outcomes[-1:])
        assert error.details["result"] == 26
        assert "lease file" in error.hint
        assert site.held() is None
        expect_silence(vm, site.machine(WITNESS))
        filler.unlink()
        apply_all(server, [ensure()])
        assert vm.dora() is not None
        assert site.dhcpd.alive


def test_no_machine_is_called_by_the_name_of_its_host(tmp_path: Path) -> None:
    """Under use-host-decl-names it has the name of its allocation, or none; also after a restart of dhcpd."""
    with open_site(tmp_path, more="use-host-decl-names on;") as site:
        named = ensure(address=IPv4Address("10.1.1.4"), options=DhcpOptions(hostname="web-1"))
        apply_all(site.server(), [ensure(), named])
        for _ in range(2):
            for mac, name in ((MAC, None), (named.mac, "web-1")):
                lease = site.machine(mac).dora()
                assert lease is not None
                assert lease.hostname == name
            site.dhcpd.restart()
        assert set(parse(site.dhcpd.leases.read_bytes()).hosts) == {OURS, named.binding.name}


# -- what others have --------------------------------------------------------------------------------------


def others(server: IscDhcpd, *ranges: str) -> list[tuple[str, str, str]]:
    """Source, address and holder of all that others have of a pool, as an audit sees it."""
    audit = server.audit([pool_of(*ranges).plan], lambda _: None)
    assert audit is not None
    return [(str(one.source), str(one.address), one.holder) for one in audit.evidence]


def test_hosts_of_others_are_evidence_until_they_are_deleted(site: Site) -> None:
    """A host made with omshell, by its address or by a MAC of ours, is named; when it is gone it is not."""
    server = site.server()
    site.add_host("printer", OTHER_MAC, ADDRESS)
    site.add_host("old", mac_of(IPv4Address("10.1.1.5")), IPv4Address("10.7.7.7"))
    site.add_host("far", WITNESS, IPv4Address("10.9.9.9"))
    assert others(server, "10.1.1.1-10.1.1.9") == [
        ("host", str(ADDRESS), "printer"),
        ("host", "10.1.1.5", "old"),
    ]
    site.dhcpd.omshell(f"new host\nset hardware-address = {OTHER_MAC}\nset hardware-type = 1\nopen\nremove\n")
    assert others(server, "10.1.1.1-10.1.1.9") == [("host", "10.1.1.5", "old")]


def test_lease_of_a_range_that_was_taken_out_stays_evidence(tmp_path: Path) -> None:
    """dhcpd restarted without the range forgets its lease, and the machine goes on: the address is in use."""
    with open_site(tmp_path, dynamic=str(DYNAMIC)) as site:
        server = site.server()
        assert site.machine(OTHER_MAC).dora() is not None
        held = [("lease", str(DYNAMIC), str(OTHER_MAC))]
        assert others(server, "10.99.0.1-10.99.0.9") == held
        site.dhcpd.config.write_text(config())
        site.dhcpd.restart()
        assert f"lease {DYNAMIC}" not in site.dhcpd.leases.read_text()
        assert others(server, "10.99.0.1-10.99.0.9") == held


def test_lease_that_was_given_back_is_no_evidence(range_site: Site) -> None:
    """A client's RELEASE is written down as the lease's end."""
    server, machine = range_site.server(), range_site.machine(OTHER_MAC)
    lease = machine.dora()
    assert lease is not None
    assert others(server, str(DYNAMIC)) != []
    machine.release(lease)
    until(lambda: others(server, str(DYNAMIC)) == [], SOON_S, "the lease to be over")


def test_declined_address_of_a_range_is_evidence_of_a_stranger(range_site: Site) -> None:
    """A machine found the leased address in use: dhcpd abandons it, and nobody may be given it."""
    server, machine = range_site.server(), range_site.machine(OTHER_MAC)
    lease = machine.dora()
    assert lease is not None
    machine.decline(lease)
    stranger = [("lease", str(DYNAMIC), "a machine that dhcpd does not know")]
    until(lambda: others(server, str(DYNAMIC)) == stranger, SOON_S, "the address to be abandoned")


def test_lease_file_that_cannot_be_read_withdraws_nothing(site: Site) -> None:
    """A pipe in its place hangs nobody; what was found is still found, and no source counts as looked at."""
    server, plans = site.server(), [pool_of("10.1.1.1-10.1.1.9").plan]
    site.add_host("printer", OTHER_MAC, ADDRESS)
    first = server.audit(plans, lambda _: None)
    assert first is not None
    assert first.looked
    site.dhcpd.leases.rename(site.dhcpd.leases.with_suffix(".away"))
    os.mkfifo(site.dhcpd.leases)
    second = server.audit(plans, lambda _: None)
    assert second is not None
    assert (second.looked, list(second.ended)) == (frozenset(), [])
    assert [one.code for one in second.findings] == ["foreign_host"]


def test_who_may_read_the_lease_file_is_told(tmp_path: Path) -> None:
    """The hint names the first directory, or the file, that keeps the service's user out, with its mode and owner."""
    closed, path = tmp_path / "closed", tmp_path / "closed" / "dhcpd.leases"
    closed.mkdir()
    path.touch()
    tmp_path.chmod(0o755)
    for one in tmp_path.parents:
        if one == Path(tempfile.gettempdir()):
            break
        one.chmod(0o755)
    for denied, mode, words in ((closed, 0o700, "chmod o+x"), (path, 0o600, "chmod o+r")):
        denied.chmod(mode)
        os.seteuid(65534)
        try:
            with pytest.raises(PermissionError):
                open_ordinary(path)
            hint = how_to_read(path)
        finally:
            os.seteuid(0)
        denied.chmod(0o755)
        assert f"{denied} has mode {mode:04o} and belongs to user 0" in hint
        assert words in hint
