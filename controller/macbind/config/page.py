"""Who may see the page: what is asked of ``[page]`` together with ``[service]``."""

from __future__ import annotations

from macbind.config.document import Document
from macbind.config.tables import PageSettings, ServiceSettings


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
