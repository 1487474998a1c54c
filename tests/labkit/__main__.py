"""`python -m labkit`: a network with a dhcpd and two machines to play with, until Ctrl-C."""

import argparse
import shlex
import signal
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path

from labkit.dhcpd import Dhcpd, DhcpdDied
from labkit.net import Lab, Port
from labkit.netns import CommandFailed

_DEMO_CONFIG = """authoritative;
ping-check false;
deny unknown-clients;
default-lease-time 600;
max-lease-time 600;
omapi-port 7911;
subnet 10.0.0.0 netmask 255.0.0.0 {
  option routers 10.0.0.1;
  option domain-name-servers 10.0.0.1;
}
"""
_DEMO_MACS = ("00:16:3e:14:00:03", "00:16:3e:14:00:04")
_DEMO_HOSTS = """host vm-a { hardware ethernet 00:16:3e:14:00:03; fixed-address 10.20.0.3; }
host vm-b { hardware ethernet 00:16:3e:14:00:04; fixed-address 10.20.0.4; }
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Build the lab, say how to use it, wait, take it down. Status 1 when it cannot be built."""
    options = _parser().parse_args(argv)
    over = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: over.set())
    try:
        _play(options.config, tuple(options.address or ["10.0.0.1/8"]), options.seconds, over)
    except (CommandFailed, DhcpdDied, TimeoutError, OSError) as error:
        print(f"labkit: {error}", file=sys.stderr)
        return 1
    return 0


def _play(
    config: Path | None, addresses: tuple[str, ...], seconds: float | None, over: threading.Event
) -> None:
    with tempfile.TemporaryDirectory(prefix="labkit-") as directory, Lab(addresses) as lab:
        ports = [lab.port(name, mac) for name, mac in zip(("vm-a", "vm-b"), _DEMO_MACS, strict=True)]
        leases = Path(directory) / "dhcpd.leases"
        with Dhcpd(lab, config.resolve() if config else _DEMO_CONFIG + _DEMO_HOSTS, leases) as dhcpd:
            print(_guide(lab, ports, dhcpd), flush=True)
            over.wait(seconds)
    print("The lab is gone.", flush=True)


def _guide(lab: Lab, ports: Sequence[Port], dhcpd: Dhcpd) -> str:
    addresses = ", ".join(map(str, lab.addresses))
    lines = ["", f"  {lab.server.name}", f"    {lab.bridge}  {addresses}   dhcpd, pid {dhcpd.pid}"]
    for port in ports:
        branch = "└" if port is ports[-1] else "├"
        lines.append(f"     {branch}── {port.interface}  {port.mac}   {port.namespace.name}")
    server, first = lab.server, ports[0]
    udhcpc = f"busybox udhcpc -f -q -n -i {first.interface} -s /bin/true"
    guide = [
        ("Ask for an address", first.namespace.argv(shlex.split(udhcpc))),
        ("Be that machine", first.namespace.argv(["bash"])),
        ("Be the server", server.argv(["bash"])),
        ("Read dhcpd's log", ["tail", "-f", str(dhcpd.log_file)]),
        ("See its leases", ["cat", str(dhcpd.leases)]),
        (
            "Watch the packets",
            server.argv(["tcpdump", "-ni", lab.bridge, "port", "67", "or", "port", "68", "or", "arp"]),
        ),
    ]
    if dhcpd.omapi_port:
        guide.append((f"Talk OMAPI (port {dhcpd.omapi_port})", server.argv(["omshell"])))
    width = max(len(what) for what, _ in guide)
    lines += ["", *(f"  {what:<{width}}   {shlex.join(command)}" for what, command in guide)]
    return "\n".join([*lines, "", "Ctrl-C ends the lab and everything that runs in it."])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m labkit", description=__doc__)
    parser.add_argument("--config", type=Path, help="a dhcpd.conf instead of the built-in one")
    parser.add_argument(
        "--address", action="append", help="an address of the bridge, such as 10.0.0.1/8; repeatable"
    )
    parser.add_argument(
        "--for", dest="seconds", type=float, help="end after so many seconds instead of at Ctrl-C"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
