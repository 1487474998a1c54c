"""Secrets are taken out of what is shown to strangers, however they are written, and all else stays."""

import base64
import json
from collections.abc import Callable
from urllib.parse import quote

import pytest

from macbind.core.redaction import Redactor, secrets_in

RAW = bytes(range(200, 232))
TEXT = base64.b64encode(RAW).decode()
PASSWORD = 'p@ss"wörd/&'
SPELLINGS: dict[str, Callable[[bytes], bytes]] = {
    "raw": lambda raw: raw,
    "base64": base64.b64encode,
    "base64 without padding": lambda raw: base64.b64encode(raw).rstrip(b"="),
    "base64 for URLs": base64.urlsafe_b64encode,
    "base64 in two lines": lambda raw: base64.b64encode(raw)[:20] + b"\n  " + base64.b64encode(raw)[20:],
    "hex": lambda raw: raw.hex().encode(),
    "HEX": lambda raw: raw.hex().upper().encode(),
    "hex with colons": lambda raw: raw.hex(":").encode(),
    "hex with spaces": lambda raw: raw.hex(" ").encode(),
    "C": lambda raw: b"".join(b"\\x%02x" % one for one in raw),
    "Python": lambda raw: repr(raw).encode(),
    "list": lambda raw: ", ".join(f"0x{one:02x}" for one in raw).encode(),
    "URL": lambda raw: quote(raw, safe="").encode(),
    "JSON": lambda raw: json.dumps(raw.decode("latin-1")).encode(),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_known_secret_is_removed_in_every_spelling(spelling: str) -> None:
    """Amid other text, which stays."""
    for secret in (RAW, PASSWORD.encode()):
        redactor = Redactor([secret])
        written = b"before " + SPELLINGS[spelling](secret) + b" behind"
        assert not redactor.is_clean(written)
        cleaned = redactor.clean(written)
        assert redactor.is_clean(cleaned)
        assert cleaned.startswith(b"before ")
        assert cleaned.endswith(b" behind")
        assert b"<removed>" in cleaned


@pytest.mark.parametrize("before", [0, 1, 2, 3, 7])
def test_a_secret_inside_of_other_base64_is_removed(before: int) -> None:
    """Whatever its alignment there: as in the whole key file, encoded."""
    written = base64.b64encode(b"x" * before + RAW + b"the end of a file")
    first, last = -(-before * 8 // 6), (before + len(RAW)) * 8 // 6
    cleaned = Redactor([RAW]).clean(written)
    assert cleaned == written[:first] + b"<removed>" + written[last:]


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        (
            'key "k" { algorithm hmac-sha256; secret "abcd=="; };',
            'key "k" { algorithm hmac-sha256; secret "<removed>"; };',
        ),
        ("omapi-key macbind;", "omapi-key macbind;"),
        ('url = "postgresql://u:pw@db/macbind"', 'url = "postgresql://u:<removed>@db/macbind"'),
        ('key_file = "/etc/dhcp/macbind.key"', 'key_file = "/etc/dhcp/macbind.key"'),
        ('{"token": "abc", "name": "x"}', '{"token": "<removed>", "name": "x"}'),
        ('{"token": null}', '{"token": null}'),
        ("PGPASSWORD=abc psql", "PGPASSWORD=<removed> psql"),
        ("Authorization: Bearer abc.def", "Authorization: Bearer <removed>"),
        ("host=db sslpassword='a b' user=x", "host=db sslpassword='<removed>' user=x"),
        ("10.1.1.3 is allocated to 'build-7'", "10.1.1.3 is allocated to 'build-7'"),
    ],
)
def test_what_looks_like_a_secret_is_removed(text: str, cleaned: str) -> None:
    """By the word before it, also where nobody knows it; JSON stays JSON."""
    assert Redactor([]).clean(text.encode()).decode() == cleaned


def test_the_secrets_of_configurations_are_known() -> None:
    """Keys of dhcpd's, as written and as bytes; passwords of URLs, as written and decoded."""
    conf = f'key "macbind" {{ algorithm hmac-sha256; secret "{TEXT}"; }};\nkey ddns {{ secret c2VjcmV0; }};'
    assert {TEXT.encode(), RAW, b"c2VjcmV0", b"secret"} <= set(secrets_in(conf))
    toml = 'url = "postgresql://macbind:p%40ss@db:5432/x?sslpassword=q%2Fq"\nuri = "qemu+ssh://root:pw2@h/system"'
    assert {b"p%40ss", b"p@ss", b"q%2Fq", b"q/q", b"pw2"} <= set(secrets_in(toml))
    assert list(secrets_in('url = "sqlite:////var/lib/macbind/registry.db"')) == []


def test_a_long_line_takes_no_time() -> None:
    """A line of a megabyte without any break is read once, not once for each of its characters."""
    content = b"a" * (1 << 20) + b" secret=x"
    assert Redactor([RAW]).clean(content).endswith(b" secret=<removed>")
