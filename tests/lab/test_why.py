"""`macbind why` on a real farm: who has an address, or why nobody can."""

import json
from collections.abc import Iterator

import pytest

from labkit.farm import Farm
from labkit.wait import until
from macbind.client.client import Client
from macbind.core.errors import DhcpdUnavailable, InvalidAddress, InvalidRequest, NotFound
from macbind.core.why import Reason

POOLS = """
[subnet."10.0.0.0/8"]
routers = ["10.0.0.1"]
domain_name_servers = ["10.0.0.53"]
dynamic = ["10.9.0.0-10.9.0.255"]

[pool.farm]
subnet = "10.0.0.0/8"
ranges = ["10.1.1.3-10.1.1.250"]
exclude = ["10.1.1.200-10.1.1.210"]
cooldown_s = 3600
ipv6_prefix = "2001:db8:1::/64"
"""
FARM = {"dhcpd": "resync_s = 1\n"}


@pytest.fixture
def client(farm: Farm) -> Iterator[Client]:
    """The Python API."""
    with farm.client() as client:
        yield client


def codes(client: Client, query: str) -> list[Reason]:
    """The codes of the only answer."""
    (answer,) = client.why(query)
    return [one.code for one in answer.reasons]


def test_an_allocation_is_found_by_all_it_has(farm: Farm, client: Client) -> None:
    """Address, MAC, name, both IPv6 addresses and the domain it is for lead to the same answer."""
    made = client.allocate("farm", "web", domain="web-domain")
    for query in (made.address, made.mac, "web", made.ipv6, made.link_local, "web-domain"):
        (answer,) = client.why(str(query))
        assert answer.code is Reason.ALLOCATED
        assert answer.answer.startswith(f"{made.address} is allocated to 'web' since ")
        assert " by root (uid 0, pid " in answer.answer
        assert answer.allocation == made
        assert Reason.CONFIRMED in [one.code for one in answer.reasons]
    text = farm.macbind("why", "web").splitlines()
    assert text[0] == answer.answer
    assert text[1] == "  dhcpd 'main' has confirmed the binding."
    assert farm.macbind_json("why", "web")[0]["code"] == "allocated"


def test_what_the_configuration_says(farm: Farm, client: Client) -> None:
    """With its line, which is the file's own."""
    expected = {
        "10.0.0.1": Reason.GATEWAY,
        "10.0.0.53": Reason.SERVER,
        "10.9.0.9": Reason.DYNAMIC,
        "10.1.1.205": Reason.EXCLUDED,
        "10.1.2.1": Reason.NOT_IN_RANGES,
        "192.168.0.1": Reason.OUTSIDE,
        "10.1.1.100": Reason.FREE,
    }
    for query, code in expected.items():
        assert codes(client, query)[0] is code, query
    (answer,) = client.why("10.1.1.205")
    lines = farm.config.read_text().splitlines()
    assert answer.reasons[0].where is not None
    path, _, line = answer.reasons[0].where.rpartition(" line ")
    assert path == str(farm.config)
    assert lines[int(line) - 1].startswith("exclude")


def test_a_released_address_rests_and_says_who_had_it(client: Client) -> None:
    """Until when, and how it ended."""
    made = client.allocate("farm", "short")
    client.release("short", reason="end of the job")
    (answer,) = client.why(str(made.address))
    assert answer.code is Reason.RESTING
    last = next(one for one in answer.reasons if one.code is Reason.LAST_HOLDER)
    assert last.sentence.startswith(f"'short' had {made.address} until ")
    assert last.sentence.endswith("because: end of the job.")
    assert [one.what for one in answer.timeline] == ["allocate 'short'", "release 'short' (end of the job)"]
    (answer,) = client.why("short")
    assert answer.code is Reason.NAME_NOT_ALLOCATED


def test_a_stopped_dhcpd_is_named(farm: Farm, client: Client) -> None:
    """An allocation and a release that wait say for whom."""
    with farm.client(timeout_s=5) as hasty:
        farm.dhcpd.freeze()
        try:
            with pytest.raises(DhcpdUnavailable, match="has not confirmed"):
                hasty.allocate("farm", "late")
            assert codes(client, "late")[:2] == [Reason.ALLOCATED, Reason.WAITS_FOR_DHCPD]
            address = str(client.get("late").address)
            with pytest.raises(DhcpdUnavailable, match="has not confirmed"):
                hasty.release("late")
            assert codes(client, "late")[0] is Reason.RELEASED
            assert codes(client, address)[:2] == [Reason.RELEASED, Reason.WAITS_FOR_DHCPD]
        finally:
            farm.dhcpd.thaw()
        until(lambda: codes(client, address)[0] is Reason.RESTING, 60, "dhcpd to confirm the release")


def test_who_else_uses_an_address_is_named(farm: Farm, client: Client) -> None:
    """A host that somebody made in dhcpd by hand, with its name and MAC."""
    farm.dhcpd.omshell(
        'new host\nset name = "printer"\nset hardware-address = aa:bb:cc:00:00:01\nset hardware-type = 1\n'
        "set ip-address = 10.1.1.150\ncreate\n"
    )
    until(lambda: codes(client, "10.1.1.150")[0] is Reason.USED_BY_OTHERS, 60, "the host to be seen")
    (answer,) = client.why("aa:bb:cc:00:00:01")
    assert "used by 'printer' (MAC aa:bb:cc:00:00:01): a host of dhcpd 'main'" in answer.answer
    assert [str(one.mac) for one in answer.evidence] == ["aa:bb:cc:00:00:01"]


def test_what_nobody_can_mean_is_refused(farm: Farm, client: Client) -> None:
    """With a typed error and a stable code; foreign text is shown, and moves no cursor."""
    for query, kind in {
        "nobody": NotFound,
        "10.1.1.300": InvalidAddress,
        "10.1.1": InvalidAddress,
        "": InvalidRequest,
        "a\x1b[2J": InvalidRequest,
    }.items():
        with pytest.raises(kind):
            client.why(query)
    assert client.why("de:ad:be:ef:00:01")[0].code is Reason.MAC_OF_NO_POOL
    assert client.why("2001:db8:9::1")[0].code is Reason.IPV6_OF_NO_MAC
    done = farm.run("why", "nobody", "--json")
    assert done.returncode == 4
    assert json.loads(done.stdout)["error"]["code"] == "not_found"
    assert "\x1b" not in farm.run("why", "a\x1b[2J").stderr


def test_a_name_that_looks_like_an_address_has_an_answer_of_its_own(client: Client) -> None:
    """The address is told of first, then the allocation of that name."""
    made = client.allocate("farm", "10.1.1.77")
    found = client.why("10.1.1.77")
    assert [(str(one.address), one.code) for one in found] == [
        ("10.1.1.77", Reason.FREE),
        (str(made.address), Reason.ALLOCATED),
    ]
