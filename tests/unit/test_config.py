"""The configuration file: what it means, and how a file that cannot be read is told."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from macbind.config import Settings, load
from macbind.config.lines import KeyPath, find_lines, line_of
from macbind.config.tables import TABLES
from macbind.core.address_range import AddressRange
from macbind.core.dhcp_options import OPTIONS
from macbind.core.errors import ConfigError
from macbind.core.pool import PoolMode

SAMPLE = Path(__file__).parents[2] / "dhcpd" / "macbind.toml"
FAULTS = {
    name: (text, int(line), key or None, sentence, hint or "")
    for name, text, line, key, sentence, hint in re.findall(
        r"^## (.+)\n((?:.*\n)+?)-> line (\d+)(?:, (\w+))?: (.+?)(?: \| (.+))?$",
        Path(__file__).with_name("config_faults.txt").read_text(encoding="utf-8"),
        flags=re.MULTILINE,
    )
}
HEAD = '[dhcpd.main]\n[pool.farm]\nsubnet = "10.1.0.0/16"\n'


def load_text(tmp_path: Path, text: str) -> Settings:
    """The settings of a configuration with this text."""
    path = tmp_path / "macbind.toml"
    path.write_text(text, encoding="utf-8")
    return load(path)


def refused(path: Path) -> ConfigError:
    """The error that loading this file makes."""
    with pytest.raises(ConfigError) as caught:
        load(path)
    return caught.value


@contextmanager
def without_privileges() -> Iterator[None]:
    """Runs the block as a user who may not read everything."""
    uid = os.geteuid()
    if uid == 0:
        os.seteuid(65_534)
    try:
        yield
    finally:
        os.seteuid(uid)


def test_the_smallest_file_gets_every_default(tmp_path: Path) -> None:
    """An empty dhcpd table and a pool with a subnet are enough."""
    settings = load_text(tmp_path, HEAD)
    main, farm = settings.dhcpds["main"], settings.pools["farm"]
    assert (main.host, main.port, main.key_name, main.key_algorithm) == (
        "127.0.0.1",
        7911,
        "macbind",
        "hmac-sha256",
    )
    assert (main.key_file, main.config_file) == (
        Path("/etc/dhcp/macbind.key"),
        Path("/etc/dhcp/macbind.conf"),
    )
    assert (main.leases_file, main.fsync, main.authoritative) == (None, False, True)
    assert settings.registry.url == "sqlite:////var/lib/macbind/registry.db"
    assert settings.service.socket_mode == 0o660
    assert farm.plan.assignable == (AddressRange.parse("10.1.0.1-10.1.255.254"),)
    assert (farm.mode, farm.dhcpds, farm.cooldown_s) == (PoolMode.LIVE, ("main",), 0)
    assert settings.subnets[IPv4Network("10.1.0.0/16")] is farm.subnet
    assert farm.subnet.lease_time_s == 600


def test_the_sample_shows_every_key_with_its_default() -> None:
    """The sample loads, has every key of every table, and what it calls a default is one."""
    text = SAMPLE.read_text(encoding="utf-8")
    load(SAMPLE)
    for table, model in TABLES.items():
        body = re.split(
            r"^\[", re.split(rf"^\[{table}\b.*", text, flags=re.MULTILINE)[1], flags=re.MULTILINE
        )[0]
        shown = dict(re.findall(r"^(\w+) = (.*?)\s+#\s*default\b", body, flags=re.MULTILINE))
        # Of two keys that exclude each other the sample has one as a comment.
        assert set(re.findall(r"^(?:# )?(\w+) =", body, flags=re.MULTILINE)) == set(model.model_fields)
        for key, field in model.model_fields.items():
            if field.default not in (None, [], (), {}) and not field.is_required():
                value = tomllib.loads(f"x = {shown[key]}")["x"]
                assert TypeAdapter(field.rebuild_annotation()).validate_python(value) == field.default


def test_every_dhcp_option_of_many_machines_is_a_key() -> None:
    """A subnet and a pool may set every DHCP option."""
    options = {option.field for option in OPTIONS}
    assert options == set(TABLES["subnet"].model_fields) & set(TABLES["pool"].model_fields) - {"gateway"}


def test_the_sample_is_readable_on_a_terminal() -> None:
    """No line of the sample is longer than 120 characters."""
    assert max(map(len, SAMPLE.read_text(encoding="utf-8").splitlines())) <= 120


def test_gateways_and_servers_are_never_allocated(tmp_path: Path) -> None:
    """Gateways and servers of the subnet and of its pools are left out; servers may be reserved by hand."""
    settings = load_text(
        tmp_path,
        """
        [dhcpd.main]
        [subnet."10.1.0.0/24"]
        routers = ["10.1.0.1"]
        domain_name_servers = ["10.1.0.4", "9.9.9.9"]
        [pool.a]
        subnet = "10.1.0.0/24"
        ranges = ["10.1.0.0/28"]
        static_routes = ["10.9.0.0/16 via 10.1.0.2"]
        [pool.b]
        subnet = "10.1.0.0/24"
        ranges = ["10.1.0.16/28"]
        routers = ["10.1.0.3"]
        """,
    )
    plan = settings.pools["a"].plan
    assert plan.assignable == (AddressRange.parse("10.1.0.5-10.1.0.15"),)
    assert {IPv4Address(f"10.1.0.{n}") for n in (0, 1, 2, 3, 255)} == plan.forbidden


def test_a_pool_overrides_its_subnet(tmp_path: Path) -> None:
    """A subnet keeps its own options; the pool's are kept apart, on top of them."""
    settings = load_text(
        tmp_path,
        HEAD + 'routers = ["10.1.0.2"]\nmode = "static"\ncooldown_s = 1.5\n'
        '[subnet."10.1.0.0/16"]\nrouters = ["10.1.0.1"]\ndomain_name = "x.org"\nlease_time_s = 60\n',
    )
    farm = settings.pools["farm"]
    assert farm.options.to_dict() == {"routers": ["10.1.0.2"]}
    assert farm.subnet.options.to_dict() == {"routers": ["10.1.0.1"], "domain_name": "x.org"}
    assert (farm.subnet.lease_time_s, farm.mode, farm.cooldown_s) == (60, PoolMode.STATIC, 1.5)


