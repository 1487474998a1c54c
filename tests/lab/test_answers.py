"""Waiting until a machine answers at its address: over the API, and on the command line."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import count

import pytest

from labkit.farm import Farm
from labkit.net import Lab, Port
from labkit.wait import until
from macbind.core.allocation import Allocation
from macbind.core.errors import NetworkUnavailable, NotFound, NotYet

LONG_S = 60.0
POOLS = """
[subnet."10.0.0.0/8"]
routers = ["10.0.0.1"]

[subnet."172.16.0.0/16"]
routers = ["172.16.0.1"]
relayed = true

[pool.farm]
subnet = "10.0.0.0/8"
ranges = ["10.1.1.3-10.1.1.250"]

[pool.asked]
subnet = "10.0.0.0/8"
ranges = ["10.1.2.3-10.1.2.250"]
arp_probe = "br0"

[pool.far]
subnet = "172.16.0.0/16"
ranges = ["172.16.1.1-172.16.1.9"]
mac_prefix = "52:54:00"
"""


@pytest.fixture
def farm(make_farm: Callable[..., Farm]) -> Farm:
    """A farm with pools on this network, and one behind a relay."""
    return make_farm(pools=POOLS)


def boot(lab: Lab, one: Allocation, mac: str | None = None) -> Port:
    """A machine with the address of an allocation; with its MAC, too, unless another is given."""
    port = lab.port(one.name, mac or str(one.mac))
    port.add_address(f"{one.address}/8")
    return port


def test_a_machine_that_boots_meanwhile_answers(lab: Lab, farm: Farm) -> None:
    """Who asked before is told when it is up; who asks then is told at once; all or any of several."""
    with farm.client() as client, ThreadPoolExecutor() as pool:
        one, two = client.allocate("farm", "one"), client.allocate("asked", "two")
        with pytest.raises(NotYet, match="one is not answering yet"):
            client.wait_answers("one", timeout_s=0.5)
        with farm.client() as other:
            waiting = pool.submit(other.wait_answers, "one", generation=one.generation, timeout_s=LONG_S)
            boot(lab, one)
            assert list(waiting.result(LONG_S)) == ["one"]
        assert list(client.wait_answers("one", "two", any_of=True, timeout_s=LONG_S)) == ["one"]
        patience = (2.0**step for step in count(-1))

        def lacks_only_two() -> bool:
            """A busy machine may hear nobody for a while, so the patience grows."""
            with pytest.raises(NotYet) as caught:
                client.wait_answers("one", "two", timeout_s=next(patience))
            return (caught.value.details["names"], caught.value.message) == (
                ["two"],
                "two is not answering yet.",
            )

        until(lacks_only_two, LONG_S, "only the second to be missing")
        boot(lab, two)
        assert farm.macbind("wait", "one", "two", "--for", "answers", "--timeout", "1m").splitlines() == [
            "one: answers",
            "two: answers",
        ]


def test_another_machine_with_the_address_is_no_answer(lab: Lab, farm: Farm) -> None:
    """Its MAC is not that of the allocation."""
    with farm.client() as client:
        boot(lab, client.allocate("farm", "vm"), "02:00:00:00:00:99")
        with pytest.raises(NotYet):
            client.wait_answers("vm", timeout_s=1)
    refused = farm.run("wait", "vm", "--for", "answers", "--timeout", "0.5")
    assert refused.returncode == 5
    assert "vm is not answering yet." in refused.stderr


def test_what_can_never_be_heard_is_told_at_once(farm: Farm) -> None:
    """An allocation that is gone, and a network that this host is not on."""
    with farm.client() as client:
        gone = client.allocate("farm", "vm")
        client.release("vm")
        with pytest.raises(NotFound, match="is not allocated any more"):
            client.wait_answers("vm", generation=gone.generation, timeout_s=LONG_S)
        client.allocate("far", "away")
        with pytest.raises(NetworkUnavailable, match=r"'away' at .* cannot be asked") as caught:
            client.wait_answers("away", timeout_s=LONG_S)
        assert "arp_probe" in caught.value.hint
        with pytest.raises(NotYet):
            client.wait_answers("nobody", timeout_s=0.5)
