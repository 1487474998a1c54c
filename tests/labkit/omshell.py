"""ISC's own OMAPI client as an independent judge: what does dhcpd itself say it knows?

Nothing of the code under test is used here.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address

from labkit.net import Lab
from labkit.netns import Namespace

_REFUSED = re.compile(r"(can't \w+ object: .*|dhcpctl_\w+: .*|not connected\.?|.*syntax error.*)")
_NOT_FOUND = "can't open object: not found"
_NOTHING_OPEN = "obj: <null>\n"
_ATTRIBUTE = re.compile(r"^([a-z][a-z0-9-]*) = (.*)$", re.MULTILINE)
_ESCAPE = re.compile(rb"\\([0-7]{3}|.)", re.DOTALL)


class OmshellFailed(RuntimeError):
    """omshell could not connect, or dhcpd refused; the message carries the whole session."""


@dataclass(frozen=True)
class OmapiKey:
    """The shared secret of an OMAPI port. `secret` is base64, `algorithm` as in dhcpd.conf."""

    name: str
    secret: str = field(repr=False)
    algorithm: str = "hmac-sha256"


def omshell(
    lab: Lab | Namespace, port: int, script: str, key: OmapiKey | None = None, deadline_s: float = 60.0
) -> str:
    """Run one omshell session in the server's namespace and return all it wrote.

    The session is connected before the first line of `script`. A refusal raises OmshellFailed.
    """
    text = _session(lab, port, script, key, deadline_s)
    if _REFUSED.search(text):
        raise OmshellFailed(f"omshell said: {text.strip()}")
    return text


def omshell_host(
    lab: Lab | Namespace, port: int, mac: str, key: OmapiKey | None = None, deadline_s: float = 60.0
) -> dict[str, str] | None:
    """What dhcpd knows of the host with this Ethernet address, or None if there is no such host.

    Keys: `name`, `mac` (lower case, colons), and `ip` (several with commas between; missing when it has
    none).
    """
    script = f"new host\nset hardware-address = {mac}\nset hardware-type = 1\nopen\n"
    text = _session(lab, port, script, key, deadline_s)
    if _NOT_FOUND in text:
        return None
    if _REFUSED.search(text):
        raise OmshellFailed(f"omshell said: {text.strip()}")
    return dict(_host_attributes(text.rpartition("obj: host")[2]))


def omshell_hosts(
    lab: Lab | Namespace,
    port: int,
    macs: Sequence[str],
    key: OmapiKey | None = None,
    deadline_s: float = 60.0,
) -> dict[str, dict[str, str] | None]:
    """The same for many Ethernet addresses, by address, in one session."""
    look = "new host\nset hardware-address = {}\nset hardware-type = 1\nopen\nclose\n"
    text = _session(lab, port, "".join(map(look.format, macs)), key, deadline_s)
    # omshell says what it has open after each command, and nothing is after connecting and after each close.
    _, *parts = text.split(_NOTHING_OPEN)
    found: dict[str, dict[str, str] | None] = {}
    for mac, part in zip(macs, parts, strict=False):
        missing = _NOT_FOUND in part
        if not missing and _REFUSED.search(part):
            raise OmshellFailed(f"omshell said: {part.strip()}")
        found[mac] = None if missing else dict(_host_attributes(part.rpartition("obj: host")[2]))
    if len(found) < len(set(macs)):
        raise OmshellFailed(f"omshell said: {text.strip()}")
    return found


def _session(lab: Lab | Namespace, port: int, script: str, key: OmapiKey | None, deadline_s: float) -> str:
    # Without key-algorithm *before* key, omshell signs with MD5 and dhcpd answers "not found".
    signed = f"key-algorithm {key.algorithm}\nkey {key.name} {key.secret}\n" if key else ""
    stdin = f"server 127.0.0.1\nport {port}\n{signed}connect\n{script.rstrip()}\n"
    done = lab.run(["omshell"], stdin=stdin, deadline_s=deadline_s)
    return done.stdout + done.stderr


def _host_attributes(block: str) -> Iterator[tuple[str, str]]:
    values = dict(_ATTRIBUTE.findall(block))
    if "name" in values:
        yield "name", _bytes(values["name"]).decode("latin-1")
    if "hardware-address" in values:
        yield "mac", _bytes(values["hardware-address"]).hex(":")
    packed = _bytes(values.get("ip-address", ""))
    if packed:
        quads = (packed[i : i + 4] for i in range(0, len(packed), 4))
        yield "ip", ",".join(str(IPv4Address(q)) for q in quads)


def _bytes(value: str) -> bytes:
    """A value as omshell writes it: quoted when every byte is printable, colon-separated hex otherwise."""
    if value.startswith('"'):
        return _ESCAPE.sub(_unescape, value[1:-1].encode("latin-1"))
    return bytes(int(part, 16) for part in value.split(":") if part)


def _unescape(match: "re.Match[bytes]") -> bytes:
    code = match[1]
    return bytes([int(code, 8) & 0xFF]) if len(code) == 3 else code
