"""The script for Linux by itself: what it makes of MACs, in both shells it is written for, and how it refuses."""

import re
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from labkit.mac2ip import SCHEMES, edges, expected, several, vectors
from macbind.addressing import MacAddress
from macbind.guest.facts import GuestPool
from macbind.guest.linux import render, unit

SHELLS = [["dash"], ["busybox", "sh"], ["bash", "--posix"]]
each_shell = pytest.mark.parametrize("shell", SHELLS, ids=" ".join)


def run(
    shell: Sequence[str],
    pools: Sequence[GuestPool],
    *arguments: str,
    stdin: str = "",
    user: int | None = None,
) -> "subprocess.CompletedProcess[str]":
    """Runs the script for these pools; its text is what the shell's option -c gets."""
    return subprocess.run(
        [*shell, "-c", render(pools), "mac2ip", *arguments],
        input=stdin, capture_output=True, text=True, check=False, timeout=60, user=user,
    )  # fmt: skip


@each_shell
def test_every_vector_is_decoded_as_the_daemon_does(shell: list[str]) -> None:
    """The 3,000 MACs of the common table stand for the addresses and gateways that macbind itself computes."""
    table = vectors()
    for one in table:
        (owner,) = [each for each in SCHEMES if one.mac.value >> 24 == each.scheme.encode(each.subnet[1]).value >> 24
                    or (len(each.scheme.prefix) == 2 and bytes(one.mac)[:2] == each.scheme.prefix)]  # fmt: skip
        assert owner.scheme.decode(one.mac) == one.address
    done = run(shell, SCHEMES, "--decode", "-", stdin="".join(f"{one.mac}\n" for one in table))
    assert done.stderr == ""
    assert done.returncode == 0
    assert [f"{one.mac} {line}" for one, line in zip(table, done.stdout.splitlines(), strict=True)] == [
        one.line for one in table
    ]


@each_shell
@pytest.mark.parametrize("pools", [several(), list(SCHEMES)], ids=["several pools", "whole subnets"])
def test_edges_of_pools_subnets_and_prefixes(shell: list[str], pools: list[GuestPool]) -> None:
    """On both sides of every edge the script decides as the pools' facts say: handed out, by hand, or refused."""
    macs = edges(pools)
    done = run(shell, pools, "--decode", *map(str, macs))
    wanted = [expected(pools, mac) for mac in macs]
    assert [f"{mac} {line}" for mac, line in zip(macs, done.stdout.splitlines(), strict=True)] == [
        f"{mac} {line}" for mac, line in zip(macs, wanted, strict=True)
    ]
    assert "-" in wanted
    assert done.returncode in {3, 4}


@each_shell
@pytest.mark.parametrize(
    "text", ["00:16:3E:01:01:03", "0:16:3e:1:1:3", "00-16-3e-01-01-03", "0016.3e01.0103", "00163E010103"]
)
def test_macs_are_read_in_every_spelling(shell: list[str], text: str) -> None:
    """Whatever macbind reads as a MAC, the script does."""
    assert str(MacAddress.parse(text)) == "00:16:3e:01:01:03"
    assert run(shell, SCHEMES, "--decode", text).stdout == "10.1.1.3/8 10.1.0.1\n"


@each_shell
@pytest.mark.parametrize(
    ("mac", "status", "sentence"),
    [
        (
            "b8:27:eb:01:01:03",
            3,
            "does not belong to a pool: their MACs begin with 00:16:3e, 52:54:00, 0a:58.",
        ),
        ("01:16:3e:01:01:03", 3, "is no MAC that a network card may have."),
        ("00:00:00:00:00:00", 3, "is no MAC that a network card may have."),
        ("00:16:3e:01:01", 3, "is not a MAC."),
        ("00:16:3e:01:01:103", 3, "is not a MAC."),
        ("00:16:3e:01:01:0g", 3, "is not a MAC."),
        ("00:16-3e:01:01:03", 3, "is not a MAC."),
        ("*", 3, "is not a MAC."),
        ("$(id)", 3, "is not a MAC."),
        ("00:16:3e:00:00:00", 4, "stands for 10.0.0.0, which no machine may have"),
        ("00:16:3e:ff:ff:ff", 4, "stands for 10.255.255.255, which no machine may have"),
        ("00:16:3e:07:00:01", 4, "stands for 10.7.0.1, which is the gateway of its own part of the subnet."),
        ("0a:58:0a:01:01:03", 4, "would be 10.1.1.3, which is not in the subnet of the pool 'wide'."),
    ],
)
def test_refusals_say_why(shell: list[str], mac: str, status: int, sentence: str) -> None:
    """One sentence on standard error, a dash on standard output, and the exit status that is documented."""
    done = run(shell, SCHEMES, "--decode", mac)
    assert (done.returncode, done.stdout) == (status, "-\n")
    assert sentence in done.stderr
    assert done.stderr.count("\n") == 1


