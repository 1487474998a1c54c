"""Where a change comes from: who asked, in which request, and why."""

from __future__ import annotations

import hashlib
import re
import secrets
from typing import Self

from macbind.core.errors import InvalidRequest

MAX_REASON = 255
_REQUEST = re.compile(r"[!-~]{1,64}", re.ASCII)


def request_id(given: str | None = None) -> str:
    """The id of a request: the caller's if it is short and printable, else one that nobody had before."""
    return given if given is not None and _REQUEST.fullmatch(given) else secrets.token_hex(8)


def key_of(caller: str, given: str) -> str:
    """What tells a request from all others: the key that its caller has made, and whose it is.

    Nobody else can repeat it, also not who reads it in the database.

    Raises:
        InvalidRequest: It can be no key.
    """
    if not _REQUEST.fullmatch(given):
        raise InvalidRequest(
            "Idempotency-Key must be 1 to 64 printable ASCII characters without spaces.",
            hint="Send a random one with each request, such as a UUID, and the same with its repeat.",
        )
    return hashlib.sha256(f"{caller}\0{given}".encode()).hexdigest()[:32]


class Origin(str):
    """The actor as the audit log names it, with what else every row of his request says.

    It is the actor's text wherever only that is asked for.

    Attributes:
        request: The id of the request; None if there was none.
        reason: Why, in the caller's words; None if he did not say.
        pools: The pools that he may see and change; None for all.
    """

    request: str | None
    reason: str | None
    pools: frozenset[str] | None

    def __new__(
        cls,
        actor: str,
        request: str | None = None,
        reason: str | None = None,
        pools: frozenset[str] | None = None,
    ) -> Self:
        """Joins them."""
        made = super().__new__(cls, actor)
        made.request, made.reason, made.pools = request, reason, pools
        return made
