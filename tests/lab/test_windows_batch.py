"""The batch file for Windows, run by Wine's cmd. Stand-ins for the programs of Windows record how they are called."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network

import pytest

from labkit import mac2ip
from labkit.wine import Outcome, Scene, Wine, wine
from macbind.core.address_range import AddressRange
from macbind.core.gateway_rule import GatewayRule
from macbind.core.mac_scheme import MacScheme
from macbind.guest.facts import GuestPool
from macbind.guest.windows import batch

SEED = replace(mac2ip.SCHEMES[0], dns=(IPv4Address("10.0.0.53"), IPv4Address("10.0.0.54")))
BARE = replace(mac2ip.SCHEMES[0], dns=(), gateway=None, search=None)
SCRIPT = batch([SEED, *mac2ip.SCHEMES[1:]])
VECTORS = batch(mac2ip.SCHEMES)

GUID = "{0A1B2C3D-0000-4000-8000-00000000000A}"
NAME = "Local Area Connection (2) & more!"
DEVICE = r"PCI\VEN_8086&DEV_100E&SUBSYS_11001AF4&REV_03\3&267a616a&0&18"
NETWORK = (
    r"HKEY_LOCAL_MACHINE\SYSTEM\CurrentControlSet\Control\Network\{4D36E972-E325-11CE-BFC1-08002BE10318}"
)
MINE, OTHER, GATEWAY = "00-16-3E-01-01-03", "AC-DE-48-00-11-22", "00-16-3E-05-00-01"
ADDRESS = f'netsh interface ip set address name="{NAME}" static 10.1.1.3 255.0.0.0 10.1.0.1 1'
DNS = (
    f'netsh interface ip set dns name="{NAME}" static 10.0.0.53 primary validate=no',
    f'netsh interface ip add dns name="{NAME}" 10.0.0.54 index=2 validate=no',
)
DOMAIN = (
    rf'reg add "HKLM\SYSTEM\CurrentControlSet\Services\Tcpip\Parameters\Interfaces\{GUID}"'
    " /v Domain /t REG_SZ /d farm.example.org /f"
)
ENABLE, DISABLE = (
    f'netsh interface set interface name="{NAME}" admin={state}' for state in ("enabled", "disabled")
)
ENABLE_XP = f'devcon enable "@{DEVICE}"'
READS = ("getmac", "ipconfig", "reg query", "ping")


def row(mac: str, transport: str = rf"\Device\Tcpip_{GUID}") -> str:
    """A line of `getmac /fo csv /nh /v`."""
    return f'"{NAME}","Intel(R) PRO/1000 MT, rev. 3","{mac}","{transport}"\n'


def registry(gap: str) -> dict[str, str]:
    """What `reg query` shows; Windows XP has tabs between the columns, later ones have spaces."""
    loopback = "{0A1B2C3D-0000-4000-8000-00000000000B}"
    return {
        "network.txt": f"! REG.EXE VERSION 3.0\n\n{NETWORK}\n    Class{gap}REG_SZ{gap}Net\n\n"
        rf"{NETWORK}\{loopback}\Connection" + "\n"
        f"    PnpInstanceID{gap}REG_SZ{gap}ROOT\\MS_LOOPBACK\\0000\n    Name{gap}REG_SZ{gap}Loopback\n\n"
        rf"{NETWORK}\{GUID}\Connection" + "\n"
        f"    DefaultNameIndex{gap}REG_DWORD{gap}0x1\n    Name{gap}REG_SZ{gap}{NAME}\n"
        f"    PnpInstanceID{gap}REG_SZ{gap}{DEVICE}\n",
        "driver.txt": f"    Driver{gap}REG_SZ{gap}{{4D36E972-E325-11CE-BFC1-08002BE10318}}\\0007\n",
    }


REG = (
    "if not %1==query exit /b 0",
    'for %%w in (%*) do if "%%~w"=="HKU\\S-1-5-19" if exist nobody.txt exit /b 1',
    'for %%w in (%*) do if "%%~w"=="Driver" type driver.txt',
    'for %%w in (%*) do if "%%~w"=="NetworkAddress" if exist written.txt type written.txt',
    'for %%w in (%*) do if "%%~w"=="ConfigFlags" if exist flags.txt type flags.txt',
    'for %%w in (%*) do if "%%~w"=="CSConfigFlags" if exist csflags.txt type csflags.txt',
    'for %%w in (%*) do if "%%~w"=="/s" type network.txt',
    "exit /b 0",
)
SWITCH = (
    "copy awake.txt getmac.txt >nul",
    "if exist slow.txt copy slow.txt getmac.txt >nul",
    "copy asleep.txt getmac.txt >nul",
)
DEVCON = (
    *(f"if %1=={verb} {line}" for verb, line in zip(("enable", "enable", "disable"), SWITCH, strict=True)),
    "exit /b 0",
)
PROGRAMS = {
    "getmac": ("type getmac.txt", "exit /b 0"),
    "ipconfig": ("type ipconfig.txt", "exit /b 0"),
    "reg": REG,
    "netsh": (
        "if exist refused.txt exit /b 1",
        *(
            f"if %3==interface if %7=={verb} {line}"
            for verb, line in zip(("enabled", "enabled", "disabled"), SWITCH, strict=True)
        ),
        "if %3==interface exit /b 0",
        "if not exist early.txt exit /b 0",
        "del early.txt",
        "exit /b 1",
    ),
    "schtasks": ("exit /b 0",),
    "ping": (
        "if exist pong.txt type pong.txt",
        "if %3==127.0.0.1 if exist later.txt copy later.txt getmac.txt >nul",
        "exit /b 0",
    ),
}


def scene(mac: str = MINE, *runs: str, version: str = "win10", **files: str) -> Scene:
    """A machine whose one adapter is enabled and has this MAC."""
    there = registry("    ") | {"getmac.txt": row(mac), "ipconfig.txt": "Windows IP Configuration\n"}
    return Scene(SCRIPT, runs or ("",), PROGRAMS, there | {f"{k}.txt": v for k, v in files.items()}, version)


def asleep(mac: str, *runs: str, version: str = "win10", shown: str | None = None, **files: str) -> Scene:
    """A machine whose one adapter is disabled, and has this MAC when it is not."""
    shown = row("Disabled", "Disconnected") if shown is None else shown
    state = {"getmac": shown, "asleep": shown, "awake": row(mac), "flags": DISABLED}
    made = scene(mac, *runs, version=version, **{**state, **files})
    there = {**made.files, **registry("\t" if version.startswith("winxp") else "    ")}
    return replace(made, programs={**PROGRAMS, "devcon": DEVCON}, files=there)


HAD = ("10.1.1.3", "255.0.0.0", "10.1.0.1", "10.0.0.53", "10.0.0.54", "farm.example.org")
DISABLED = "    ConfigFlags    REG_DWORD    0x1\n"
HAS = f"""
   Connection-specific DNS Suffix  . : farm.example.org
   Physical Address. . . . . . . . . : {MINE}
   Link-local IPv6 Address . . . . . : fe80::1%11(Preferred)
   IPv4 Address. . . . . . . . . . . : 10.1.1.3(Preferred)
   Subnet Mask . . . . . . . . . . . : 255.0.0.0
   Default Gateway . . . . . . . . . : 10.1.0.1
   DNS Servers . . . . . . . . . . . : 10.0.0.53
                                       10.0.0.54
   NetBIOS over Tcpip. . . . . . . . : Enabled
