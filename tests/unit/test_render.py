"""dhcpd's configuration: what is written for which settings, tried by dhcpd itself."""

from __future__ import annotations

import os
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import pytest

from macbind.config import Settings, load
from macbind.core.errors import ConfigError
from macbind.dhcp.isc.config_test import check, find_dhcpd
from macbind.dhcp.isc.key import read_key
from macbind.dhcp.isc.render import RenderResult, render, write

FARM = """
[subnet."10.1.0.0/16"]
routers = ["10.1.0.1"]
domain_name = "farm.example.org"
[pool.farm]
subnet = "10.1.0.0/16"
ranges = ["10.1.1.1-10.1.1.3"]
"""


def settings_of(directory: Path, text: str = FARM, dhcpd: str = "") -> Settings:
    """The settings of a configuration whose files are in this directory."""
    path = directory / "macbind.toml"
    files = f'key_file = "{directory}/macbind.key"\nconfig_file = "{directory}/macbind.conf"\n'
    path.write_text(f"[dhcpd.main]\n{files}{dhcpd}\n{text}", encoding="utf-8")
    settings = load(path)
    path.unlink()
    return settings


def broken(settings: Settings) -> Settings:
    """The same settings with a port that never passes the door, so that dhcpd refuses the text."""
    target = settings.dhcpds["main"].model_copy(update={"port": "x; {"})
    return replace(settings, dhcpds=MappingProxyType({"main": target}))


def contents(directory: Path) -> dict[str, tuple[bytes, int, int]]:
    """Everything a change of the directory would change."""
    return {
        path.name: (path.read_bytes(), path.stat().st_ino, path.stat().st_mtime_ns)
        for path in directory.iterdir()
    }


def test_a_live_pool_renders_its_subnet_only(tmp_path: Path) -> None:
    """The whole text for one subnet with a live pool: nothing about single machines, strangers refused."""
    text = render(settings_of(tmp_path), "main")
    assert [line for line in text.splitlines() if line and not line.startswith("#")] == [
        f'include "{tmp_path}/macbind.key";',
        "omapi-port 7911;",
        'omapi-key "macbind";',
        "authoritative;",
        "ping-check false;",
        "ignore-client-uids true;",
        "dont-use-fsync true;",
        "subnet 10.1.0.0 netmask 255.255.0.0 {",
        "  default-lease-time 600;",
        "  max-lease-time 600;",
        "  option routers 10.1.0.1;",
        '  option domain-name "farm.example.org";',
        "  deny unknown-clients;",
        "}",
    ]
    assert text.startswith("# Written by macbind render for the dhcpd 'main'; do not edit")
    check(text)


def test_a_static_pool_renders_every_address_once(tmp_path: Path) -> None:
    """Each assignable address has its host with the scheme's MAC; the pool's own options stand once.

    Names of hosts are ours, and never the machines', whatever the configuration around says.
    """
    more = FARM + 'mode = "static"\nexclude = ["10.1.1.2"]\nrouters = ["10.1.0.2"]\n'
    text = render(settings_of(tmp_path, more), "main")
    assert text.partition("# The pool 'farm'.\n")[2] == (
        "group {\n"
        "  option routers 10.1.0.2;\n"
        "  use-host-decl-names off;\n"
        "  host macbind-static-10.1.1.1 { hardware ethernet 00:16:3e:01:01:01; fixed-address 10.1.1.1; }\n"
        "  host macbind-static-10.1.1.3 { hardware ethernet 00:16:3e:01:01:03; fixed-address 10.1.1.3; }\n"
        "}\n"
    )
    check(text)


def test_a_dynamic_range_is_not_silenced(tmp_path: Path) -> None:
    """A subnet with dynamic ranges does not deny unknown clients, which would beat its pools; others do."""
    more = '[subnet."10.2.0.0/16"]\ndynamic = ["10.2.0.5-10.2.0.9", "10.2.0.11"]\nlease_time_s = 60\n'
    text = render(settings_of(tmp_path, FARM + more), "main")
    silent, served = text.split("subnet ")[1:]
    assert "deny unknown-clients;" in silent
    assert served == (
        "10.2.0.0 netmask 255.255.0.0 {\n"
        "  default-lease-time 60;\n"
        "  max-lease-time 60;\n"
        "  pool { range 10.2.0.5 10.2.0.9; }\n"
        "  pool { range 10.2.0.11 10.2.0.11; }\n"
        "}\n"
    )
    check(text)


