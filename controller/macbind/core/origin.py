"""Where a change comes from: who asked, in which request, and why."""

from __future__ import annotations

import re
import secrets
from typing import Self

MAX_REASON = 255
_REQUEST = re.compile(r"[!-~]{1,64}", re.ASCII)


def request_id(given: str | None = None) -> str:
    """The id of a request: the caller's if it is short and printable, else one that nobody had before."""
    return given if given is not None and _REQUEST.fullmatch(given) else secrets.token_hex(8)


class Origin(str):
    """The actor as the audit log names it, with what else every row of his request says.

    It is the actor's text wherever only that is asked for.

    Attributes:
        request: The id of the request; None if there was none.
        reason: Why, in the caller's words; None if he did not say.
    """

    request: str | None
    reason: str | None

    def __new__(cls, actor: str, request: str | None = None, reason: str | None = None) -> Self:
        """Joins them."""
        made = super().__new__(cls, actor)
        made.request, made.reason = request, reason
        return made
