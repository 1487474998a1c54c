"""The IPv6 addresses macbind tells are those that the kernel makes, alone and from a router's advertisement."""

from __future__ import annotations

import json
from ipaddress import IPv6Address, IPv6Network
from typing import Any

from scapy.layers.inet6 import ICMPv6ND_RA, ICMPv6NDOptPrefixInfo, IPv6
from scapy.layers.l2 import Ether

from labkit.net import Lab, Port
from labkit.wait import until
from macbind.core.ipv6 import link_local, slaac
from macbind.core.mac_address import MacAddress

PREFIX = IPv6Network("2001:db8:1::/64")
MACS = ["00:16:3e:01:01:03", "52:54:00:ff:ff:ff", "0a:58:0a:01:01:03", "b8:27:eb:00:00:01"]
EUI64, RANDOM = 0, 3
"""Values of addr_gen_mode in the kernel's ip-sysctl documentation."""


def machine(lab: Lab, name: str, mac: str, mode: int) -> Port:
    """A machine that makes its addresses in this mode, at once and without asking whether they are free."""
    port = lab.port(name, mac)
    settings = {"addr_gen_mode": mode, "accept_dad": 0, "accept_ra": 1, "use_tempaddr": 0, "disable_ipv6": 0}
    words = [f"net.ipv6.conf.eth0.{key}={value}" for key, value in settings.items()]
    lab.run(["sysctl", "-q", "-w", *words], port)
    return port


def addresses(lab: Lab, port: Port) -> set[IPv6Address]:
    """The IPv6 addresses of a machine."""
    shown: list[dict[str, Any]] = json.loads(
        lab.run(["ip", "-json", "-6", "addr", "show", "dev", "eth0"], port).stdout
    )
    return {IPv6Address(one["local"]) for entry in shown for one in entry.get("addr_info", ())}


def test_the_kernel_makes_the_addresses_we_tell(lab: Lab) -> None:
    """For universal and local MACs: the link-local address, and after an advertisement the one of the prefix."""
    machines = [machine(lab, f"m{number}", mac, EUI64) for number, mac in enumerate(MACS)]
    private = machine(lab, "private", "00:16:3e:01:01:04", RANDOM)
    macs = [MacAddress.parse(mac) for mac in MACS]
    for port, mac in zip(machines, macs, strict=True):
        until(lambda port=port: addresses(lab, port), 60, "a link-local address")  # type: ignore[misc]
        assert addresses(lab, port) == {link_local(mac)}
    until(lambda: addresses(lab, private), 60, "a link-local address")
    advertisement = (
        Ether(src="02:00:00:00:00:99", dst="33:33:00:00:00:01")
        / IPv6(src="fe80::99", dst="ff02::1", hlim=255)
        / ICMPv6ND_RA(routerlifetime=1800)
        / ICMPv6NDOptPrefixInfo(prefix=str(PREFIX[0]), prefixlen=64, L=1, A=1)
    )
    with lab.port("router").packet_socket() as router:
        router.send(bytes(advertisement))
    for port, mac in zip(machines, macs, strict=True):
        until(lambda port=port: len(addresses(lab, port)) > 1, 60, "an address of the prefix")  # type: ignore[misc]
        assert addresses(lab, port) == {link_local(mac), slaac(PREFIX, mac)}
    until(lambda: len(addresses(lab, private)) > 1, 60, "an address of the prefix")
    others = {link_local(MacAddress.parse(private.mac)), slaac(PREFIX, MacAddress.parse(private.mac))}
    assert not addresses(lab, private) & others, "a machine that does not use its MAC has other addresses"
