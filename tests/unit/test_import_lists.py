"""What readers make of lists: as people and programs write them, damaged, and hostile."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from macbind.cli.commands import app
from macbind.core.errors import InvalidRequest
from macbind.core.import_plan import MAX_ENTRIES, ImportEntry
from macbind.importing.forms import ListForm, read_list
from macbind.importing.machine_list import MachineList

WHERE = Path("/nowhere/list")
MAC = "00:11:22:33:44:55"


def read(text: str | bytes, form: ListForm | None = None, path: Path = WHERE) -> MachineList:
    """The machines of a text."""
    return read_list(text if isinstance(text, bytes) else text.encode(), path, form)[1]


def facts(text: str | bytes, form: ListForm | None = None) -> list[tuple[int, str, str, str | None]]:
    """Line, name, addresses and MAC of each machine."""
    return [(one.line, one.name, " ".join(one.addresses), one.mac) for one in read(text, form).entries]


ONE: list[tuple[int, str, str, str | None]] = [(2, "a", "10.1.1.1", MAC)]
KEA_TABLE = """host_id,hex(dhcp_identifier),dhcp_identifier_type,ipv4_address,hostname
1,001122334455,0,167837953,a
2,0011,3,167837954,b
"""
TABLES: list[tuple[str | bytes, list[tuple[int, str, str, str | None]]]] = [
    (f"name,ip,mac\na,10.1.1.1,{MAC}\n", ONE),
    (f"mac;address;host\r\n{MAC};10.1.1.1;a\r\n", ONE),
    (f"Hostname\tIP Address\tHardware Address\na\t10.1.1.1\t{MAC}", ONE),
    (f"NAME    IP         MAC\na       10.1.1.1   {MAC}", ONE),
    (f"name\t\tip\t\tmac\na\t10.1.1.1\t{MAC}", ONE),
    (f"name\tip\tmac\na\t\t10.1.1.1\t\t{MAC}", ONE),
    (f'ip, "mac", name\n10.1.1.1, "{MAC}", "a"', ONE),
    (b"\xef\xbb\xbf" + f"name,ip,mac\na,10.1.1.1,{MAC}\n".encode(), ONE),
    (f"name\tip\tmac\r\na\t10.1.1.1\t{MAC}\r\n".encode("utf-16"), ONE),
    (f"# all\n\nname ip mac # columns\n# b\na 10.1.1.1 {MAC}   # the first\n", [(5, "a", "10.1.1.1", MAC)]),
    (f"name,ip,mac,note\na,10.1.1.1,{MAC},\"x, y\n# z\"\nb,10.1.1.2,,", [*ONE, (4, "b", "10.1.1.2", None)]),
    ("ip,name\n10.1.1.1", [(2, "host-10-1-1-1", "10.1.1.1", None)]),
    ("name,ip,mac\na,,\n", [(2, "a", "", None)]),
    ("name;ip;mac\na;10.1.1.1;-\nb;10.1.1.2;NULL\n", [(2, "a", "10.1.1.1", None), (3, "b", "10.1.1.2", None)]),
    (
        KEA_TABLE,
        [(2, "a", "10.1.1.1", "001122334455"), (3, "b", "10.1.1.2", None)],
    ),
    (
        "dhcp_identifier\tdhcp_identifier_type\tipv4_address\thostname\n\\x001122334455\t0\t167837953\ta\n",
        [(2, "a", "10.1.1.1", "001122334455")],
    ),
]  # fmt: skip


@pytest.mark.parametrize(("text", "found"), TABLES)
def test_tables_of_every_kind(text: str | bytes, found: list[tuple[int, str, str, str | None]]) -> None:
    """Columns in any order, every separator, quotes, comments, alignment, marks of byte order, CRLF, Kea's table."""
    assert facts(text) == found


def test_columns_that_mean_nothing_are_named() -> None:
    """A column that is not read is a note; what goes with a machine is read."""
    found = read("name,ip,owner,next-server,filename,hostname\na,10.1.1.1,me,10.0.0.9,x.0,h\n")
    assert found.notes == ["The column 'owner' is not read."]
    assert found.entries[0].options.to_dict() == {
        "hostname": "h",
        "next_server": "10.0.0.9",
        "filename": "x.0",
    }


NETWORK = """<network>
  <name>default</name>
  <dns><host ip='192.0.2.1'><hostname>x</hostname></host></dns>
  <ip address='10.0.0.1' netmask='255.0.0.0'>
    <dhcp>
      <range start='10.9.0.1' end='10.9.0.9'/>
      <host mac='00:11:22:33:44:55' name='a' ip='10.1.1.1'/>
      <host name='b' ip='10.1.1.2'/>
    </dhcp>
  </ip>
  <ip family='ipv6' address='fd00::1'><dhcp><host id='0:1' name='c' ip='fd00::2'/></dhcp></ip>
</network>
"""


