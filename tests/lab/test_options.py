"""DHCP options as machines get them: from the subnet, the pool, a static pool and the allocation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from ipaddress import IPv4Address
from typing import Any

import pytest

from labkit.dhcp import DhcpClient
from labkit.farm import Farm
from labkit.lease import Lease
from labkit.wait import until
from macbind.client.client import Client
from macbind.core.allocation import State
from macbind.core.dhcp_options import DhcpOptions
from macbind.core.errors import InvalidOption, InvalidRequest, NotFound
from macbind.core.option_kinds import BOOT_CLIENTS, raw_bytes

MakeFarm = Callable[..., Farm]

OF_SUBNET = {
    "mtu": 1450,
    "ntp_servers": ["10.0.0.5"],
    "domain_search": ["farm.example.org", "example.org"],
    "filename": "subnet.0",
    "boot": {"bios": "bios.0", "http": "http://10.0.0.9/subnet.efi"},
    "static_routes": ["10.9.0.0/16 via 10.0.0.2"],
    "raw": {"150": "hex:0a000006", "252": "hex:687474700a"},
}
OF_POOL = {
    "mtu": 1400,
    "ntp_servers": ["10.0.0.7", "10.0.0.8"],
    "domain_search": ["pool.example.org"],
    "boot": {
        "efi64": "boot\\x64\\wdsmgfw.efi",
        "efi32": "pool32.efi",
        "arm64": "poolaa64.efi",
        "ipxe": "pool.ipxe",
    },
    "static_routes": ["10.8.0.0/16 via 10.0.0.3"],
    "raw": {"150": "hex:0a000007", "43": "hex:010400000000ff"},
}
OF_MACHINE = {
    "mtu": 9000,
    "ntp_servers": ["10.0.0.11"],
    "domain_search": ["own.example.org"],
    "filename": "boot\\own.0",
    "boot": {"ipxe": "own.ipxe"},
    "static_routes": ["10.7.0.0/16 via 10.0.0.4"],
    "raw": {"252": "hex:4142"},
}
SAYS: Mapping[str, Mapping[int, bytes]] = {
    "ipxe": {77: b"iPXE", 93: b"\0\x07", 60: b"PXEClient:Arch:00007:UNDI:003010"},
    "http": {93: b"\0\x10", 60: b"HTTPClient:Arch:00016:UNDI:003001"},
    "efi64": {93: b"\0\x07", 60: b"PXEClient:Arch:00007:UNDI:003016"},
    "efi32": {93: b"\0\x06", 60: b"PXEClient:Arch:00006:UNDI:003016"},
    "arm64": {93: b"\0\x0b", 60: b"PXEClient:Arch:00011:UNDI:003000"},
    "bios": {93: b"\0\0", 60: b"PXEClient:Arch:00000:UNDI:002001"},
    "anybody": {},
}
"""What the clients say who ask for a boot file, as recorded."""


def toml(values: Mapping[str, Any]) -> str:
    """Options as lines of the configuration file."""
    return "".join(f"{key} = {_toml(value)}\n" for key, value in values.items())


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_toml(one)}" for key, one in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return f"'{value}'" if isinstance(value, str) else str(value)


def pools(of_pool: Mapping[str, Any] = OF_POOL) -> str:
    """A subnet with options; pools without any of their own, with some, and in static mode."""
    subnet = 'subnet = "10.0.0.0/8"\n'
    return (
        f'[subnet."10.0.0.0/8"]\nrouters = ["10.0.0.1"]\n{toml(OF_SUBNET)}\n'
        f'[pool.plain]\n{subnet}ranges = ["10.1.1.0/24"]\n\n'
        f'[pool.own]\n{subnet}ranges = ["10.1.2.0/24"]\n{toml(of_pool)}\n'
        f'[pool.fixed]\n{subnet}ranges = ["10.1.3.0/28"]\nmode = "static"\n{toml(OF_POOL)}\n'
        f'[pool.named]\n{subnet}ranges = ["10.1.4.0/24"]\nhostname = "vm-{{name}}"\n'
    )


POOLS = pools()


@pytest.fixture
def client(farm: Farm) -> Iterator[Client]:
    """The Python API."""
    with farm.client() as client:
        yield client


def boot(farm: Farm, mac: object, who: str = "anybody", wanted: tuple[int, ...] = ()) -> Lease:
    """What DHCP tells the machine with this MAC, as one that boots in this way and takes answers of 1500 bytes."""
    port = farm.lab.ports.get("machines") or farm.lab.port("machines")
    lease = DhcpClient(
        port, str(mac), says={57: (1500).to_bytes(2), **SAYS[who]}, wanted=(26, 42, 249, *wanted)
    ).dora()
    assert lease is not None
    return lease


def domains(raw: bytes) -> list[str]:
    """The domains of option 119, whose names end in pointers to others (RFC 1035, 4.1.4)."""
    found, at = [], 0
    while at < len(raw):
        labels, here, jumped = [], at, False
        while raw[here]:
            if raw[here] >= 0xC0:
                at, here, jumped = at if jumped else here + 2, raw[here + 1], True
                continue
            labels.append(raw[here + 1 : here + 1 + raw[here]].decode())
            here += 1 + raw[here]
        at = at if jumped else here + 1
        found.append(".".join(labels))
    return found


def check_told(farm: Farm, mac: object, *levels: Mapping[str, Any]) -> None:
    """The machine gets every option of the nearest level that has it; of tables, every entry."""
    options = DhcpOptions()
    for values in levels:
        options = options.over(DhcpOptions.parse(values))
    codes = tuple(map(int, options.raw))
    lease = boot(farm, mac, wanted=codes)
    assert lease.options[26] == (options.mtu or 0).to_bytes(2)
    assert lease.options[42] == b"".join(one.packed for one in options.ntp_servers)
    assert domains(lease.options[119]) == list(options.domain_search)
    assert [f"{one.network} via {one.gateway}" for one in lease.routes] == [
        *map(str, options.static_routes),
        "0.0.0.0/0 via 10.0.0.1",
    ]
    assert lease.options[249] == lease.options[121]
    assert {code: lease.options.get(code) for code in codes} == {
        int(code): raw_bytes(text) for code, text in options.raw.items()
    }
    for who in ("anybody", *BOOT_CLIENTS):
        lease = boot(farm, mac, who, (60,))
        also = "efi64" if who == "ipxe" else who  # iPXE without an entry is served as what its machine is
        assert lease.filename == options.boot.get(who, options.boot.get(also, options.filename)), who
        assert lease.options.get(60) == (b"HTTPClient" if who == "http" else None)


def test_machines_get_the_options_of_their_subnet(farm: Farm, client: Client) -> None:
    """A machine of a pool without options gets each of the subnet's, and the boot file for who it is."""
    check_told(farm, client.allocate("plain", "of-subnet").mac, OF_SUBNET)


