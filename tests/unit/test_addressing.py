"""Addresses, MACs, ranges and plans, by example."""

from ipaddress import IPv4Address, IPv4Network

import pytest
from pydantic import TypeAdapter, ValidationError

from macbind.core.address_plan import AddressPlan, check_plans
from macbind.core.address_range import AddressRange, merge, parse_address, parse_network, subtract
from macbind.core.errors import ConfigError, InvalidAddress, NotInPool
from macbind.core.mac_address import MacAddress
from macbind.core.mac_scheme import MacScheme

FARM = IPv4Network("10.0.0.0/8")


def ranges(*texts: str) -> tuple[AddressRange, ...]:
    """Ranges from their textual form."""
    return tuple(map(AddressRange.parse, texts))


def plan(
    subnet: str,
    prefix: str = "00:16:3e",
    *use: str,
    exclude: tuple[str, ...] = (),
    gateways: tuple[str, ...] = (),
) -> AddressPlan:
    """A plan from its textual parts."""
    return AddressPlan.build(
        IPv4Network(subnet),
        prefix,
        ranges=ranges(*use),
        exclude=ranges(*exclude),
        gateways=map(IPv4Address, gateways),
    )


@pytest.mark.parametrize(
    ("address", "mac"),
    [
        ("10.1.1.3", "00:16:3E:01:01:03"),
        ("10.4.0.15", "00:16:3E:04:00:0F"),
        ("10.0.0.0", "00:16:3E:00:00:00"),
        ("10.255.255.255", "00:16:3E:FF:FF:FF"),
    ],
)
def test_the_farm_s_own_pairs(address: str, mac: str) -> None:
    """The scheme of the farm: 00:16:3E and the low three bytes of the address, in both directions."""
    scheme = MacScheme.for_subnet("00:16:3e", FARM)
    assert scheme.encode(IPv4Address(address)) == MacAddress.parse(mac)
    assert scheme.decode(MacAddress.parse(mac)) == IPv4Address(address)


@pytest.mark.parametrize(
    ("prefix", "subnet", "address", "mac"),
    [
        ("52:54:00", "192.168.122.0/24", "192.168.122.9", "52:54:00:a8:7a:09"),
        ("0a:58", "0.0.0.0/0", "10.1.1.3", "0a:58:0a:01:01:03"),
        ("02:00", "172.16.0.0/12", "172.31.255.254", "02:00:ac:1f:ff:fe"),
        ("00-16-3E", "10.4.0.0/16", "10.4.0.15", "00:16:3e:04:00:0f"),
        ("00163e", "9.0.0.0/8", "9.4.0.15", "00:16:3e:04:00:0f"),
    ],
)
def test_other_prefixes(prefix: str, subnet: str, address: str, mac: str) -> None:
    """Three bytes carry the low 24 bits of an address of one /8, two bytes carry any address whole."""
    scheme = MacScheme.for_subnet(prefix, IPv4Network(subnet))
    assert str(scheme.encode(IPv4Address(address))) == mac
    assert scheme.decode(MacAddress.parse(mac)) == IPv4Address(address)


def test_the_prefix_is_written_as_in_the_configuration() -> None:
    """A scheme's text is its prefix, in lower case with colons."""
    assert MacScheme.for_subnet("00-16-3E", FARM).text == "00:16:3e"
    assert MacScheme.for_subnet("0A58", FARM).text == "0a:58"


@pytest.mark.parametrize(
    ("prefix", "subnet", "message"),
    [
        ("", "10.0.0.0/8", "not a MAC prefix"),
        ("00", "10.0.0.0/8", "not a MAC prefix"),
        ("0:16:3e", "10.0.0.0/8", "not a MAC prefix"),
        ("00:16:3e:01", "10.0.0.0/8", "not a MAC prefix"),
        ("xy:16:3e", "10.0.0.0/8", "not a MAC prefix"),
        ("01:00:5e", "10.0.0.0/8", "multicast"),
        ("03:00", "10.0.0.0/8", "multicast"),
        ("00:16", "10.0.0.0/8", "not locally administered"),
        ("00:16:3e", "10.0.0.0/7", "larger than a /8"),
        ("00:16:3e", "0.0.0.0/0", "larger than a /8"),
    ],
)
def test_unusable_prefixes_are_refused(prefix: str, subnet: str, message: str) -> None:
    """A prefix that cannot give every address of the subnet a MAC of its own is refused, with a hint."""
    with pytest.raises(InvalidAddress, match=message) as caught:
        MacScheme.for_subnet(prefix, IPv4Network(subnet))
    assert caught.value.hint


