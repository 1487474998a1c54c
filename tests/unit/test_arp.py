"""What is heard of an ARP probe, whenever this process gets around to it."""

import socket
import time
from ipaddress import IPv4Address

from macbind.core.mac_address import MacAddress
from macbind.probes.arp import _listen

ADDRESS, MAC = IPv4Address("10.1.1.3"), MacAddress.parse("02:00:00:00:00:07")
REQUEST, REPLY = 1, 2


def frame(operation: int) -> bytes:
    """An ARP frame from the machine that has the address."""
    ethernet = b"\xff" * 6 + bytes(MAC) + bytes.fromhex("0806")
    arp = bytes.fromhex("000108000604") + operation.to_bytes(2)
    return ethernet + arp + bytes(MAC) + ADDRESS.packed + bytes(6) + bytes(4)


def test_an_answer_that_came_while_the_process_slept_counts() -> None:
    """It is read although the time is over, behind other frames; nobody waits for more."""
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with near, far:
        for one in (frame(REQUEST), frame(REPLY)):
            far.send(one)
        found: dict[IPv4Address, MacAddress] = {}
        _listen(near, {ADDRESS.packed: ADDRESS}, found, time.monotonic() - 1.0)
        assert found == {ADDRESS: MAC}
        began = time.monotonic()
        _listen(near, {ADDRESS.packed: ADDRESS}, {}, began - 60.0)
        assert time.monotonic() - began < 30.0
