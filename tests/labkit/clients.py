"""The DHCP clients that real machines run: busybox udhcpc, ISC dhclient, dhcpcd.

Each run takes place in a port's namespace and a directory of its own; nothing is written to the host's /etc,
/run or /var. The address is configured, so the machine can be pinged afterwards. As soon as the client has a
lease, or the deadline has passed, it is killed as by a power cut: it releases nothing and takes nothing back.

`state` is the directory in which a client keeps what a disk would keep (lease files, DUID). Give the same one
twice to play a reboot, or a cloned image; without it every run is a first boot.
"""

import contextlib
import shlex
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from pathlib import Path
from time import monotonic

from labkit.net import Port
from labkit.wait import until

DEFAULT_DEADLINE_S = 60.0

_UDHCPC_SCRIPT = """#!/bin/sh
case "$1" in bound | renew) ;; *) exit 0 ;; esac
ip addr replace "$ip/$mask" brd + dev "$interface"
[ -z "$router" ] || ip route replace default via "${router%% *}" dev "$interface"
"""
_DHCLIENT_SCRIPT = """#!/bin/sh
case "$reason" in BOUND | REBOOT | RENEW | REBIND) ;; *) exit 0 ;; esac
ip addr replace "$new_ip_address/$new_subnet_mask" brd + dev "$interface"
[ -z "$new_routers" ] || ip route replace default via "${new_routers%% *}" dev "$interface"
"""
# dhcpcd configures the interface itself before it calls the script.
_DHCPCD_SCRIPT = """#!/bin/sh
case "$reason" in BOUND | REBOOT | RENEW | REBIND) ;; *) exit 0 ;; esac
"""
# A client that remembers an address asks for it longer than a busy machine takes to answer.
_DHCPCD_CONFIG = """ipv4only
reboot 60
noipv4ll
nodelay
persistent
duid
option domain_name_servers, domain_name, host_name, classless_static_routes
require dhcp_server_identifier
"""


@dataclass(frozen=True)
class ClientRun:
    """What became of one run. `elapsed_s` runs from the program's start to its lease or the end of waiting.

    `variables` is what the client told its script (its own names), `output` all that it wrote.
    """

    address: IPv4Address | None
    elapsed_s: float
    output: str
    variables: Mapping[str, str] = field(repr=False)


def udhcpc(
    port: Port,
    *,
    hostname: str | None = None,
    deadline_s: float = DEFAULT_DEADLINE_S,
    options: Sequence[str] = (),
) -> ClientRun:
    """Run busybox udhcpc until it has a lease, at most `deadline_s` seconds. It tries once a second."""
    with _desk(None) as desk:
        script = _recording(desk, _UDHCPC_SCRIPT)
        name = ["-x", f"hostname:{hostname}"] if hostname else []
        command = ["busybox", "udhcpc", "-f", "-i", port.interface, "-s", str(script), "-T", "1", "-A", "1"]
        return _run(port, desk, [*command, *name, *options], "ip", deadline_s)


def dhclient(
    port: Port,
    *,
    hostname: str | None = None,
    state: Path | None = None,
    config: str = "initial-interval 1; backoff-cutoff 2; reboot 60;\n",
    deadline_s: float = DEFAULT_DEADLINE_S,
    options: Sequence[str] = (),
) -> ClientRun:
    """Run ISC dhclient until it has a lease, at most `deadline_s` seconds. `config` is its dhclient.conf."""
    with _desk(state) as desk:
        script = _recording(desk, _DHCLIENT_SCRIPT)
        send = f'send host-name "{hostname}";\n' if hostname else ""
        (desk / "dhclient.conf").write_text(
            config + send + "request subnet-mask, routers, domain-name-servers, domain-name, host-name;\n"
        )
        files = {
            "-sf": script,
            "-cf": desk / "dhclient.conf",
            "-lf": desk / "dhclient.leases",
            "-pf": desk / "pid",
        }
        paths = [word for option, path in files.items() for word in (option, str(path))]
        command = ["dhclient", "-4", "-d", *paths, *options, port.interface]
        # It calls the script first and writes its lease file afterwards; then it says "bound to".
        return _run(port, desk, command, "new_ip_address", deadline_s, last_words="bound to ")


def dhcpcd(
    port: Port,
    *,
    hostname: str | None = None,
    state: Path | None = None,
    arp_check: bool = False,
    deadline_s: float = DEFAULT_DEADLINE_S,
    options: Sequence[str] = (),
) -> ClientRun:
    """Run dhcpcd until it has a lease, at most `deadline_s` seconds. The `arp_check` alone takes some 5 s."""
    with _desk(state) as desk:
        script = _recording(desk, _DHCPCD_SCRIPT)
        config = desk / "dhcpcd.conf"
        config.write_text(_DHCPCD_CONFIG + ("" if arp_check else "noarp\n"))
        store = desk / "dhcpcd"
        store.mkdir(exist_ok=True)
        # `ip netns exec` runs us in a mount namespace of our own: what is mounted here, nobody else sees.
        private = f"mount -t tmpfs tmpfs /run && mount --bind {shlex.quote(str(store))} /var/lib/dhcpcd"
        name = ["-h", hostname] if hostname else []
        command = [
            "dhcpcd",
            "-4",
            "-B",
            "-f",
            str(config),
            "-c",
            str(script),
            *name,
            *options,
            port.interface,
        ]
        wrapped = ["sh", "-c", f"{private} && exec {shlex.join(command)}"]
        return _run(port, desk, wrapped, "new_ip_address", deadline_s)


@contextmanager
def _desk(state: Path | None) -> Iterator[Path]:
    """The directory of one run, without the traces of an earlier one except the client's own memory."""
    with tempfile.TemporaryDirectory(prefix="labkit-", ignore_cleanup_errors=True) as temporary:
        desk = state or Path(temporary)
        desk.mkdir(parents=True, exist_ok=True)
        for trace in ("record", "output"):
            (desk / trace).unlink(missing_ok=True)
        yield desk


def _recording(desk: Path, script: str) -> Path:
    """Write a client's script, completed so that it puts its variables on record.

    The record is renamed into place: who sees it sees all of it.
    """
    new, record = shlex.quote(str(desk / "record.new")), shlex.quote(str(desk / "record"))
    path = desk / "script"
    path.write_text(f"{script}env > {new} && mv {new} {record}\n")
    path.chmod(0o755)
    return path


def _run(
    port: Port,
    desk: Path,
    command: Sequence[str],
    address_name: str,
    deadline_s: float,
    last_words: str = "",
) -> ClientRun:
    """Run until there is a record and `last_words` were written, the client ends, or `deadline_s` is over."""
    record, output = desk / "record", desk / "output"
    started_at = monotonic()
    process = port.lab.popen(command, port, output=output)

    def is_over() -> bool:
        return (record.exists() and last_words in output.read_text(errors="replace")) or not process.alive

    with contextlib.suppress(TimeoutError):  # no lease is a result like any other
        until(is_over, deadline_s, f"a lease for {command[0]}")
    elapsed_s = monotonic() - started_at
    process.kill_now()
    variables = _variables(record.read_text(errors="replace")) if record.exists() else {}
    address = variables.get(address_name)
    return ClientRun(
        IPv4Address(address) if address else None, elapsed_s, output.read_text(errors="replace"), variables
    )


def _variables(text: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