def test_machines_get_the_options_of_their_pool(farm: Farm, client: Client) -> None:
    """The pool's options come before the subnet's, live and in dhcpd's configuration file."""
    check_told(farm, client.allocate("own", "of-pool").mac, OF_POOL, OF_SUBNET)
    check_told(farm, client.allocate("fixed", "of-static").mac, OF_POOL, OF_SUBNET)


def test_machines_get_their_own_options(farm: Farm, client: Client) -> None:
    """An allocation's options and a reservation's come first; its boot file beats the boot files of others."""
    own = DhcpOptions.parse(OF_MACHINE)
    check_told(farm, client.allocate("own", "of-own", options=own).mac, OF_MACHINE, OF_POOL, OF_SUBNET)
    check_told(farm, client.reserve("reserved", "10.1.2.99", options=own).mac, OF_MACHINE, OF_POOL, OF_SUBNET)
    told = client.network_settings("of-own").options
    assert told == own.over(DhcpOptions.parse(OF_POOL)).over(DhcpOptions.parse(OF_SUBNET)).over(
        DhcpOptions(routers=(IPv4Address("10.0.0.1"),))
    )


def test_a_group_has_host_names_by_pattern(farm: Farm, client: Client) -> None:
    """Each member gets its number in its host name, the same call finds them again, and one name is refused."""
    pattern = DhcpOptions(hostname="build-{n}")
    made = client.allocate_group("plain", "speck", 3, options=pattern)
    assert [boot(farm, one.mac).hostname for one in made] == ["build-1", "build-2", "build-3"]
    assert [one.options.hostname for one in made] == ["build-1", "build-2", "build-3"]
    assert client.allocate_group("plain", "speck", 3, options=pattern) == made
    with pytest.raises(InvalidRequest, match="all 2 machines would be called 'web'") as refused:
        client.allocate_group("plain", "other", 2, options=DhcpOptions(hostname="web"))
    assert "web-{n}" in refused.value.hint
    with pytest.raises(InvalidOption, match=r"makes no host name for 'a\.b'"):
        client.allocate("plain", "a.b", options=DhcpOptions(hostname="{name}"))