"""
PONG = "Reply from 10.1.1.3: bytes=32 time<1ms TTL=128\n"
WRITTEN = "    NetworkAddress    REG_SZ    00163e010103\n"
ODD = (
    "00:16:3E:01:01:03 0-16-3e-1-1-3 0016.3e01.0103 00163e010103 00:16-3e:1:1:3 00::16:3e:1:1 zz:16:3e:1:1:3 "
    "00:16:3e:001:1:3 00:16:3e:1:1 00163e0101 00:16:3e:1:1:3:4 52:54:00:00:00:01 00:16:3e:05:00:01 "
    "00:16:3e:00:00:00 0a:58:ac:1f:ff:ff 02:00:00:00:00:01"
)
WHOSE = {
    "00:16:3e:01:01:09": "10.1.1.9/16 10.1.0.1",
    "00:16:3e:01:02:ff": "10.1.2.255/16 10.1.0.1",
    "00:16:3e:01:09:09": "10.1.9.9/16 10.1.0.1",
    "00:16:3e:01:07:07": "-",
    "00:16:3e:01:00:01": "-",
    "00:16:3e:01:ff:ff": "-",
    "00:16:3e:02:00:05": "-",
    "52:54:00:a8:03:04": "192.168.3.4/16 192.168.3.254",
    "0a:58:0a:01:01:01": "-",
    "ff:ff:ff:ff:ff:ff": "-",
}
NARROW = GuestPool(
    "narrow",
    MacScheme.for_subnet("0a:58", IPv4Network("223.0.0.0/8")),
    IPv4Network("223.0.0.0/8"),
    (AddressRange.parse("223.1.1.1"),),
    (),
    None,
    (IPv4Address("223.0.0.53"),),
    None,
)
WIDER = replace(
    NARROW, ranges=(AddressRange.parse("223.2.0.0/16"),), dns=(), gateway=GatewayRule.parse("223.0.0.9")
)
FIRST = {
    "0a:58:df:01:01:01": "223.1.1.1/8 -",
    "0a:58:df:02:03:04": "223.2.3.4/8 223.0.0.9",
    "0a:58:df:09:09:09": "223.9.9.9/8 -",
}
SCENES = {
    "vectors": Scene(
        VECTORS,
        ("/decodefile macs.txt", "/decodefile absent.txt"),
        files={"macs.txt": "".join(f"{vector.mac}\n" for vector in mac2ip.vectors())},
    ),
    "edges": Scene(
        batch(mac2ip.several()),
        ("/decodefile macs.txt",),
        files={"macs.txt": "".join(f"{mac}\n" for mac in mac2ip.edges(mac2ip.several()))},
    ),
    "parts": Scene(batch([mac2ip.PARTS, mac2ip.SCHEMES[1]]), (f"/decode {' '.join(WHOSE)}",)),
    "narrow": Scene(batch([NARROW, WIDER]), (f"/decode {' '.join(FIRST)}",)),
    "odd": Scene(VECTORS, (f"/decode {ODD}", "/decode", "/bogus", "/help")),
    "bare": Scene(batch([BARE]), ("/decode 00:16:3e:05:00:01", "/dryrun"), PROGRAMS, scene().files),
    "enabled": scene(MINE, "", "/dryrun"),
    "unplugged": scene(getmac=row(MINE, "Media disconnected")),
    "unknown": scene(OTHER),
    "forbidden": scene(GATEWAY),
    "already": scene(ipconfig=HAS),
    **{f"not {one}": scene(ipconfig=HAS.replace(one, "")) for one in HAD},
    "refused": scene(refused="yes"),
    "nobody": scene(MINE, "", "/register", "/unregister", nobody="yes"),
    "checked": scene(MINE, "/check", pong=PONG),
    "checked on XP": scene(MINE, "/check", version="winxp64", pong=PONG),
    "taken": scene(MINE, "/check"),
    "registered": scene(MINE, "/register", "/registerrun", "/unregister", "/register /dryrun"),
    "asleep": asleep(MINE, "/dryrun", ""),
    "asleep on XP": asleep(
        MINE, version="winxp64", shown="", flags="", csflags="    CSConfigFlags\tREG_DWORD\t0x1\n"
    ),
    "slow": asleep(MINE, slow=row("N/A", "Disconnected"), later=row(MINE), early="yes"),
    "asleep, another's": asleep(OTHER),
    "asleep, written down": asleep(MINE, written=WRITTEN),
    "asleep on XP, written down": asleep(MINE, version="winxp64", written=WRITTEN),
    "getmac fails": asleep(MINE, shown="", flags=""),
    "gone": asleep(
        MINE, shown=row(OTHER).replace(NAME, "Another"), flags="    ConfigFlags    REG_DWORD    0x0\n"
    ),
    "late": scene(OTHER, "/wait", later=row(MINE)),
    "never": scene(OTHER, "/wait"),
    "has, somebody else too": scene(MINE, "/check", "/check /dryrun", ipconfig=HAS),
    "registered to check": scene(MINE, "/register /check", "/check /registerrun"),
    "no devcon": replace(asleep(MINE, version="winxp64"), programs=PROGRAMS),
    "no switch": asleep(MINE, refused="yes"),
}


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, list[Outcome]]]:
    """What all scenes came to; the thousands of vectors are decoded by a Windows of their own meanwhile."""
    long = {"vectors": SCENES["vectors"]}
    short = {name: scene for name, scene in SCENES.items() if name not in long}
    with ExitStack() as machines, ThreadPoolExecutor() as threads:
        windows = [machines.enter_context(wine(tmp_path_factory.mktemp("wine"))) for _ in range(2)]
        first, second = threads.map(Wine.play, windows, (long, short))
        yield first | second


def changes(outcome: Outcome) -> list[str]:
    """The calls that change something."""
    return [call for call in outcome.calls if not call.startswith(READS)]


def test_every_vector_is_decoded_as_by_the_daemon(played: dict[str, list[Outcome]]) -> None:
    """Thousands of MACs of three schemes give the address, prefix length and gateway the daemon would give."""
    decoded = played["vectors"][0]
    wanted = [vector.line.split(" ", 1)[1] for vector in mac2ip.vectors()]
    assert decoded.output.splitlines() == wanted
    assert (decoded.code, decoded.errors) == (0, "")


def test_edges(played: dict[str, list[Outcome]]) -> None:
    """On both sides of every edge of ranges, subnets, prefixes and gateways it decides as the pools' facts say."""
    pools = mac2ip.several()
    macs = mac2ip.edges(pools)
    answers = played["edges"][0].output.splitlines()
    assert [f"{mac} {one}" for mac, one in zip(macs, answers, strict=True)] == [
        f"{mac} {mac2ip.expected(pools, mac)}" for mac in macs
    ]