def test_choices_of_the_dhcpd_are_rendered(tmp_path: Path) -> None:
    """Flushing, authority, port and key name follow the dhcpd's table."""
    more = 'fsync = true\nauthoritative = false\nport = 99\nkey_name = "subnet"\n'
    text = render(settings_of(tmp_path, FARM, more), "main")
    assert "dont-use-fsync" not in text
    assert "\nnot authoritative;\n" in text
    assert "\nomapi-port 99;\n" in text
    check(text)


def test_each_dhcpd_gets_its_own_subnets(tmp_path: Path) -> None:
    """A dhcpd does not serve the subnet of another one's pool."""
    more = (
        'dhcpd = ["spare"]\n[subnet."10.2.0.0/16"]\n'
        '[dhcpd.spare]\nport = 7912\nkey_file = "/k"\nconfig_file = "/c"\n'
    )
    settings = settings_of(tmp_path, FARM + more)
    main = render(settings, "main")
    assert ("10.1.0.0" in main, "10.2.0.0" in main) == (False, True)
    assert "10.1.0.0" in render(settings, "spare")


def test_an_unknown_dhcpd_is_told(tmp_path: Path) -> None:
    """The names that exist are told."""
    with pytest.raises(ConfigError) as caught:
        render(settings_of(tmp_path), "mian")
    assert caught.value.message == f"{tmp_path}/macbind.toml has no table [dhcpd.mian]."
    assert caught.value.hint == "It has main."


def test_a_static_sixteen_is_rendered_in_less_than_a_second(tmp_path: Path) -> None:
    """65,533 reservations, and dhcpd accepts them all."""
    settings = settings_of(tmp_path, '[pool.all]\nsubnet = "10.1.0.0/16"\nmode = "static"\n')
    start = time.process_time()
    text = render(settings, "main")
    assert time.process_time() - start < 1
    assert text.count("\n  host ") == 65_534
    check(text)


def test_a_refused_text_is_told_in_the_words_of_dhcpd(tmp_path: Path) -> None:
    """The first complaint, its line, and what stands there."""
    text = render(settings_of(tmp_path), "main") + "\nhost x { fixed-address 10.1.1.1 }\n"
    with pytest.raises(ConfigError) as caught:
        check(text)
    line = text.count("\n")
    assert caught.value.message == (
        f"dhcpd refuses line {line} of the rendered configuration: semicolon expected."
    )
    assert caught.value.hint == "The line is: host x { fixed-address 10.1.1.1 }"
    assert caught.value.details["line"] == line


def test_a_refused_key_is_told_without_the_secret(tmp_path: Path) -> None:
    """dhcpd prints the faulty line; of a key file it is not repeated."""
    text = render(settings_of(tmp_path), "main")
    with pytest.raises(ConfigError) as caught:
        check(text, key_text='key "macbind" { algorithm hmac-sha256; secret "hunter2$"; };')
    assert caught.value.message == "dhcpd refuses line 1 of the key file: invalid base64 character 36."
    assert "hunter2" not in str(caught.value.to_dict())


def test_a_complaint_without_a_line_is_told(tmp_path: Path) -> None:
    """What dhcpd says about the whole is told as it is."""
    with pytest.raises(ConfigError) as caught:
        check('include "/k";\ninclude "/does/not/exist";\n')
    assert caught.value.message == (
        "dhcpd refuses the configuration: Can't open /does/not/exist: No such file or directory."
    )


def test_a_missing_dhcpd_is_told(tmp_path: Path) -> None:
    """The hint names the package."""
    with pytest.raises(ConfigError) as caught:
        find_dhcpd(str(tmp_path))
    assert (caught.value.message, caught.value.hint) == (
        "dhcpd is not installed on this machine.",
        "Install isc-dhcp-server.",
    )
    with pytest.raises(ConfigError, match=r".*/none cannot be run: No such file or directory\."):
        check("", dhcpd=tmp_path / "none")


def test_dhcpd_is_found_where_the_path_of_a_user_does_not_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """The system's directories are searched after PATH."""
    monkeypatch.setenv("PATH", "/nonexistent")
    assert find_dhcpd().name == "dhcpd"