def test_hosts_of_a_libvirt_network() -> None:
    """Those of DHCP, not those of DNS; the name is what libvirt tells the machine; without a MAC nobody is known."""
    found = read(NETWORK)
    assert facts(NETWORK) == [
        (7, "a", "10.1.1.1", MAC),
        (8, "b", "10.1.1.2", None),
        (11, "c", "fd00::2", None),
    ]
    assert found.entries[0].options.hostname == "a"
    assert "known by its name" in found.entries[1].problem
    assert found.notes == ["Line 6: <range> is not read."]


KEA = """// Kea's own
{ "Dhcp4": { # shell
    "reservations": [
      { "hw-address": "00:11:22:33:44:55", "ip-address": "10.1.1.1", "hostname": "a", },
    ],
    "shared-networks": [ { "subnet4": [ { "id": 1, "subnet": "10.0.0.0/8", "reservations": [
      /* two
         lines */ { "hw-address": "00-11-22-33-44-66", "ip-address": "10.1.1.2", "next-server": "10.0.0.9",
        "boot-file-name": "a//b#c", "option-data": [ { "name": "routers" } ] },
      { "client-id": "01:02", "ip-address": "10.1.1.3", "hostname": "c.example.org" }
    ] } ] } ]
} }
"""


def test_reservations_of_kea() -> None:
    """Global ones and those of subnets, with comments of three kinds, trailing commas, and lines."""
    entries = read(KEA).entries
    assert facts(KEA) == [
        (4, "a", "10.1.1.1", MAC),
        (8, "host-10-1-1-2", "10.1.1.2", "00-11-22-33-44-66"),
        (10, "c.example.org", "10.1.1.3", None),
    ]
    assert entries[1].options.to_dict() == {"next_server": "10.0.0.9", "filename": "a//b#c"}
    assert entries[1].left_out == ("option-data",)
    assert "client-id" in entries[2].problem
    assert facts('[{"hw-address": "001122334455", "ip-address": "10.1.1.1", "hostname": "a"}]') == [
        (1, "a", "10.1.1.1", "001122334455")
    ]
    (none,) = read(
        '{"reservations": [{"hw-address": "x", "ip-address": "10.1.1.1", "next-server": "0.0.0.0"}]}'
    ).entries
    assert (none.options.to_dict(), none.left_out) == ({}, ())
    sixth = '{"Dhcp6": {"reservations": [{"duid": "01", "ip-addresses": ["fd00::1"]}]}}'
    assert facts(sixth) == [(1, "host-fd00::1", "fd00::1", None)]


CONF = """# a site
option domain-name "host x {";
group {
  next-server 10.0.0.9;
  option routers 10.0.0.1;
  host a.example.org {
    hardware ethernet 0:11:22:33:44:55; fixed-address 10.1.1.1, 192.0.2.1; option host-name "a";
  }
  host b { hardware ethernet zz; fixed-address 10.1.1.2; }
  filename "pxe.0";
}
host c { hardware ethernet 00:11:22:33:44:66; fixed-address c.example.org; }
host d { fixed-address 10.1.1.4; }
host e { hardware token-ring 00:11:22:33:44:77; fixed-address 10.1.1.5; }
"""


def test_hosts_of_a_dhcpd_conf(tmp_path: Path) -> None:
    """Dots in names, groups, several addresses, an included file; what is impossible says why."""
    (tmp_path / "more.conf").write_text(
        "\nhost f { hardware ethernet 00:11:22:33:44:88; fixed-address 10.1.1.6; }\n"
    )
    path = tmp_path / "dhcpd.conf"
    text = CONF + 'include "more.conf";\n'
    entries = read(text, path=path).entries
    assert [(one.line, one.name, one.addresses, one.mac) for one in entries] == [
        (6, "a.example.org", ("10.1.1.1", "192.0.2.1"), MAC),
        (9, "b", ("10.1.1.2",), "zz"),
        (12, "c", (), "00:11:22:33:44:66"),
        (13, "d", ("10.1.1.4",), None),
        (14, "e", ("10.1.1.5",), "00:11:22:33:44:77"),
        (2, "f", ("10.1.1.6",), "00:11:22:33:44:88"),
    ]
    assert entries[0].options.to_dict() == {
        "hostname": "a",
        "next_server": "10.0.0.9",
        "filename": "pxe.0",
    }
    assert entries[0].left_out == ("option routers of its group",)
    assert [one.file for one in entries] == [None] * 5 + [str(tmp_path / "more.conf")]
    assert [one.problem.partition(",")[0] for one in entries[2:5]] == [
        "Its fixed-address 'c.example.org' is a name",
        "It has no hardware address",
        "Its hardware is none of Ethernet.",
    ]


def test_an_include_that_cannot_be_read_is_no_shorter_list(tmp_path: Path) -> None:
    """A part is never taken for the whole."""
    with pytest.raises(InvalidRequest, match=r"nope\.conf is included, and cannot be read"):
        read('host a { }\ninclude "nope.conf";\n', path=tmp_path / "dhcpd.conf")


