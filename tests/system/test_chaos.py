"""The fault suite itself: a short run is clean, and every bug that is planted is found for what it is."""

import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from chaos.plants import PLANTS
from labkit.wait import until

TESTS = Path(__file__).parents[1]
LEFT = r"\((acknowledged as released|hosts in dhcpd)\): .*dhcpd has \{"
"""dhcpd serves what was released."""
LOST = r"\((two owners|answers|held|released|held in SQL)\): .*(has two owners|is now told|None|gone already|SQL has)"
"""What a caller holds is no longer macbind's, or another's: which of it shows depends on who comes first."""
HANDED_OUT = r"\(a foreign host is passed over\): .*was handed out to .*, while a foreign host, .*, used it"
"""Somebody got what a foreign host has."""
ENDED = r"\((two owners|answers|held|released|held in SQL|found by its machine in time)\): "
"""A machine has lost its address while it lives."""
FOUND_BY = {
    "free-before-confirm": LEFT,
    "answer-before-confirm": r"\(acknowledged as served\): .*dhcpd has ",
    "forget-delete": LEFT,
    "double-allocate": LOST,
    "keep-aims": LEFT + r"|\(explained in SQL\): .*leaked: nobody holds Row\(.*>'",
    "keep-ghosts": r"\(hosts in dhcpd\): .*dhcpd has \{",
    "trust-after-reconnect": r"\(hosts in dhcpd\): .*dhcpd has None, it should have \{",
    "compare-parts": r"\(served all the time\): .* is bound with generation \d+, and dhcpd has None",
    "deaf-warden": r"\(recovery\): .*domains that have ended still hold addresses: vm-"
    r"|\(found by its machine in time\): .*its domain has run for 8 s, and macbind has not recorded that",
    "ignore-answers": r"\(a stranger is passed over\): .*was handed out to .*, while a stranger, .*, used it",
    "miss-foreign-hosts": HANDED_OUT,
    "ask-no-evidence": HANDED_OUT + r"|\(pools tiled\): .*free and used do not make up the pool",
    "remove-foreign-hosts": r"\(foreign host kept\): .* was made, and dhcpd has None",
    "yield-to-thieves": r"\(a thief leaves the owner alone\): .*macbind says ",
    "release-saved": ENDED,
    "release-rebooting": ENDED,
    "one-life": r"\(found by its machine in time\): .*its domain has run for 8 s, and macbind has not recorded that",
    "wait-for-others": r"\(freed in time\): .*its domain was destroyed, and macbind held the address for ",
    "miss-domains": r"\(a domain is passed over\): .*was handed out to .*, while a domain, squatter-of-.*, used it",
    "miss-lists": r"\(an older registry\): .*was handed out, and the domain .* uses it, which it has forgotten",
    "keep-no-place": r"\(root has a place\): .*Your user \(uid 0\) has \d+ connections to the service",
    "believe-uuids": r"\(attackers leave the owner alone\): .*macbind says ",
    "hear-no-others": r"\(a second DHCP server is found\): .*it has answered for ",
    "leak-secret": r"\(secrets\): .*the OMAPI secret \(hex\) is in ",
}
"""What a run says of each plant, whatever the order in which things happen to be done."""


class Run:
    """`python -m chaos` as `make` runs it, in a place of its own."""

    def __init__(self, place: Path, *arguments: str) -> None:
        self.place, self.output = place, place / "output"
        environment = {**os.environ, "PYTHONPATH": str(TESTS), "TMPDIR": str(place)}
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "chaos", "--seed", "7", *arguments],
                env=environment,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def text(self) -> str:
        """What it has printed."""
        return self.output.read_text()

    def left(self) -> list[str]:
        """Mounts, namespaces and processes that are still there."""
        mounts = [line for line in Path("/proc/mounts").read_text().splitlines() if str(self.place) in line]
        namespaces = [str(path) for path in Path("/run/netns").glob(f"labkit-{self.process.pid}-*")]
        return mounts + namespaces + [one for one in _command_lines() if str(self.place) in one]


def _command_lines() -> Iterator[str]:
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            yield file.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:  # it has ended
            continue


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory with a short path, as sockets need, that every user may look into, as PostgreSQL does."""
    with tempfile.TemporaryDirectory(prefix="mbc-", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.mark.timeout(1000)
def test_nothing_is_lost_doubled_or_leaked_whatever_breaks(place: Path) -> None:
    """A round on SQLite with libvirt and one on PostgreSQL end without a violation, and nothing is left of them."""
    run = Run(place, "--seconds", "20", "--rounds", "2", "--round", "11", "--sites", "0,1")
    assert run.process.wait(950) == 0, run.text()
    assert "1 sqlite, 1 postgresql" in run.text()
    assert "violations  0" in run.text()
    assert run.text().startswith("seed 7\n")
    assert run.text().endswith("seed 7\n")
    assert sorted(place.iterdir()) == [run.output]
    assert run.left() == []


@pytest.mark.timeout(1000)
def test_attackers_take_nothing_from_anybody(place: Path) -> None:
    """A round without attackers and one with them end without a violation, and the report says what they cost."""
    run = Run(place, "--seconds", "20", "--rounds", "2", "--round", "11", "--sites", "0", "--attackers")
    assert run.process.wait(950) in (0, 1), run.text()
    found = re.findall(r"^VIOLATION \d+ \((.*?)\)", run.text(), re.MULTILINE)
    # Two rounds of some seconds on a busy machine are no measurement; a campaign is.
    assert set(found) <= {"latency under attack"}, run.text()
    for done in ("DHCP messages of a hostile guest", "connections of a hostile user", "hostile definitions"):
        assert re.search(rf"^  {done} +[1-9]", run.text(), re.MULTILINE), run.text()
    assert "a call of the others, median" in run.text()
    assert run.left() == []


@pytest.mark.timeout(1100)
@pytest.mark.parametrize("plant", sorted(PLANTS))
def test_a_planted_bug_is_found(place: Path, plant: str) -> None:
    """The run ends with status 1, says what is wrong, and keeps what shows it, without a mount or a process."""
    run = Run(place, "--seconds", "900", "--plant", plant)
    assert run.process.wait(1080) == 1, run.text()
    assert re.search(rf"^VIOLATION \d+ {FOUND_BY[plant]}", run.text(), re.MULTILINE), run.text()
    (kept,) = (path for path in place.iterdir() if path != run.output)
    assert f"kept: {kept}" in run.text()
    assert list((kept / "sqlite" / "journals").iterdir())
    assert (kept / "sqlite" / "registry" / "registry.db").stat().st_size
    assert run.left() == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_told_to_end_leaves_nothing(place: Path, number: signal.Signals) -> None:
    """Ended amid a round, a run unmounts, stops and removes everything it made."""
    run = Run(place, "--seconds", "200", "--round", "60", "--plant", "keep-ghosts")
    journal = "chaos-*/sqlite/journals/w0.jsonl"
    until(lambda: any(one.stat().st_size for one in place.glob(journal)), 120, "work to begin")
    assert run.left()
    run.process.send_signal(number)
    assert run.process.wait(300) == 128 + number, run.text()
    assert sorted(place.iterdir()) == [run.output]
    assert run.left() == []
