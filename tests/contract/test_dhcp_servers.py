"""DHCP servers that are taken out, leave, or get another name: what is waited for, and what is free."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from contract.book import make_pool
from macbind.core.allocation import Allocation, State
from macbind.core.dhcp_servers import Server, Use
from macbind.core.errors import ConfigError, Conflict, NotFound
from macbind.core.pool import Confirm, Pool
from macbind.core.shared_configuration import SharedConfiguration, Tables
from macbind.registry.allocate import Wanted, allocate
from macbind.registry.configuration import Offer
from macbind.registry.pending_changes import confirm, pending_changes
from macbind.registry.queries import find, usage
from macbind.registry.release import release
from macbind.registry.resting import sweep
from macbind.registry.servers import servers, take_in, take_out
from macbind.registry.store import Registry

TWO = ("d1", "d2")
POOL = make_pool(dhcpds=TWO)


class Site:
    """A registry with an offered configuration, and DHCP servers that obey when told to."""

    def __init__(self, url: str) -> None:
        self.registry, self.pool = Registry(url), POOL
        self.dhcpds: tuple[str, ...] = TWO
        self.hosts: dict[str, str] = {name: f"192.0.2.{number}" for number, name in enumerate(TWO)}
        self.load()

    def load(self, *, pool: Pool | None = None, dhcpds: tuple[str, ...] | None = None) -> None:
        """Applies the configuration, with other values where given."""
        pool, dhcpds = pool or self.pool, dhcpds or self.dhcpds
        tables: Tables = {"dhcpd": {name: {"host": self.hosts[name]} for name in dhcpds}}
        self.registry.apply({"farm": pool}, dhcpds, (), Offer(SharedConfiguration(tables)))
        self.pool, self.dhcpds = pool, dhcpds

    def again(self) -> None:
        """Reads the configuration once more, as controllers do that were told to."""
        assert self.registry.is_outdated()
        self.load()
        assert not self.registry.is_outdated()

    def one(self, name: str) -> Allocation:
        """Allocates."""
        with self.registry.write("test") as txn:
            return allocate(txn, Wanted("farm", (name,)))[0]

    def release(self, name: str) -> None:
        """Releases."""
        with self.registry.write("test") as txn:
            release(txn, name=name)

    def obey(self, *names: str) -> int:
        """Has servers confirm all that is due; returns how much that was."""
        with self.registry.write("test") as txn:
            due = {name: pending_changes(txn, name, 1000) for name in names}
            for name, items in due.items():
                confirm(txn, name, items)
        return sum(map(len, due.values()))

    def out(self, name: str, *, forget: bool = False) -> None:
        """Takes a server out."""
        with self.registry.write("admin") as txn:
            take_out(txn, name, [self.pool], forget=forget)

    def in_(self, name: str) -> None:
        """Takes a server in."""
        with self.registry.write("admin") as txn:
            take_in(txn, name)

    def found(self) -> dict[str, tuple[State, tuple[str, ...]]]:
        """State and confirmations of all allocations."""
        with self.registry.read() as view:
            return {one.name: (one.state, one.confirmed_by) for one in find(view, released=True)}

    def servers(self) -> dict[str, Server]:
        """The servers by name."""
        with self.registry.read() as view:
            return {one.name: one for one in servers(view, {name: ["farm"] for name in self.dhcpds})}

    def free(self) -> int:
        """How many addresses are free, once what has rested is swept."""
        with self.registry.write("test") as txn:
            sweep(txn, txn.pools["farm"], 100)
            return usage(txn, "farm").free


@pytest.fixture
def site(url: str) -> Iterator[Site]:
    """A pool that two servers serve."""
    site = Site(url)
    yield site
    site.registry.close()


def test_all_or_any(site: Site) -> None:
    """Who has confirmed is known; by the pool's rule that makes it bound, and only all make it free."""
    site.one("a")
    site.obey("d2")
    assert site.found() == {"a": (State.PENDING, ("d2",))}
    site.load(pool=replace(POOL, confirm=Confirm.ANY))
    assert site.found() == {"a": (State.BOUND, ("d2",))}
    site.release("a")
    site.obey("d2")
    assert site.found() == {"a": (State.RELEASING, ())}
    site.obey("d1")
    assert site.found() == {}


def test_out_is_told_and_not_awaited(site: Site) -> None:
    """All controllers know it after a look; it gets what it can be told, and what it holds is not free."""
    site.one("a")
    site.obey("d1", "d2")
    site.out("d2")
    site.again()
    assert site.registry.taken_out == {"d2"}
    shown = site.servers()["d2"]
    assert (shown.use, shown.by, shown.pools, shown.holds) == (Use.OUT, "admin", ("farm",), 1)
    assert shown.since is not None
    site.one("b")
    site.obey("d1")
    assert site.found()["b"] == (State.BOUND, ("d1",))
    site.release("a")
    site.obey("d1")
    assert site.found()["a"] == (State.RELEASING, ())
    assert site.obey("d2") == 2
    assert site.found() == {"b": (State.BOUND, ("d1", "d2"))}
    site.in_("d2")
    site.again()
    assert site.servers()["d2"] == Server("d2", Use.IN, None, None, ("farm",), 1, 0)
    site.one("c")
    site.obey("d1")
    assert site.found()["c"] == (State.PENDING, ("d1",))