@pytest.mark.parametrize(("name", "answers"), [("parts", WHOSE), ("narrow", FIRST)])
def test_whose_an_address_is(played: dict[str, list[Outcome]], name: str, answers: dict[str, str]) -> None:
    """A pool whose ranges hold it, or else the first in whose subnet it is and not forbidden; or nobody's."""
    assert played[name][0].output.splitlines() == list(answers.values())


def test_spellings_and_refusals(played: dict[str, list[Outcome]]) -> None:
    """The spellings of a MAC the daemon reads are read; what is none, or is no machine's, gets a sentence and a -."""
    odd = played["odd"][0]
    assert odd.output.split("\n") == ["10.1.1.3/8 10.1.0.1"] * 4 + ["-"] * 12 + [""]
    said = odd.errors.splitlines()
    assert [line for line in said if "is not a MAC" in line] == said[:7]
    assert said[7] == "mac2ip: 52:54:00:00:00:01 would be 192.0.0.1, which is not in 192.168.0.0/16."
    assert [("no machine may have" in line) for line in said[8:11]] == [True] * 3
    assert said[11].startswith("mac2ip: 02:00:00:00:00:01 does not belong to a pool")
    assert odd.code == 3


def test_a_pool_without_gateway(played: dict[str, list[Outcome]]) -> None:
    """Without a gateway, DNS servers and domain there is only the address to set."""
    assert played["bare"][0].output == "10.5.0.1/8 -\n"
    (command,) = played["bare"][1].output.splitlines()
    assert command.endswith(f'name="{NAME}" static 10.1.1.3 255.0.0.0 none')


