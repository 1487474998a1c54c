"""Writes what a Xen domain is told into Xenstore, by `xenstore-write` and `xenstore-chmod` of domain 0.

`xenstore-write` writes all values in one transaction; then `xenstore-chmod` lets the domain, and no other, read them.
Nobody reads before the domain runs, and what a failure leaves goes with the domain.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

from macbind.core.errors import HypervisorUnavailable, InvalidRequest, MachineFailed, NotPermitted

SUBTREE = "vm-data/macbind"
"""Where a guest finds what it is told, below its own directory."""
TIMEOUT_S = 10.0
"""How long xenstored may take to answer."""
_PACKAGE = "xenstore-utils"
_PATH_VARIABLE = "XENSTORED_PATH"
"""Environment variable that names another socket to Xen's tools."""


def keys(lines: Iterable[str]) -> Mapping[str, str]:
    """The keys below :data:`SUBTREE` and their values.

    Xenstore's names have no dots, so each becomes a level: ``data.a.b`` is ``data/a/b``.

    Raises:
        InvalidRequest: A key has a dot with nothing on one side of it.
    """
    found = {}
    for line in lines:
        key, _, value = line.partition("=")
        path = key.replace(".", "/")
        if "//" in path or path.endswith("/"):
            raise InvalidRequest(
                f"Xenstore cannot have the key {key.removeprefix('data.')!r}.",
                hint="Every dot in it must stand between two other characters.",
            )
        found[path] = value
    return found


def tell(
    domain_id: int, values: Mapping[str, str], path: Path | None = None, timeout_s: float = TIMEOUT_S
) -> None:
    """Writes values into the directory of a domain that does not run yet, so that this domain may read them.

    Args:
        domain_id: The domain's number.
        values: By key; see :func:`keys`.
        path: xenstored's socket, if not the usual one.
        timeout_s: How long xenstored may take to answer.

    Raises:
        HypervisorUnavailable: xenstored does not answer, or its tools are not installed.
        NotPermitted: The user may not use its socket.
        MachineFailed: It refuses; nothing is written then.
    """
    place = f"/local/domain/{domain_id}/{SUBTREE}"
    # The tool reads a backslash as the beginning of an escape.
    pairs = [
        part for key, value in values.items() for part in (f"{place}/{key}", value.replace("\\", "\\\\"))
    ]
    _run(domain_id, ["xenstore-write", "--", *pairs], path, timeout_s)
    # Domain 0 owns it; no other but the guest may read it, and nobody but domain 0 write it.
    _run(domain_id, ["xenstore-chmod", "-r", place, "n0", f"r{domain_id}"], path, timeout_s)


def _run(domain_id: int, command: list[str], path: Path | None, timeout_s: float) -> None:
    environment = {**os.environ, "LC_ALL": "C"}
    if path is not None:
        environment[_PATH_VARIABLE] = str(path)
    try:
        done = subprocess.run(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise _unavailable(f"no answer within {timeout_s:g} s") from None
    except FileNotFoundError:
        raise HypervisorUnavailable(
            f"There is no {command[0]} here.",
            hint=f"Install {_PACKAGE} on the hypervisor (domain 0).",
            step="xenstore",
        ) from None
    if done.returncode == 0:
        return
    said = done.stderr.strip().rstrip(".") or f"{command[0]} ended with status {done.returncode}"
    if "xs_open" in said and "Permission denied" in said:
        raise NotPermitted(f"Your user may not use xenstored: {said}.", hint="Ask as root.", step="xenstore")
    if "xs_open" in said:
        raise _unavailable(said)
    raise MachineFailed(
        f"Xenstore does not take what domain {domain_id} is to be told: {said}.",
        hint="xenstored's log on the hypervisor may say more.",
        step="xenstore",
    )


def _unavailable(why: str) -> HypervisorUnavailable:
    return HypervisorUnavailable(
        f"xenstored does not answer: {why}.",
        hint="The channel xenstore works on the hypervisor itself (domain 0), as root, where xenstored runs.",
        step="xenstore",
    )