def test_a_refused_prefix_comes_with_one_that_works() -> None:
    """The hint repairs the bit that is wrong."""
    for prefix, better in (("01:00:5e", "00:00:5e"), ("00:16", "02:16")):
        with pytest.raises(InvalidAddress) as caught:
            MacScheme.for_subnet(prefix, FARM)
        assert better in caught.value.hint


def test_addresses_outside_the_scheme_have_no_mac() -> None:
    """With a three-byte prefix an address of another /8 is refused instead of aliased."""
    scheme = MacScheme.for_subnet("00:16:3e", IPv4Network("10.4.0.0/16"))
    with pytest.raises(NotInPool, match=r"00:16:3e cannot carry 11\.0\.0\.1"):
        scheme.encode(IPv4Address("11.0.0.1"))


def test_macs_outside_the_scheme_have_no_address() -> None:
    """A MAC with another prefix is refused instead of misread."""
    with pytest.raises(InvalidAddress, match="52:54:00:01:01:03 does not begin with"):
        MacScheme.for_subnet("00:16:3e", FARM).decode(MacAddress.parse("52:54:00:01:01:03"))


@pytest.mark.parametrize(
    "text",
    [
        "00:16:3e:01:01:03",
        "00:16:3E:01:01:03",
        "00-16-3E-01-01-03",
        "0:16:3e:1:1:3",
        "0-16-3e-1-1-3",
        "0016.3e01.0103",
        "0016.3E01.0103",
        "00163e010103",
        "00163E010103",
        "  00:16:3e:01:01:03\n",
    ],
)
def test_every_common_spelling_of_a_mac_is_read(text: str) -> None:
    """Administrators paste MACs from switches, hypervisors and Windows; all spellings mean the same."""
    mac = MacAddress.parse(text)
    assert mac == MacAddress(0x00163E010103)
    assert str(mac) == "00:16:3e:01:01:03"
    assert bytes(mac) == bytes.fromhex("00163e010103")
    assert MacAddress.from_bytes(bytes(mac)) == mac


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        "00:16:3e:01:01",
        "00:16:3e:01:01:03:04",
        "00:16:3e:01:01:0g",
        "00:16:3e:01:01:003",
        "00:16-3e:01-01:03",
        "00:16:3e:01:01:",
        ":16:3e:01:01:03",
        "0016.3e01",
        "016.3e01.0103",
        "00163e01010",
        "00163e0101033",
        "00 16 3e 01 01 03",
        "0x163e010103",
        "\u0660\u0660:16:3e:01:01:03",
        "10.1.1.3",
    ],
)
def test_what_is_not_a_mac_is_refused(text: str) -> None:
    """Anything else is refused, showing the text and how to write a MAC."""
    with pytest.raises(InvalidAddress, match="is not a MAC address") as caught:
        MacAddress.parse(text)
    assert repr(text) in caught.value.message
    assert "00:16:3e:01:01:03" in caught.value.hint


@pytest.mark.parametrize("raw", [b"", b"\0" * 5, b"\0" * 7, b"\0" * 16])
def test_a_mac_has_six_bytes(raw: bytes) -> None:
    """Bytes of any other length are refused."""
    with pytest.raises(InvalidAddress, match=f"not {len(raw)}"):
        MacAddress.from_bytes(raw)


@pytest.mark.parametrize("value", [-1, 1 << 48])
def test_a_mac_has_48_bits(value: int) -> None:
    """Numbers that do not fit are refused."""
    with pytest.raises(InvalidAddress, match="48-bit"):
        MacAddress(value)