def test_a_command_line_that_is_not_understood(played: dict[str, list[Outcome]]) -> None:
    """Each mistake gets one sentence and the exit code 2; help is no mistake."""
    nothing, wrong, helped = played["odd"][1:]
    absent = played["vectors"][1]
    assert [one.code for one in (nothing, wrong, absent, helped)] == [2, 2, 2, 0]
    assert all(one.errors.startswith("mac2ip: ") and not one.output for one in (nothing, wrong, absent))
    assert helped.output.startswith("Usage: mac2ip")


def test_an_enabled_adapter(played: dict[str, list[Outcome]]) -> None:
    """The MAC is read, then one netsh sets address, mask and gateway; names may have spaces, & and brackets."""
    done, dry = played["enabled"]
    assert (done.code, done.errors, changes(done)) == (0, "", [ADDRESS, DOMAIN, *DNS])
    assert done.output == f'mac2ip: "{NAME}" {MINE} 10.1.1.3/8 gateway 10.1.0.1\n'
    assert (dry.code, dry.errors, changes(dry)) == (0, "", [])
    assert dry.output.splitlines() == [f"would run: {line}" for line in (ADDRESS, DOMAIN, *DNS)]


def test_an_adapter_without_a_cable(played: dict[str, list[Outcome]]) -> None:
    """getmac does not say which connection it is then, but the registry does."""
    (done,) = played["unplugged"]
    assert (done.code, changes(done)) == (0, [ADDRESS, DOMAIN, *DNS])


