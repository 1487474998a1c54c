"""Which part of a configuration controllers share: what makes two files equal, and how their differences are told."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from socket import gethostname

import pytest

from macbind.config import Settings, load
from macbind.config.document import Document
from macbind.config.shared import shared_part, with_shared_part
from macbind.core.errors import ConfigError, InvalidRequest
from macbind.core.shared_configuration import Recorded, SharedConfiguration, in_words
from macbind.daemon.agreement import brought_home, outdated_file, own_part

SAMPLE = Path(__file__).parents[2] / "dhcpd/macbind.toml"
FILE = """
[registry]
url = "postgresql://macbind@db.example/macbind"
[dhcpd.far]
host = "192.0.2.9"
key_file = "/etc/far.key"
config_file = "/etc/far.conf"
[dhcpd.main]
[subnet."10.1.0.0/16"]
routers = ["10.1.0.1"]
[pool.farm]
subnet = "10.1.0.0/16"
ranges = ["10.1.2.0/24", "10.1.1.0/24"]
arp_probe = "br0"
[hypervisor.local]
uri = "qemu:///system"
[hypervisor.far]
uri = "qemu+ssh://root@far.example/system"
"""


def read(place: Path, text: str) -> Settings:
    """The configuration of a file with this text."""
    (place / "macbind.toml").write_text(text)
    return load(place / "macbind.toml")


def changed(place: Path, old: str, new: str) -> list[str]:
    """The differences of a file in which something was written otherwise."""
    assert old in FILE
    used = shared_part(read(place, FILE), "a")
    return [str(one) for one in shared_part(read(place, FILE.replace(old, new)), "a").differences(used)]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('ranges = ["10.1.2.0/24", "10.1.1.0/24"]', 'ranges = ["10.1.1.0/24", "10.1.2.0/24"]'),
        ("[dhcpd.main]", "[dhcpd.main]\nport = 7911\nhost = '127.0.0.1'"),
        ("[dhcpd.main]", "[dhcpd.main]\nleases_file = '/x'\nlog = '/y'\nprobe = 'eth9'\nresync_s = 7"),
        ("/etc/far.key", "/etc/other.key"),
        ('arp_probe = "br0"', 'dhcpd = ["main", "far"]'),
        ("[dhcpd.main]", "[service]\nsocket = '/run/x.sock'\ntimeout_s = 2.0\n[dhcpd.main]"),
        ("[subnet.", "# a comment\n[subnet."),
    ],
)
def test_what_is_equal_for_all_is_equal(tmp_path: Path, old: str, new: str) -> None:
    """Order, defaults that are written out, files, sockets and interfaces make no difference."""
    assert changed(tmp_path, old, new) == []


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (
            'routers = ["10.1.0.1"]',
            'routers = ["10.1.0.9"]',
            '[subnet."10.1.0.0/16"] routers: ["10.1.0.9"] in the file, ["10.1.0.1"] in use',
        ),
        ("192.0.2.9", "192.0.2.8", '[dhcpd.far] host: "192.0.2.8" in the file, "192.0.2.9" in use'),
        ("[dhcpd.main]", "[dhcpd.main]\nport = 7999", "[dhcpd.main] port: 7999 in the file, nothing in use"),
        (
            'subnet = "10.1.0.0/16"',
            'subnet = "10.1.0.0/16"\nmac_prefix = "0a:58"',
            '[pool.farm] mac_prefix: "0a:58" in the file, nothing in use',
        ),
        ("[hypervisor.far]", "[hypervisor.b]\nuri = 'qemu+ssh://b/system'\n[hypervisor.far]", None),
    ],
)
def test_what_differs_is_told_with_both_values(tmp_path: Path, old: str, new: str, told: str | None) -> None:
    """Each key once; a table that only one has as a whole."""
    assert changed(tmp_path, old, new) == [told or "[hypervisor.b]: there in the file, nothing in use"]


def test_a_table_that_is_missing_is_told(tmp_path: Path) -> None:
    """And that the pool's servers are others by it."""
    assert changed(
        tmp_path,
        '[dhcpd.far]\nhost = "192.0.2.9"\nkey_file = "/etc/far.key"\nconfig_file = "/etc/far.conf"\n',
        "",
    ) == [
        "[dhcpd.far]: nothing in the file, there in use",
        '[pool.farm] dhcpd: ["main"] in the file, ["far", "main"] in use',
    ]


def test_many_differences_are_counted() -> None:
    """A sentence names five."""
    mine, none = (
        SharedConfiguration({"pool": {f"p{number}": {} for number in range(8)}}),
        SharedConfiguration({}),
    )
    assert in_words(mine.differences(none)).endswith(
        "[pool.p4]: there in the file, nothing in use; and 3 more"
    )


def test_this_machine_is_another_one_on_another_machine(tmp_path: Path) -> None:
    """127.0.0.1 and libvirt here are not what they are elsewhere, unless the registry is a file here."""
    settings = read(tmp_path, FILE)
    told = [str(one) for one in shared_part(settings, "b").differences(shared_part(settings, "a"))]
    assert told == [
        '[dhcpd.main] host: "127.0.0.1 on b" in the file, "127.0.0.1 on a" in use',
        '[hypervisor.local] uri: "qemu:///system on b" in the file, "qemu:///system on a" in use',
    ]
    with pytest.raises(ConfigError, match=r"\[dhcpd\.main\] host = '127\.0\.0\.1' on 'a' itself"):
        with_shared_part(settings.document, shared_part(settings, "a"), "b")
    alone = read(tmp_path, FILE.replace("postgresql://macbind@db.example/macbind", "sqlite:////x.db"))
    assert shared_part(alone, "a") == shared_part(alone, "b")


