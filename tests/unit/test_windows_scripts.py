"""The scripts for Windows, as far as they can be looked at without running them."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import pytest
import tree_sitter_powershell
from tree_sitter import Language, Node, Parser

from labkit import mac2ip
from macbind.core.errors import InvalidAddress, InvalidRequest
from macbind.core.mac_address import MacAddress
from macbind.guest.facts import GuestPool
from macbind.guest.windows import CHANNELS, batch, decisions, powershell

SEED, KVM, WIDE = mac2ip.SCHEMES
PARTS = mac2ip.PARTS
RENDERERS: Sequence[Callable[[Sequence[GuestPool]], str]] = (powershell, batch)
SPELLINGS = (
    "00:16:3e:01:01:03", "0:16:3E:1:1:3", "00-16-3e-01-01-03", "0016.3e01.0103", "00163e010103", "00163e01010",
    "00:16-3e:01:01:03", "00:16:3e:01:01", "00:16:3e:001:1:3", "00::16:3e:1:1", "0016.3e010103", "g0163e010103", "",
    "00:16:3e:01:01:03:04", "0016-3e01-0103",
)  # fmt: skip

AUTOMATIC = {"true", "false", "null", "_", "args", "lastexitcode", "pscommandpath"}
"""Variables that PowerShell itself sets."""
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


class Tree:
    """The syntax tree of a PowerShell script, by tree-sitter.

    Attributes:
        faults: Line and text of whatever is no PowerShell, or is missing.
        functions: The text of each function, by its name.
        commands: The commands that the script runs, and with which parameters.
        unset: Variables, in lower case, that are read though nothing sets them: names that are misspelt.
    """

    def __init__(self, text: str) -> None:
        tree = Parser(Language(tree_sitter_powershell.language())).parse(text.replace("\r\n", "\n").encode())
        nodes = list(_walk(tree.root_node))
        self.faults = [
            (one.start_point.row + 1, _text(one)) for one in nodes if one.type == "ERROR" or one.is_missing
        ]
        self.functions = {
            _text(one.named_children[0]): _text(one) for one in nodes if one.type == "function_statement"
        }
        self.commands: dict[str, set[str]] = {}
        for node in nodes:
            if node.type == "command" and (name := node.child_by_field_name("command_name")):
                elements = node.child_by_field_name("command_elements")
                found = [
                    _text(one)
                    for one in (elements.children if elements else ())
                    if one.type == "command_parameter"
                ]
                self.commands.setdefault(_text(name), set()).update(found)
        read = {name for node in nodes for name in _named(node)}
        self.unset = read - {name for node in nodes for name in _set(node)} - AUTOMATIC


def _walk(node: Node) -> Iterator[Node]:
    yield node
    for child in node.children:
        yield from _walk(child)


def _text(node: Node) -> str:
    return (node.text or b"").decode()


def _named(node: Node) -> Iterator[str]:
    if node.type in {"variable", "braced_variable"}:
        yield _text(node).strip("$@{}").removeprefix("script:").lower()


def _set(node: Node) -> Iterator[str]:
    """The variables that a node sets."""
    if node.type in {"assignment_expression", "foreach_statement", "script_parameter"}:
        targets = node.named_children if node.type == "script_parameter" else node.named_children[:1]
        yield from (name for target in targets for one in _walk(target) for name in _named(one))


def parsed(*pools: GuestPool, channels: Sequence[str] = CHANNELS) -> Tree:
    """The syntax tree of the PowerShell script for these pools."""
    tree = Tree(powershell(pools, channels=channels))
    assert tree.faults == []
    return tree


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


@pytest.mark.parametrize(
    "pools", [mac2ip.several(), [PARTS, KVM], list(mac2ip.SCHEMES)], ids=["several", "parts", "whole subnets"]
)
def test_powershell_decides_by_the_lines_of_the_batch_file(pools: list[GuestPool]) -> None:
    """Line by line it has the conditions and values of the batch file, which Wine runs against the daemon's table."""
    ours, theirs = mac2ip.powershell_decisions(powershell(pools)), mac2ip.batch_decisions(batch(pools))
    assert ours == theirs
    assert [one.name for one in ours[:3]] == list(decisions.SUMS)
    assert {one.name for one in ours[3:]} == {"HIT", "WHY", "STATUS", "FACTS"}
    assert len([one for one in ours if one.name == "FACTS"]) == len(pools)
    assert len(ours) == 3 + len(re.findall(r"\{ \$(?:HIT|WHY|STATUS|FACTS) = ", powershell(pools)))


def test_powershell_reads_the_spellings_the_daemon_reads() -> None:
    """The patterns of the script take exactly the texts that MacAddress takes, and no others."""
    patterns = re.findall(r"-match '(\^[^']*)'", parsed(SEED).functions["ConvertFrom-Mac"])
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
    plain = parsed(SEED, channels=())
    assert plain.unset == set()
    assert set(script.commands) - set(plain.commands) == {
        '"Read-$channel"', "Find-Said", "Get-CimInstance", "Get-Command", "Get-WmiObject", "Read-Channels",
        "Rename-Computer", "Set-Name", "Test-Address",
    }  # fmt: skip


def test_powershell_touches_nothing_before_it_is_sure() -> None:
    """Whatever changes the machine stands in the functions that are called with a plan, or to register."""
    script = parsed(SEED)
    changing = {"Invoke-Netsh", "netsh.exe", "Enable-NetAdapter", "Disable-NetAdapter", "Set-ItemProperty"}
    changing |= {"Rename-Computer", "Register-ScheduledTask", "Unregister-ScheduledTask"}
    where = {name for name, text in script.functions.items() if any(one in text for one in changing)}
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
    register = parsed(SEED).functions["Register-Me"]
    assert '-File `"$PSCommandPath`" -Wait"' in register
    assert "if ($HostName) { $command += ' -HostName' }" in register
