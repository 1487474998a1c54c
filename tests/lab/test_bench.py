"""The benchmark on real parts: one row from end to end, and whether the competitors do what they are timed for."""

from ipaddress import IPv4Network
from pathlib import Path

import pytest

from bench.__main__ import README, main
from bench.contestants import ALL, OURS, existing, machine
from contract.dhcpd_site import mac_of
from labkit.wait import until
from macbind.core.mac_address import MacAddress
from macbind.probes.dhcp import Answer, Probe


def test_one_by_one_is_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The quick row is printed and kept with ratio and target; the README waits for a complete run."""
    before = README.read_bytes()
    assert main(["--quick", "--only", "single", "--output", str(tmp_path)]) == 0
    kept = (tmp_path / "README.md").read_text()
    (line,) = [line for line in kept.splitlines() if line.startswith("| `Client.allocate`")]
    assert line in capsys.readouterr().out
    assert "| one bare signed OMAPI add + one bare SQLite FULL commit |" in line
    assert "| ≤ 5 |" in line
    assert "(QUICK=1)" in kept
    assert README.read_bytes() == before


@pytest.mark.parametrize("name", [name for name in ALL if name != OURS])
def test_a_competitor_serves_what_it_adds(name: str) -> None:
    """A machine it adds is offered its address, one that it removes is not, and those that existed always are."""
    (new, _), (old,) = machine(0), existing(1)
    open_, _ = ALL[name]
    with open_(3) as contestant:
        server = contestant.lab.server
        bridge = "virbr0" if name.startswith("virsh") else contestant.lab.bridge
        server.ip(
            "link add look type veth peer name into", f"link set into master {bridge} up", "link set look up"
        )

        def offered(mac: MacAddress, wait_s: float = 0.3) -> bool:
            def ask() -> Answer | None:
                with Probe("look", mac, IPv4Network("0.0.0.0/0"), is_remote=True) as probe:
                    return probe.ask(wait_s)

            return server.call(ask) is not None

        until(lambda: offered(mac_of(old)), 60, "the machine that exists to be served")
        assert not offered(new)
        server.call(lambda: contestant.add(0))
        until(lambda: offered(new), 60, "the new machine to be served")
        server.call(lambda: contestant.remove(0))
        # It may be silent for a moment, or slow: only while it serves the other one does its silence count.
        until(lambda: not offered(new) and offered(mac_of(old)), 60, "only the new machine to be gone")
