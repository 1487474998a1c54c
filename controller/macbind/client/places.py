"""Where the service is: at a Unix socket of this host, or on other hosts, over TLS."""

from __future__ import annotations

import errno
import os
import socket as sockets
import struct
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from typing_extensions import override

from macbind.core.errors import ConfigError, InvalidRequest, MacbindError, NotPermitted, ServiceUnavailable

if TYPE_CHECKING:
    import ssl

DEFAULT_SOCKET = Path("/run/macbind/macbind.sock")
SOCKET_VARIABLE, SERVICE_VARIABLE = "MACBIND_SOCKET", "MACBIND_SERVICE"
"""Environment variables that name another place; the first counts before the second."""
TOKEN_VARIABLE, CA_VARIABLE = "MACBIND_TOKEN", "MACBIND_CA"  # their names
CERTIFICATE_VARIABLE, KEY_VARIABLE = "MACBIND_CERTIFICATE", "MACBIND_KEY"
PORT = 8443
"""The port where none is named."""
_CONNECT_S = 5.0
"""How long TCP connection and TLS handshake may each take, in seconds."""
_CONNECT_TIMEOUT = struct.pack("@ll", 3, 0)
"""How long to wait while the service accepts no connection: 3 seconds, as a ``struct timeval``."""
_SCHEME = "https://"
NO_HEADERS: Mapping[str, str] = MappingProxyType({})

Service = str | Path | Sequence[str | Path]
"""A socket's path, the URL of a service, or several; in one text there are commas between them."""


class DeadlineSocket(sockets.socket):
    """A socket with a deadline for all that is received, however slowly it trickles in."""

    deadline = 0.0

    @override
    def recv_into(self, *arguments: Any) -> int:
        self.settimeout(left_until(self.deadline))
        return super().recv_into(*arguments)


def left_until(deadline: float) -> float:
    """The seconds until a deadline (monotonic).

    Raises:
        TimeoutError: There are none left.
    """
    left_s = deadline - time.monotonic()
    if left_s <= 0:
        raise TimeoutError("timed out")
    return left_s


@dataclass(frozen=True, slots=True)
class LocalPlace:
    """A Unix socket of this host.

    Attributes:
        path: Its path.
    """

    path: Path
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    def __str__(self) -> str:
        return str(self.path)

    def connect(self) -> DeadlineSocket:
        """A connection.

        Raises:
            OSError: There is none.
        """
        made = DeadlineSocket(sockets.AF_UNIX, sockets.SOCK_STREAM)
        try:
            # Without a timeout of Python's own the kernel lets us wait while the service's backlog is full.
            made.setsockopt(sockets.SOL_SOCKET, sockets.SO_SNDTIMEO, _CONNECT_TIMEOUT)
            made.connect(str(self.path))
        except OSError:
            made.close()
            raise
        return made

    def unreachable(self, error: OSError) -> MacbindError:
        """Why there is no connection, and what to do."""
        start = "Start it with `systemctl start macbind` or `macbind serve`."
        match error.errno:
            case errno.ENOENT:
                why, hint = "there is no such socket", start
            case errno.ECONNREFUSED:
                why, hint = "nobody listens", start
            case errno.EAGAIN:
                why, hint = "too many connections wait for it already", "Ask again in a moment."
            case errno.EACCES:
                return NotPermitted(
                    f"Your user may not connect to the macbind service at {self}: permission denied.",
                    hint="Join the socket's group ([service] socket_group of macbind.toml), or ask as root.",
                    socket=str(self),
                )
            case _:
                why, hint = str(error), "Check the path of the socket."
        return ServiceUnavailable(
            f"The macbind service at {self} cannot be reached: {why}.", hint=hint, socket=str(self)
        )


@dataclass(frozen=True, slots=True)
class RemotePlace:
    """A service on another host, reached over TLS.

    Attributes:
        host: Its name or address, which its certificate must have.
        port: Its TCP port.
        context: Checks its certificate, and has ours.
        headers: What every request says, such as the token.
    """

    host: str
    port: int
    context: ssl.SSLContext = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    def __str__(self) -> str:
        return (
            f"{_SCHEME}[{self.host}]:{self.port}" if ":" in self.host else f"{_SCHEME}{self.host}:{self.port}"
        )

    def connect(self) -> DeadlineSocket:
        """A connection that is encrypted, to whoever has a certificate for the host.

        Raises:
            OSError: There is none.
        """
        plain = sockets.create_connection((self.host, self.port), _CONNECT_S)
        try:
            plain.setsockopt(sockets.IPPROTO_TCP, sockets.TCP_NODELAY, 1)
            made: Any = self.context.wrap_socket(plain, server_hostname=self.host)
        except (OSError, ValueError):
            plain.close()
            raise
        return made  # type: ignore[no-any-return]  # of the class that the context was told to make

    def unreachable(self, error: OSError) -> MacbindError:
        """Why there is no connection, and what to do; commands are for the service's host."""
        import ssl

        hint = "Check host and port; `ss -ltn` on the service's host shows whether it listens."
        if isinstance(error, ssl.SSLCertVerificationError):
            why = f"its certificate is not trusted: {error.verify_message or error}"
            hint = f"Name the CA that has signed it (ca=, or ${CA_VARIABLE}), and the host as the certificate does."
        elif isinstance(error, ssl.SSLError):
            why = f"the TLS handshake fails: {error.reason or error}"
            hint = "Check that this is the port of [api], and that its client_ca has signed your certificate."
        elif isinstance(error, sockets.gaierror):
            why, hint = f"the name {self.host} is not known", "Check the name, or use an address."
        elif isinstance(error, TimeoutError):
            why = f"it does not answer within {_CONNECT_S:g} s"
        elif error.errno == errno.ECONNREFUSED:
            why = "nobody listens"
            hint = "On the service's host: `systemctl start macbind`, and check `listen` in [api] of macbind.toml."
        else:
            why = error.strerror or str(error)
        return ServiceUnavailable(
            f"The macbind service at {self} cannot be reached: {why}.", hint=hint, service=str(self)
        )