def test_macs_are_ordered_as_numbers() -> None:
    """MACs sort by their 48-bit value, first byte first, and not by any single byte."""
    low, high = MacAddress.parse("02:01:00:00:00:ff"), MacAddress.parse("02:05:00:00:00:00")
    assert low < high
    assert high >= low
    assert sorted([high, low]) == [low, high]
    assert len({low, MacAddress(low.value), high}) == 2


@pytest.mark.parametrize(
    ("text", "unicast"),
    [
        ("00:16:3e:01:01:03", True),
        ("02:00:00:00:00:00", True),
        ("01:00:5e:00:00:01", False),
        ("ff:ff:ff:ff:ff:ff", False),
        ("00:00:00:00:00:00", False),
    ],
)
def test_group_addresses_belong_to_no_card(text: str, unicast: bool) -> None:
    """Multicast, broadcast and zero are no network card's address."""
    assert MacAddress.parse(text).is_unicast is unicast


def test_a_mac_stands_in_api_models() -> None:
    """pydantic reads every spelling and writes the usual one; the OpenAPI document shows an example."""
    adapter = TypeAdapter(MacAddress)
    mac = adapter.validate_python("00-16-3E-01-01-03")
    assert mac == MacAddress(0x00163E010103)
    assert adapter.validate_python(mac) is mac
    assert adapter.dump_json(mac) == b'"00:16:3e:01:01:03"'
    assert adapter.json_schema()["format"] == "mac"
    with pytest.raises((ValidationError, InvalidAddress)):
        adapter.validate_python("nonsense")


@pytest.mark.parametrize("text", ["10.1.1.3", " 10.1.1.3\n"])
def test_addresses_are_read(text: str) -> None:
    """A dotted quad is an address; white space around it does not matter."""
    assert parse_address(text) == IPv4Address("10.1.1.3")


@pytest.mark.parametrize(
    "text", ["", "10.1.1", "10.1.1.256", "10.01.1.3", "10.1.1.3/8", "::1", "gw.example", "1e1"]
)
def test_what_is_not_an_address_is_refused(text: str) -> None:
    """Names, networks, IPv6 and misspelt quads are refused, never resolved or guessed."""
    with pytest.raises(InvalidAddress, match="is not an IPv4 address") as caught:
        parse_address(text)
    assert repr(text) in caught.value.message


def test_networks_are_read() -> None:
    """A network is an address and a prefix length."""
    assert parse_network(" 10.1.0.0/16 ") == IPv4Network("10.1.0.0/16")


@pytest.mark.parametrize("text", ["", "10.1.0.0/33", "10.1/16", "net", "10.1.0.0/-1", "::/0"])
def test_what_is_not_a_network_is_refused(text: str) -> None:
    """Anything else is refused with an example."""
    with pytest.raises(InvalidAddress, match="is not an IPv4 network") as caught:
        parse_network(text)
    assert "10.1.0.0/16" in caught.value.hint


def test_host_bits_are_refused_with_the_network_meant() -> None:
    """An address within a network is not the network; the hint names it."""
    with pytest.raises(InvalidAddress) as caught:
        parse_network("10.1.1.3/16")
    assert caught.value.hint == "Did you mean 10.1.0.0/16?"


@pytest.mark.parametrize(
    ("text", "lo", "hi"),
    [
        ("10.1.1.1-10.1.1.9", "10.1.1.1", "10.1.1.9"),
        (" 10.1.1.1 - 10.1.1.9 ", "10.1.1.1", "10.1.1.9"),
        ("10.1.1.0/24", "10.1.1.0", "10.1.1.255"),
        ("10.1.1.1", "10.1.1.1", "10.1.1.1"),
        ("128.0.0.0/1", "128.0.0.0", "255.255.255.255"),
    ],
)
def test_ranges_are_read(text: str, lo: str, hi: str) -> None:
    """A range is two addresses, a network, or one address."""
    assert AddressRange.parse(text) == AddressRange(IPv4Address(lo), IPv4Address(hi))


@pytest.mark.parametrize(
    "text", ["", "-", "10.1.1.1-", "-10.1.1.1", "10.1.1.1-9", "10.1.1.1-10.1.1.9-10.1.1.10", "a-b"]
)
def test_what_is_not_a_range_is_refused(text: str) -> None:
    """Half ranges, abbreviations and words are refused."""
    with pytest.raises(InvalidAddress):
        AddressRange.parse(text)


