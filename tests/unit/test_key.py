"""The key file: made once, readable by few, and never shown."""

from __future__ import annotations

import os
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from macbind.core.errors import ConfigError
from macbind.dhcp.isc.config_test import check
from macbind.dhcp.isc.key import DIGEST_BYTES, OmapiKey, ensure_key, read_key

SECRET = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="


def key_file(directory: Path, text: str, mode: int = 0o640) -> Path:
    """A key file with this text."""
    path = directory / "macbind.key"
    path.write_text(text)
    path.chmod(mode)
    return path


def refused(path: Path, name: str = "macbind") -> ConfigError:
    """The error that reading the key makes; it shows the secret nowhere, not in its causes either."""
    with pytest.raises(ConfigError) as caught:
        read_key(path, name)
    assert SECRET[:20] not in "".join(traceback.format_exception(caught.value))
    assert caught.value.details["file"] == str(path)
    return caught.value


@pytest.mark.parametrize("algorithm", DIGEST_BYTES)
def test_a_new_key_is_as_long_as_its_digest_and_closed_to_others(algorithm: str, tmp_path: Path) -> None:
    """The file has mode 0640 whatever the umask, holds one stanza, and no temporary file is left."""
    old = os.umask(0)
    try:
        key = ensure_key(tmp_path / "macbind.key", "macbind", algorithm)
    finally:
        os.umask(old)
    assert len(key.secret) == DIGEST_BYTES[algorithm]
    assert (tmp_path / "macbind.key").stat().st_mode & 0o7777 == 0o640
    assert (tmp_path / "macbind.key").read_text() == key.stanza
    assert [one.name for one in tmp_path.iterdir()] == ["macbind.key"]
    assert read_key(tmp_path / "macbind.key", "macbind") == key


@pytest.mark.parametrize("algorithm", DIGEST_BYTES)
def test_dhcpd_accepts_every_key(algorithm: str) -> None:
    """dhcpd reads the stanza of each algorithm."""
    check('include "key";\nomapi-key "k";\n', key_text=OmapiKey.generate("k", algorithm).stanza)


def test_a_new_key_belongs_to_the_group(tmp_path: Path) -> None:
    """The group that may read the key is given with it."""
    group = os.getgid()
    ensure_key(tmp_path / "k", "macbind", "hmac-sha256", group=group)
    assert (tmp_path / "k").stat().st_gid == group


def test_an_existing_key_is_never_changed(tmp_path: Path) -> None:
    """The second call returns the first one's key and does not touch the file."""
    first = ensure_key(tmp_path / "k", "macbind", "hmac-sha256")
    before = (tmp_path / "k").stat()
    assert ensure_key(tmp_path / "k", "macbind", "hmac-sha256") == first
    after = (tmp_path / "k").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_many_at_once_get_one_key(tmp_path: Path) -> None:
    """Whoever comes first makes the key; everybody gets that one."""
    with ThreadPoolExecutor(8) as threads:
        keys = list(
            threads.map(lambda _: ensure_key(tmp_path / "k", "macbind", "hmac-sha256"), range(64), timeout=30)
        )
    assert len(set(keys)) == 1
    assert list(tmp_path.iterdir()) == [tmp_path / "k"]


def test_an_existing_key_of_another_algorithm_is_refused(tmp_path: Path) -> None:
    """Configuration and key file must agree, or dhcpd would refuse the controller."""
    path = key_file(tmp_path, OmapiKey.generate("macbind", "hmac-md5").stanza)
    with pytest.raises(ConfigError) as caught:
        ensure_key(path, "macbind", "hmac-sha256")
    assert caught.value.message == (
        f"The key file {path} is for hmac-md5, but the configuration says hmac-sha256."
    )


def test_a_key_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    """A missing directory is told by name and not made."""
    with pytest.raises(ConfigError) as caught:
        ensure_key(tmp_path / "none" / "k", "macbind", "hmac-sha256")
    assert caught.value.message == (
        f"The key file {tmp_path}/none/k cannot be created: No such file or directory."
    )


