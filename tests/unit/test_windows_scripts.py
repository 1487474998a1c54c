"""The scripts for Windows, as far as they can be looked at without running them."""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network

import pytest

from labkit import mac2ip
from labkit.powershell import Script
from macbind.addressing import AddressPlan, AddressRange, MacAddress
from macbind.errors import InvalidAddress, InvalidRequest
from macbind.guest.facts import GuestPool
from macbind.guest.windows import batch, powershell

SEED, KVM, WIDE = mac2ip.SCHEMES
PARTS = replace(
    SEED,
    name="the farm's 2nd & last, 100%",
    ranges=tuple(map(AddressRange.parse, ("10.1.1.1-10.1.1.9", "10.1.2.0/24"))),
    subnet=IPv4Network("10.1.0.0/16"),
    forbidden=tuple(map(IPv4Address, ("10.1.0.0", "10.1.255.255", "10.1.7.7"))),
)
RENDERERS: Sequence[Callable[[Sequence[GuestPool]], str]] = (powershell, batch)
SPELLINGS = (
    "00:16:3e:01:01:03", "0:16:3E:1:1:3", "00-16-3e-01-01-03", "0016.3e01.0103", "00163e010103", "00163e01010",
    "00:16-3e:01:01:03", "00:16:3e:01:01", "00:16:3e:001:1:3", "00::16:3e:1:1", "0016.3e010103", "g0163e010103", "",
    "00:16:3e:01:01:03:04", "0016-3e01-0103",
)  # fmt: skip

WINDOWS_8 = {
    "Disable-NetAdapter": "-Confirm",
    "Enable-NetAdapter": "-Confirm",
    "ForEach-Object": "",
    "Get-CimInstance": "-ClassName",
    "Get-Command": "-ErrorAction -Name",
    "Get-NetAdapter": "-IncludeHidden",
    "Get-ScheduledTask": "-ErrorAction -TaskName",
    "Get-WmiObject": "-Class -ErrorAction -Namespace -Query",
    "New-Object": "",
    "New-ScheduledTaskAction": "-Argument -Execute",
    "New-ScheduledTaskPrincipal": "-LogonType -RunLevel -UserId",
    "New-ScheduledTaskSettingsSet": "-AllowStartIfOnBatteries -DontStopIfGoingOnBatteries -Priority",
    "New-ScheduledTaskTrigger": "-AtStartup",
    "Register-ObjectEvent": "-EventName -InputObject -SourceIdentifier",
    "Register-ScheduledTask": "-Force -TaskName",
    "Remove-Event": "",
    "Rename-Computer": "-Force -NewName",
    "Set-ItemProperty": "-LiteralPath -Name -Value",
    "Sort-Object": "-Property",
    "Unregister-Event": "-SourceIdentifier",
    "Unregister-ScheduledTask": "-Confirm",
    "Wait-Event": "-SourceIdentifier -Timeout",
    "Where-Object": "",
    "Write-Host": "",
    "Write-Warning": "",
    "netsh.exe": "",
}
"""Commands and parameters that Windows 8 and Server 2012 have, by Microsoft's reference; looked up by hand."""


def parsed(*pools: GuestPool) -> Script:
    """The PowerShell script for these pools, ready to be computed with."""
    script = Script(powershell(pools).replace("\r\n", "\n"))
    assert script.faults == []
    script.define("Pools")
    return script


def decoded(script: Script, mac: MacAddress) -> str:
    """What the script prints for a MAC: ADDRESS/LENGTH GATEWAY, or the status if it stands for nothing."""
    found = script.call("Find-Address", mac.value)
    if found["status"]:
        return str(found["status"])
    address, gateway = (script.call("Format-Address", found[key]) for key in ("address", "gateway"))
    return f"{address}/{found['pool']['length']} {gateway}"


@pytest.mark.parametrize("render", RENDERERS)
def test_any_windows_can_read_it(render: Callable[[Sequence[GuestPool]], str]) -> None:
    """ASCII, CRLF at the end of every line, nothing left of the template's marks, whatever a pool is called."""
    text = render([PARTS, replace(KVM, name="Stra\u00dfe"), WIDE])
    assert text.isascii()
    assert text.count("\n") == text.count("\r\n") == text.count("\r")
    assert re.findall(r"@[A-Z]+@", text) == []


@pytest.mark.parametrize("render", RENDERERS)
def test_what_a_script_cannot_carry_is_refused(render: Callable[[Sequence[GuestPool]], str]) -> None:
    """No pool at all, or a domain that is none, gives one sentence and no script."""
    with pytest.raises(InvalidRequest, match="needs a pool"):
        render([])
    with pytest.raises(InvalidRequest, match="cannot be written into a script"):
        render([replace(SEED, search='x" & del')])


def test_powershell_decodes_as_the_daemon_does() -> None:
    """Every vector, worked out from the script's own functions and table, is the daemon's."""
    script = parsed(*mac2ip.SCHEMES)
    vectors = mac2ip.vectors()
    assert [f"{one.mac} {decoded(script, one.mac)}" for one in vectors] == [one.line for one in vectors]