def test_a_range_does_not_run_backwards() -> None:
    """The bounds the wrong way round are refused; the hint turns them."""
    with pytest.raises(InvalidAddress, match="backwards") as caught:
        AddressRange.parse("10.1.1.9-10.1.1.1")
    assert "10.1.1.1-10.1.1.9" in caught.value.hint


def test_a_range_is_a_container_of_addresses() -> None:
    """Length, membership, iteration and text of a range include both ends."""
    (small, single) = ranges("10.1.1.254-10.1.2.1", "10.1.1.1")
    assert len(small) == 4
    assert [str(one) for one in small] == ["10.1.1.254", "10.1.1.255", "10.1.2.0", "10.1.2.1"]
    assert IPv4Address("10.1.2.1") in small
    assert IPv4Address("10.1.2.2") not in small
    assert str(small) == "10.1.1.254-10.1.2.1"
    assert str(single) == "10.1.1.1"
    assert len(AddressRange.of(FARM)) == 2**24


def test_ranges_that_share_an_address_overlap() -> None:
    """One common address is an overlap, touching is not."""
    left, touching, sharing = ranges("10.1.1.1-10.1.1.5", "10.1.1.6-10.1.1.9", "10.1.1.5-10.1.1.9")
    assert not left.overlaps(touching)
    assert left.overlaps(sharing)
    assert sharing.overlaps(left)


def test_merge_joins_what_overlaps_or_touches() -> None:
    """Ranges become sorted, disjoint and as few as possible."""
    assert merge(ranges("10.1.1.9", "10.1.1.1-10.1.1.3", "10.1.1.2-10.1.1.5", "10.1.1.6-10.1.1.7")) == ranges(
        "10.1.1.1-10.1.1.7", "10.1.1.9"
    )
    assert merge([]) == ()


def test_subtract_cuts_holes() -> None:
    """Holes in the middle, over an edge and all over are cut out; the ends of the address space hold."""
    assert subtract(
        ranges("10.1.1.1-10.1.1.9"), ranges("10.1.1.3", "10.1.1.5-10.1.1.6", "10.1.1.9-10.1.1.20")
    ) == (ranges("10.1.1.1-10.1.1.2", "10.1.1.4", "10.1.1.7-10.1.1.8"))
    assert subtract(ranges("10.1.1.1-10.1.1.9"), ranges("10.1.0.0/16")) == ()
    assert subtract(ranges("0.0.0.0/0"), ranges("0.0.0.0/32", "255.255.255.255")) == ranges(
        "0.0.0.1-255.255.255.254"
    )


def test_a_plan_of_a_whole_subnet_leaves_out_what_no_machine_may_have() -> None:
    """Network address, broadcast address and gateways are never handed out."""
    farm = plan("10.0.0.0/8", gateways=("10.0.0.1",))
    assert farm.assignable == ranges("10.0.0.2-10.255.255.254")
    assert farm.size == 2**24 - 3
    assert farm.forbidden == {IPv4Address("10.0.0.0"), IPv4Address("10.0.0.1"), IPv4Address("10.255.255.255")}
    assert IPv4Address("10.0.0.1") not in farm
    assert IPv4Address("10.0.0.2") in farm


def test_a_plan_combines_ranges_and_exclusions() -> None:
    """Only the named ranges are handed out, without the exclusions and the gateway."""
    made = plan(
        "10.1.0.0/16", "52:54:00", "10.1.1.0/29", "10.1.2.9", exclude=("10.1.1.3",), gateways=("10.1.1.5",)
    )
    assert made.assignable == ranges("10.1.1.0-10.1.1.2", "10.1.1.4", "10.1.1.6-10.1.1.7", "10.1.2.9")
    assert made.size == 7
    assert IPv4Address("10.1.1.3") not in made