def test_the_secret_is_in_no_repr() -> None:
    """Neither ``repr`` nor ``str`` nor a format shows the secret, raw or encoded."""
    key = OmapiKey("macbind", "hmac-sha256", b"0123456789abcdef0123456789abcdef")
    for shown in (repr(key), str(key), f"{key}", repr([key]), repr({"key": key})):
        assert "0123" not in shown
        assert SECRET[:8] not in shown
    assert SECRET in key.stanza


SPELLINGS = {
    "ours": f'key "macbind" {{ algorithm hmac-sha256; secret "{SECRET}"; }};',
    "unquoted": f"key macbind{{secret {SECRET};algorithm HMAC-SHA256.SIG-ALG.REG.INT.;}}",
    "commented": f'''
# key "macbind" {{ algorithm hmac-md5; secret "AAAA"; }};
key other {{ algorithm hmac-md5; secret "AAAA"; }};
key "macbind" {{
    algorithm hmac-sha256; # "}}
    secret "{SECRET}";
}};
''',
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_keys_are_read_as_dhcpd_reads_them(spelling: str, tmp_path: Path) -> None:
    """Quotes, order, case, comments, other keys and the final semicolon do not matter."""
    key = read_key(key_file(tmp_path, SPELLINGS[spelling]), "macbind")
    assert key == OmapiKey("macbind", "hmac-sha256", b"0123456789abcdef0123456789abcdef")


def test_a_missing_key_file_is_told(tmp_path: Path) -> None:
    """The hint says what makes it."""
    error = refused(tmp_path / "k")
    assert error.message == f"The key file {tmp_path}/k does not exist."
    assert error.hint == "'macbind render' creates it."


def test_a_key_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    """The system's own words are told."""
    assert refused(tmp_path).message == f"The key file {tmp_path} cannot be read: Is a directory."


@pytest.mark.parametrize("mode", [0o644, 0o641, 0o642])
def test_a_key_file_open_to_everybody_is_refused(mode: int, tmp_path: Path) -> None:
    """Any permission for others is one too many."""
    path = key_file(tmp_path, f'key macbind {{ algorithm hmac-sha256; secret "{SECRET}"; }};', mode)
    error = refused(path)
    assert error.message == f"The key file {path} is open to every user of this machine (mode {mode:04o})."
    assert error.hint.endswith(f"chmod 0640 {path}")


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "has no key 'macbind': it has no key stanza"),
        (
            f'key a {{ algorithm hmac-md5; secret "{SECRET}"; }} key b {{ }}',
            "has no key 'macbind': it has a, b",
        ),
        (f'key macbind {{ secret "{SECRET}"; }}', "names no algorithm macbind knows for the key 'macbind'"),
        (
            f'key macbind {{ algorithm hmac-sha3; secret "{SECRET}"; }}',
            "names no algorithm macbind knows for the key 'macbind'",
        ),
        ("key macbind { algorithm hmac-md5; }", "has no base64 secret for the key 'macbind'"),
        (
            f'key macbind {{ algorithm hmac-md5; secret "{SECRET}A"; }}',
            "has no base64 secret for the key 'macbind'",
        ),
        ('key macbind { algorithm hmac-md5; secret ""; }', "has no base64 secret for the key 'macbind'"),
        ("#" * 70_000, "is too large to be a key"),
    ],
    ids=[
        "empty",
        "other names",
        "no algorithm",
        "unknown algorithm",
        "no secret",
        "not base64",
        "empty secret",
        "large",
    ],
)
def test_a_file_without_a_usable_key_is_told(text: str, what: str, tmp_path: Path) -> None:
    """What is wrong is told without the secret, and how to make a new key."""
    path = key_file(tmp_path, text)
    error = refused(path)
    assert error.message == f"The key file {path} {what}."
    assert "macbind render" in error.hint