@pytest.mark.parametrize(
    ("name", "code"), [("unknown", 3), ("forbidden", 4), ("getmac fails", 3), ("gone", 3), ("never", 3)]
)
def test_nothing_is_touched(played: dict[str, list[Outcome]], name: str, code: int) -> None:
    """A MAC of no pool or a gateway's, a getmac that shows nothing, an adapter that is no longer there."""
    (done,) = played[name]
    assert (done.code, done.output, changes(done)) == (code, "", [])
    assert done.errors.startswith("mac2ip: ")


def test_a_machine_that_has_it_already(played: dict[str, list[Outcome]]) -> None:
    """A second run changes nothing."""
    (again,) = played["already"]
    assert (again.code, changes(again)) == (0, [])
    assert again.output == f'mac2ip: "{NAME}" {MINE} has 10.1.1.3/8 already.\n'


@pytest.mark.parametrize("one", HAD)
def test_a_machine_that_lacks_one_value(played: dict[str, list[Outcome]], one: str) -> None:
    """All are set again, as after a run that failed half-way."""
    (done,) = played[f"not {one}"]
    assert (done.code, changes(done)) == (0, [ADDRESS, DOMAIN, *DNS])


def test_an_adapter_that_appears_late(played: dict[str, list[Outcome]]) -> None:
    """With /wait, one that Windows knows only after half a minute still gets its address, by one more look."""
    (done,), (never,) = played["late"], played["never"]
    assert (done.code, changes(done)) == (0, [ADDRESS, DOMAIN, *DNS])
    assert [call for call in never.calls if call.startswith(("getmac", "ping"))] == [
        "getmac /fo csv /nh /v",
        "ping -n 31 127.0.0.1",
        "getmac /fo csv /nh /v",
    ]


def test_an_address_it_has_and_somebody_else_too(played: dict[str, list[Outcome]]) -> None:
    """/check also looks at an address that was set at an earlier start."""
    taken, dry = played["has, somebody else too"]
    assert (taken.code, changes(taken)) == (5, [f'netsh interface ip set address name="{NAME}" dhcp'])
    assert (dry.code, changes(dry)) == (0, [])
    assert dry.output.endswith("has 10.1.1.3/8 already.\n")


def test_a_netsh_that_fails(played: dict[str, list[Outcome]]) -> None:
    """No more is done, and a sentence says what failed."""
    (done,) = played["refused"]
    assert (done.code, changes(done)) == (1, [ADDRESS])
    assert "netsh could not set the address 10.1.1.3" in done.errors


def test_an_ordinary_user(played: dict[str, list[Outcome]]) -> None:
    """Whoever is no administrator is told so before anything is read or changed."""
    for done in played["nobody"]:
        assert (done.code, done.calls) == (6, ["reg query HKU\\S-1-5-19"])
        assert done.errors == "mac2ip: Run it as an administrator.\n"


def test_an_address_that_somebody_else_has(played: dict[str, list[Outcome]]) -> None:
    """With /check an address that does not come up is given up; one that does is kept."""
    (checked,), (taken,) = ([one[-1]] for one in (played["checked"], played["taken"]))
    assert (checked.code, changes(checked)) == (0, [ADDRESS, DOMAIN, *DNS])
    assert (taken.code, changes(taken)[-1]) == (5, f'netsh interface ip set address name="{NAME}" dhcp')
    assert checked.calls[-1] == "ping -n 5 -w 1000 -S 10.1.1.3 10.1.1.3"
    assert played["checked on XP"][0].calls[-1] == "ping -n 5 -w 1000  10.1.1.3"