def test_forgotten_keeps_nothing(site: Site) -> None:
    """What it held becomes free without it; taken in again, it is told everything."""
    before = site.free()
    for name in ("a", "b", "c"):
        site.one(name)
    site.obey("d1", "d2")
    site.release("a")
    site.obey("d1")
    assert site.free() == before - 3
    site.out("d2", forget=True)
    site.again()
    assert (site.servers()["d2"].use, site.servers()["d2"].holds) == (Use.FORGOTTEN, 0)
    assert site.free() == before - 2
    site.release("b")
    site.obey("d1")
    assert site.free() == before - 1
    assert site.found() == {"c": (State.BOUND, ("d1",))}
    assert site.obey("d2") == 0
    site.in_("d2")
    site.again()
    assert site.found() == {"c": (State.PENDING, ("d1",))}
    assert site.obey("d2") == 1
    assert site.found() == {"c": (State.BOUND, ("d1", "d2"))}


def test_a_pool_keeps_one_server(site: Site) -> None:
    """The last one that is in cannot be taken out, and one that there is not cannot be either."""
    site.out("d1")
    site.again()
    with pytest.raises(Conflict, match="'farm' has no other DHCP server that is in"):
        site.out("d2")
    with pytest.raises(NotFound, match="no DHCP server 'd9'"):
        site.out("d9")
    with pytest.raises(NotFound, match="no DHCP server 'd9'"):
        site.in_("d9")
    assert not site.registry.is_outdated()
    site.out("d1", forget=True)
    site.again()
    with pytest.raises(ConfigError, match="no DHCP server but d1, which was forgotten"):
        site.load(pool=replace(POOL, dhcpds=("d1",)))


def test_saying_it_twice_changes_nothing(site: Site) -> None:
    """Nobody has to read anything anew for it."""
    site.in_("d2")
    assert not site.registry.is_outdated()
    site.out("d2")
    site.again()
    site.out("d2")
    assert not site.registry.is_outdated()


def test_one_that_joins_is_in(site: Site) -> None:
    """A new server is told everything, and is not taken for one that was taken out."""
    site.one("a")
    site.obey("d1", "d2")
    site.hosts["d3"] = "192.0.2.9"
    site.load(pool=replace(POOL, dhcpds=(*TWO, "d3")), dhcpds=(*TWO, "d3"))
    assert site.servers()["d3"] == Server("d3", Use.IN, None, None, ("farm",), 0, 1)
    assert site.found() == {"a": (State.PENDING, ("d1", "d2"))}


def test_one_leaves_when_it_holds_nothing(site: Site) -> None:
    """Its table is needed until then; out of its pool, it gives up what it holds."""
    site.one("a")
    site.obey("d1", "d2")
    alone = replace(POOL, dhcpds=("d1",))
    with pytest.raises(ConfigError, match=r"\[dhcpd\.d2\] is no longer configured, but holds 1 bindings"):
        site.load(pool=alone, dhcpds=("d1",))
    assert site.found() == {"a": (State.BOUND, ("d1", "d2"))}
    site.load(pool=alone)
    assert site.servers()["d2"].due == 1
    with pytest.raises(ConfigError, match="holds 1 bindings"):
        site.load(dhcpds=("d1",))
    site.release("a")
    site.obey("d1")
    assert site.found() == {"a": (State.RELEASING, ())}
    site.obey("d2")
    assert site.found() == {}
    site.load(dhcpds=("d1",))
    assert list(site.servers()) == ["d1", "d2"][:1]


def test_one_that_is_gone_for_good_leaves_when_it_is_forgotten(site: Site) -> None:
    """And nothing waits for it then."""
    site.one("a")
    site.obey("d1", "d2")
    site.out("d2", forget=True)
    site.again()
    site.load(pool=replace(POOL, dhcpds=("d1",)), dhcpds=("d1",))
    site.release("a")
    site.obey("d1")
    assert site.found() == {}


def test_another_name_is_the_same_server(site: Site) -> None:
    """What it holds, what it has yet to do and that it is out go with it."""
    site.one("a")
    site.obey("d1", "d2")
    site.release("a")
    site.one("b")
    site.out("d2")
    site.again()
    number = site.registry.ids.dhcpds["d2"]
    site.hosts["new"] = site.hosts["d2"]
    site.load(pool=replace(POOL, dhcpds=("d1", "new")), dhcpds=("d1", "new"))
    assert site.registry.ids.dhcpds["new"] == number
    shown = site.servers()["new"]
    assert (shown.use, shown.holds, shown.due) == (Use.OUT, 1, 2)
    site.obey("d1")
    assert site.found()["a"] == (State.RELEASING, ())
    site.obey("new")
    assert site.found() == {"b": (State.BOUND, ("d1", "new"))}