def test_writing_makes_key_and_configuration(tmp_path: Path) -> None:
    """The first time both files appear, readable by those who need them, and nothing else."""
    settings = settings_of(tmp_path)
    old = os.umask(0o077)
    try:
        result = write(settings, "main")
    finally:
        os.umask(old)
    path = tmp_path / "macbind.conf"
    assert result == RenderResult(path, changed=True, restart_needed=True, key_created=True)
    assert path.read_text() == render(settings, "main")
    assert path.stat().st_mode & 0o7777 == 0o644
    assert read_key(tmp_path / "macbind.key", "macbind").algorithm == "hmac-sha256"
    assert contents(tmp_path).keys() == {"macbind.conf", "macbind.key"}


def test_dhcpd_reads_the_written_files_from_an_odd_directory(tmp_path: Path) -> None:
    """The file stands alone, with the include of its key, wherever a path is admitted."""
    odd = tmp_path / "a b;{}#'%"
    odd.mkdir()
    path = write(settings_of(odd), "main").path
    done = subprocess.run([find_dhcpd(), "-t", "-cf", path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_writing_the_same_again_touches_nothing(tmp_path: Path) -> None:
    """No restart is asked for when nothing changed."""
    settings = settings_of(tmp_path)
    write(settings, "main")
    before = contents(tmp_path)
    result = write(settings, "main")
    assert result == RenderResult(tmp_path / "macbind.conf", False, False, False)
    assert contents(tmp_path) == before


def test_a_changed_configuration_replaces_the_file_and_keeps_the_key(tmp_path: Path) -> None:
    """The new text is in a new file with the old name; the key stays."""
    write(settings_of(tmp_path), "main")
    before = contents(tmp_path)
    result = write(settings_of(tmp_path, FARM, "fsync = true"), "main")
    after = contents(tmp_path)
    assert result == RenderResult(tmp_path / "macbind.conf", True, True, False)
    assert after["macbind.key"] == before["macbind.key"]
    assert after["macbind.conf"][1] != before["macbind.conf"][1]


def test_a_lost_key_is_made_again(tmp_path: Path) -> None:
    """An unchanged text with a new key still needs a restart."""
    settings = settings_of(tmp_path)
    write(settings, "main")
    (tmp_path / "macbind.key").unlink()
    result = write(settings, "main")
    assert result == RenderResult(tmp_path / "macbind.conf", False, True, True)


def test_a_failing_check_changes_nothing(tmp_path: Path) -> None:
    """Whether files exist or not, they are byte for byte what they were; no key and no other file appears."""
    settings = settings_of(tmp_path)
    for write_first in (False, True):
        if write_first:
            write(settings, "main")
        before = contents(tmp_path)
        with pytest.raises(ConfigError) as caught:
            write(broken(settings), "main")
        assert caught.value.hint == "The line is: omapi-port x; {;"
        assert contents(tmp_path) == before


def test_an_unusable_key_stops_the_writing(tmp_path: Path) -> None:
    """A key file open to everybody is refused before the configuration is touched."""
    settings = settings_of(tmp_path)
    write(settings, "main")
    (tmp_path / "macbind.key").chmod(0o644)
    (tmp_path / "macbind.conf").write_text("old")
    with pytest.raises(ConfigError, match="is open to every user of this machine"):
        write(settings, "main")
    assert (tmp_path / "macbind.conf").read_text() == "old"


def test_a_missing_directory_is_told(tmp_path: Path) -> None:
    """Directories are not made: their permissions are the administrator's choice."""
    settings = settings_of(tmp_path)
    (tmp_path / "sub").mkdir()
    gone = settings_of(tmp_path / "sub")
    (tmp_path / "sub").rmdir()
    with pytest.raises(ConfigError) as caught:
        write(gone, "main")
    assert caught.value.message == (
        f"The configuration cannot be tested in {tmp_path}/sub: No such file or directory."
    )
    target = settings.dhcpds["main"].model_copy(update={"key_file": tmp_path / "sub" / "key"})
    with pytest.raises(ConfigError, match=r"key cannot be created: No such file or directory\."):
        write(replace(settings, dhcpds=MappingProxyType({"main": target})), "main")
    assert contents(tmp_path) == {}


def test_a_configuration_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    """A directory in the file's place is told, and no key is made for it."""
    settings = settings_of(tmp_path)
    (tmp_path / "macbind.conf").mkdir()
    with pytest.raises(ConfigError) as caught:
        write(settings, "main")
    assert caught.value.message == f"{tmp_path}/macbind.conf cannot be written: Is a directory."
    assert list(tmp_path.iterdir()) == [tmp_path / "macbind.conf"]
