"""Host names as the fence between generations; reservations a pool makes; names people may give."""

from ipaddress import IPv4Address, IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from macbind.core.address_plan import AddressPlan
from macbind.core.address_range import AddressRange
from macbind.core.allocation import MAX_NAME, check_name
from macbind.core.binding import Binding, binding_name
from macbind.core.dhcp_options import DhcpOptions
from macbind.core.errors import InvalidRequest
from macbind.core.mac_address import MacAddress
from macbind.core.pool import Pool, PoolMode, Subnet

MAC = MacAddress.parse("00:16:3e:01:01:03")
ADDRESS = IPv4Address("10.1.1.3")


def host(name: str) -> Binding:
    """A reservation of this name."""
    return Binding(name, MAC, ADDRESS)


def pool(mode: PoolMode = PoolMode.LIVE) -> Pool:
    """A pool of a few addresses whose subnet and pool set some options."""
    network = IPv4Network("10.1.0.0/16")
    return Pool(
        "farm",
        AddressPlan.build(network, "00:16:3e", ranges=[AddressRange.parse("10.1.1.0/29")]),
        Subnet(network, DhcpOptions.parse({"routers": "10.1.0.1", "domain_name": "farm.example"})),
        ("main",),
        mode=mode,
        options=DhcpOptions.parse({"domain_name": "pool.example", "filename": "pxe.0"}),
    )


def test_a_host_name_carries_address_and_generation() -> None:
    """The name is readable and ours by its prefix."""
    assert binding_name(ADDRESS, 7) == "macbind-10.1.1.3-g7"


@given(st.ip_addresses(v=4), st.integers(1, 2**63))
def test_the_owner_inverts_the_host_name(address: IPv4Address, generation: int) -> None:
    """Address and generation come back from every name we make, which dhcpd can read back as well."""
    name = binding_name(address, generation)
    assert host(name).owner == (address, generation)
    assert len(name) <= 255
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789.-")


@pytest.mark.parametrize(
    "name",
    [
        "",
        "web1",
        "macbind-",
        "macbind-10.1.1.3",
        "macbind-10.1.1.3-g",
        "macbind-10.1.1.3-g0",
        "macbind-10.1.1.3-g07",
        "macbind-10.1.1.3-g-1",
        "macbind-10.1.1.3-g7 ",
        "macbind-10.1.1.3-g7\n",
        " macbind-10.1.1.3-g7",
        "Macbind-10.1.1.3-g7",
        "macbind-10.1.1-g7",
        "macbind-10.1.1.3.4-g7",
        "macbind-10.01.1.3-g7",
        "macbind-999.1.1.3-g7",
        "macbind-.......-g7",
        "macbind-10.1.1.3-g1\u0663",
        "macbind-\u0661\u0660.1.1.3-g7",
        "macbind-10.1.1.3-g" + "9" * 5000,
    ],
)
def test_foreign_names_have_no_owner(name: str) -> None:
    """A name we would not have made belongs to somebody else, however near it comes, and is no error."""
    assert host(name).owner is None


@given(st.text(max_size=30).map("macbind-".__add__) | st.text(max_size=40))
def test_only_our_own_names_have_an_owner(name: str) -> None:
    """Whatever has an owner is exactly the name we make for that owner."""
    owner = host(name).owner
    assert owner is None or binding_name(*owner) == name


def test_reservations_are_compared_by_what_dhcpd_does_with_them() -> None:
    """Options cannot be read back from dhcpd, so name, MAC and address decide."""
    made = Binding("macbind-10.1.1.3-g7", MAC, ADDRESS, DhcpOptions(filename="x"))
    assert made.serves_as(host("macbind-10.1.1.3-g7"))
    assert not made.serves_as(host("macbind-10.1.1.3-g8"))
    assert not made.serves_as(Binding(made.name, MAC, IPv4Address("10.1.1.4")))
    assert not made.serves_as(Binding(made.name, MacAddress(1), ADDRESS))
    assert not made.serves_as(Binding(made.name, MAC, None))


def test_a_pool_makes_the_reservation_of_an_allocation() -> None:
    """It carries the options the subnet does not send by itself: the machine's first, then the pool's."""
    options = DhcpOptions.parse({"hostname": "web", "domain_name": "farm.example"})
    made = pool().binding(ADDRESS, MAC, 7, options)
    told = DhcpOptions(hostname="web", filename="pxe.0")
    assert made == Binding("macbind-10.1.1.3-g7", MAC, ADDRESS, told)
    assert made.owner == (ADDRESS, 7)


def test_static_pools_need_hosts_only_outside_their_ranges() -> None:
    """What the configuration file reserves already is not reserved again over OMAPI."""
    outside = IPv4Address("10.1.9.9")
    assert pool().needs_binding(ADDRESS)
    assert pool().needs_binding(outside)
    assert not pool(PoolMode.STATIC).needs_binding(ADDRESS)
    assert pool(PoolMode.STATIC).needs_binding(outside)


@pytest.mark.parametrize(
    "name", ["a", "7", "web1", "ci/job-17", "user@host", "a.b:c+d_e", "Z" * MAX_NAME, "6ba7b810-9dad-11d1"]
)
def test_names_are_accepted(name: str) -> None:
    """Job numbers, host names, UUIDs and mail addresses can name an allocation."""
    assert check_name(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        " ",
        "-a",
        ".a",
        "/etc",
        "a b",
        "a\n",
        "\n",
        'a"',
        "a\\",
        "a;b",
        "a{",
        "a#b",
        "caf\u00e9",
        "a\0",
        "Z" * (MAX_NAME + 1),
    ],
)
def test_unusable_names_are_refused(name: str) -> None:
    """Anything that needs quoting somewhere is refused, and the message says what the name was for."""
    with pytest.raises(InvalidRequest, match="cannot be a group") as caught:
        check_name(name, "group")
    assert repr(name) in caught.value.message
    assert caught.value.hint
