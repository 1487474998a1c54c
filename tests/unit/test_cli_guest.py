"""`macbind guest-script`: works from the configuration alone, and refuses in one sentence."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from macbind.cli.commands import app
from macbind.cli.guest import SCRIPTS

POOLS = """
[dhcpd.main]

[subnet."10.1.0.0/16"]
routers = ["10.1.0.1"]
domain_name_servers = ["10.1.0.53"]
domain_name = "farm.example.org"

[pool.farm]
subnet = "10.1.0.0/16"
ranges = ["10.1.1.1-10.1.9.254"]

[pool.kvm]
subnet = "192.168.0.0/24"
mac_prefix = "52:54:00"
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A configuration; nothing else of macbind is there."""
    path = tmp_path / "macbind.toml"
    path.write_text(POOLS)
    return path


def test_all_pools_by_default(config: Path) -> None:
    """Without --pool the script knows every pool with what its machines must configure."""
    text = CliRunner().invoke(app, ["guest-script", "linux", "--config", str(config)]).stdout
    assert "for the pools farm, kvm." in text
    offers = [line.split() for line in text.splitlines() if line.startswith("  offer ")]
    assert offers[0][1:8] == [
        "farm", "00:16:3e", "10.$4.$5.$6", "16", "10.1.0.1", "'10.1.0.53'", "farm.example.org",
    ]  # fmt: skip
    assert offers[1][1:5] == ["kvm", "52:54:00", "192.$4.$5.$6", "24"]


def test_one_pool(config: Path) -> None:
    """--pool leaves the others out, and may be repeated."""
    words = ["guest-script", "linux", "--config", str(config), "--pool", "kvm"]
    assert "for the pool kvm." in CliRunner().invoke(app, words).stdout
    assert "for the pools farm, kvm." in CliRunner().invoke(app, [*words, "--pool", "farm"]).stdout


def test_flags_add_their_parts(config: Path) -> None:
    """--persist and --channels add what they name, and nothing else."""

    def made(*words: str) -> str:
        return CliRunner().invoke(app, ["guest-script", *words, "--config", str(config)]).stdout

    words = {
        "write_networkd()",
        "write_netplan()",
        "resolve_by_systemd()",
        "smbios()",
        "xenstore()",
        "fw_cfg()",
    }

    def has(*flags: str) -> set[str]:
        return {word for word in words if word in made("linux", *flags)}

    assert has() == set()
    assert has("--persist", "networkd") == {"write_networkd()"}
    assert has("--persist", "netplan", "--persist", "resolved") == {"write_netplan()", "resolve_by_systemd()"}
    assert has("--channels", "smbios,xenstore") == {"smbios()", "xenstore()"}
    assert has("--persist", "auto", "--channels", "all") == words
    assert "Read-Smbios" not in made("windows")
    assert "Read-Xenstore" in made("windows", "--channels", "all")


def test_file_is_written_whole_and_executable(config: Path, tmp_path: Path) -> None:
    """--output makes a file that can be run, replaces the old one, and says so; the unit cannot be run."""
    target = tmp_path / "mac2ip"
    target.write_text("old")
    words = ["guest-script", "linux", "--config", str(config), "--output", str(target)]
    done = CliRunner().invoke(app, words)
    assert (done.exit_code, done.stdout) == (0, f"{target}: written\n")
    assert target.read_text().startswith("#!/bin/sh\n")
    assert target.stat().st_mode & 0o777 == 0o755
    unit = tmp_path / "mac2ip.service"
    assert CliRunner().invoke(app, ["guest-script", "linux-unit", "-o", str(unit)]).exit_code == 0
    assert unit.stat().st_mode & 0o777 == 0o644
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mac2ip", "mac2ip.service", "macbind.toml"]


@pytest.mark.parametrize(
    ("arguments", "status", "sentence", "hint"),
    [
        (["plan9"], 4, "There is no guest script 'plan9'.", f"There are: {', '.join(SCRIPTS)}."),
        (["linux", "--pool", "fram"], 4, "There is no pool 'fram' in the configuration.", "These are there:"),
        (["linux", "--persist", "netpaln"], 4, "There is no value of --persist 'netpaln'.", "There are: netw"),
        (["linux", "--channels", "fw_cfg,x"], 4, "There is no channel that a script can read 'x'.", "There are:"),
        (["windows", "--persist", "auto"], 4, "The guest script 'windows' takes no --persist.", "Leave the"),
        (["windows-batch", "--channels", "all"], 4, "'windows-batch' takes no --channels.", "Leave the"),
        (["linux-unit", "--channels", "all"], 4, "'linux-unit' takes no --channels.", "Leave the"),
        (["windows", "--channels", "fw_cfg"], 4, "that this script can read 'fw_cfg'.", "There are: smbios"),
        (["linux", "--output", "/nonexistent/x"], 4, "/nonexistent/x cannot be written: No", "Choose a place"),
    ],
)  # fmt: skip
def test_refusals(config: Path, arguments: list[str], status: int, sentence: str, hint: str) -> None:
    """What cannot be made is told in a sentence with a hint, and nothing is printed."""
    done = CliRunner().invoke(app, ["guest-script", *arguments, "--config", str(config)])
    assert (done.exit_code, done.stdout) == (status, "")
    assert sentence in done.stderr
    assert hint in done.stderr


@pytest.mark.parametrize(
    ("kind", "begins"), [("linux-unit", "# Gives this machine"), ("linux-udev", "# Runs mac2ip.service")]
)
def test_without_a_configuration(tmp_path: Path, kind: str, begins: str) -> None:
    """The script needs it, and says so with the configuration's exit status; unit and rule do not."""
    words = ["--config", str(tmp_path / "none.toml")]
    assert CliRunner().invoke(app, ["guest-script", "linux", *words]).exit_code == 3
    assert CliRunner().invoke(app, ["guest-script", kind, *words]).stdout.startswith(begins)


def test_json(config: Path) -> None:
    """--json prints the script, and the file it was written to, as a value."""
    done = CliRunner().invoke(app, ["guest-script", "linux", "--config", str(config), "--json"])
    value = json.loads(done.stdout)
    assert (value["kind"], value["file"]) == ("linux", None)
    assert value["script"].startswith("#!/bin/sh\n")


@pytest.mark.parametrize("kind", SCRIPTS)
def test_every_kind_is_in_the_help(kind: str) -> None:
    """`macbind guest-script --help` names each kind and says what it is."""
    told = " ".join(CliRunner().invoke(app, ["guest-script", "--help"]).stdout.split())
    assert f"{kind}: {SCRIPTS[kind].about}" in told