def test_one_refusal_does_not_hide_the_others() -> None:
    """Each MAC has its line, in order; the exit status is that of the first refusal."""
    done = run(["dash"], SCHEMES, "--decode", "00:16:3e:01:01:03", "b8:27:eb:01:01:03", "0a:58:ac:10:00:09")
    assert done.stdout == "10.1.1.3/8 10.1.0.1\n-\n172.16.0.9/12 172.16.0.1\n"
    assert done.returncode == 3


@each_shell
@pytest.mark.parametrize(
    "arguments",
    [
        ["--nonsense"],
        ["--decode"],
        ["--persist"],
        ["--persist", "windows"],
        ["--probes=-1"],
        ["--wait", "1000"],
        ["--hostname", "a b"],
        ["--hostname=-%"],
        ["--hostname=%%"],
        ["--hostname", "a" * 48 + "%"],
        ["--channels=fw_cfg,telepathy"],
        ["extra"],
    ],
    ids=" ".join,
)
def test_misuse_is_told_with_the_usage(shell: list[str], arguments: list[str]) -> None:
    """What is not understood ends with status 2, a sentence and the usage, before anything is looked at."""
    done = run(shell, SCHEMES, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("mac2ip: ")
    assert "Usage: mac2ip" in done.stderr


def test_only_root_may_configure() -> None:
    """Another user is told so, with status 6."""
    done = run(["dash"], SCHEMES, user=65534)
    assert (done.returncode, done.stderr) == (6, "mac2ip: Run it as root.\n")


def test_every_exit_status_is_in_the_help() -> None:
    """--help names the statuses 0 to 7, and --version the macbind that made the script."""
    told = run(["dash"], SCHEMES, "--help")
    assert told.returncode == 0
    statuses = told.stdout.partition("Exit status: ")[2]
    assert [line.split()[0] for line in statuses.splitlines()[:8]] == [str(number) for number in range(8)]
    assert run(["dash"], SCHEMES, "--version").stdout.startswith("mac2ip (macbind ")


@each_shell
def test_shells_can_read_it(shell: list[str]) -> None:
    """Neither shell finds a fault in it without running it."""
    done = subprocess.run(
        [*shell, "-n"], input=render(several()), capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_shellcheck_finds_nothing() -> None:
    """shellcheck, told that it is POSIX sh, has nothing to say but that it cannot see calls by name."""
    done = subprocess.run(
        ["shellcheck", "--shell=sh", "--severity=style", "--exclude=SC2317", "-"],
        input=render(several()), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout == ""
    assert done.returncode == 0


def test_pools_are_named_and_quoted() -> None:
    """The script says for which pools it was made, leaves no mark open, and is the same each time."""
    text = render(several())
    assert "for the pools first, second, other." in text
    assert "@" not in text.replace('"$@"', "")
    assert text == render(several())
    odd = replace(several()[0], search="it's; rm -rf /")
    assert run(["dash"], [odd], "--decode", "00:16:3e:01:01:03").stdout == "10.1.1.3/16 10.1.0.1\n"
    assert IPv4Network("10.1.0.0/16") == odd.subnet


def test_the_unit_is_before_every_network_manager() -> None:
    """What orders it before them is what systemd provides for that."""
    assert "Before=network-pre.target" in unit()
    assert "Wants=network-pre.target" in unit()
    assert "cloud-init-local.service" in unit().partition("After=")[2].splitlines()[0]


def test_nothing_is_to_be_written_to_be_read() -> None:
    """But for the usage there are no here-documents, for which many shells make files: /tmp may be read-only."""
    assert re.findall(r"<<\W?[A-Z]+", render(several())) == ["<<'END"]


def test_scripts_of_the_manual_are_scripts() -> None:
    """What GUESTS.md gives to copy, for init systems and initramfs, is what a shell can read, and calls mac2ip."""
    manual = (Path(__file__).parents[2] / "controller/GUESTS.md").read_text(encoding="utf-8")
    scripts = re.findall(r"^```sh\n(#!.*?)^```$", manual, re.MULTILINE | re.DOTALL)
    assert len(scripts) == 4
    for script in scripts:
        assert "/sbin/mac2ip" in script
        done = subprocess.run(["dash", "-n"], input=script, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
