"""The map of a pool on the command line, over the real service."""

from __future__ import annotations

import os
import pty
import subprocess
from ipaddress import IPv4Address

import pytest

from labkit.farm import Farm
from macbind.core.address_map import MapState, total
from macbind.core.errors import InvalidRequest, NotFound

POOLS = """
[subnet."10.0.0.0/8"]
routers = ["10.0.0.1"]

[pool.small]
subnet = "10.0.0.0/8"
ranges = ["10.2.0.3-10.2.0.60"]

[pool.wide]
subnet = "10.0.0.0/8"
ranges = ["10.3.0.0-10.255.255.254"]
"""


def test_a_small_pool_has_a_sign_for_each_address(farm: Farm) -> None:
    """Lines of addresses, and a legend that counts them; JSON has the runs."""
    with farm.client() as client:
        client.allocate_group("small", "speck", 5)
        client.reserve("printer", "10.2.0.40", mac="00:11:22:33:44:55")
        runs = list(client.map("small"))
    drawn = farm.macbind("map", "small", "--width", "60").splitlines()
    assert drawn[0] == "10.2.0.0            ■■■■■························"
    assert drawn[1] == "10.2.0.32        ········◆····················"
    assert "■ allocated                     5" in drawn
    assert "◆ reserved                      1" in drawn
    assert [(str(one.first), str(one.last), one.state) for one in runs][1:4] == [
        ("10.2.0.3", "10.2.0.7", MapState.ALLOCATED),
        ("10.2.0.8", "10.2.0.39", MapState.FREE),
        ("10.2.0.40", "10.2.0.40", MapState.RESERVED),
    ]
    assert farm.macbind_json("map", "small")[1] == {
        "first": "10.2.0.3",
        "last": "10.2.0.7",
        "state": "allocated",
    }


def test_a_large_pool_is_drawn_in_blocks(farm: Farm) -> None:
    """As many lines as fit on a screen, whatever its size; the blocks count every address once."""
    with farm.client() as client:
        client.allocate_group("wide", "many", 300)
        found = client.map_blocks("wide", most=100)
        assert len(found.blocks) <= 100
        counts = total(found.blocks)
        assert counts[MapState.ALLOCATED] == 300
        assert sum(counts.values()) == int(IPv4Address("10.255.255.255")) - int(IPv4Address("10.3.0.0")) + 1
        with pytest.raises(NotFound):
            client.map_blocks("nothing")
        with pytest.raises(InvalidRequest):
            client.map_blocks("wide", most=1)
    drawn = farm.macbind("map", "wide").splitlines()
    assert len(drawn) <= 50
    assert any(line.startswith("10.0.0.0") and "▁" in line for line in drawn)
    assert "macbind: There is no pool 'nothing'." in farm.run("map", "nothing").stderr


def test_signs_and_colours_are_those_the_terminal_has(farm: Farm) -> None:
    """Colours on a terminal only, and not with NO_COLOR; ASCII where there is no UTF-8."""
    assert "\x1b" not in farm.macbind("map", "small")
    assert "\x1b[32m" in _on_a_terminal(farm, LANG="C.UTF-8")
    assert "\x1b[" not in _on_a_terminal(farm, LANG="C.UTF-8", NO_COLOR="1")
    assert "\x1b[" not in _on_a_terminal(farm, LANG="C.UTF-8", TERM="dumb")
    assert _on_a_terminal(farm, PYTHONIOENCODING="ascii").isascii()


def _on_a_terminal(farm: Farm, **more: str) -> str:
    ours, theirs = pty.openpty()
    with os.fdopen(ours, "rb", buffering=0) as screen:
        env = {key: value for key, value in os.environ.items() if key != "NO_COLOR"}
        env |= {"TERM": "xterm", "MACBIND_SOCKET": str(farm.socket)} | more
        with subprocess.Popen([*farm.command, "map", "small"], stdout=theirs, env=env):
            os.close(theirs)
            text = b""
            try:
                while some := screen.read(4096):
                    text += some
            except OSError:  # the last one has closed the terminal
                pass
    return text.decode()