@pytest.mark.parametrize(
    ("subnet", "use", "exclude", "message"),
    [
        ("10.1.1.0/31", (), (), "no room"),
        ("10.1.1.1/32", (), (), "no room"),
        ("10.1.1.0/24", ("10.1.2.1-10.1.2.9",), (), "not inside the subnet"),
        ("10.1.1.0/24", ("10.1.1.250-10.1.2.9",), (), "not inside the subnet"),
        ("10.1.1.0/24", (), ("10.1.0.255",), "not inside the subnet"),
        ("10.1.1.0/24", ("10.1.1.1-10.1.1.9", "10.1.1.9"), (), "overlap"),
        ("10.1.1.0/24", ("10.1.1.1-10.1.1.9",), ("10.1.1.0/28",), "left to hand out"),
        ("10.1.1.0/24", ("10.1.1.0", "10.1.1.255"), (), "left to hand out"),
    ],
)
def test_unusable_plans_are_refused(
    subnet: str, use: tuple[str, ...], exclude: tuple[str, ...], message: str
) -> None:
    """A plan that hands out nothing, foreign addresses or an address twice is refused, with a hint."""
    with pytest.raises(InvalidAddress, match=message) as caught:
        plan(subnet, "00:16:3e", *use, exclude=exclude)
    assert caught.value.hint


def test_plans_that_share_nothing_are_accepted() -> None:
    """Pools side by side in one subnet, and pools of different schemes, may live together."""
    check_plans(
        [
            ("low", plan("10.0.0.0/8", "00:16:3e", "10.1.0.0/16")),
            ("high", plan("10.0.0.0/8", "00:16:3e", "10.2.0.0/16")),
            ("qemu", plan("192.168.0.0/16", "52:54:00")),
            ("wide", plan("172.16.0.0/12", "0a:58")),
        ]
    )
    check_plans([])


def test_pools_that_share_an_address_are_refused() -> None:
    """Both pools and the shared range are named."""
    with pytest.raises(
        ConfigError, match=r"'a' and 'b' overlap: both hand out 10\.1\.0\.128-10\.1\.0\.255"
    ) as caught:
        check_plans(
            [
                ("a", plan("10.0.0.0/8", "00:16:3e", "10.1.0.0/24")),
                ("b", plan("10.0.0.0/8", "00:16:3e", "10.1.0.128-10.1.1.9")),
            ]
        )
    assert caught.value.details == {"pool": "b", "key": "ranges"}


def test_subnets_that_overlap_without_being_the_same_are_refused() -> None:
    """dhcpd serves an address from one subnet, so a subnet within another is refused, both named."""
    with pytest.raises(ConfigError, match="without being the same") as caught:
        check_plans(
            [
                ("a", plan("10.0.0.0/8", "00:16:3e", "10.1.0.0/24")),
                ("b", plan("10.2.0.0/16", "00:16:3e", "10.2.0.0/24")),
            ]
        )
    assert caught.value.details == {"pool": "b", "key": "subnet"}
    assert "10.2.0.0/16" in caught.value.message


@pytest.mark.parametrize(
    ("one", "other", "met"),
    [
        (
            ("10.0.0.0/8", "00:16:3e"),
            ("11.4.0.0/16", "00:16:3e"),
            ("10.4.0.0", "11.4.0.0", "00:16:3e:04:00:00"),
        ),
        (("11.1.1.0/24", "0a:58:0a"), ("10.0.0.0/8", "0a:58"), ("11.1.1.0", "10.1.1.0", "0a:58:0a:01:01:00")),
    ],
)
def test_pools_that_could_meet_in_one_mac_are_refused(
    one: tuple[str, str], other: tuple[str, str], met: tuple[str, str, str]
) -> None:
    """Two addresses with one MAC are refused; pools, addresses and MAC are named."""
    with pytest.raises(ConfigError, match="'a' and 'b' could meet in one MAC") as caught:
        check_plans([("a", plan(*one)), ("b", plan(*other))])
    assert all(text in caught.value.message for text in met)
    assert caught.value.details == {"pool": "b", "key": "mac_prefix"}


def test_equal_schemes_in_disguise_do_not_collide() -> None:
    """0a:58 and 0a:58:0a give the addresses of 10/8 the same MACs, so pools of both may share the subnet."""
    check_plans(
        [
            ("a", plan("10.0.0.0/8", "0a:58", "10.1.0.0/16")),
            ("b", plan("10.0.0.0/8", "0a:58:0a", "10.2.0.0/16")),
        ]
    )