Place = LocalPlace | RemotePlace


def given_service(service: Service | None) -> Service:
    """What was given, or else what the environment names, or else the usual socket."""
    named = os.environ.get(SOCKET_VARIABLE) or os.environ.get(SERVICE_VARIABLE)
    return service or named or DEFAULT_SOCKET


def places_of(
    service: Service,
    *,
    token: str | None = None,
    ca: str | Path | None = None,
    certificate: str | Path | None = None,
    key: str | Path | None = None,
) -> tuple[Place, ...]:
    """The places of a service, those first that are named first.

    Args:
        service: Sockets and URLs.
        token: Who asks, to services on other hosts; by default $MACBIND_TOKEN.
        ca: The CA that has signed their certificates; by default $MACBIND_CA, or those that this system trusts.
        certificate: Our certificate; by default $MACBIND_CERTIFICATE.
        key: Its key; by default $MACBIND_KEY, or it is in the file of the certificate.

    Raises:
        InvalidRequest: It is no place.
        ConfigError: A file of TLS cannot be used.
    """
    named = [str(one) for one in (_parts(service) if isinstance(service, str | Path) else service)]
    if not named:
        raise InvalidRequest(
            "No service is named.", hint="Name a socket, or a URL such as https://farm:8443."
        )
    if not any("://" in one for one in named):
        return tuple(LocalPlace(Path(one)) for one in named)
    context = _context(
        ca or os.environ.get(CA_VARIABLE) or None,
        certificate or os.environ.get(CERTIFICATE_VARIABLE) or None,
        key or os.environ.get(KEY_VARIABLE) or None,
    )
    secret = token or os.environ.get(TOKEN_VARIABLE)
    headers = NO_HEADERS if not secret else {"Authorization": f"Bearer {_checked(secret)}"}
    return tuple(_remote(one, context, headers) if "://" in one else LocalPlace(Path(one)) for one in named)


def _parts(text: str | Path) -> list[str]:
    """The places in a text; a path may have a comma in it."""
    parts = [one.strip() for one in str(text).split(",")]
    return parts if all(one.startswith("/") or "://" in one for one in parts) else [str(text)]


def _checked(token: str) -> str:
    if not (token.isascii() and token.isprintable() and " " not in token.strip()):
        raise InvalidRequest(
            "The token is no token.", hint="Copy the whole token, as `macbind token add` has printed it."
        )
    return token.strip()


def _remote(url: str, context: ssl.SSLContext, headers: Mapping[str, str]) -> RemotePlace:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        parts, host, port = urlsplit(""), None, None
    if (
        parts.scheme != "https"
        or not host
        or parts.path not in ("", "/")
        or parts.query
        or "@" in parts.netloc
    ):
        raise InvalidRequest(
            f"{url!r} is no URL of a macbind service.",
            hint=f"Write {_SCHEME}HOST:{PORT}, and nothing behind it.",
        )
    return RemotePlace(host, port or PORT, context, headers)


def _context(ca: str | Path | None, certificate: str | Path | None, key: str | Path | None) -> ssl.SSLContext:
    import ssl

    class TlsSocket(ssl.SSLSocket):
        deadline = 0.0

        @override
        def recv_into(self, *arguments: Any) -> int:
            if self.deadline:  # a handshake has a time-out of its own
                self.settimeout(left_until(self.deadline))
            return super().recv_into(*arguments)

    try:
        made = ssl.create_default_context(cafile=ca)
    except (OSError, ValueError) as error:
        raise _unusable("The CA file", ca, error) from error
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    if certificate is not None:
        try:
            made.load_cert_chain(certificate, key, password=lambda: b"")
        except (OSError, ValueError) as error:
            raise _unusable("The client certificate", certificate, error) from error
    made.sslsocket_class = TlsSocket
    return made


def _unusable(what: str, path: str | Path | None, error: Exception) -> ConfigError:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return ConfigError(
        f"{what} {path} cannot be used: {reason.rstrip('.')}.",
        hint="Name a file in PEM that your user may read; a key has no password.",
    )
