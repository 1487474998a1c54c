"""dhcpd's own judgement of a configuration, before it replaces anything."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from macbind.core.errors import ConfigError
from macbind.dhcp.isc.key import OmapiKey

CHECK_TIMEOUT_S = 300.0
"""Far more than dhcpd needs for the largest configuration; a check that hangs must not hang the caller."""
SYSTEM_DIRECTORIES = ("/usr/sbin", "/usr/local/sbin", "/sbin")
"""Where dhcpd is, and where the PATH of an ordinary user does not look."""

_INCLUDE = re.compile(r'^include "[^"\n]*";$', re.MULTILINE)
_OMAPI_KEY = re.compile(r'^omapi-key "([^"\n]+)";$', re.MULTILINE)
_BANNER = re.compile(r"Internet Systems|Copyright|All rights|For info|[A-Z][A-Za-z]+ file: ")
_FAULT = re.compile(r"^(?P<file>\S.*) line (?P<line>\d+): (?P<what>.+)$", re.MULTILINE)


def check(
    text: str,
    *,
    key_text: str | None = None,
    directory: Path | None = None,
    dhcpd: Path | None = None,
    within: Path | None = None,
    path: Path | None = None,
) -> None:
    """Lets dhcpd itself test a rendered configuration; nothing outside a temporary directory is written.

    Args:
        text: What :func:`render` made.
        key_text: The key stanza to include instead of the key file; by default that of a throw-away key, so
            that no secret is copied and nobody needs to be allowed to read the real one.
        directory: Where to make the temporary directory. Debian's AppArmor profile lets dhcpd read below
            ``/etc/dhcp`` and not below ``/tmp``, so :func:`write` uses the configuration's own directory.
        dhcpd: The program; found by default.
        within: The site's own configuration, as part of which the text is tested; None: it is tested alone.
        path: The name by which that configuration includes the text, if it does.

    Raises:
        ConfigError: dhcpd refuses the text (its own words, with the line), or there is no dhcpd.
    """
    program = dhcpd or find_dhcpd()
    if key_text is None:
        name = _OMAPI_KEY.search(text)
        key_text = OmapiKey.generate(name[1] if name else "macbind", "hmac-sha256").stanza
    try:
        with tempfile.TemporaryDirectory(prefix=".macbind-check-", dir=directory) as scratch:
            config, key = Path(scratch, "dhcpd.conf"), Path(scratch, "key")
            key.write_text(key_text, encoding="utf-8")
            config.write_text(_INCLUDE.sub(lambda _: f'include "{key}";', text, count=1), encoding="utf-8")
            done = _test(program, config if within is None else _whole(within, path, config))
    except OSError as error:
        raise ConfigError(
            f"The configuration cannot be tested in {directory or tempfile.gettempdir()}: {error.strerror}.",
            hint="Create the directory, or run the command as root.",
        ) from error
    if done.returncode != 0:
        raise _refusal(done.stderr, text, config, within)


def _whole(within: Path, path: Path | None, config: Path) -> Path:
    """A copy of the site's own configuration that includes the text to be tested instead of ours."""
    whole = config.with_name("whole.conf")
    ours = re.compile(rf'^\s*include\s+"{re.escape(str(path))}"\s*;.*$', re.MULTILINE)
    own = ours.sub("", within.read_text(encoding="utf-8", errors="replace"))
    whole.write_text(f'{own}\ninclude "{config}";\n', encoding="utf-8")
    return whole


def _test(program: Path, config: Path) -> subprocess.CompletedProcess[str]:
    # Not -q: that silences the reason of a refusal, too.
    command: list[str | Path] = [program, "-4", "-t", "-cf", config]
    try:
        return subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=CHECK_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ConfigError(f"{program} -t did not end within {CHECK_TIMEOUT_S:g} s.") from error
    except OSError as error:
        raise ConfigError(
            f"{program} cannot be run: {error.strerror}.", hint="Install isc-dhcp-server."
        ) from error


def find_dhcpd(search: str | None = None) -> Path:
    """Where dhcpd is: on the given search path, by default PATH and the system's directories.

    Raises:
        ConfigError: It is not installed.
    """
    if search is None:
        search = os.pathsep.join((os.environ.get("PATH", ""), *SYSTEM_DIRECTORIES))
    found = shutil.which("dhcpd", path=search)
    if found is None:
        raise ConfigError("dhcpd is not installed on this machine.", hint="Install isc-dhcp-server.")
    return Path(found)


def _refusal(output: str, text: str, config: Path, within: Path | None) -> ConfigError:
    """dhcpd's first complaint; of a fault in the key file only the reason, never the line itself."""
    fault = _FAULT.search(output)
    if fault is None:
        said = [line for line in output.splitlines() if line and not _BANNER.match(line)]
        return ConfigError(f"dhcpd refuses the configuration: {said[0] if said else 'it gives no reason'}.")
    line, what = int(fault["line"]), fault["what"].rstrip(".")
    if within is not None and fault["file"] != str(config) and not fault["file"].endswith("/key"):
        own = str(within) if fault["file"].endswith("/whole.conf") else fault["file"]
        return ConfigError(f"dhcpd refuses line {line} of {own}, with macbind's part: {what}.", line=line)
    if fault["file"] != str(config):
        return ConfigError(f"dhcpd refuses line {line} of the key file: {what}.", line=line)
    return ConfigError(
        f"dhcpd refuses line {line} of the rendered configuration: {what}.",
        hint=f"The line is: {text.split(chr(10))[line - 1].strip()}",
        line=line,
    )
