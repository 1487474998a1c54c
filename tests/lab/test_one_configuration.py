"""Several controllers of one registry use one configuration, whatever their files say."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import count

import pytest

from labkit.dhcp import DhcpClient
from labkit.farm import Farm, defects_in
from labkit.wait import until
from macbind.client.client import Client
from macbind.core.allocation import Allocation, State
from macbind.core.errors import Conflict, ServiceUnavailable
from macbind.core.shared_configuration import SharedConfiguration

POOLS = """
[subnet."10.0.0.0/8"]

[pool.farm]
subnet = "10.0.0.0/8"
ranges = ["10.1.1.3-10.1.1.250"]
routers = ["10.0.0.1"]
"""
OTHER = POOLS.replace('["10.0.0.1"]', '["10.0.0.9"]')
SOON_S = 60
PORTS = count()
REFUSED = (
    "Other controllers use this registry with another configuration. "
    '[pool.farm] routers: ["10.0.0.9"] in the file, ["10.0.0.1"] in use.'
)


class Second:
    """Another controller of a farm's registry, with a file and a socket of its own."""

    def __init__(self, farm: Farm) -> None:
        self._farm, place = farm, farm.directory
        self.config, self.socket, self.log = place / "c2.toml", place / "c2.sock", place / "c2.log"
        before = farm.config.read_text()
        head = before[: before.index("[subnet.")]
        self._head = head.replace(str(farm.socket), str(self.socket))
        self.write(POOLS)
        self._process: subprocess.Popen[bytes] | None = None

    def write(self, pools: str) -> None:
        """Writes its file: the farm's, with other pools."""
        self.config.write_text(self._head + pools)

    def use_default_file(self) -> None:
        """Has its dhcpd's configuration where that of every dhcpd is by default."""
        lines = self._head.splitlines(keepends=True)
        self._head = "".join(line for line in lines if not line.startswith("config_file"))
        self.write(POOLS)

    def start(self, *arguments: str) -> None:
        """Starts it; it answers afterwards."""
        command = [*self._farm.command, "serve", "--config", str(self.config), *arguments]
        self._process = self._farm.lab.popen(command, output=self.log)
        until(self.answers, SOON_S, "the second controller")

    def answers(self) -> bool:
        """Whether it is there."""
        assert self._process is not None
        assert self._process.poll() is None, self.log.read_text()
        try:
            with self.client() as client:
                return bool(client.status().pools)
        except ServiceUnavailable:
            return False

    def client(self) -> Client:
        """The Python API."""
        return Client(self.socket, timeout_s=SOON_S)

    def refusal(self, *arguments: str) -> str:
        """What it says when it cannot start; it exits with 3."""
        done = self._farm.run("serve", "--config", str(self.config), *arguments)
        assert done.returncode == 3, (done.stdout, done.stderr)
        return done.stderr

    def reload(self) -> None:
        """Has it load its file again."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGHUP)

    def stop(self) -> None:
        """Ends it."""
        if self._process is not None:
            self._process.terminate()
            assert self._process.wait(SOON_S) == 0
            self._process = None
            assert defects_in(self.log.read_text()) == []


@contextmanager
def second_of(farm: Farm) -> Iterator[Second]:
    """A second controller, which ends with the block."""
    second = Second(farm)
    try:
        yield second
    finally:
        second.stop()


@pytest.fixture
def pair(make_farm: Callable[..., Farm]) -> Iterator[tuple[Farm, Second]]:
    """A farm and a second controller, which does not run yet."""
    service = 'socket_mode = "0666"\nmay_change = ["nobody"]\n'
    farm = make_farm(pools=POOLS, service=service, deadline_s=SOON_S)
    with second_of(farm) as second:
        yield farm, second


def findings_of(client: Client) -> dict[str, str]:
    """The sentence of each finding, by its code."""
    return {one.code: one.message for one in client.status().findings}


def gateways(farm: Farm, made: list[Allocation]) -> set[str]:
    """What machines are told by DHCP now."""
    port = f"c{next(PORTS)}"
    cable = farm.lab.port(port)
    leases = [DhcpClient(cable, str(one.mac)).dora() for one in made]
    assert all(lease is not None for lease in leases)
    return {str(one) for lease in leases if lease is not None for one in lease.routers}


def test_a_gateway_is_changed_on_all_controllers(pair: tuple[Farm, Second]) -> None:
    """One applies it. The other reads it, and does not go back with its old file; machines are told the new one."""
    farm, second = pair
    second.start()
    with farm.client() as one, second.client() as other:
        made = [one.allocate("farm", "a"), other.allocate("farm", "b")]
        assert gateways(farm, made) == {"10.0.0.1"}
        farm.configure(pools=OTHER)
        assert "Revision 2 is in use" in farm.macbind("config", "apply", str(farm.config))
        made += [other.allocate("farm", "c"), one.allocate("farm", "d")]
        assert {str(found.gateway) for found in (*one.list(), *other.list())} == {"10.0.0.9"}
        until(lambda: {found.state for found in other.list()} == {State.BOUND}, SOON_S, "the bindings")
        assert gateways(farm, made) == {"10.0.0.9"}
        assert "config_outdated" not in findings_of(one)
        differs = 'routers: ["10.0.0.1"] in the file, ["10.0.0.9"] in use'
        until(
            lambda: differs in findings_of(other).get("config_outdated", ""),
            SOON_S,
            "the file to be found old",
        )
    second.stop()
    second.start()  # with its old file
    with second.client() as other:
        assert {str(found.gateway) for found in other.list()} == {"10.0.0.9"}
        assert "config_outdated" in findings_of(other)
        second.write(OTHER)
        second.reload()
        until(lambda: "config_outdated" not in findings_of(other), SOON_S, "the file to be read")
    shown = farm.macbind("config", "show")
    assert '\nrouters = ["10.0.0.9"]\n' in shown
    assert shown.startswith("# revision 2, ")
    assert farm.defects() == []


def test_edited_and_restarted_one_by_one(pair: tuple[Farm, Second]) -> None:
    """A start and a load with another file are refused with both values, and nothing changes; alone, it is used."""
    farm, second = pair
    with farm.client() as one:
        made = [one.allocate("farm", "a")]
        second.write(OTHER)
        assert REFUSED in second.refusal()
        assert gateways(farm, made) == {"10.0.0.1"}
        second.write(POOLS)
        second.start()
        farm.reload(pools=OTHER)
        until(lambda: "config_refused" in findings_of(one), SOON_S, "the refusal")
        assert REFUSED in findings_of(one)["config_refused"]
        assert one.allocate("farm", "b").gateway == one.get("a").gateway
        second.stop()
        os.kill(farm.pid, signal.SIGHUP)
        until(lambda: "config_refused" not in findings_of(one), SOON_S, "the file to be read")
        assert str(one.get("a").gateway) == "10.0.0.9"
    assert farm.defects() == []


def test_taken_over_at_a_start(pair: tuple[Farm, Second]) -> None:
    """Whoever means it starts with his file, and the others follow."""
    farm, second = pair
    with farm.client() as one:
        made = [one.allocate("farm", "a")]
        second.write(OTHER)
        second.start("--take-over")
        until(lambda: "config_outdated" in findings_of(one), SOON_S, "the other to follow")
        until(lambda: one.get("a").state is State.BOUND, SOON_S, "the binding")
        assert gateways(farm, made) == {"10.0.0.9"}
    assert farm.defects() == []


def test_who_may_apply_what(pair: tuple[Farm, Second]) -> None:
    """Only root and the service's user may; what contradicts allocations is refused, and nothing is recorded."""
    farm, second = pair
    second.start()
    with second.client() as other:
        other.allocate("farm", "a")
        second.write(POOLS.replace("pool.farm", "pool.other").replace("10.1.1.", "10.9.1."))
        done = farm.run("config", "apply", str(second.config))
        assert (done.returncode, done.stdout) == (4, "")
        assert "The pool 'farm' is no longer configured but still has 1 allocations" in done.stderr
        tables = other.configuration().shared.tables
        wrong = {**tables, "pool": {"farm": {**tables["pool"]["farm"], "mac_prefix": "0a:58"}}}
        with pytest.raises(Conflict, match="mac_prefix"):
            other.apply_configuration(SharedConfiguration(wrong))
        assert other.configuration().revision == 1
        assert other.allocate("farm", "b").state is State.BOUND
    nobody = farm.run("config", "apply", str(farm.config), user="nobody")
    assert nobody.returncode == 6, nobody.stderr
    assert "may not change the configuration of all controllers" in nobody.stderr