def test_it_registers_itself(played: dict[str, list[Outcome]]) -> None:
    """As a task at start-up or under the Run key, and it can be undone."""
    task, run, undone, dry = played["registered"]
    assert [one.code for one in (task, run, undone, dry)] == [0, 0, 0, 0]
    first, made = changes(task)
    assert first == 'schtasks /delete /tn "macbind mac2ip" /f'
    assert made.startswith('schtasks /create /ru SYSTEM /sc onstart /tn "macbind mac2ip" /tr "\\"Z:\\')
    assert made.endswith('\\registered\\mac2ip.bat\\" /wait"')
    (key,) = changes(run)
    assert key.startswith(
        'reg add "HKLM\\SOFTWARE\\Microsoft\\Windows\\CurrentVersion\\Run" /v "macbind mac2ip"'
    )
    assert [line.split()[:2] for line in changes(undone)] == [["schtasks", "/delete"], ["reg", "delete"]]
    assert (dry.output.strip(), dry.calls) == (f"would run: {made}", [])


def test_what_it_is_registered_with(played: dict[str, list[Outcome]]) -> None:
    """/check counts for later runs too."""
    task, run = played["registered to check"]
    assert changes(task)[-1].endswith('mac2ip.bat\\" /wait /check"')
    assert changes(run)[-1].endswith('mac2ip.bat\\" /check" /f')


def test_a_disabled_adapter_is_enabled_and_read(played: dict[str, list[Outcome]]) -> None:
    """No throw-away address comes first: enabled, read, one address set. A dry run does not even enable it."""
    dry, done = played["asleep"]
    assert (dry.code, changes(dry)) == (0, [])
    assert "it would be enabled" in dry.output
    assert (done.code, changes(done)) == (0, [ENABLE, ADDRESS, DOMAIN, *DNS])


def test_windows_takes_a_moment(played: dict[str, list[Outcome]]) -> None:
    """If an adapter that was enabled shows no MAC yet, or takes no address yet, there is one more try for each."""
    (done,) = played["slow"]
    pause, look = "ping -n 3 127.0.0.1", "getmac /fo csv /nh /v"
    calls = [call for call in done.calls if not call.startswith(("reg query", "ipconfig"))]
    assert calls == [look, ENABLE, look, pause, look, ADDRESS, pause, ADDRESS, DOMAIN, *DNS]
    assert done.code == 0


def test_windows_xp(played: dict[str, list[Outcome]]) -> None:
    """Its registry has tabs, its getmac may show no disabled adapter, its netsh knows no validate."""
    (done,) = played["asleep on XP"]
    older = [line.removesuffix(" validate=no") for line in DNS]
    assert (done.code, changes(done)) == (0, [ENABLE_XP, ADDRESS, DOMAIN, *older])


def test_a_disabled_adapter_of_nobody(played: dict[str, list[Outcome]]) -> None:
    """One whose MAC is no pool's is disabled again."""
    (done,) = played["asleep, another's"]
    assert (done.code, changes(done)) == (3, [ENABLE, DISABLE])


def test_a_mac_that_is_written_down(played: dict[str, list[Outcome]]) -> None:
    """It is read while the adapter is disabled. Windows XP sets the address first, later ones enable it first."""
    (late,), (early,) = played["asleep, written down"], played["asleep on XP, written down"]
    older = [line.removesuffix(" validate=no") for line in DNS]
    assert (late.code, changes(late)) == (0, [ENABLE, ADDRESS, DOMAIN, *DNS])
    assert (early.code, changes(early)) == (0, [ADDRESS, DOMAIN, *older, ENABLE_XP])


def test_an_adapter_that_cannot_be_enabled(played: dict[str, list[Outcome]]) -> None:
    """A sentence says why; on Windows XP that it takes devcon."""
    (old,), (new,) = played["no devcon"], played["no switch"]
    assert (old.code, changes(old), "needs devcon.exe" in old.errors) == (1, [], True)
    assert (new.code, changes(new), new.errors) == (
        1,
        [ENABLE],
        f'mac2ip: "{NAME}": It could not be enabled.\n',
    )
