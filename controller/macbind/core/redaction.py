"""Taking secrets out of texts that are to be shown to strangers.

Secrets that are known are removed in every spelling: as they are, as base64 with any alignment, in hexadecimal
digits, percent-encoded, or escaped. What only looks like a secret, by the word before it, is removed as well.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Iterator
from urllib.parse import quote, quote_plus, unquote

REMOVED = b"<removed>"
_SHORTEST_ALIGNED = 6
"""A shorter secret's base64, inside that of a longer text, is too short to be told from other text."""
_WORD = rb"(?:secret|pass(?:word|wd|phrase)?|pwd|token|(?<!om)api[_-]?key|credentials?)"
_VALUE = rb"(?:(?P<quote>[\"'])[^\"'\n]*(?P=quote)?|(?!(?:null|true|false|none)\b)[^\s\"',;&}]+)"
_PATTERNS = (
    # secret "…";  password = '…'  "token": "…"  SSLPASSWORD=…
    re.compile(rb"(?i)(?P<before>\b[\w.-]{0,40}" + _WORD + rb"[\"']?(?:\s{0,9}[:=]\s{0,9}|\s))" + _VALUE),
    re.compile(
        rb"(?i)(?P<before>authorization[\"']?\s{0,9}[:=]\s{0,9}[\"']?(?:\w+\s)?)(?P<quote>)[^\s\"',]+"
    ),
    re.compile(rb"(?i)(?P<before>\bbearer\s+)(?P<quote>)[^\s\"',]+"),
    # scheme://user:password@host
    re.compile(rb"(?P<before>\b[a-z][a-z0-9+.-]{1,20}://[^\s:/@\"']*:)(?P<quote>)[^\s\"'/]*(?=@)"),
)
_HARMLESS = frozenset((b"", b"true", b"false", b"null", b"none"))


def secrets_in(text: str) -> Iterator[bytes]:
    """The secrets that a configuration holds: keys of dhcpd's, and what URLs have before and behind their host.

    Args:
        text: The configuration of macbind or dhcpd, or a key file.
    """
    for found in re.finditer(r"(?i)\bsecret\s+\"?([A-Za-z0-9+/=]+)\"?\s*;", text):
        yield found[1].encode()
        padded = found[1] + "=" * (-len(found[1]) % 4)
        try:
            yield base64.b64decode(padded)
        except ValueError:
            continue
    for found in re.finditer(r"[a-z][a-z0-9+.-]*://([^\s\"'?#]*)@", text):
        _, colon, password = found[1].partition(":")
        if colon and password:
            yield password.encode()
            yield unquote(password).encode()
    for found in re.finditer(r"(?i)[?&]\w*(?:pass\w*|secret|token|key)=([^\s\"'&#]+)", text):
        yield found[1].encode()
        yield unquote(found[1]).encode()


class Redactor:
    """Removes secrets.

    Args:
        secrets: Those that are known, as they are.
    """

    def __init__(self, secrets: Iterable[bytes]) -> None:
        known = {one for one in secrets if one.lower() not in _HARMLESS}
        self._spellings = sorted(
            {one for secret in known for one in _spellings(secret)}, key=len, reverse=True
        )
        patterns = [_digits(secret) for secret in known] + [_broken(one) for one in self._spellings]
        self._known = [re.compile(one, re.DOTALL) for one in sorted(patterns, key=len, reverse=True)]

    def clean(self, content: bytes) -> bytes:
        """The content without secrets."""
        for pattern in self._known:
            content = pattern.sub(REMOVED, content)
        for pattern in _PATTERNS:
            content = pattern.sub(_instead, content)
        return content

    def is_clean(self, content: bytes) -> bool:
        """Whether no spelling of a known secret is in it."""
        rest = content.replace(REMOVED, b"\0")
        return not any(pattern.search(rest) for pattern in self._known)


def _instead(found: re.Match[bytes]) -> bytes:
    quote_mark = found["quote"] or b""
    return found["before"] + quote_mark + REMOVED + quote_mark


def _spellings(secret: bytes) -> Iterator[bytes]:
    """How programs write a secret down, but for hexadecimal digits."""
    yield secret
    text = secret.decode("latin-1")
    yield from (quote(secret, safe="").encode(), quote(secret).encode(), quote_plus(secret).encode())
    yield from (json.dumps(text)[1:-1].encode(), repr(secret)[2:-1].encode(), repr(text)[1:-1].encode())
    try:
        plain = secret.decode()
    except UnicodeDecodeError:
        pass
    else:
        yield from (json.dumps(plain)[1:-1].encode(), repr(plain)[1:-1].encode())
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        yield encode(secret)
        yield encode(secret).rstrip(b"=")
        if len(secret) < _SHORTEST_ALIGNED:
            continue
        for before in range(3):  # as a part of a longer text
            written = encode(bytes(before) + secret).rstrip(b"=")
            first = -(-before * 8 // 6)
            last = (before + len(secret)) * 8 // 6
            yield written[first:last]


def _digits(secret: bytes) -> bytes:
    """A pattern of a secret's hexadecimal digits, whatever stands between its bytes."""
    between = rb"[\s:,.;-]{0,3}(?:0x|\\x)?"
    return rb"(?i:" + between.join(b"%02x" % one for one in secret) + rb")"


def _broken(spelling: bytes) -> bytes:
    """A pattern of a spelling that may be broken into lines."""
    return rb"(?:\\?\r?\n[ \t]*)?".join(re.escape(bytes([one])) for one in spelling)
