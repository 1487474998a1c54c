"""A pool on two DHCP servers is served while one of them is away, and no address is used again before both agree."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from labkit.dhcp import DhcpClient
from labkit.dhcpd import Dhcpd
from labkit.farm import Farm
from labkit.wait import until
from macbind.core.allocation import State
from macbind.core.dhcp_servers import Use
from macbind.core.errors import DhcpdUnavailable
from macbind.core.pool import Confirm

POOLS = """
[subnet."10.0.0.0/8"]
routers = ["10.0.0.1"]

[pool.farm]
subnet = "10.0.0.0/8"
ranges = ["10.1.1.3-10.1.1.250"]
"""
ANY = 'confirm = "any"\n'
SOON_S = 60
HASTE_S = 5.0
"""How long one waits who will not be answered: as long as the server that is there may need."""


def table(place: Path, name: str) -> str:
    """The configuration of a second server."""
    return (
        f'[dhcpd.{name}]\nport = 7912\nkey_file = "{place}/second.key"\n'
        f'config_file = "{place}/second.conf"\nleases_file = "{place}/second.leases"\n'
    )


@pytest.fixture
def pair(make_farm: Callable[..., Farm]) -> Iterator[tuple[Farm, Dhcpd]]:
    """A farm whose pool two servers serve; machines ask the first one."""
    farm = make_farm(pools=POOLS, deadline_s=60)
    place = farm.directory
    farm.configure(pools=table(place, "second") + POOLS)
    farm.macbind("render", "--dhcpd", "second", "--config", str(farm.config))
    options = ("-p", "1067")  # both are in one namespace
    with Dhcpd(
        farm.lab, place / "second.conf", place / "second.leases", omapi_port=7912, options=options
    ) as other:
        farm.reload()
        farm.wait_loaded(1)
        farm.wait_serving(SOON_S)
        yield farm, other


def held_by(farm: Farm, name: str) -> tuple[State, tuple[str, ...]]:
    """State and confirmations of an allocation."""
    with farm.client() as client:
        one = client.get(name)
    return one.state, one.confirmed_by


def state_of(farm: Farm, dhcpd: str) -> str:
    """How the service gets on with a DHCP server; empty while it does not answer."""
    now = farm.status()
    return "" if now is None else {one.name: str(one.state) for one in now.dhcpds}[dhcpd]


def held(farm: Farm) -> set[IPv4Address]:
    """All addresses that somebody has, or that are not free yet."""
    with farm.client() as client:
        return {one.address for one in client.list(released=True)}


def test_one_is_away_and_machines_boot(pair: tuple[Farm, Dhcpd]) -> None:
    """With `any`, of the pool or the call, nobody waits for it; what is released is free when it has let go."""
    farm, second = pair
    with farm.client() as client, farm.client(timeout_s=HASTE_S) as hasty:
        both = client.allocate("farm", "both")
        assert (both.state, both.confirmed_by) == (State.BOUND, ("main", "second"))
        second.kill()
        with pytest.raises(DhcpdUnavailable, match="dhcpd second has not confirmed"):
            hasty.allocate("farm", "all")
        early = client.allocate("farm", "early", confirm=Confirm.ANY)
        assert (early.state, early.confirmed_by) == (State.PENDING, ("main",))
        shown = json.loads(farm.macbind("allocate", "farm", "early", "--confirm", "any", "--json"))
        assert (shown["state"], shown["confirmed_by"]) == ("pending", ["main"])
        assert "confirmed by:         main\n" in farm.macbind("show", "early")
        farm.reload(pools=table(farm.directory, "second") + POOLS + ANY)
        farm.wait_loaded(2)
        assert held_by(farm, "early") == (State.BOUND, ("main",))
        group = client.allocate_group("farm", "g", 20)
        assert {(one.state, one.confirmed_by) for one in group} == {(State.BOUND, ("main",))}
        lease = DhcpClient(farm.lab.port("client", "02:00:00:00:00:77"), str(group[0].mac)).dora()
        assert lease is not None
        assert lease.address == group[0].address
        with pytest.raises(DhcpdUnavailable, match="The release is recorded"):
            hasty.release("both")
        assert client.allocate("farm", "next").address != both.address
        second.restart()
        until(lambda: held_by(farm, "next") == (State.BOUND, ("main", "second")), SOON_S, "both to hold it")
        until(lambda: both.address not in held(farm), SOON_S, "the release")
        assert client.allocate("farm", "again").address == both.address


def test_taken_out_for_maintenance(pair: tuple[Farm, Dhcpd]) -> None:
    """Nobody waits for it until it is in again, whatever it has missed; then it holds everything."""
    farm, second = pair
    with farm.client() as client:
        old = client.allocate("farm", "old")
        assert farm.macbind("dhcp", "out", "second", "--reason", "new disk").startswith(
            "second: out, holds 1"
        )
        second.kill()
        assert client.allocate("farm", "new").state is State.BOUND
        until(lambda: state_of(farm, "second") == "unavailable", SOON_S, "it to be missed")
        assert [farm.findings()[code] for code in farm.findings() if code.startswith("dhcpd_")] == [
            farm.findings()["dhcpd_out"]
        ]
        client.release("old")
        assert client.allocate("farm", "next").address != old.address
        listed = {one.name: one for one in client.dhcp_servers()}
        assert [listed[name].use for name in ("main", "second")] == [Use.IN, Use.OUT]
        assert "out" in farm.macbind("dhcp", "list")
        assert farm.run("dhcp", "out", "main").returncode == 4
        assert farm.run("dhcp", "out", "none").returncode == 4
        farm.stop()
        farm.start()
        until(lambda: farm.status() is not None, SOON_S, "the service")
        assert client.allocate("farm", "later").confirmed_by == ("main",)
        second.restart()
        until(lambda: held_by(farm, "later")[1] == ("main", "second"), SOON_S, "it to be told")
        assert farm.macbind("dhcp", "in", "second").startswith("second: in, ")
        assert client.allocate("farm", "last").confirmed_by == ("main", "second")
        assert "dhcpd_out" not in farm.findings()
        assert [one.action for one in client.history() if one.action.startswith("dhcp")] == [
            "dhcp in",
            "dhcp out",
        ]


def test_gone_for_good(pair: tuple[Farm, Dhcpd]) -> None:
    """Its table stays until it is forgotten; then its addresses are free, and the file may be without it."""
    farm, second = pair
    with farm.client() as client:
        old = client.allocate("farm", "old")
        second.kill()
        farm.reload(pools=POOLS)
        until(lambda: "config_refused" in farm.findings(), SOON_S, "the refusal")
        assert (
            "[dhcpd.second] is no longer configured, but holds 1 bindings."
            in farm.findings()["config_refused"]
        )
        assert farm.macbind("dhcp", "out", "second", "--forget") == "second: forgotten, holds 0, 0 due\n"
        client.release("old")
        assert client.allocate("farm", "new").address == old.address
        farm.reload()
        until(lambda: [one.name for one in client.status().dhcpds] == ["main"], SOON_S, "the file to be read")
        assert [one.name for one in client.dhcp_servers()] == ["main"]


def test_another_name_keeps_what_is_due(pair: tuple[Farm, Dhcpd]) -> None:
    """A server that is called otherwise still has to give up what was released while it was away."""
    farm, second = pair
    with farm.client() as client, farm.client(timeout_s=HASTE_S) as hasty:
        old = client.allocate("farm", "old")
        second.kill()
        with pytest.raises(DhcpdUnavailable):
            hasty.release("old")
        farm.reload(pools=table(farm.directory, "renamed") + POOLS)
        farm.wait_loaded(2)
        due = {"main": (0, 0), "renamed": (1, 1)}
        until(
            lambda: {one.name: (one.holds, one.due) for one in client.dhcp_servers()} == due,
            SOON_S,
            "the first one to let go",
        )
        with pytest.raises(DhcpdUnavailable, match="renamed has not confirmed"):
            hasty.allocate("farm", "new")
        assert client.get("new").address != old.address
        second.restart()
        until(lambda: old.address not in held(farm), SOON_S, "the release")


def test_an_idle_server_that_is_silent_is_missed(pair: tuple[Farm, Dhcpd]) -> None:
    """Nobody asks for anything, and the connection stays open: the status says so all the same."""
    farm, second = pair
    second.freeze()
    until(lambda: state_of(farm, "second") == "unavailable", 60, "it to be missed")
    second.thaw()
    until(lambda: state_of(farm, "second") == "serving", 60, "it to be back")