def test_one_that_cannot_follow_says_so(pair: tuple[Farm, Second]) -> None:
    """It changes nothing and answers with the reason, until its file has what only this machine can know."""
    farm, second = pair
    second.use_default_file()
    second.start()
    more = '[dhcpd.far]\nhost = "192.0.2.9"\nkey_file = "/nowhere/k"\nconfig_file = "/nowhere/c"\n'
    used = 'dhcpd = ["main"]\n'
    farm.configure(pools=more + POOLS + used)
    second.write(POOLS + used)
    farm.macbind("config", "apply", str(farm.config))

    def reason() -> str:
        done = farm.run("allocate", "farm", "--socket", str(second.socket))
        return done.stderr if done.returncode == 5 else ""

    until(lambda: "is the same file as [dhcpd.far] config_file" in reason(), SOON_S, "the reason")
    with ExitStack() as stack:
        one = stack.enter_context(farm.client())
        assert one.allocate("farm", "a").state is State.BOUND
        second.write(more + POOLS + used)
        other = stack.enter_context(second.client())
        until(lambda: not farm.run("list", "--socket", str(second.socket)).returncode, SOON_S, "it to follow")
        assert other.allocate("farm", "b").state is State.BOUND
        until(lambda: "config_refused" not in findings_of(other), SOON_S, "nothing to be refused")