def test_a_pool_tells_the_names_of_its_allocations(farm: Farm, client: Client) -> None:
    """The pool's pattern makes each host name, where the allocation's name can be one; an own one comes first."""
    own = client.allocate("named", "named-own", options=DhcpOptions(hostname="mine"))
    for one, hostname in (
        (client.allocate("named", "seven"), "vm-seven"),
        (client.allocate("named", "a.b"), None),
        (own, "mine"),
    ):
        assert boot(farm, one.mac).hostname == hostname == client.network_settings(one.name).options.hostname


def test_what_dhcpd_cannot_be_told_is_refused_at_once(farm: Farm, client: Client) -> None:
    """Options that are too much together with the pool's take no address, and the sentence names the limit."""
    large = {str(code): f"hex:{bytes([code]).hex() * 255}" for code in range(128, 132)}
    own = DhcpOptions(raw=large)
    limit = "dhcpd can be told 3600 of one machine"
    with pytest.raises(InvalidOption, match=limit):
        client.allocate("own", "large", options=own)
    with pytest.raises(InvalidOption, match=limit):
        client.reserve("large", "10.1.2.77", options=own)
    with pytest.raises(NotFound):
        client.get("large")
    fits = DhcpOptions(raw=dict(list(large.items())[:3]))
    assert client.allocate("plain", "large", options=fits).state is State.BOUND


def test_the_options_survive_a_restart_of_dhcpd_and_change_by_a_reload(make_farm: MakeFarm) -> None:
    """dhcpd reads its lease file twice and serves the same; a reload changes what the pool says.

    A pool's options that are impossible beside those of an allocation are refused, with its name.
    """
    farm = make_farm(pools=POOLS)
    with farm.client() as client:
        one = client.allocate("own", "one", options=DhcpOptions.parse(OF_MACHINE))
        many = {str(code): f"hex:{'00' * 255}" for code in (128, 129)}
        other = client.allocate("own", "other", options=DhcpOptions(raw=many))
        named = client.allocate("named", "named")
        farm.stop()  # so that nobody makes the bindings anew
        for _ in range(2):
            farm.dhcpd.restart()
            farm.dhcpd.wait_ready()
            check_told(farm, one.mac, OF_MACHINE, OF_POOL, OF_SUBNET)
            check_told(farm, other.mac, {"raw": many}, OF_POOL, OF_SUBNET)
            assert boot(farm, named.mac).hostname == "vm-named"
        farm.start()
        farm.wait_serving()
    changed = {
        "mtu": 1300,
        "ntp_servers": ["10.0.0.12"],
        "boot": {"efi64": "new.efi"},
        "raw": {"43": "hex:00"},
    }
    with farm.client() as client:
        farm.reload(pools=pools(OF_POOL | changed).replace("vm-", "new-"))
        farm.wait_loaded(1)
        until(lambda: {found.state for found in client.list()} == {State.BOUND}, 60, "the new bindings")
        assert boot(farm, named.mac).hostname == "new-named"
        check_told(farm, one.mac, OF_MACHINE, OF_POOL | changed, OF_SUBNET)
        check_told(farm, other.mac, {"raw": many}, OF_POOL | changed, OF_SUBNET)
        too_much = {"raw": {str(code): f"hex:{'00' * 255}" for code in range(140, 143)}}
        farm.reload(pools=pools(too_much))
        until(lambda: "config_refused" in farm.findings(), 60, "the configuration to be refused")
        told = farm.findings()["config_refused"]
        assert "The options of the pool 'own' and those of 'other' are impossible" in told
        check_told(farm, other.mac, {"raw": many}, OF_POOL | changed, OF_SUBNET)
        assert client.release("one").allocations
