"""Writing into a real xenstored: a domain finds what it is told, and no other domain does."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from labkit.xenstored import Xenstored
from macbind.core.errors import HypervisorUnavailable, InvalidRequest, MachineFailed
from macbind.virt import xenstore

LINES = [
    "mac=00:16:3e:01:01:03",
    "address=10.1.1.3/16",
    "dns=10.1.0.1 10.1.0.2",
    "data.role=worker",
    'data.awkward=a,b="c" \\ %',
    "data.role.of=it",
    "data.empty=",
]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Xenstored]:
    """A xenstored of this test's own."""
    with Xenstored(tmp_path) as store:
        yield store


def test_a_domain_finds_its_lines_and_may_only_read_them(store: Xenstored) -> None:
    """Xen's own client reads them back; ours is domain 0's, readable by the guest, and nothing else changes."""
    store.ask("xenstore-write", "/local/domain/7/vm-data/theirs", "kept")
    before = store.listing()
    xenstore.tell(7, xenstore.keys(LINES), store.socket)
    home = "/local/domain/7/vm-data/macbind"
    assert store.ask("xenstore-read", f"{home}/address", f"{home}/dns", f"{home}/data/role").splitlines() == [
        "10.1.1.3/16",
        "10.1.0.1 10.1.0.2",
        "worker",
    ]
    after = store.listing()
    assert [line for line in after if line in before] == before
    ours = [line for line in after if line not in before]
    assert {line.split(" ")[0].removeprefix(home) for line in ours} == {
        "",
        "/address",
        "/data",
        "/data/awkward",
        "/data/empty",
        "/data/role",
        "/data/role/of",
        "/dns",
        "/mac",
    }
    assert all(line.endswith("(n0,r7)") for line in ours)
    assert store.ask("xenstore-read", "-R", f"{home}/data/awkward").strip() == 'a,b="c" \\ %'


def test_every_value_arrives_to_the_letter(store: Xenstored) -> None:
    """Also what looks like an option, an escape, several lines or another language."""
    values = {
        "dash": "-x",
        "dashes": "--",
        "escapes": "\\n \\x41 \\\\ \\0 \\",
        "lines": "a\nb\tc",
        "quotes": "'\"`$(id)",
        "foreign": "äß€ 日本",
        "percent": "%s %n %",
        "long": "v" * 3000,
        "empty": "",
    }
    xenstore.tell(7, values, store.socket)
    home = "/local/domain/7/vm-data/macbind"
    assert {key: store.ask("xenstore-read", "-R", f"{home}/{key}") for key in values} == values


def test_a_refusal_is_told_and_nothing_is_written(store: Xenstored) -> None:
    """What xenstored does not take is an error that names it; what else there was to write is not written."""
    before = store.listing()
    for key, value in (("a b", "c"), ("long", "x" * 4096)):
        with pytest.raises(MachineFailed, match=f"domain 7 is to be told: .*could not write path .*/{key}"):
            xenstore.tell(7, {"mac": "of 7", key: value}, store.socket)
        assert store.listing() == before


def test_many_domains_at_once(store: Xenstored) -> None:
    """Machines launched together are told together, each its own."""
    with ThreadPoolExecutor(8) as pool:
        jobs = [
            pool.submit(xenstore.tell, number, {"mac": f"of {number}"}, store.socket)
            for number in range(1, 41)
        ]
    assert [job.exception() for job in jobs] == [None] * 40
    home = "/local/domain/{}/vm-data/macbind/mac"
    paths = [home.format(number) for number in range(1, 41)]
    assert store.ask("xenstore-read", *paths).splitlines() == [f"of {number}" for number in range(1, 41)]


def test_a_xenstored_that_is_not_there(tmp_path: Path) -> None:
    """Without its socket, the error says where to launch."""
    with pytest.raises(HypervisorUnavailable, match="No such file") as caught:
        xenstore.tell(7, {"mac": "of 7"}, tmp_path / "nowhere")
    assert "domain 0" in caught.value.hint


def test_a_frozen_xenstored_is_not_waited_for_for_ever(store: Xenstored) -> None:
    """One that takes the connection and says nothing is given up."""
    store.freeze()
    with pytest.raises(HypervisorUnavailable, match="no answer within 1 s"):
        xenstore.tell(7, {"mac": "of 7"}, store.socket, timeout_s=1.0)


@pytest.mark.parametrize("key", ["data.a..b", "data.a."])
def test_a_key_xenstore_cannot_have(key: str) -> None:
    """A dot becomes a level, so there must be something on both sides of it."""
    with pytest.raises(InvalidRequest, match="Xenstore cannot have the key"):
        xenstore.keys([f"{key}=1"])
