"""How long the distribution still has a dhcpd: ISC has ended its work on it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

from macbind.core.findings import Finding
from macbind.doctor.site import Site

RELEASE = Path("/etc/os-release")
_LAST = {"debian": 13, "rhel": 9, "centos": 9, "rocky": 9, "almalinux": 9, "ol": 9}
"""The last release that has a dhcpd, as far as it is known, by the ID of the distribution."""


def look(_: Site) -> Iterator[Finding]:
    """Whether the next release has no dhcpd."""
    try:
        said = read_release(RELEASE.read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return
    last, number = _LAST.get(said.get("ID", "")), said.get("VERSION_ID", "").partition(".")[0]
    if last is None or (number.isdecimal() and int(number) < last):  # testing and unstable have no number
        return
    yield Finding(
        "dhcpd_discontinued",
        f"{said.get('PRETTY_NAME', said['ID'])} has dhcpd, and no later release is known to have it: ISC has ended "
        "its work on it.",
        "Do not upgrade this machine to the next release without looking whether it has dhcpd.",
        "isc-dhcp-server",
    )


def read_release(text: str) -> dict[str, str]:
    """The variables of os-release(5)."""
    found = {}
    for line in text.splitlines():
        name, given, value = line.partition("=")
        if given and not line.startswith("#"):
            try:
                found[name.strip()] = "".join(shlex.split(value))
            except ValueError:  # a quote that does not end
                continue
    return found
