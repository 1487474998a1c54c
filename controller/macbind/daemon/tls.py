"""The certificates of the API, which a reload exchanges while connections last."""

from __future__ import annotations

import ssl
from typing import Any, Self

from typing_extensions import override

from macbind.config import Settings
from macbind.core.errors import ConfigError


class RenewableContext(ssl.SSLContext):
    """A TLS context that takes another one's place for new connections; those that are there go on.

    A context by itself can take a new certificate, but not forget an old CA.
    """

    current: ssl.SSLContext

    def __new__(cls, first: ssl.SSLContext) -> Self:
        """Begins with a context."""
        made = super().__new__(cls, ssl.PROTOCOL_TLS_SERVER)
        made.current = first
        return made

    @override
    def wrap_bio(self, *given: Any, **named: Any) -> ssl.SSLObject:
        return self.current.wrap_bio(*given, **named)


def tls_context(settings: Settings) -> ssl.SSLContext:
    """The TLS context that ``[api]`` describes.

    Raises:
        ConfigError: One of its files cannot be used.
    """
    api = settings.api
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    # A session that goes on would show a certificate again that was never looked at since.
    made.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_TICKET
    made.num_tickets = 0
    try:
        # Without a password it would ask for one at the terminal.
        made.load_cert_chain(api.certificate, api.key, password=lambda: b"")
    except (OSError, ValueError) as error:
        raise _unusable(settings, "certificate", f"{api.certificate} with {api.key}", error) from error
    if api.client_ca is not None:
        try:
            made.load_verify_locations(api.client_ca)
        except (OSError, ValueError) as error:
            raise _unusable(settings, "client_ca", str(api.client_ca), error) from error
        made.verify_mode = ssl.CERT_OPTIONAL  # a token does it, too
    return made


def _unusable(settings: Settings, key: str, what: str, error: Exception) -> ConfigError:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return settings.document.error(
        ("api", key),
        f"[api] {key}: {what} cannot be used: {reason.rstrip('.')}.",
        "Name files in PEM that the service's user may read; the key has no password.",
    )


def common_name(certificate: dict[str, Any] | None) -> str | None:
    """The common name of a verified certificate; None if there is none, or no certificate."""
    for part in (certificate or {}).get("subject", ()):
        for key, value in part:
            if key == "commonName":
                return str(value).lower()
    return None
