"""Lists of other programs become reservations that a real dhcpd serves, and a second import does nothing."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from labkit.dhcp import DhcpClient
from labkit.farm import Farm
from macbind.core.allocation import Allocation, State

POOLS = """
[subnet."10.0.0.0/8"]
routers = ["10.0.0.1"]
dynamic = ["10.9.0.0-10.9.0.255"]

[pool.farm]
subnet = "10.0.0.0/8"
ranges = ["10.1.1.3-10.1.9.250"]
"""

TABLE = "# machines of the second rack\nname\tip\t\tmac\t# as the switch shows it\n" + "".join(
    f"# row {number // 10}\nrack2-{number}\t10.2.0.{number}\tB8-27-EB-00-02-{number:02X}\t# slot {number}\n"
    if number % 10 == 0
    else f"rack2-{number}\t10.2.0.{number}\tb827.eb00.02{number:02x}\n"
    for number in range(1, 55)
)
CONF = """# dhcpd.conf of the old server
option domain-name "old.example";
default-lease-time 600;
include "more/printers.conf";
group {
  next-server 10.0.0.9;
  filename "pxelinux.0";
  host build.old.example { hardware ethernet b8:27:eb:0:3:1; fixed-address 10.3.0.1, 192.0.2.7; }
  group {
    filename "other.0";
    host test.old.example { hardware ethernet B8:27:EB:00:03:02; fixed-address 10.3.0.2; option host-name "test"; }
  }
}
subnet 192.0.2.0 netmask 255.255.255.0 { range 192.0.2.100 192.0.2.200; }
"""
PRINTERS = "host printer { hardware ethernet b8:27:eb:00:03:03;\n  fixed-address 10.3.0.3; }\n"
CSV = (
    '\ufeff"MAC address";"Remark";"IP";"Hostname"\r\n'
    '"B8:27:EB:00:04:01";"a; b";"10.4.0.1";"nas"\r\n;;10.4.0.2;ups\r\n'
)
NETWORK = """<network>
  <name>default</name>
  <ip address='10.0.0.1' netmask='255.0.0.0'>
    <dhcp>
      <range start='10.9.1.1' end='10.9.1.9'/>
      <host mac='b8:27:eb:00:05:01' name='kvm1' ip='10.5.0.1'/>
      <host mac='00:16:3e:05:00:02' ip='10.5.0.2'/>
    </dhcp>
  </ip>
