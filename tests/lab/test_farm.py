"""The main job, end to end: what is asked of macbind is what dhcpd serves, at once and exactly."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Address, IPv4Network

import pytest

from labkit.dhcp import Ack, DhcpClient, Nak, Route, Silence, expect_silence
from labkit.farm import Farm
from labkit.lease import Lease
from labkit.net import Port
from labkit.wait import until
from macbind.client.client import Client
from macbind.core.allocation import Allocation, State
from macbind.core.dhcp_options import DhcpOptions
from macbind.core.errors import AddressInUse, Conflict, NotFound, PoolExhausted

POOLS = """
[subnet."10.0.0.0/8"]
routers = ["10.0.0.1"]
domain_name_servers = ["10.0.0.1"]
domain_name = "farm.example.org"
lease_time_s = 3600
""" + "".join(
    f'[pool.{name}]\nsubnet = "10.0.0.0/8"\nranges = ["10.1.{number}.3-10.1.{number}.{last}"]\n'
    for number, (name, last) in enumerate(
        {
            "boot": 250,
            "reuse": 250,
            "groups": 250,
            "wanted": 250,
            "names": 250,
            "pins": 5,
            "ttl": 250,
            "options": 250,
            "nak": 250,
            "clones": 250,
            "paths": 250,
            "pages": 250,
            "many": 254,
            "crowd": 250,
            "fence": 250,
        }.items(),
        1,
    )
)


@pytest.fixture(scope="module")
def cable(farm: Farm) -> Port:
    """Where the machines of this module are plugged in; a network card for each of their MACs."""
    return farm.lab.port("machines")


@pytest.fixture(scope="module")
def witness(farm: Farm) -> DhcpClient:
    """A machine that is always answered."""
    with farm.client() as client:
        pinned = client.reserve("witness", "10.0.0.9")
    return DhcpClient(farm.lab.port("witness", str(pinned.mac)))


@pytest.fixture
def client(farm: Farm) -> Iterator[Client]:
    """The Python API."""
    with farm.client() as client:
        yield client


def served(cable: Port, allocation: Allocation) -> Lease:
    """What the machine with this allocation's MAC is served."""
    lease = DhcpClient(cable, str(allocation.mac)).dora()
    assert lease is not None, f"{allocation.mac} was not answered"
    return lease


def test_machine_gets_exactly_what_was_allocated(farm: Farm, client: Client, cable: Port) -> None:
    """When allocate returns, registry and dhcpd hold the reservation and the machine is served its address."""
    made = client.allocate("boot", "booted")
    assert (str(made.address), str(made.mac)) == ("10.1.1.3", "00:16:3e:01:01:03")
    assert made.state is State.BOUND
    assert client.get("booted") == made
    assert farm.dhcpd.omshell_host(str(made.mac)) == {
        "name": f"macbind-{made.address}-g{made.generation}",
        "mac": str(made.mac),
        "ip": str(made.address),
    }
    lease = served(cable, made)
    assert lease.address == made.address
    assert lease.routers == (IPv4Address("10.0.0.1"),)
    assert (lease.domain, lease.lease_time_s) == ("farm.example.org", 3600)


def test_released_address_is_silent_and_at_once_somebody_elses(
    farm: Farm, client: Client, cable: Port, witness: DhcpClient
) -> None:
    """The released machine gets no answer to DISCOVER, RENEW and REBIND, and the next one all of it at once."""
    made = client.allocate("reuse", "old")
    machine = DhcpClient(cable, str(made.mac), client_id=b"\x01old")
    lease = machine.dora()
    assert lease is not None
    assert client.release("old").allocations[0].address == made.address
    assert farm.dhcpd.omshell_host(str(made.mac)) is None
    expect_silence(machine, witness)
    asked = f"DHCPREQUEST for {made.address} from {made.mac}"
    for ask in (machine.renew, machine.rebind):
        heard = farm.dhcpd.log().count(asked)
        assert isinstance(ask(lease, timeout_s=0.2), Silence)
        until(lambda: farm.dhcpd.log().count(asked) == heard + 1, 60, "dhcpd to have heard it")  # noqa: B023
    with pytest.raises(NotFound):
        client.get("old")
    again = client.allocate("reuse", "new")
    assert (again.address, again.mac) == (made.address, made.mac)
    assert again.generation > made.generation
    fresh = DhcpClient(cable, str(again.mac), client_id=b"\x01new").dora()
    assert fresh is not None
    assert fresh.address == made.address


