"""What a report for a bug report is made of. Nothing here fails: what cannot be read is said instead."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import distributions
from pathlib import Path
from typing import TYPE_CHECKING, Any

from macbind import __version__
from macbind.cli.formats import plain
from macbind.core.errors import MacbindError
from macbind.core.redaction import Redactor, secrets_in

if TYPE_CHECKING:
    from macbind.client.client import Client
    from macbind.config import Settings

MAX_LOG = 1 << 20
"""Bytes of the end of each log."""
MAX_FILE = 4 << 20
"""Bytes of a configuration file."""
ENTRIES = 1000
"""Entries of the audit log."""
_LINES, _PATIENCE_S = "5000", 20.0
_KEY_FILE = re.compile(r'^\s*key_file\s*=\s*["\']([^"\'\n]+)["\']', re.MULTILINE)
_DEFAULT_KEY_FILE = "/etc/dhcp/macbind.key"
JOURNAL = "journal:"


@dataclass(frozen=True, slots=True)
class Part:
    """A file of the report.

    Attributes:
        name: Its name there.
        content: What stands in it, without secrets.
    """

    name: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Sources:
    """Where a report looks.

    Attributes:
        config: The configuration file.
        client: The service, which may be down.
        logs: More files to take the ends of.
    """

    config: Path
    client: Client
    logs: tuple[Path, ...] = ()


def collect(sources: Sources) -> tuple[list[Part], Redactor]:
    """All parts, without secrets, and what has removed them."""
    text = _text(sources.config)
    settings, problem = _settings(sources.config)
    keys, unread = _keys(text)
    confs = list(_conf_files(settings))
    known = [secrets_in(one) for one in (text, *keys, *(_text(path) for _, path in confs))]
    redactor = Redactor(secret for some in known for secret in some)
    parts = [("macbind.toml", text.encode()), ("versions.json", _json(_versions()))]
    if problem:
        parts.append(("configuration-problem.txt", problem.encode()))
    if unread:
        sentence = (
            f"Left out: logs and dhcpd's configuration. The key file {unread[0]} cannot be read, so its secret could "
            "not be taken out of them. Run the command as root.\n"
        )
        parts.append(("left-out.txt", sentence.encode()))
    else:
        parts += [(f"dhcpd/{name}", _read(path)) for name, path in confs]
        parts += _logs(settings, sources.logs)
    parts += [("files.json", _json(_sizes(settings))), *_service(sources.client, settings)]
    return [Part(name, redactor.clean(content)) for name, content in parts], redactor


# -- configuration and its secrets ---------------------------------------------------------------------------


def _settings(path: Path) -> tuple[Settings | None, str]:
    from macbind.config import load

    try:
        return load(path), ""
    except MacbindError as error:
        return None, f"{error}\n"


def _keys(text: str) -> tuple[list[str], list[str]]:
    """What stands in the key files that a configuration names, and the files that are there and cannot be read."""
    found, unread = [], []
    for name in dict.fromkeys([*_KEY_FILE.findall(text), _DEFAULT_KEY_FILE]):
        try:
            found.append(Path(name).read_text(encoding="utf-8", errors="replace"))
        except FileNotFoundError:
            continue
        except OSError:
            unread.append(name)
    return found, unread


def _conf_files(settings: Settings | None) -> Iterator[tuple[str, Path]]:
    for name, one in ({} if settings is None else settings.dhcpds).items():
        for path in filter(None, (one.config_file, one.conf_file)):
            yield f"{name}/{path.name}", path


# -- logs and files ------------------------------------------------------------------------------------------


def _logs(settings: Settings | None, more: tuple[Path, ...]) -> Iterator[tuple[str, bytes]]:
    yield "logs/macbind.log", _journal("macbind.service")
    dhcpds = {} if settings is None else settings.dhcpds
    for name, one in dhcpds.items():
        place = one.log or f"{JOURNAL}isc-dhcp-server.service"
        is_unit = place.startswith(JOURNAL)
        yield (
            f"logs/dhcpd-{name}.log",
            _journal(place.removeprefix(JOURNAL)) if is_unit else _tail(Path(place)),
        )
    for number, path in enumerate(more, 1):
        yield f"logs/{number}-{path.name}", _tail(path)


def _journal(unit: str) -> bytes:
    command = [
        "journalctl",
        f"--unit={unit}",
        f"--lines={_LINES}",
        "--no-pager",
        "--output=short-iso-precise",
    ]
    return _output(command)[-MAX_LOG:]


def _output(command: list[str]) -> bytes:
    """What a program writes, or why it does not."""
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_PATIENCE_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{command[0]} cannot be run: {error}\n".encode()
    return done.stdout + done.stderr


def _tail(path: Path) -> bytes:
    """The end of a file, from the beginning of a line."""
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            file.seek(max(0, size - MAX_LOG))
            content = file.read(MAX_LOG)
    except OSError as error:
        return f"{path} cannot be read: {error.strerror}\n".encode()
    return content if size <= MAX_LOG else content.partition(b"\n")[2]


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_FILE)
    except OSError as error:
        return f"{path} cannot be read: {error.strerror}\n".encode()


def _text(path: Path) -> str:
    return _read(path).decode(errors="replace")


def _sizes(settings: Settings | None) -> list[dict[str, Any]]:
    """Sizes and times of lease files and of the registry."""
    from macbind.registry.database import sqlite_path

    paths: list[Path] = []
    if settings is not None:
        for one in settings.dhcpds.values():
            if one.leases_file is not None:
                paths += [one.leases_file, one.leases_file.with_name(one.leases_file.name + "~")]
        registry = sqlite_path(settings.registry.url)
        if registry is not None:
            paths += [registry, registry.with_name(registry.name + "-wal")]
    found: list[dict[str, Any]] = []
    for path in paths:
        try:
            seen = path.stat()
        except OSError as error:
            found.append({"path": str(path), "problem": error.strerror})
        else:
            changed = datetime.fromtimestamp(seen.st_mtime, UTC)
            found.append({"path": str(path), "bytes": seen.st_size, "changed": changed.isoformat()})
    return found


# -- versions ------------------------------------------------------------------------------------------------


def _versions() -> dict[str, Any]:
    import sqlite3

    found: dict[str, Any] = {
        "macbind": __version__,
        "python": sys.version,
        "kernel": platform.platform(),
        "sqlite": sqlite3.sqlite_version,
        "dhcpd": _output(["dhcpd", "--version"]).decode(errors="replace").strip(),
    }
    with suppress(OSError):
        found["os"] = platform.freedesktop_os_release().get("PRETTY_NAME")
    try:
        import libvirt
    except ImportError:
        found["libvirt"] = None
    else:
        found["libvirt"] = libvirt.getVersion()
    found["packages"] = {one.name: one.version for one in sorted(distributions(), key=lambda one: one.name)}
    return found


# -- what the service says -----------------------------------------------------------------------------------


def _service(client: Client, settings: Settings | None) -> Iterator[tuple[str, bytes]]:
    asked: tuple[tuple[str, Callable[[], Any]], ...] = (
        ("status.json", client.status),
        ("pools.json", client.pools),
        ("renumberings.json", client.renumberings),
        ("history.json", lambda: client.history(limit=ENTRIES)),
    )
    for name, ask in asked:
        try:
            yield name, _json(plain(ask()))
        except MacbindError as error:
            yield f"{name}.problem", f"{error}\n".encode()
            if name == "history.json" and settings is not None:
                yield name, _stored_history(settings)


def _stored_history(settings: Settings) -> bytes:
    """The audit log as the registry has it, where no service answers."""
    from sqlalchemy.exc import SQLAlchemyError

    from macbind.registry.audit import history
    from macbind.registry.database import sqlite_path
    from macbind.registry.store import Registry

    path = sqlite_path(settings.registry.url)
    if path is not None and not path.exists():
        return f"{path} does not exist.\n".encode()
    try:
        registry = Registry(settings.registry.url)
        try:
            with registry.read() as view:
                return _json(plain(history(view, limit=ENTRIES)))
        finally:
            registry.close()
    except (MacbindError, SQLAlchemyError) as error:
        return f"The registry cannot be read: {error}\n".encode()


def _json(value: Any) -> bytes:
    return json.dumps(value, indent=2).encode()
