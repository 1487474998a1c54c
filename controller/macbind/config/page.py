"""Who may see the page, and who may use the API from elsewhere: what is asked of several tables together."""

from __future__ import annotations

from pathlib import Path

from macbind.config.document import Document
from macbind.config.tables import ApiSettings, PageSettings, ServiceSettings


def check_page(document: Document, page: PageSettings, service: ServiceSettings) -> None:
    """Refuses a page that would show more to somebody than the socket does.

    Raises:
        ConfigError: It would.
    """
    if page.listen is None or page.tokens is not None:
        return
    if not page.listen.address.is_loopback:
        raise document.error(
            ("page", "listen"),
            f"[page] listen: Other machines reach {page.listen}, and there are no tokens.",
            'Name a file of tokens in [page], as tokens = "/var/lib/macbind/page-tokens", and make one with '
            "`macbind token add ID`; or listen on 127.0.0.1.",
        )
    if "*" not in service.may_read:
        raise document.error(
            ("page", "listen"),
            "[page] listen: Every user of this machine would see the page, and may_read in [service] names a few.",
            'Name a file of tokens in [page], or let everybody read with may_read = ["*"].',
        )


def is_open_to_read(page: PageSettings, service: ServiceSettings) -> bool:
    """Whether nobody needs a token to read: the page is on loopback, and every user here may read."""
    return page.listen is not None and page.listen.address.is_loopback and "*" in service.may_read


def check_api(document: Document, api: ApiSettings, page: PageSettings) -> None:
    """Refuses an API that nobody could use, and a second file of tokens.

    Raises:
        ConfigError: It is one.
    """
    if None not in (api.tokens, page.tokens) and api.tokens != page.tokens:
        raise document.error(
            ("api", "tokens"),
            f"[api] tokens: [page] names another file, {page.tokens}.",
            "There is one file of tokens: name the same one, or leave this out.",
        )
    if api.listen is not None and api.tokens is None and page.tokens is None:
        raise document.error(
            ("api", "listen"),
            "[api] listen: There is no file of tokens, so nobody could use it.",
            'Name one in [api], as tokens = "/var/lib/macbind/page-tokens", and make a token with '
            "`macbind token add ID`.",
        )


def token_file(api: ApiSettings, page: PageSettings) -> Path | None:
    """The file of tokens, of the page and of the API; None if there is none."""
    return api.tokens or page.tokens
