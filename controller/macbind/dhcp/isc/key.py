"""The OMAPI key: the only file that holds the secret, written once and never overwritten.

The file is dhcpd's own ``key`` stanza. dhcpd includes it and the controller reads it, so neither has a copy. No
error and no ``repr`` shows the secret.
"""

from __future__ import annotations

import base64
import os
import re
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from macbind.core.errors import ConfigError

DIGEST_BYTES = {
    "hmac-md5": 16,
    "hmac-sha1": 20,
    "hmac-sha224": 28,
    "hmac-sha256": 32,
    "hmac-sha384": 48,
    "hmac-sha512": 64,
}
KEY_MODE = 0o640
MAX_KEY_FILE = 65_536
"""A key stanza is some hundred bytes; more is some other file."""

_COMMENT_OR_STRING = re.compile(r'#[^\n]*|("[^"\n]*")')
_STANZA = re.compile(r'\bkey\s+("?)([A-Za-z0-9._-]+)\1\s*\{([^{}]*)\}\s*;?')
_ALGORITHM = re.compile(
    r'(?:^|;)\s*algorithm\s+"?([A-Za-z0-9-]+?)(?:\.sig-alg\.reg\.int\.?)?"?\s*;', re.IGNORECASE
)
_SECRET = re.compile(r'(?:^|;)\s*secret\s+("?)([A-Za-z0-9+/=]+)\1\s*;', re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class OmapiKey:
    """A shared key that signs OMAPI messages.

    Attributes:
        name: The name dhcpd knows it by.
        algorithm: ``hmac-`` and a digest.
        secret: The raw secret; in no ``repr``.
    """

    name: str
    algorithm: str
    secret: bytes = field(repr=False)

    @property
    def stanza(self) -> str:
        """The key as dhcpd reads it."""
        secret = base64.b64encode(self.secret).decode()
        return f'key "{self.name}" {{ algorithm {self.algorithm}; secret "{secret}"; }};\n'

    @classmethod
    def generate(cls, name: str, algorithm: str) -> OmapiKey:
        """A fresh random key, as long as the algorithm's digest (RFC 2104 section 3)."""
        return cls(name, algorithm, secrets.token_bytes(DIGEST_BYTES[algorithm]))


def read_key(path: Path, name: str) -> OmapiKey:
    """Reads the key of this name from a file of dhcpd key stanzas.

    Raises:
        ConfigError: The file is missing, may not be read, may be read by everybody, or has no usable key of
            that name.
    """
    return _read(path, name)


def only_key(path: Path) -> OmapiKey:
    """Reads the only key of a file of key stanzas, whatever its name is.

    Raises:
        ConfigError: As :func:`read_key`, or the file has several keys.
    """
    return _read(path, None)


def _read(path: Path, name: str | None) -> OmapiKey:
    def refuse(what: str, hint: str = "") -> ConfigError:
        return ConfigError(f"The key file {path} {what}.", hint=hint, file=str(path))

    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            raw = file.read(MAX_KEY_FILE + 1)
    except FileNotFoundError as error:
        raise refuse("does not exist", "'macbind render' creates it.") from error
    except PermissionError as error:
        raise refuse(
            "may not be read by this user", "Run the command as root, or as a member of the file's group."
        ) from error
    except OSError as error:
        raise refuse(f"cannot be read: {error.strerror}") from error
    if mode & stat.S_IRWXO:
        raise refuse(
            f"is open to every user of this machine (mode {stat.S_IMODE(mode):04o})",
            f"Make a new key if others may have read it, and run: chmod {KEY_MODE:04o} {path}",
        )
    remake = "Remove it and run 'macbind render', which makes a new key; then restart dhcpd."
    if len(raw) > MAX_KEY_FILE:
        raise refuse("is too large to be a key", remake)
    # A comment must not be taken for a key, nor a # between quotes for a comment.
    text = _COMMENT_OR_STRING.sub(lambda match: match[1] or "", raw.decode("latin-1"))
    stanzas = {match[2]: match[3] for match in _STANZA.finditer(text)}
    if name is None and len(stanzas) == 1:
        (name,) = stanzas
    if name is None:
        raise refuse(f"has {len(stanzas) or 'no'} keys, and one is needed")
    if name not in stanzas:
        others = f"it has {', '.join(stanzas)}" if stanzas else "it has no key stanza"
        raise refuse(f"has no key '{name}': {others}", f"Correct key_name, or: {remake}")
    algorithm, secret = _ALGORITHM.search(stanzas[name]), _SECRET.search(stanzas[name])
    if algorithm is None or algorithm[1].lower() not in DIGEST_BYTES:
        raise refuse(f"names no algorithm macbind knows for the key '{name}'", remake)
    try:
        decoded = base64.b64decode(secret[2], validate=True) if secret else b""
    except ValueError:
        decoded = b""
    if not decoded:
        raise refuse(f"has no base64 secret for the key '{name}'", remake)
    return OmapiKey(name, algorithm[1].lower(), decoded)


def ensure_key(path: Path, name: str, algorithm: str, *, group: int | None = None) -> OmapiKey:
    """Returns the key in the file, making file and key first where the file does not exist.

    The file appears complete, with its final mode, or not at all; an existing one is never changed.

    Args:
        path: The key file.
        name: The key's name.
        algorithm: The key's algorithm, as in the configuration.
        group: Numeric group that may read a new file; None leaves what the directory gives.

    Raises:
        ConfigError: The file exists but is not usable, has another algorithm, or cannot be created.
    """
    try:
        if not path.exists():
            with (
                staged(path, OmapiKey.generate(name, algorithm).stanza, KEY_MODE, group) as new,
                suppress(FileExistsError),  # made meanwhile by somebody else: theirs counts
            ):
                os.link(new, path)
                sync_directory(path.parent)
    except OSError as error:
        raise ConfigError(
            f"The key file {path} cannot be created: {error.strerror}.",
            hint="Create its directory, or run the command as root.",
            file=str(path),
        ) from error
    key = read_key(path, name)
    if key.algorithm != algorithm:
        raise ConfigError(
            f"The key file {path} is for {key.algorithm}, but the configuration says {algorithm}.",
            hint=f"Write key_algorithm = \"{key.algorithm}\", or remove the file and run 'macbind render'.",
            file=str(path),
        )
    return key


@contextmanager
def staged(path: Path, text: str, mode: int, group: int | None = None) -> Iterator[Path]:
    """A finished, flushed file beside ``path``, ready to be linked or renamed there; else removed again."""
    new = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="surrogateescape") as file:
            if group is not None:
                os.fchown(descriptor, -1, group)
            os.fchmod(descriptor, mode)
            file.write(text)
            file.flush()
            os.fsync(descriptor)
        yield new
    finally:
        new.unlink(missing_ok=True)


def sync_directory(path: Path) -> None:
    """Makes a link or rename in the directory survive a power failure."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