def test_release_of_an_earlier_generation_does_not_touch_its_successor(
    farm: Farm, client: Client, cable: Port
) -> None:
    """A release that comes too late, with the generation it meant, releases nothing."""
    first = client.allocate("fence", "fenced")
    client.release("fenced")
    second = client.allocate("fence", "fenced")
    assert second.address == first.address
    late = client.release("fenced", generation=first.generation)
    assert (late.allocations, late.already_gone) == ((), True)
    assert served(cable, second).address == second.address
    assert not client.release(address=second.address, generation=second.generation).already_gone
    assert farm.dhcpd.omshell_host(str(second.mac)) is None


def test_group_comes_and_goes_as_one(farm: Farm, client: Client, cable: Port) -> None:
    """A group's members have consecutive names and addresses, are all served, and are all released."""
    made = client.allocate_group("groups", "speck-7", 3)
    assert [one.name for one in made] == ["speck-7-1", "speck-7-2", "speck-7-3"]
    assert [str(one.address) for one in made] == ["10.1.3.3", "10.1.3.4", "10.1.3.5"]
    assert [served(cable, one).address for one in made] == [one.address for one in made]
    assert client.allocate_group("groups", "speck-7", 3) == made
    assert list(client.list(group="speck-7")) == made
    with pytest.raises(Conflict, match="exists with 3 allocations, not 2"):
        client.allocate_group("groups", "speck-7", 2)
    named = client.allocate_group("groups", "pair", names=["east", "west"])
    assert [(one.name, one.group) for one in named] == [("east", "pair"), ("west", "pair")]
    gone = client.release_group("speck-7")
    assert [one.address for one in gone.allocations] == [one.address for one in made]
    assert all(farm.dhcpd.omshell_host(str(one.mac)) is None for one in made)
    assert client.release_group("speck-7").already_gone
    assert [one.name for one in client.list(pool="groups")] == ["east", "west"]


def test_wanted_address_is_given_or_refused_with_its_holder(client: Client, cable: Port) -> None:
    """An address that was asked for is given to the first and refused to the second, who learns why."""
    made = client.allocate("wanted", "first", address="10.1.4.77")
    assert served(cable, made).address == IPv4Address("10.1.4.77")
    with pytest.raises(AddressInUse, match=r"10\.1\.4\.77 is held by 'first'") as refused:
        client.allocate("wanted", "second", address="10.1.4.77")
    assert refused.value.details == {"address": "10.1.4.77", "holder": "first"}
    with pytest.raises(NotFound):
        client.get("second")


def test_same_name_is_the_same_allocation_for_api_and_command_line(farm: Farm, client: Client) -> None:
    """Asking again, from Python or the shell, finds what exists; with other parameters it is a conflict."""
    made = client.allocate("names", "vm", domain="build")
    assert client.allocate("names", "vm") == made
    told = farm.macbind_json("allocate", "names", "vm")
    assert (told["address"], told["generation"]) == (str(made.address), made.generation)
    shown = farm.macbind_json("show", "vm")["allocation"]
    assert shown == told
    for asked in ({"address": "10.1.5.99"}, {"group": "g"}, {"domain": "other"}):
        with pytest.raises(Conflict, match="'vm' is already allocated"):
            client.allocate("names", "vm", **asked)  # type: ignore[arg-type]
    with pytest.raises(Conflict, match="pool 'names', not 'boot'"):
        client.allocate("boot", "vm")
    with pytest.raises(Conflict, match="options"):
        client.allocate("names", "vm", options=DhcpOptions(hostname="other"))
    assert [one.name for one in client.list(pool="names")] == ["vm"]
    assert "released" in farm.macbind("release", "vm")
    assert "gone already" in farm.macbind("release", "vm")
    assert client.release("vm").already_gone


def test_pinned_address_serves_its_own_mac_and_is_passed_by(
    farm: Farm, client: Client, cable: Port, witness: DhcpClient
) -> None:
    """A foreign MAC is served its pinned address; the address's own MAC is not, and allocate never takes it."""
    mac = "b8:27:eb:00:00:01"
    pinned = client.reserve("printer", "10.1.6.4", mac=mac)
    assert (pinned.pinned, str(pinned.mac), pinned.state) == (True, mac, State.BOUND)
    assert client.reserve("printer", "10.1.6.4", mac=mac) == pinned
    assert served(cable, pinned).address == pinned.address
    expect_silence(DhcpClient(cable, "00:16:3e:01:06:04"), witness)
    made = client.allocate_group("pins", "all", 2)
    assert [str(one.address) for one in made] == ["10.1.6.3", "10.1.6.5"]
    with pytest.raises(PoolExhausted, match="no unoccupied address"):
        client.allocate("pins", "one-more")
    with pytest.raises(AddressInUse, match="held by 'printer'"):
        client.allocate("pins", "one-more", address="10.1.6.4")
    with pytest.raises(Conflict, match="macbind unreserve"):
        client.release("printer")
    with pytest.raises(Conflict, match="ordinary allocation"):
        client.unreserve("all-1")
    assert served(cable, pinned).address == pinned.address
    assert not client.unreserve("printer").already_gone
    assert farm.dhcpd.omshell_host(mac) is None
    assert str(client.allocate("pins", "one-more").address) == "10.1.6.4"


