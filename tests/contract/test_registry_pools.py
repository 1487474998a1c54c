"""A caller who is limited to pools: whatever he asks for, nothing of another pool changes, and none of it is told."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from contract.book import Book, addresses, ip, make_pool
from macbind.core.errors import MacbindError, NotPermitted
from macbind.core.mac_address import MacAddress
from macbind.core.origin import Origin
from macbind.registry.allocate import Wanted, allocate
from macbind.registry.audit import history, remark
from macbind.registry.bulk import release_labelled
from macbind.registry.labels import relabel
from macbind.registry.release import release
from macbind.registry.renumber import abort_renumber, begin_renumber, finish_renumber, lease_renumber
from macbind.registry.reserve import reserve
from macbind.registry.transaction import Transaction

LIMITED = Origin("api:ci", "r1", None, frozenset({"farm"}))
TOKEN = "a-token-of-a-lease"

ATTEMPTS: dict[str, Callable[[Transaction], object]] = {
    "allocate there": lambda txn: allocate(txn, Wanted("lab", ("new",))),
    "allocate what is held there": lambda txn: allocate(txn, Wanted("lab", ("theirs",))),
    "allocate a name that is held there": lambda txn: allocate(txn, Wanted("farm", ("theirs",))),
    "allocate its group": lambda txn: allocate(txn, Wanted("lab", ("m-1",), group="m", whole_group=True)),
    "release by name": lambda txn: release(txn, name="theirs"),
    "release by address": lambda txn: release(txn, address=ip("10.1.2.1")),
    "release a group over both": lambda txn: release(txn, group="both"),
    "release by labels": lambda txn: release_labelled(txn, {"job": "1"}),
    "reserve there": lambda txn: reserve(txn, "printer", ip("10.1.2.9")),
    "reserve what is held there": lambda txn: reserve(txn, "printer", ip("10.1.2.1")),
    "reserve a name that is held there": lambda txn: reserve(txn, "theirs", ip("10.1.1.9")),
    "reserve with the MAC of one there": lambda txn: reserve(
        txn, "printer", ip("10.1.1.9"), mac=MacAddress.parse("02:00:00:00:00:01")
    ),
    "renumber into it": lambda txn: begin_renumber(txn, "mine", ip("10.1.2.9"), TOKEN, 60.0),
    "renumber onto one of it": lambda txn: begin_renumber(txn, "mine", ip("10.1.2.1"), TOKEN, 60.0),
    "renumber out of it": lambda txn: begin_renumber(txn, "theirs", ip("10.1.1.9"), TOKEN, 60.0),
    "renumber on its old lease": lambda txn: lease_renumber(txn, "moving", TOKEN, 60.0),
    "finish one of it": lambda txn: finish_renumber(txn, "moving", None),
    "abort one of it": lambda txn: abort_renumber(txn, "moving", None),
    "label it": lambda txn: relabel(txn, "theirs", {"a": "b"}),
    "label it as it is": lambda txn: relabel(txn, "both-lab", {"job": "1"}),
    "remark on it": lambda txn: remark(txn, "theirs"),
}


@pytest.fixture
def pools(book: Book) -> Book:
    """Two pools on one network, each with allocations."""
    book.open(
        make_pool("farm", subnet="10.1.0.0/16", ranges=("10.1.1.1-10.1.1.20",)),
        make_pool("lab", subnet="10.1.0.0/16", ranges=("10.1.2.1-10.1.2.20",)),
    )
    with book.write() as txn:
        allocate(txn, Wanted("lab", ("theirs",)))
        allocate(txn, Wanted("lab", ("both-lab",), group="both", labels={"job": "1"}))
        allocate(txn, Wanted("farm", ("mine",)))
        allocate(txn, Wanted("farm", ("both-farm",), group="both", labels={"job": "1"}))
        allocate(txn, Wanted("lab", ("moving",)))
        begin_renumber(txn, "moving", ip("10.1.2.15"), "another-token", 0.0)
        reserve(txn, "old-printer", ip("10.1.2.20"), mac=MacAddress.parse("02:00:00:00:00:01"))
    return book


@pytest.mark.parametrize("what", ATTEMPTS)
def test_nothing_of_another_pool_is_changed_or_told(pools: Book, what: str) -> None:
    """Each way that once led there is refused, with no word of address, MAC or holder, and leaves nothing behind."""
    before = pools.find(released=True)
    with pools.registry.read() as view:
        entries = len(history(view))
    with pytest.raises(NotPermitted) as refused, pools.registry.write(LIMITED) as txn:
        ATTEMPTS[what](txn)
    told = str(refused.value.to_dict())
    assert not any(word in told for word in ("10.1.2.20", "00:16:3e:01:02", "old-printer", "'lab-"))
    assert pools.find(released=True) == before
    with pools.registry.read() as view:
        assert len(history(view)) == entries


def test_a_dry_run_tells_nothing_either(pools: Book) -> None:
    """What it would do is refused as doing it is."""
    for attempt in ATTEMPTS.values():
        with pools.registry.write(LIMITED) as txn, pytest.raises(MacbindError), txn.undone():
            attempt(txn)


def test_his_own_pools_are_all_his(pools: Book) -> None:
    """Within them everything goes on; a name that somebody else had in another pool before is no obstacle."""
    with pools.write() as txn:
        allocate(txn, Wanted("lab", ("wandering",)))
        release(txn, name="wandering")
    with pools.registry.write(LIMITED) as txn:
        assert addresses(allocate(txn, Wanted("farm", ("wandering", "b")))) == ["10.1.1.3", "10.1.1.4"]
        assert [one.pool for one in release(txn, name="wandering")] == ["farm"]
        reserve(txn, "printer", ip("10.1.1.9"), mac=MacAddress.parse("02:00:00:00:00:02"))
        assert relabel(txn, "mine", {"a": "b"}).labels == {"a": "b"}
        assert [one.allocation.name for one in release_labelled(txn, {"job": "1"}, pool="farm")] == [
            "both-farm"
        ]
        begun = begin_renumber(txn, "mine", ip("10.1.1.15"), TOKEN, 60.0)
        assert str(begun.new.address) == "10.1.1.15"
        assert str(finish_renumber(txn, "mine", TOKEN).new.address) == "10.1.1.15"
        remark(txn, "mine")
    with pools.registry.read() as view:
        assert {one.actor for one in history(view, request="r1")} == {"api:ci"}
