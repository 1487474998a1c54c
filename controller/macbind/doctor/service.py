"""The service: does it answer, and what has it found?"""

from __future__ import annotations

from collections.abc import Iterator

from macbind.core.errors import NotPermitted
from macbind.core.findings import Finding
from macbind.doctor.site import Site


def look(site: Site) -> Iterator[Finding]:
    """What the service has found, or that it does not answer."""
    if site.status is not None:
        yield from site.status.findings
        return
    error = site.silent
    assert error is not None
    commands = () if isinstance(error, NotPermitted) else ("systemctl start macbind",)
    yield Finding("service_unavailable", error.message, error.hint, "macbind", commands)