def test_a_list_of_macbind_itself() -> None:
    """An export, and what `macbind list -o json` prints; only the address counts that a name is renumbered from."""
    one: dict[str, Any] = {"name": "a", "address": "10.1.1.1", "mac": MAC, "pinned": False, "group": "g"}
    assert facts(f'{{"format": "macbind-export/1", "allocations": [\n{_json(one)}]}}') == ONE
    other = one | {"address": "10.1.1.2", "renumbers_from": "10.1.1.1"}
    assert facts(f"[\n{_json(one)},{_json(other)}]") == ONE
    (entry,) = read(f"[{_json(one | {'expires_at': '2030-01-01', 'labels': {'k': 'v', 'l': 1}})}]").entries
    assert (entry.pinned, entry.group, entry.labels, entry.left_out) == (False, "g", {"k": "v"}, ("expiry",))


def _json(value: object) -> str:
    import json

    return json.dumps(value)


UNUSABLE = [
    ("", "The list is empty"),
    ("10.1.1.1 a\n", "Line 1 is no header with a column for the address"),
    ("# x\nip,ip,name\n", "Line 2: the column 'ip' stands there twice"),
    ("name,ip\n" + '"' + "x" * 140_000 + '",1\n', "Line 2 cannot be read as a row"),
    ('name,ip\n"a,10.1.1.1\nb,10.1.1.2\n', "Line 3 cannot be read as a row"),
    ("<network>", "Line 1 is not XML"),
    ("<domain/>", "The XML describes a <domain>, not a <network>"),
    ("<!DOCTYPE a [<!ENTITY b 'c'>]><network/>", "document type declaration"),
    ("<network>" + "<a>" * 200, "nested more than 100 levels"),
    ("<?xml version='1.0' encoding='nope'?><network/>", "is not XML"),
    ('{"Dhcp4": {\n"a": 1\n"b": 2}}', "Line 3 is not JSON"),
    ('{"Dhcp4": {}}', "The JSON has no reservations"),
    ('{"Dhcp4":\n<?include "x"?>}', "Line 2 includes another file"),
    ('{"Dhcp4": ' + "[" * 100_000, "The JSON cannot be read: RecursionError"),
    ('{"format": "macbind-export/9", "allocations": []}', "has the format 'macbind-export/9'"),
    ("{}", "The JSON is no export of macbind"),
    ("[1]", "is no header"),
    ("\x1f\x8b\x08\x00", "is no header"),
]


@pytest.mark.parametrize(("text", "words"), UNUSABLE, ids=lambda value: value[:30])
def test_what_cannot_be_used_is_one_sentence(text: str, words: str) -> None:
    """It says what is wrong and where, and a hint says how to mend it."""
    with pytest.raises(InvalidRequest) as refused:
        read(text)
    assert words in refused.value.message
    assert refused.value.message.endswith(".")
    assert refused.value.hint


def test_a_list_has_bounds() -> None:
    """One entry too many is refused; a name without end is cut, and steers no terminal."""
    table = "name,ip\n" + "a,10.1.1.1\n" * MAX_ENTRIES
    assert len(read(table).entries) == MAX_ENTRIES
    with pytest.raises(InvalidRequest, match=f"more than {MAX_ENTRIES} entries"):
        read(table + "a,10.1.1.1\n")
    (entry,) = read("name,ip\n" + "\x1b[2J" * 1000 + ",10.1.1.1\n").entries
    assert entry.name.isprintable()
    assert len(entry.name) <= 250


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["large"], 2, "has more than 16 MiB."),
        (["."], 2, "cannot be read: Is a directory."),
        (["nope"], 2, "nope cannot be read: No such file or directory."),
        (["large", "--from", "excel"], 2, "'excel' is no form of a list."),
        (["large", "--skip-conflicts"], 4, "--skip-conflicts goes with --apply."),
    ],
)
def test_a_command_that_cannot_be_done_asks_no_service(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], status: int, said: str
) -> None:
    """It says in one sentence what is wrong; no service runs here."""
    monkeypatch.chdir(tmp_path)
    with Path("large").open("wb") as large:
        large.truncate((16 << 20) + 1)
    done = CliRunner(env={"MACBIND_SOCKET": str(tmp_path / "nobody"), "COLUMNS": "200"}).invoke(
        app, ["import", *words]
    )
    assert done.exit_code == status
    assert said in done.stderr


@pytest.mark.parametrize(
    "piece",
    ['"', '"a" ', "/* ", "{", '"a":', "pool\n", "host\n", "# ", 'a "', "<a>", "\\", "[", "\t", '"" ', " {"],
)
def test_no_text_takes_long(piece: str) -> None:
    """128 KiB of anything are read or refused at once, whatever form it is said to have."""
    text = ("name ip\n" + piece * ((1 << 17) // len(piece))).encode()
    for form in (None, *ListForm):
        for start in (text, text.removeprefix(b"name ip\n")):
            began = time.process_time()
            with suppress(InvalidRequest):
                read(start, form)
            assert time.process_time() - began < 5, form


@given(st.text(max_size=200), st.sampled_from([None, *ListForm]))
def test_every_text_is_a_list_or_an_error(text: str, form: ListForm | None) -> None:
    """No text ends in anything else, whatever form it is said to have."""
    try:
        found = read(text.encode("utf-8", "surrogatepass"), form)
    except InvalidRequest:
        return
    assert all(isinstance(one, ImportEntry) for one in found.entries)