</network>
"""
KEA = """{ // Kea 2.6
  "Dhcp4": {
    "reservation-mode": "global",
    "reservations": [ { "hw-address": "b8:27:eb:00:06:01", "ip-address": "10.6.0.1", "hostname": "k1" } ],
    "subnet4": [ { "id": 1, "subnet": "10.0.0.0/8", # one
      "reservations": [
        { "hw-address": "b8:27:eb:00:06:02", "ip-address": "10.6.0.2", "next-server": "10.0.0.9" },
      ]
    } ]
  }
}
"""
LISTS = [
    ("machines.txt", TABLE, 54),
    ("dhcpd.conf", CONF, 3),
    ("machines.csv", CSV, 2),
    ("default.xml", NETWORK, 2),
    ("kea-dhcp4.conf", KEA, 2),
]


@pytest.fixture(scope="module")
def lists(farm: Farm) -> Path:
    """The directory of the lists."""
    place = farm.directory / "lists"
    (place / "more").mkdir(parents=True)
    for name, text, _ in LISTS:
        (place / name).write_text(text, newline="")
    (place / "more" / "printers.conf").write_text(PRINTERS)
    return place


def held(farm: Farm) -> dict[str, Allocation]:
    """All allocations by name."""
    with farm.client() as client:
        return {one.name: one for one in client.list()}


@contextmanager
def unchanged(farm: Farm) -> Iterator[None]:
    """Nothing is allocated or released in the block."""
    before = held(farm)
    yield
    assert held(farm) == before


@pytest.mark.parametrize(("name", "count"), [(name, count) for name, _, count in LISTS])
def test_a_list_is_planned_done_and_served(farm: Farm, lists: Path, name: str, count: int) -> None:
    """The plan says what is new, --apply does it, a second run has nothing to do, and dhcpd has every machine."""
    file = str(lists / name)
    with unchanged(farm):
        before = set(held(farm))
        plan = json.loads(farm.macbind("import", file, "--json", status=1))
        assert [one["verdict"] for one in plan["rows"]] == ["new"] * count
        planned = farm.run("import", file)
        assert planned.returncode == 1
        assert f"{count} new. Nothing is changed yet: --apply does it." in planned.stderr
    done = farm.run("import", file, "--apply", "--reason", "moving in")
    assert done.returncode == 0, done.stderr
    assert f"{count} new. Done." in done.stderr
    with unchanged(farm):
        for again in ([], ["--apply"]):
            result = farm.run("import", file, *again)
            assert (result.returncode, result.stdout) == (0, "")
            assert f"{count} same. Nothing to do." in result.stderr
    made = [one for one in held(farm).values() if one.name not in before]
    assert len(made) == count
    for one in made:
        assert (one.state, one.pinned) == (State.BOUND, True)
        host = farm.dhcpd.omshell_host(str(one.mac))
        assert host is not None
        assert host["ip"] == str(one.address)


def test_what_was_imported_is_what_machines_are_told(farm: Farm, lists: Path) -> None:
    """A machine of the old configuration gets its address and its boot file from dhcpd."""
    lease = DhcpClient(farm.lab.port("old"), "b8:27:eb:00:03:02").dora()
    assert lease is not None
    assert str(lease.address) == "10.3.0.2"
    found = held(farm)
    assert found["test.old.example"].options.to_dict() == {
        "hostname": "test",
        "next_server": "10.0.0.9",
        "filename": "other.0",
    }
    assert str(found["host-10-5-0-2"].mac) == "00:16:3e:05:00:02"
    history = farm.macbind_json("history", "--limit", "500")
    assert {one["detail"]["reason"] for one in history} == {"moving in"}


def test_hosts_of_the_running_dhcpd_leave_its_file_first(farm: Farm, lists: Path) -> None:
    """dhcpd refuses a second host for a MAC, and the import is taken back; without the host it is served."""
    conf, old = (
        farm.directory / "macbind.conf",
        "host old { hardware ethernet b8:27:eb:00:0a:01; fixed-address 10.1.1.9; }\n",
    )
    rendered = conf.read_text()
    (lists / "own.conf").write_text(old)
    conf.write_text(rendered + old)
    with farm.compared_anew():
        farm.dhcpd.restart()
    with unchanged(farm):
        farm.macbind("import", str(lists / "own.conf"), status=1)
        refused = farm.run("import", str(lists / "own.conf"), "--apply")
    assert refused.returncode == 5
    assert "'old'" in refused.stderr
    conf.write_text(rendered)
    with farm.compared_anew():
        farm.dhcpd.restart()
    farm.macbind("import", str(lists / "own.conf"), "--apply")
    lease = DhcpClient(farm.lab.port("own"), "b8:27:eb:00:0a:01").dora()
    assert lease is not None
    assert str(lease.address) == "10.1.1.9"


MIXED = """name,ip,mac
fine,10.7.0.1,b8:27:eb:00:07:01
nas,10.7.0.2,
taken,10.4.0.1,
bound,10.7.0.3,b8:27:eb:00:04:01
outside,192.0.2.9,
router,10.0.0.1,
range,10.9.0.9,
zz,10.7.0.4,zz
six,fd00::1,
twice,10.7.0.5,
twice,10.7.0.6,
"""


def test_conflicts_are_told_and_keep_all_back(farm: Farm, lists: Path) -> None:
    """Each with its line, with whom, and how to mend it; the others are done if that is said."""
    (lists / "mixed.csv").write_text(MIXED)
    file = str(lists / "mixed.csv")
    with unchanged(farm):
        plan = json.loads(farm.macbind("import", file, "--apply", "--json", status=1))
    assert not plan["applied"]
    assert [(one["line"], one["verdict"], one["holder"]) for one in plan["rows"]] == [
        (2, "new", None),
        (3, "conflict", "nas"),
        (4, "conflict", "nas"),
        (5, "conflict", "nas"),
        *((line, "impossible", None) for line in range(6, 11)),
        (11, "conflict", "twice"),
        (12, "conflict", "twice"),
    ]
    assert all(one["mend"] for one in plan["rows"][1:])
    before = held(farm)
    done = farm.run("import", file, "--apply", "--skip-conflicts")
    assert done.returncode == 1
    assert "1 new, 5 conflict, 5 impossible. Done." in done.stderr
    assert "line 11 and line 12" in done.stdout
    assert set(held(farm)) - set(before) == {"fine"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "The list is empty."),
        ("10.1.1.3 a\n", "Line 1 is no header with a column for the address."),
        ("<network>", "Line 1 is not XML"),
        ('{"Dhcp4": }', "Line 1 is not JSON"),
        ('host a { }\ninclude "nope";\n', "nope is included, and cannot be read"),
    ],
)
def test_a_list_that_cannot_be_used_ends_with_2(farm: Farm, lists: Path, text: str, words: str) -> None:
    """One sentence and a hint, and with --json the error as a value."""
    file = lists / "broken"
    file.write_text(text)
    with unchanged(farm):
        done = farm.run("import", str(file), "--apply", "--json")
    assert done.returncode == 2
    sentence, hint = done.stderr.splitlines()
    assert words in sentence
    assert hint.startswith("  ")
    assert json.loads(done.stdout)["error"]["code"] == "invalid_request"
    assert farm.run("import", str(lists / "not there")).returncode == 2


def test_an_export_has_nothing_to_import(farm: Farm, lists: Path) -> None:
    """Reservations and allocations, in JSON and in CSV, and over standard input."""
    with farm.client() as client:
        client.allocate_group("farm", "speck", 2, labels={"job": "1"})
    for form in ("json", "csv"):
        (lists / "export").write_text(farm.macbind("export", "-o", form))
        with unchanged(farm):
            done = farm.run("import", str(lists / "export"), "--apply")
        assert done.returncode == 0, done.stderr
        assert f"{len(held(farm))} same. Nothing to do." in done.stderr
    command = farm.lab.server.argv([*farm.command, "import", "-", "--socket", str(farm.socket)])
    piped = subprocess.run(
        command, input=farm.macbind("export"), capture_output=True, text=True, timeout=120, check=False
    )
    assert piped.returncode == 0, piped.stderr


def test_an_import_that_dhcpd_is_late_for_is_waited_for_again(farm: Farm, lists: Path) -> None:
    """What was recorded stays; the second import finds it the same, and returns when dhcpd has confirmed."""
    (lists / "late.csv").write_text("name,ip\nlate-1,10.8.0.1\nlate-2,10.8.0.2\n")
    file = str(lists / "late.csv")
    farm.dhcpd.freeze()
    try:
        late = farm.run("import", file, "--apply", "--timeout", "8")
    finally:
        farm.dhcpd.thaw()
    assert late.returncode == 5
    assert "import again to wait for it" in late.stderr
    farm.macbind("import", file, "--apply")
    found = held(farm)
    assert {found[name].state for name in ("late-1", "late-2")} == {State.BOUND}
