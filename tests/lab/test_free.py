"""Free space of a served pool, as the API and the command line show it."""

import pytest

from labkit.farm import Farm
from macbind.core.errors import NotFound

POOLS = """
[subnet."10.0.0.0/8"]
routers = ["10.0.0.1"]

[pool.farm]
subnet = "10.0.0.0/8"
ranges = ["10.1.0.0/16"]
exclude = ["10.1.0.0", "10.1.255.255"]

[pool.small]
subnet = "10.0.0.0/8"
ranges = ["10.2.0.3-10.2.0.5"]
"""


def test_gaps_stand_between_the_allocations(farm: Farm) -> None:
    """In the order of the addresses, in the table and in JSON; a full pool has none."""
    with farm.client() as client:
        client.allocate("farm", "one", address="10.1.0.9")
        client.allocate_group("small", "all", 3)
        assert [(str(gap.lo), str(gap.hi)) for gap in client.free("farm")] == [
            ("10.1.0.1", "10.1.0.8"),
            ("10.1.0.10", "10.1.255.254"),
        ]
        assert list(client.free("small")) == []
        with pytest.raises(NotFound):
            list(client.free("a/b"))
    rows = [line.split() for line in farm.macbind("list", "--gaps").splitlines()]
    assert [(row[0], *row[-2:]) for row in rows[1:4]] == [
        ("10.1.0.1-10.1.0.8", "free", "8"),
        ("10.1.0.9", "-", "bound"),
        ("10.1.0.10-10.1.255.254", "free", "65525"),
    ]
    assert farm.macbind("list", "--pool", "small", "--gaps") == farm.macbind("list", "--pool", "small")
    assert [one.get("size") for one in farm.macbind_json("list", "--pool", "farm", "--gaps")] == [
        8,
        None,
        65525,
    ]
    assert farm.macbind("free", "farm").splitlines()[1].split() == ["10.1.0.1", "10.1.0.8", "8"]
    assert "has no unoccupied address" in farm.run("free", "small").stderr
    assert farm.run("list", "--gaps", "--group", "all").returncode == 4
