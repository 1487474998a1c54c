"""The script for Linux by itself: what it makes of MACs, in the shells it is written for, and how it refuses."""

import re
import subprocess
from collections.abc import Collection, Sequence
from dataclasses import replace
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from labkit.mac2ip import SCHEMES, edges, expected, several, vectors
from macbind.core.errors import InvalidRequest
from macbind.core.mac_address import MacAddress
from macbind.guest.facts import GuestPool
from macbind.guest.linux import CHANNELS, PERSIST, render, unit

SHELLS = [["dash"], ["busybox", "sh"], ["bash", "--posix"]]
each_shell = pytest.mark.parametrize("shell", SHELLS, ids=" ".join)


def run(
    shell: Sequence[str],
    pools: Sequence[GuestPool],
    *arguments: str,
    user: int | None = None,
    channels: Sequence[str] = (),
    persist: Sequence[str] = (),
) -> "subprocess.CompletedProcess[str]":
    """Runs the script for these pools; its text is what the shell's option -c gets."""
    return subprocess.run(
        [*shell, "-c", render(pools, channels=channels, persist=persist), "mac2ip", *arguments],
        capture_output=True, text=True, check=False, timeout=60, user=user,
    )  # fmt: skip


@each_shell
def test_every_vector_is_decoded_as_the_daemon_does(shell: list[str]) -> None:
    """The 3,000 MACs of the common table stand for the addresses and gateways that macbind itself computes."""
    table = vectors()
    for one in table:
        (owner,) = [each for each in SCHEMES if one.mac.value >> 24 == each.scheme.encode(each.subnet[1]).value >> 24
                    or (len(each.scheme.prefix) == 2 and bytes(one.mac)[:2] == each.scheme.prefix)]  # fmt: skip
        assert owner.scheme.decode(one.mac) == one.address
    done = run(shell, SCHEMES, "--decode", *(str(one.mac) for one in table))
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
def test_macs_of_channels_are_read_in_every_spelling(shell: list[str], text: str) -> None:
    """A script that reads channels takes whatever macbind reads as a MAC."""
    assert str(MacAddress.parse(text)) == "00:16:3e:01:01:03"
    assert run(shell, SCHEMES, "--decode", text, channels=["smbios"]).stdout == "10.1.1.3/8 10.1.0.1\n"


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
        ("00:16:3e:01:01", 3, "is not a MAC in lower case with colons."),
        ("00:16:3e:01:01:103", 3, "is not a MAC in lower case with colons."),
        ("00:16:3e:01:01:0g", 3, "is not a MAC in lower case with colons."),
        ("00:16-3e:01:01:03", 3, "is not a MAC in lower case with colons."),
        ("00:16:3E:01:01:03", 3, "is not a MAC in lower case with colons."),
        ("0:16:3e:01:01:003", 3, "is not a MAC in lower case with colons."),
        ("*", 3, "is not a MAC in lower case with colons."),
        ("$(id)", 3, "is not a MAC in lower case with colons."),
        ("00:16:3e:00:00:00", 4, "stands for 10.0.0.0, which no machine may have"),
        ("00:16:3e:ff:ff:ff", 4, "stands for 10.255.255.255, which no machine may have"),
        ("00:16:3e:07:00:01", 4, "stands for 10.7.0.1, which no machine may have"),
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
        ["--persist=auto"],
        ["--hostname=vm-%"],
        ["--identity"],
        ["--probes=-1"],
        ["--wait=1000"],
        ["--wait"],
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


@each_shell
@pytest.mark.parametrize("pattern", ["a b", "-%", "%%", "%-", "a" * 48 + "%"])
def test_patterns_for_host_names_are_checked(shell: list[str], pattern: str) -> None:
    """A pattern that cannot make a host name ends with status 2 and a sentence."""
    done = run(shell, SCHEMES, f"--hostname={pattern}", persist=["networkd"])
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("mac2ip: ")


def test_only_root_may_configure() -> None:
    """Another user is told so, with status 6."""
    done = run(["dash"], SCHEMES, user=65534)
    assert (done.returncode, done.stderr) == (6, "mac2ip: Run it as root.\n")


