"""The frames of a DHCP probe, read and made by scapy as the independent peer."""

from dataclasses import replace
from ipaddress import IPv4Address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.dhcp import BOOTP, DHCP
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import ARP, Ether

from macbind.core.binding import probe_mac
from macbind.core.mac_address import MacAddress
from macbind.probes.dhcp import ACK, OFFER, Answer, discover, read_answer

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


def test_answer_of_a_server_is_read() -> None:
    """Who it is for, what it offers, and who sent it, by his own words and by the frame."""
    ours = Answer(
        OFFER,
        MAC,
        XID,
        IPv4Address("10.0.0.0"),
        IPv4Address("10.0.0.1"),
        IPv4Address("10.0.0.1"),
        MacAddress.parse("02:00:00:00:00:01"),
        is_ours=True,
    )
    assert read_answer(offer(), is_ours=True) == ours
    assert read_answer(offer("ack")) == replace(ours, kind=ACK, is_ours=False)
    assert read_answer(offer(xid=XID + 1)) == replace(ours, xid=XID + 1, is_ours=False)


def test_type_and_server_are_found_behind_other_options() -> None:
    """In any order, with padding between; a server need not say its identifier."""
    frame = offer()
    options = frame.index(b"\x63\x82\x53\x63") + 4
    moved = frame[:options] + b"\0\x33\x04\0\0\0\x3c\0\x35\x01\x02\xff"
    read = read_answer(moved)
    assert read is not None
    assert (read.kind, read.server) == (OFFER, None)


@pytest.mark.parametrize(
    "frame",
    [
        offer(op=1),
        offer(port=67),
        offer()[:200],
        discover(MAC, XID),
        bytes(Ether() / ARP(op=2, psrc="10.0.0.1")),
        b"",
    ],
    ids=[
        "request",
        "other port",
        "cut off",
        "our own",
        "arp",
        "nothing",
    ],
)
def test_nothing_else_is_taken_for_an_answer(frame: bytes) -> None:
    """Questions, other ports, and what is cut off are no answers."""
    assert read_answer(frame) is None


@given(st.binary(max_size=400), st.integers(0, 340), st.binary(max_size=8))
def test_no_frame_breaks_the_reading(noise: bytes, at: int, splice: bytes) -> None:
    """Whatever is on the network, and whatever has become of an offer, is an answer or not."""
    assert read_answer(noise) is None
    damaged = offer()[:at] + splice + offer()[at + len(splice) :]
    assert read_answer(damaged) is None or isinstance(read_answer(damaged), Answer)


def test_each_dhcpd_is_asked_with_a_mac_of_its_own() -> None:
    """The MAC is locally administered, no multicast, and another one for another name."""
    assert probe_mac("main") == probe_mac("main")
    assert probe_mac("main") != probe_mac("backup")
    assert bytes(probe_mac("main"))[0] & 3 == 2