def test_each_dhcpd_serves_its_pools_and_the_subnets_without_any(tmp_path: Path) -> None:
    """A subnet is served where one of its pools is; a subnet without pools is served everywhere."""
    settings = load_text(
        tmp_path,
        HEAD + 'dhcpd = ["main"]\n[pool.b]\nsubnet = "10.2.0.0/16"\n[subnet."10.3.0.0/16"]\n'
        '[dhcpd.spare]\nport = 7912\nkey_file = "/k"\nconfig_file = "/c"\n',
    )

    def served(name: str) -> set[str]:
        return {str(subnet.network) for subnet in settings.subnets_of(name)}

    assert served("main") == {"10.1.0.0/16", "10.2.0.0/16", "10.3.0.0/16"}
    assert served("spare") == {"10.2.0.0/16", "10.3.0.0/16"}
    assert [pool.name for pool in settings.pools_of("spare")] == ["b"]


def test_postgresql_is_spoken_to_by_psycopg_3(tmp_path: Path) -> None:
    """The driver is ours to choose; the password is in no repr."""
    settings = load_text(tmp_path, HEAD + '[registry]\nurl = "postgresql://me:hunter2@db/macbind"\n')
    assert settings.registry.url == "postgresql+psycopg://me:hunter2@db/macbind"
    assert "hunter2" not in repr(settings)


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_told_with_line_key_and_hint(name: str, tmp_path: Path) -> None:
    """Each fault is one sentence that begins with file and line; details repeat them for programs."""
    text, line, key, sentence, hint = FAULTS[name]
    path = tmp_path / "macbind.toml"
    path.write_text(text, encoding="utf-8")
    error = refused(path)
    assert error.message == f"{path} line {line}: {sentence}"
    assert error.hint == hint
    assert (error.details["file"], error.details["line"], error.details.get("key")) == (str(path), line, key)


def test_the_first_of_several_faults_is_told(tmp_path: Path) -> None:
    """Of several keys of the wrong shape the one nearest to the top of the file is told."""
    path = tmp_path / "macbind.toml"
    path.write_text("[service]\nsocket_mode = '0660'\n[pool.farm]\nx = 1\nsubnet = 3\n[dhcpd.main]\ny = 1\n")
    error = refused(path)
    assert error.details == {"file": str(path), "line": 4, "table": "pool.farm", "key": "x"}


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    """The file's name is told, and where to get one."""
    error = refused(tmp_path / "none.toml")
    assert error.message == f"{tmp_path}/none.toml: There is no such file."
    assert error.hint == "`macbind init` makes one; or copy the sample macbind.toml there and adapt it."
    assert error.details == {"file": f"{tmp_path}/none.toml"}


