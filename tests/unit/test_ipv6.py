"""IPv6 addresses made from a MAC; the kernel's own are compared in the lab."""

from __future__ import annotations

from ipaddress import IPv6Address, IPv6Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from macbind.core.errors import InvalidAddress
from macbind.core.ipv6 import interface_id, link_local, mac_of, parse_prefix, slaac
from macbind.core.mac_address import MacAddress

PREFIX = IPv6Network("2001:db8:1::/64")
macs = st.integers(0, (1 << 48) - 1).map(MacAddress)


@pytest.mark.parametrize(
    ("mac", "told"),
    [
        ("34:56:78:9a:bc:de", "3656:78ff:fe9a:bcde"),  # the example of RFC 2464 section 4
        ("00:16:3e:01:01:03", "216:3eff:fe01:103"),
        ("52:54:00:ab:cd:ef", "5054:ff:feab:cdef"),
        ("0a:58:0a:01:01:03", "858:aff:fe01:103"),
    ],
)
def test_mac_is_stretched_to_64_bits(mac: str, told: str) -> None:
    """ff:fe in the middle, and the second bit of the first byte turned around, behind either prefix."""
    assert link_local(MacAddress.parse(mac)) == IPv6Address(f"fe80::{told}")
    assert slaac(PREFIX, MacAddress.parse(mac)) == IPv6Address(f"2001:db8:1:0:{told}")


@given(macs)
def test_the_mac_comes_back(mac: MacAddress) -> None:
    """Two MACs never make one address; every address made of a MAC tells it."""
    assert mac_of(link_local(mac)) == mac_of(slaac(PREFIX, mac)) == mac
    assert slaac(PREFIX, mac) in PREFIX
    assert link_local(mac).is_link_local
    assert interface_id(mac) < 1 << 64


@given(st.integers(0, (1 << 128) - 1).map(IPv6Address))
def test_addresses_of_no_mac_are_known(address: IPv6Address) -> None:
    """Only an address with ff:fe at its place was made from a MAC, and then from exactly that one."""
    mac = mac_of(address)
    assert (mac is None) == (address.packed[11:13] != b"\xff\xfe")
    assert mac is None or interface_id(mac) == int(address) & ((1 << 64) - 1)


@pytest.mark.parametrize("text", ["2001:db8:1::/64", " 2001:DB8:1:0::/64 ", "fd00:1::/64"])
def test_prefix_is_read(text: str) -> None:
    """Global and unique local prefixes are prefixes, however they are spelled."""
    assert parse_prefix(text) == IPv6Network(text.strip())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is not an IPv6 prefix"),
        ("10.1.0.0/16", "is not an IPv6 prefix"),
        ("2001:db8::%eth0/64", "is an address, not a prefix"),
        ("2001:db8:1::", "is not a /64"),
        ("2001:db8::/48", "is not a /64"),
        ("2001:db8:1::/65", "is not a /64"),
        ("2001:db8:1::1/64", "is an address, not a prefix"),
        ("fe80::/64", "is link-local"),
        ("fe80::/10", "is link-local"),
        ("::1/64", "is reserved"),
        ("ff02::/64", "is multicast"),
        ("::/64", "is reserved"),
    ],
)
def test_what_no_router_advertises_is_refused(text: str, words: str) -> None:
    """One sentence says what is wrong with the prefix."""
    with pytest.raises(InvalidAddress, match=words):
        parse_prefix(text)
