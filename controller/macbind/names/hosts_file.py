"""A hosts file that is always whole: it is written beside its place and renamed there.

Whoever reads the file sees the old one or the new one. A file that macbind did not write is left as it is.
"""

from __future__ import annotations

import os
import stat
from ipaddress import IPv4Address
from pathlib import Path

from macbind.core.findings import Finding
from macbind.core.host_names import HostNames, hosts_text, names_in
from macbind.names.trouble import Trouble

_MODE = 0o644
_MOST_BYTES = 1 << 28


class HostsFile:
    """The file.

    Args:
        path: Where it is.
        domain: The domain of its names.
    """

    def __init__(self, path: Path, domain: str) -> None:
        self._path, self._domain = path, domain
        self._text: str | None = None
        self._names: dict[str, IPv4Address] = {}

    def keep(self, names: HostNames) -> bool:
        """Writes the file if its content is not what it should be; returns whether it was written.

        Raises:
            Trouble: It cannot be written, or is somebody else's.
        """
        text = self._read()
        there: dict[str, IPv4Address] | None = {}
        if text:  # an empty one is nobody's: a disk that lost its power may leave it
            there = self._names if text == self._text else names_in(text)
        if there is None:
            raise self._foreign()
        shown = names.shown(there)
        if text is not None and text == self._text and shown == there:
            return False
        wanted = hosts_text(shown, self._domain)
        if wanted != text:
            try:
                self._write(wanted)
            except OSError as error:
                raise self._trouble("written", error) from error
        self._text, self._names = wanted, shown
        return wanted != text

    def _read(self) -> str | None:
        """What the file has; None if there is none."""
        try:
            descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)
            with os.fdopen(descriptor, "rb") as file:
                if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                    raise self._foreign()
                return file.read(_MOST_BYTES).decode("utf-8", errors="replace")
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._trouble("read", error) from error

    def _write(self, text: str) -> None:
        # dnsmasq passes over names that begin with a dot. A service that was killed may have left one.
        new = self._path.with_name(f".{self._path.name}.new")
        new.unlink(missing_ok=True)
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fchmod(descriptor, _MODE)
                os.fsync(descriptor)
            new.replace(self._path)
        except BaseException:
            new.unlink(missing_ok=True)
            raise

    def _foreign(self) -> Trouble:
        return Trouble(
            Finding(
                "names_file_foreign",
                f"The hosts file {self._path} was not written by macbind, and is left as it is.",
                "Name another hosts_file in [names], or remove this one.",
                str(self._path),
            )
        )

    def _trouble(self, what: str, error: OSError) -> Trouble:
        return Trouble(
            Finding(
                "names_file_failed",
                f"The hosts file {self._path} cannot be {what}: {error.strerror}.",
                "Make its directory and let macbind's user write there; the installed service may write below "
                "/var/cache/macbind/names only.",
                str(self._path),
            )
        )