def test_expired_allocation_ends_by_itself(farm: Farm, client: Client, cable: Port) -> None:
    """After its time to live an allocation is gone from registry and dhcpd; one that is renewed stays."""
    client.allocate("ttl", "kept", ttl_s=10)
    kept = client.allocate("ttl", "kept", ttl_s=600)
    short = client.allocate("ttl", "short", ttl_s=10)  # it ends later than the other one would have
    until(lambda: [one.name for one in client.list(pool="ttl", released=True)] == ["kept"], 60, "the expiry")
    assert farm.dhcpd.omshell_host(str(short.mac)) is None
    assert served(cable, kept).address == kept.address
    assert client.allocate("ttl", "next").address == short.address
    entries = [entry for entry in client.history(name="short") if entry.action == "release"]
    assert [entry.detail["reason"] for entry in entries] == ["expired"]


def test_each_machine_gets_its_own_options(client: Client, cable: Port) -> None:
    """Options of one allocation reach its machine and no other; what is not set comes from the subnet."""
    left = client.allocate(
        "options",
        "left",
        options=DhcpOptions.parse(
            {
                "hostname": "left-vm",
                "routers": ["10.0.0.2"],
                "domain_name_servers": ["10.0.0.53", "10.0.0.54"],
                "domain_name": "left.example.org",
                "next_server": "10.0.0.69",
                "filename": "pxe/left.0",
            }
        ),
    )
    right = client.allocate("options", "right", options=DhcpOptions.parse({"routers": ["10.0.0.3"]}))
    lease = served(cable, left)
    assert (lease.address, lease.hostname, lease.domain) == (left.address, "left-vm", "left.example.org")
    assert lease.routers == (IPv4Address("10.0.0.2"),)
    assert lease.dns == (IPv4Address("10.0.0.53"), IPv4Address("10.0.0.54"))
    assert (lease.next_server, lease.filename) == (IPv4Address("10.0.0.69"), "pxe/left.0")
    lease = served(cable, right)
    assert (lease.address, lease.routers) == (right.address, (IPv4Address("10.0.0.3"),))
    assert (lease.hostname, lease.domain, lease.filename) == (None, "farm.example.org", "")
    assert lease.dns == (IPv4Address("10.0.0.1"),)
    client.release("left")
    plain = client.allocate("options", "plain", address=left.address)
    lease = served(cable, plain)
    assert (lease.routers, lease.hostname) == ((IPv4Address("10.0.0.1"),), None)


def test_static_routes_arrive_with_the_default_route(client: Client, cable: Port) -> None:
    """A machine with static routes is also sent its gateway as a route, since it ignores the router option."""
    wanted = {"static_routes": ["10.200.0.0/16 via 10.0.0.7", "192.0.2.1/32 via 10.0.0.8"]}
    routed = client.allocate("options", "routed", options=DhcpOptions.parse(wanted))
    assert served(cable, routed).routes == (
        Route(IPv4Network("10.200.0.0/16"), IPv4Address("10.0.0.7")),
        Route(IPv4Network("192.0.2.1/32"), IPv4Address("10.0.0.8")),
        Route(IPv4Network("0.0.0.0/0"), IPv4Address("10.0.0.1")),
    )
    own = client.allocate(
        "options", "own-default", options=DhcpOptions.parse({"static_routes": ["0.0.0.0/0 via 10.0.0.6"]})
    )
    assert served(cable, own).routes == (Route(IPv4Network("0.0.0.0/0"), IPv4Address("10.0.0.6")),)