@pytest.mark.parametrize(
    "pools", [mac2ip.several(), list(mac2ip.SCHEMES)], ids=["several pools", "whole subnets"]
)
def test_powershell_at_the_edges(pools: list[GuestPool]) -> None:
    """On both sides of every edge of ranges, subnets, prefixes and gateways it decides as the pools' facts say."""
    script, macs = parsed(*pools), mac2ip.edges(pools)
    answers = [decoded(script, mac) for mac in macs]
    wanted = [mac2ip.expected(pools, mac) for mac in macs]
    assert [f"{mac} {'-' if one in {'3', '4'} else one}" for mac, one in zip(macs, answers, strict=True)] == [
        f"{mac} {one}" for mac, one in zip(macs, wanted, strict=True)
    ]


def test_powershell_knows_whose_an_address_is() -> None:
    """Ranges first, then the rest of a subnet without what is forbidden; 3 is no pool's, 4 no machine's."""
    script = parsed(PARTS, KVM)
    answers = {
        "00:16:3e:01:01:09": "10.1.1.9/16 10.1.0.1",
        "00:16:3e:01:02:ff": "10.1.2.255/16 10.1.0.1",
        "00:16:3e:01:09:09": "10.1.9.9/16 10.1.0.1",
        "00:16:3e:01:07:07": "4",
        "00:16:3e:01:00:01": "4",
        "00:16:3e:01:ff:ff": "4",
        "00:16:3e:02:00:05": "4",
        "52:54:00:a8:03:04": "192.168.3.4/16 192.168.3.254",
        "0a:58:0a:01:01:01": "3",
        "ff:ff:ff:ff:ff:ff": "3",
    }
    assert {mac: decoded(script, MacAddress.parse(mac)) for mac in answers} == answers


def test_powershell_knows_masks() -> None:
    """Of every prefix length."""
    script = parsed(SEED)
    masks = [script.call("Format-Address", script.call("Get-Mask", length)) for length in range(33)]
    assert masks == [str(IPv4Network((0, length)).netmask) for length in range(33)]


def test_powershell_prefers_the_pool_that_hands_an_address_out() -> None:
    """A later pool whose ranges hold an address comes before an earlier one whose subnet does."""
    network = IPv4Network("223.0.0.0/8")
    plan = AddressPlan.build(network, "0a:58", ranges=[AddressRange.parse("223.1.1.1")])
    narrow = GuestPool("narrow", plan.scheme, network, plan.assignable, (), None, (), None)
    wide = replace(narrow, name="wide", ranges=(AddressRange.parse("223.2.0.0/16"),))
    script = parsed(narrow, wide)
    found = [
        script.call("Find-Address", plan.scheme.encode(IPv4Address(one)).value)
        for one in ("223.2.3.4", "223.9.9.9")
    ]
    assert [one["pool"]["name"] for one in found] == ["wide", "narrow"]
    assert decoded(script, plan.scheme.encode(IPv4Address("223.1.1.1"))) == "223.1.1.1/8 -"


def test_powershell_reads_the_spellings_the_daemon_reads() -> None:
    """The patterns of the script take exactly the texts that MacAddress takes, and no others."""
    patterns = [text for text in parsed(SEED).strings("ConvertFrom-Mac") if text.startswith("^")]
    assert len(patterns) == 3
    for text in SPELLINGS:
        try:
            MacAddress.parse(text)
            good = True
        except InvalidAddress:
            good = False
        assert any(re.search(one, text, re.IGNORECASE) for one in patterns) is good, text


def test_powershell_needs_no_more_than_windows_8_has() -> None:
    """Every command is a function of the script or one that Windows 8 has; no name of a variable is misspelt."""
    script = parsed(SEED)
    foreign = {
        name: " ".join(sorted(parameters))
        for name, parameters in script.commands.items()
        if name not in script.functions and name not in {'"Read-$channel"', "$Look"}
    }
    assert foreign == WINDOWS_8
    assert set(script.functions) >= {"Read-Smbios", "Read-Xenstore"}
    assert script.unset == set()


def test_powershell_touches_nothing_before_it_is_sure() -> None:
    """Whatever changes the machine stands in the functions that are called with a plan, or to register."""
    script = parsed(SEED)
    changing = {"Invoke-Netsh", "netsh.exe", "Enable-NetAdapter", "Disable-NetAdapter", "Set-ItemProperty"}
    changing |= {"Rename-Computer", "Register-ScheduledTask", "Unregister-ScheduledTask"}
    where = {
        name
        for name, node in script.functions.items()
        if any(one in (node.text or b"").decode() for one in changing)
    }
    assert where == {
        "Find-Asleep",
        "Undo-Enable",
        "Set-Plan",
        "Invoke-Netsh",
        "Invoke-Plan",
        "Set-Name",
        "Register-Me",
        "Unregister-Me",
    }
    assert not re.search(r"Start-Sleep|-seconds", powershell([SEED]))


def test_what_the_task_is_run_with() -> None:
    """At every start the script waits for its adapter, and does what it was registered with."""
    register = (parsed(SEED).functions["Register-Me"].text or b"").decode()
    assert '-File `"$PSCommandPath`" -Wait"' in register
    assert all(f"if (${one}) {{ $command += ' -{one}' }}" in register for one in ("HostName", "MacOnly"))