@pytest.mark.parametrize("file", [None, SAMPLE])
def test_what_is_brought_home_is_what_was_recorded(tmp_path: Path, file: Path | None) -> None:
    """A machine's own keys stay, and the rest is again what is recorded, whatever its file had."""
    settings = load(file) if file else read(tmp_path, FILE)
    recorded = SharedConfiguration.of(shared_part(settings, "a").text)
    assert shared_part(with_shared_part(settings.document, recorded, "a"), "a") == recorded
    if file is not None:
        return
    other = read(tmp_path, FILE.replace('["10.1.0.1"]', '["10.1.0.9"]').replace("[pool.farm]", "[pool.old]"))
    there = with_shared_part(other.document, recorded, "a")
    assert there.registry == other.registry
    assert there.pools["farm"].plan == settings.pools["farm"].plan
    assert there.pools["farm"].arp_probe is None
    assert there.dhcpds["far"].key_file == Path("/etc/far.key")


def test_it_is_printed_as_a_file_has_it(tmp_path: Path) -> None:
    """What is printed can be read as the tables of a file."""
    shared = shared_part(load(SAMPLE), "a")
    (tmp_path / "printed.toml").write_text("\n".join(shared.lines()))
    assert Document.read(tmp_path / "printed.toml").values == {
        kind: some for kind, some in shared.tables.items() if some
    }


@pytest.mark.parametrize("text", ["", "[", "[]", '{"pool": 1}', '{"pool": {"farm": 1}}', "[" * 100_000])
def test_what_is_no_configuration_is_refused(text: str) -> None:
    """Whatever a record holds, one sentence says that it is none."""
    with pytest.raises(InvalidRequest, match="This is no configuration"):
        SharedConfiguration.of(text)


def test_a_table_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    """An older version does not guess."""
    settings = read(tmp_path, FILE)
    with pytest.raises(ConfigError, match=r"has a table \[moon\.…\]"):
        with_shared_part(settings.document, SharedConfiguration({"moon": {"a": {}}}), "a")


def test_what_is_this_machines_own_is_read_from_its_file_again(tmp_path: Path) -> None:
    """Its own keys are those of the file now; what only a load may change, and tables that are gone, stay as used."""
    used = read(tmp_path, FILE + '[service]\ntimeout_s = 3.0\n[api]\ntokens = "/a"\n')
    recorded = shared_part(used, gethostname())
    used.document.path.write_text(
        FILE.replace('[dhcpd.far]\nhost = "192.0.2.9"\nkey_file = "/etc/far.key"\n', "[dhcpd.other]\n")
        .replace('arp_probe = "br0"', 'arp_probe = "br9"')
        .replace("[dhcpd.main]", '[dhcpd.main]\nkey_file = "/etc/new.key"')
        + '[service]\ntimeout_s = 9.0\n[api]\ntokens = "/b"\n'
    )
    now = brought_home(recorded, own_part(used))
    assert list(now.dhcpds) == ["far", "main"]
    assert now.dhcpds["far"].key_file == Path("/etc/far.key")
    assert now.dhcpds["main"].key_file == Path("/etc/new.key")
    assert (now.pools["farm"].arp_probe, now.service.timeout_s) == ("br9", 3.0)
    assert now.api.tokens == Path("/a")
    used.document.path.write_text("[")
    assert brought_home(recorded, own_part(used)).pools == used.pools


def test_an_outdated_file_is_a_finding(tmp_path: Path) -> None:
    """If another configuration was applied; whether the file differs in it, or cannot be read."""
    used = read(tmp_path, FILE)

    def found(text: str, *, is_applied: bool = True) -> str | None:
        used.document.path.write_text(text)
        recorded = Recorded(2, shared_part(used, gethostname()), is_applied, datetime.now(UTC), "root")
        finding = outdated_file(used, recorded)
        return None if finding is None else finding.message

    assert outdated_file(used, None) is None
    assert found(FILE) is None
    assert found(FILE.replace("192.0.2.9", "192.0.2.8"), is_applied=False) is None
    assert '"192.0.2.8" in the file, "192.0.2.9" in use.' in str(
        found(FILE.replace("192.0.2.9", "192.0.2.8"))
    )
    assert "line 1" in str(found("["))


def test_a_dhcpd_at_the_same_place_is_the_same(tmp_path: Path) -> None:
    """Its new name is known; of another place, or with the old one still there, it is another one."""
    before = shared_part(read(tmp_path, FILE), "a")
    renamed = FILE.replace("[dhcpd.far]", "[dhcpd.near]")
    assert shared_part(read(tmp_path, renamed), "a").renamed_from(before) == {"far": "near"}
    assert (
        shared_part(read(tmp_path, renamed.replace("192.0.2.9", "192.0.2.8")), "a").renamed_from(before) == {}
    )
    assert before.renamed_from(before) == {}
