"""The frames of a DHCP probe, read and made by scapy as the independent peer."""

from ipaddress import IPv4Address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.dhcp import BOOTP, DHCP
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import ARP, Ether

from macbind.addressing import MacAddress
from macbind.dhcpd.probe import discover, is_offer
from macbind.model import probe_mac

MAC = MacAddress.parse("02:6d:62:01:02:03")
XID = 0xDEADBEEF


def offer(kind: str = "offer", mac: MacAddress = MAC, xid: int = XID, op: int = 2, port: int = 68) -> bytes:
    """A server's answer."""
    bootp = BOOTP(op=op, htype=1, hlen=6, xid=xid, chaddr=bytes(mac), yiaddr="10.0.0.0")
    frame: Any = Ether(src="02:00:00:00:00:01", dst="ff:ff:ff:ff:ff:ff") / IP(
        src="10.0.0.1", dst="255.255.255.255"
    )
    frame = frame / UDP(sport=67, dport=port) / bootp
    return bytes(frame / DHCP(options=[("message-type", kind), ("server_id", "10.0.0.1"), "end"]))


def test_discover_is_what_a_machine_sends() -> None:
    """scapy reads a broadcast DISCOVER with our MAC and a right IP checksum."""
    packet = Ether(discover(MAC, XID))
    checksum = packet[IP].chksum
    del packet[IP].chksum
    assert Ether(bytes(packet))[IP].chksum == checksum
    assert (packet.src, packet.dst) == (str(MAC), "ff:ff:ff:ff:ff:ff")
    assert (packet[IP].src, packet[IP].dst) == (str(IPv4Address(0)), "255.255.255.255")
    assert (packet[UDP].sport, packet[UDP].dport) == (68, 67)
    assert (packet[BOOTP].op, packet[BOOTP].xid, packet[BOOTP].flags.value) == (1, XID, 0x8000)
    assert packet[BOOTP].chaddr[:6] == bytes(MAC)
    assert packet[DHCP].options[:2] == [("message-type", 1), "end"]
    assert len(bytes(packet[BOOTP])) == 300


def test_offer_that_answers_is_recognised() -> None:
    """The offer for our MAC and transaction counts."""
    assert is_offer(offer(), MAC, XID)


@pytest.mark.parametrize(
    "frame",
    [
        offer("ack"),
        offer("nak"),
        offer(mac=MacAddress(0x026D62000000)),
        offer(xid=XID + 1),
        offer(op=1),
        offer(port=67),
        offer()[:200],
        discover(MAC, XID),
        bytes(Ether() / ARP(op=2, psrc="10.0.0.1")),
        b"",
    ],
    ids=[
        "ack",
        "nak",
        "other mac",
        "other xid",
        "request",
        "other port",
        "cut off",
        "our own",
        "arp",
        "nothing",
    ],
)
def test_nothing_else_is_taken_for_an_offer(frame: bytes) -> None:
    """Other messages, other machines' offers, and what we sent ourselves do not count."""
    assert not is_offer(frame, MAC, XID)


@given(st.binary(max_size=400), st.integers(0, 340), st.binary(max_size=8))
def test_no_frame_breaks_the_reading(noise: bytes, at: int, splice: bytes) -> None:
    """Whatever is on the network, and whatever has become of an offer, is an offer or not."""
    assert not is_offer(noise, MAC, XID)
    damaged = offer()[:at] + splice + offer()[at + len(splice) :]
    assert is_offer(damaged, MAC, XID) in (True, False)


def test_each_dhcpd_is_asked_with_a_mac_of_its_own() -> None:
    """The MAC is locally administered, no multicast, and another one for another name."""
    assert probe_mac("main") == probe_mac("main")
    assert probe_mac("main") != probe_mac("backup")
    assert bytes(probe_mac("main"))[0] & 3 == 2