def test_a_file_the_user_may_not_read_is_told(tmp_path: Path) -> None:
    """Missing permission is told apart from a missing file."""
    path = tmp_path / "macbind.toml"
    path.write_text(HEAD)
    path.chmod(0)
    with without_privileges():
        error = refused(path)
    assert error.message == f"{path}: This user is not permitted to read the file."


def test_a_directory_is_told(tmp_path: Path) -> None:
    """What cannot be read at all is told in the system's words."""
    assert refused(tmp_path).message == f"{tmp_path}: The file cannot be read: Is a directory."


def test_text_that_is_not_utf_8_is_told(tmp_path: Path) -> None:
    """The line of the first wrong byte is told."""
    path = tmp_path / "macbind.toml"
    path.write_bytes(b"[dhcpd.main]\nhost = '\xff'\n")
    assert refused(path).message == f"{path} line 2: The file is not UTF-8 text."


VALUES = st.recursive(
    st.sampled_from(["1", "-2.5", "true", "1979-05-27 07:32:00", '"a # ] } \\" = b"', "'c [ , \"'", '""']),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=6,
)
KEYS = st.sampled_from(["a", "b-1", '"10.1.0.0/16"', "'x y'", '"= [#"'])


def emit(value: Any, path: KeyPath, out: list[str], expected: dict[KeyPath, int]) -> None:
    """Appends a value, each array element on a line of its own, and notes the lines."""
    if isinstance(value, str):
        out[-1] += value
        return
    out[-1] += "[ # a comment ] ="
    for index, item in enumerate(value):
        out.append("")
        expected[*path, index] = len(out)
        emit(item, (*path, index), out, expected)
        out[-1] += ","
    out.append("]")


@given(
    st.dictionaries(KEYS, st.dictionaries(KEYS, VALUES, max_size=4), max_size=4),
    st.booleans(),
    st.sampled_from(["\n", "\r\n"]),
)
def test_every_line_of_a_document_is_found(
    tables: dict[str, dict[str, Any]], dotted: bool, newline: str
) -> None:
    """Tables, keys and array elements are found on the line they were written on, in every spelling."""
    out, expected = ["# [a]"], dict[KeyPath, int]()
    for table, pairs in tables.items():
        if not dotted:
            out += ["", f" [ {table} ] # x"]
            expected[table.strip("\"'"),] = len(out)
        for key, value in pairs.items():
            path = (table.strip("\"'"), key.strip("\"'"))
            out.append(f"{table} . {key} = " if dotted else f"{key}=")
            expected.setdefault(path[:1], len(out))
            expected[path] = len(out)
            emit(value, path, out, expected)
    text = newline.join(out)
    assert find_lines(text) == expected


def test_lines_of_multi_line_strings_and_inline_tables() -> None:
    """What looks like a header inside a string is none; keys of inline tables have lines, too."""
    lines = find_lines(
        'a = """\n[b]\n\\""" c = 1 """""\nd = { e = [\n1], f.g = 2 }\nh = \'\'\'\n[i]\'\'\'\nj = 1\n'
    )
    assert lines == {
        ("a",): 1,
        ("d",): 4,
        ("d", "e"): 4,
        ("d", "e", 0): 5,
        ("d", "f"): 5,
        ("d", "f", "g"): 5,
        ("h",): 6,
        ("j",): 8,
    }
    assert line_of(lines, ("d", "x", "y")) == 4
    assert line_of(lines, ("k",)) == 1


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("[" * 5000, "line 3: Lists or tables are nested too deeply."),
        ("{a = " * 5000, "line 3: Lists or tables are nested too deeply."),
        ("1" * 5000, "line 3: A number has too many digits."),
    ],
    ids=["lists", "tables", "digits"],
)
def test_what_the_toml_reader_does_not_bear_is_told_with_its_line(
    value: str, words: str, tmp_path: Path
) -> None:
    """Nesting without end and numbers without end are refused like any other mistake."""
    path = tmp_path / "macbind.toml"
    path.write_text(f'[dhcpd.main]\nport = [7911, "1234"]\nhost = {value}\n[pool.farm]\n')
    with pytest.raises(ConfigError, match=re.escape(f"{path} {words}")):
        load(path)