def test_every_exit_status_is_in_the_help() -> None:
    """--help names the statuses, 7 only where it can occur, and --version the macbind that made the script."""
    for persist, last in (((), 6), (("auto",), 7)):
        told = run(["dash"], SCHEMES, "--help", persist=persist)
        assert told.returncode == 0
        statuses = re.findall(r"(?:[:;] |^  )(\d) ", told.stdout.partition("Exit status")[2], re.MULTILINE)
        assert statuses == [str(number) for number in range(last + 1)]
    assert run(["dash"], SCHEMES, "--version").stdout.startswith("mac2ip (macbind ")


WHOLE: dict[str, Collection[str]] = {"persist": ("auto",), "channels": CHANNELS}
VARIANTS: list[dict[str, Collection[str]]] = [
    {},
    WHOLE,
    {"persist": ("networkd", "resolved"), "channels": CHANNELS},
]
VARIANTS += [{"persist": (one,)} for one in PERSIST]
VARIANTS += [{"channels": (one,)} for one in CHANNELS]
each_variant = pytest.mark.parametrize("extras", VARIANTS, ids=str)


def test_the_default_is_small() -> None:
    """Without flags the script finds, decodes, probes and configures, in at most 300 lines; flags add theirs."""
    size = len(render(SCHEMES).splitlines())
    assert size <= 300
    assert all(len(render(SCHEMES, **extras).splitlines()) > size for extras in VARIANTS[1:])
    for word in ("fw_cfg", "xenstore", "netplan", "NetworkManager", "resolvectl", "--hostname"):
        assert word not in render(SCHEMES)


@pytest.mark.parametrize(
    ("extras", "sentence"),
    [
        ({"persist": ["telepathy"]}, "There is no value of --persist 'telepathy'."),
        ({"persist": ["networkd", "ifcfg"]}, "A script cannot persist for networkd and ifcfg."),
        ({"channels": ["nocloud"]}, "There is no channel that a script can read 'nocloud'."),
    ],
)
def test_what_a_script_cannot_contain_is_refused(extras: dict[str, list[str]], sentence: str) -> None:
    """One sentence says what there is not."""
    with pytest.raises(InvalidRequest, match=re.escape(sentence)):
        render(SCHEMES, **extras)


@each_shell
@each_variant
def test_shells_can_read_it(shell: list[str], extras: dict[str, Collection[str]]) -> None:
    """No shell finds a fault in it without running it."""
    done = subprocess.run(
        [*shell, "-n"], input=render(several(), **extras), capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


@each_variant
def test_shellcheck_finds_nothing(extras: dict[str, Collection[str]]) -> None:
    """shellcheck, told that it is POSIX sh, has nothing to say but that it cannot see calls by name."""
    done = subprocess.run(
        ["shellcheck", "--shell=sh", "--severity=style", "--exclude=SC2317", "-"],
        input=render(several(), **extras), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout == ""
    assert done.returncode == 0


def test_pools_are_named_and_quoted() -> None:
    """The script says for which pools it was made, leaves no mark open, and is the same each time."""
    text = render(several(), **WHOLE)
    assert "for the pools first, second, other." in text
    assert re.findall("@[A-Z]+@|#:", text) == []
    assert text == render(several(), **WHOLE)
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
    assert re.findall(r"<<\W?[A-Z]+", render(several(), **WHOLE)) == ["<<'END"]


def test_scripts_of_the_manual_are_scripts() -> None:
    """What the manual gives to copy, for init systems and initramfs, is what a shell can read, and calls mac2ip."""
    manual = (Path(__file__).parents[2] / "controller/docs/guests/linux.md").read_text(encoding="utf-8")
    scripts = re.findall(r"^```sh\n(#!.*?)^```$", manual, re.MULTILINE | re.DOTALL)
    assert len(scripts) == 4
    for script in scripts:
        assert "/sbin/mac2ip" in script
        done = subprocess.run(["dash", "-n"], input=script, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