def test_machine_that_remembers_another_address_is_refused_at_once(client: Client, cable: Port) -> None:
    """A cloned disk that asks for its template's address gets a NAK, and then its own address."""
    template = client.allocate("nak", "template")
    clone = client.allocate("nak", "clone")
    machine = DhcpClient(cable, str(clone.mac))
    assert isinstance(machine.init_reboot(template.address), Nak)
    assert served(cable, clone).address == clone.address
    confirmed = machine.init_reboot(clone.address)
    assert isinstance(confirmed, Ack)
    assert confirmed.lease.address == clone.address


def test_clones_with_one_client_id_get_an_address_each(client: Client, cable: Port) -> None:
    """Machines cloned from one disk send the same client identifier and still get their own addresses."""
    made = client.allocate_group("clones", "clone", 3)
    machines = [DhcpClient(cable, str(one.mac), client_id=b"\xffthe-same-duid") for one in made]
    for _ in range(2):
        leases = [machine.dora() for machine in machines]
        assert [lease and lease.address for lease in leases] == [one.address for one in made]
    answers = [machine.renew(lease) for machine, lease in zip(machines, leases, strict=True) if lease]
    assert [type(answer) for answer in answers] == [Ack] * 3


def test_names_with_slashes_and_dots_are_just_names(client: Client) -> None:
    """A name that looks like a path finds its own allocation, and never the one the path would lead to."""
    client.allocate("paths", "b")
    odd = client.allocate("paths", "a/../b")
    assert client.get("a/../b") == odd
    pinned = client.reserve("p/../q", "10.0.0.200")
    client.reserve("q", "10.0.0.201")
    assert client.unreserve("p/../q").allocations[0].address == pinned.address
    assert client.get("q").address == IPv4Address("10.0.0.201")
    with pytest.raises(NotFound, match=r"no allocation '\.\./pools'"):
        client.get("../pools")
    client.unreserve("q")


def test_list_is_complete_over_pages_and_filters(farm: Farm, client: Client) -> None:
    """Listing walks through pages in the order of addresses and finds by group, address and MAC."""
    made = client.allocate_group("pages", "many", 150)
    assert list(client.list(pool="pages")) == made
    one = made[70]
    assert list(client.list(address=one.address)) == [one]
    assert list(client.list(mac=one.mac)) == [one]
    assert farm.macbind_json("show", str(one.mac).upper())["allocation"]["name"] == one.name
    assert farm.macbind_json("show", str(one.address))["allocation"]["name"] == one.name
    usage = next(pool for pool in client.pools() if pool.pool == "pages")
    assert (usage.size, usage.free, usage.allocated) == (248, 98, 150)
    entry = client.history(name=one.name)[0]
    assert (entry.action, entry.address, entry.generation) == ("allocate", one.address, one.generation)
    assert entry.actor.startswith("root (uid 0, pid ")


def test_name_that_looks_like_a_mac_is_found_by_show(farm: Farm, client: Client) -> None:
    """`macbind show` takes a text first for an address or MAC, and then for the name that it may also be."""
    made = client.allocate("paths", "0016deadbeef")
    assert farm.macbind_json("show", "0016deadbeef")["allocation"]["address"] == str(made.address)


def test_threads_that_allocate_at_once_get_different_addresses(
    farm: Farm, client: Client, cable: Port
) -> None:
    """Allocations asked for at the same moment are all distinct, bound, and known to dhcpd."""

    def work(thread: int) -> list[Allocation]:
        return [client.allocate("many", f"vm-{thread}-{number}") for number in range(6)]

    with ThreadPoolExecutor(32) as threads:
        made = [one for some in threads.map(work, range(32)) for one in some]
    assert len({one.address for one in made}) == len({one.mac for one in made}) == 192
    assert {one.state for one in made} == {State.BOUND}
    assert sorted(one.address for one in made) == [one.address for one in client.list(pool="many")]
    script = "".join(
        f"new host\nset hardware-address = {one.mac}\nset hardware-type = 1\nopen\n" for one in made
    )
    known = farm.dhcpd.omshell(script)
    assert all(f'name = "macbind-{one.address}-g{one.generation}"' in known for one in made)
    assert served(cable, made[-1]).address == made[-1].address
    with ThreadPoolExecutor(32) as threads:
        list(threads.map(client.release, [one.name for one in made]))
    assert list(client.list(pool="many", released=True)) == []


def test_same_name_asked_for_by_many_at_once_is_one_allocation(client: Client) -> None:
    """Callers that race for one name all get the same allocation."""
    with ThreadPoolExecutor(16) as threads:
        made = set(threads.map(lambda _: client.allocate("crowd", "the-one").address, range(48)))
    assert len(made) == 1
    assert len(list(client.list(pool="crowd"))) == 1
