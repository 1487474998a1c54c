"""What a bare machine needs of this one's settings to download anything. Nothing of it is in the project's files."""

import re
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from labkit.debian import Source, own

CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
"""Where Debian keeps all certificates of authorities, own ones of a site among them."""
_APT = re.compile(
    r"Acquire::(?:https?::(?:[^ ]*::)?Proxy\b|Check-Valid-Until|Check-Date|Retries)[^ ]* ", re.ASCII
)
_PIP = ("index-url", "extra-index-url", "trusted-host", "proxy", "timeout")
_CERTIFICATES = Path("/usr/local/share/ca-certificates")


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of downloads, each as the text of a file.

    Attributes:
        sources: apt's sources.list.
        apt: apt's configuration.
        pip: pip's configuration.
        certificates: Certificates of the site's own authorities, by file name.
    """

    sources: str
    apt: str
    pip: str
    certificates: Mapping[str, bytes]


def of_this_machine(
    release: str, own_release: str, among: Sequence[Source], environment: Mapping[str, str]
) -> Settings:
    """What a machine with this release is to have, so that it downloads from where this one does."""
    apt = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, check=True).stdout
    # No pip is no error: then nobody has configured it but by the environment.
    pip = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False
    ).stdout
    certificates = {path.name: path.read_bytes() for path in sorted(_CERTIFICATES.rglob("*.crt"))}
    return Settings(
        sources_list(release, own_release, among),
        apt_configuration(apt.splitlines(), environment),
        pip_configuration(pip.splitlines(), environment, own_certificates=bool(certificates)),
        certificates,
    )


def sources_list(release: str, own_release: str, among: Sequence[Source]) -> str:
    """This machine's sources of Debian, of another release: with its updates, if this one has updates."""
    lines = {
        f"deb {one.site} {release}{one.suite.removeprefix(own_release)} main\n": None
        for one in own(among)
        if one.suite.startswith(own_release)
    }
    return "".join(lines)


def apt_configuration(dump: Iterable[str], environment: Mapping[str, str]) -> str:
    """How apt reaches its mirror, from `apt-config dump`: proxies, retries, and what it thinks of dates."""
    kept = [line for line in dump if _APT.match(line)]
    for scheme in ("http", "https"):
        proxy = environment.get(f"{scheme}_proxy")
        if proxy and not any(line.startswith(f"Acquire::{scheme}::Proxy ") for line in kept):
            kept.append(f'Acquire::{scheme}::Proxy "{proxy}";')
    return "".join(f"{line}\n" for line in kept)


def pip_configuration(
    listed: Iterable[str], environment: Mapping[str, str], *, own_certificates: bool
) -> str:
    """How pip reaches its index, from `pip config list`. Directories of this machine are none of the other's."""
    found: dict[str, str] = {}
    for line in listed:
        key, _, quoted = line.partition("=")
        name = key.rpartition(".")[2].removeprefix("default-")
        value = " ".join(word for word in quoted.strip("'\"").split() if "file:" not in word)
        if name in _PIP and value:
            found[name] = value
    proxy = environment.get("https_proxy") or environment.get("http_proxy")
    if proxy:
        found.setdefault("proxy", proxy)
    if own_certificates:
        found["cert"] = CERTIFICATES
    return "".join(["[global]\n", *(f"{name} = {value}\n" for name, value in found.items())])
