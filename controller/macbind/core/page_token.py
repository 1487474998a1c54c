"""Tokens of the page and of the API: who may read or write there, in which pools, and until when.

A file of tokens has one line for each: id, hash, what it may, its end, and a note. Only a salted hash of the secret
is kept; where a certificate proves the id, there is no secret::

    ops-1 5c1b…$9f03… write 2027-01-31T12:00:00+00:00 the wall of the control room
    ci-1 71d0…$02aa… write:farm,lab - only these pools
    core-1 certificate write - whoever has a certificate of this name
"""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from macbind.core.errors import InvalidRequest

_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
_HASH = re.compile(r"[0-9a-f]{32}\$[0-9a-f]{64}")
_POOLS = re.compile(r"[a-z0-9][a-z0-9-]{0,31}(,[a-z0-9][a-z0-9-]{0,31})*")
NEVER = "-"
BY_CERTIFICATE = "certificate"
"""Stands for the hash where a client certificate proves the id."""


class May(StrEnum):
    """What a token may."""

    READ = "read"
    """See everything."""
    WRITE = "write"
    """See everything, and change allocations; on the page that is to release them."""


@dataclass(frozen=True, slots=True)
class Token:
    """A token without its secret.

    Attributes:
        id: Its name; the audit log says ``page:ID`` or ``api:ID``.
        hash: Salt and hash of the secret, or :data:`BY_CERTIFICATE`.
        may: What it may.
        expires_at: Its end (UTC); None if it has none.
        note: What it is for.
        pools: The pools that it may see and change; None for all.
    """

    id: str
    hash: str
    may: May
    expires_at: datetime | None = None
    note: str = ""
    pools: frozenset[str] | None = None

    def is_over(self, now: datetime) -> bool:
        """Whether it has expired."""
        return self.expires_at is not None and self.expires_at <= now

    def fits(self, secret: str) -> bool:
        """Whether this is its secret; takes as long either way. A certificate has none."""
        salt = self.hash.partition("$")[0]
        return hmac.compare_digest(hashed(secret, salt), self.hash)

    @property
    def line(self) -> str:
        """Its line in the file."""
        end = NEVER if self.expires_at is None else self.expires_at.isoformat()
        may = self.may if self.pools is None else f"{self.may}:{','.join(sorted(self.pools))}"
        return f"{self.id} {self.hash} {may} {end} {self.note}".rstrip()

    @classmethod
    def of_line(cls, line: str) -> Token:
        """Reads a line of the file.

        Raises:
            ValueError: It is none.
        """
        name, digest, may, end, *note = line.split(None, 4)
        if not _ID.fullmatch(name) or not (digest == BY_CERTIFICATE or _HASH.fullmatch(digest)):
            raise ValueError("no id, or no hash")
        may, colon, pools = may.partition(":")
        if colon and not _POOLS.fullmatch(pools):
            raise ValueError("no pools")
        expires_at = None if end == NEVER else datetime.fromisoformat(end)
        if expires_at is not None and expires_at.tzinfo is None:
            raise ValueError("a time without its zone")
        within = frozenset(pools.split(",")) if colon else None
        return cls(name, digest, May(may), expires_at, note[0] if note else "", within)


def hashed(secret: str, salt: str) -> str:
    """Salt and hash of a secret. The secret is random and long, so one round is enough."""
    return f"{salt}${hashlib.sha256(f'{salt}{secret}'.encode(errors='replace')).hexdigest()}"


def check_id(text: str) -> str:
    """Returns ``text`` if it may name a token.

    Raises:
        InvalidRequest: It has other characters, or is too long.
    """
    if not _ID.fullmatch(text):
        raise InvalidRequest(
            f"{text!r} cannot be the id of a token.",
            hint="Use 1 to 32 lower-case letters, digits and hyphens, beginning with a letter or digit.",
        )
    return text


def check_note(text: str) -> str:
    """Returns ``text`` if it may be the note of a token.

    Raises:
        InvalidRequest: It is too long, or has characters that are not printable.
    """
    if len(text) > 200 or not text.isprintable():
        raise InvalidRequest(
            "The note of a token is at most 200 printable characters.", hint="Shorten it, on one line."
        )
    return " ".join(text.split())
