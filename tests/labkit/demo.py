"""`python -m labkit.demo` (`make run`): the whole idea on real parts, told step by step.

Nothing here is a simulation of macbind or of dhcpd: the configuration is rendered and checked by dhcpd, dhcpd
and `macbind serve` run in a network of their own, requests go through the Python API and the command line,
and the machines are DHCP clients that get their addresses from dhcpd's answers.
"""

import argparse
import io
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from labkit.clients import udhcpc
from labkit.debian import MirrorFailed
from labkit.dhcp import DhcpClient, Silence, expect_silence
from labkit.farm import Farm
from labkit.guest import Guest, greeting, wait_ping
from labkit.guest import boot as boot_guest
from labkit.lease import Lease
from labkit.net import Lab
from labkit.netns import CommandFailed
from labkit.virt import Libvirtd, LibvirtdDied
from labkit.wait import until
from macbind.core.allocation import Allocation
from macbind.core.errors import MacbindError

POOLS = """
[subnet."10.0.0.0/8"]
routers = ["10.0.0.1"]
domain_name_servers = ["10.0.0.1"]
domain_name = "farm.example.org"
lease_time_s = 3600

[pool.farm]
subnet = "10.0.0.0/8"
ranges = ["10.1.1.3-10.1.255.254"]
"""
GROUP, MACHINES = "speck-1", "speck-2"
PRINTER_MAC = "b8:27:eb:00:00:01"
STRANGER_MAC = "00:16:3e:7f:7f:7f"


class StepFailed(Exception):
    """A step did not show what it is there to show."""


def expect(what: str, got: object, wanted: object) -> None:
    """Goes on if `got` is `wanted`.

    Raises:
        StepFailed: It is not; the message says what was expected and what came.
    """
    if got != wanted:
        raise StepFailed(f"{what}: expected {wanted}, got {got}")


class Story:
    """The steps so far and how long each took."""

    def __init__(self) -> None:
        self.steps: list[tuple[str, float]] = []

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        """Announces a step, times what happens in it."""
        print(f"\n{len(self.steps) + 1}. {title}")
        started = time.perf_counter()
        yield
        self.steps.append((title, time.perf_counter() - started))

    @staticmethod
    def say(text: str) -> None:
        """Prints an indented block."""
        for line in text.rstrip().splitlines():
            print(f"   {line}")

    def table(self) -> None:
        """Prints every step with its time."""
        width = max(len(title) for title, _ in self.steps)
        print(f"\n   {'step'.ljust(width + 4)}  milliseconds")
        for number, (title, seconds) in enumerate(self.steps, 1):
            print(f"   {number:>2}. {title.ljust(width)}  {seconds * 1000:>12.1f}")


def tell(story: Story, lab: Lab, farm: Farm) -> None:
    """The main job, from dhcpd's start to an address that is used a second time."""
    with story.step("dhcpd starts"):
        farm.dhcpd.start()
        farm.dhcpd.wait_ready()
        pid = farm.dhcpd.pid
        story.say(f"pid {pid}, OMAPI on 127.0.0.1:{farm.dhcpd.omapi_port} inside the network {lab.name}")
    with story.step("macbind serve starts beside it"):
        farm.start()
        farm.wait_serving()
    with story.step("an admin pins a printer's address (command line)"):
        story.say(farm.macbind("reserve", "printer", "10.0.0.9", "--mac", PRINTER_MAC))
        printer = DhcpClient(lab.port("printer", PRINTER_MAC))
    with farm.client() as client:
        with story.step("the core allocates a group of three (Client.allocate_group)"):
            group = client.allocate_group("farm", GROUP, 3)
            story.say(addresses(group))
            expect("addresses", [str(one.address) for one in group], ["10.1.1.3", "10.1.1.4", "10.1.1.5"])
            story.say("These are known now; no machine exists yet.")
        with story.step("the machines boot and ask by plain DHCP"):
            machines = boot(story, lab, group)
        with story.step("a machine nobody allocated gets no answer"):
            stranger = DhcpClient(lab.port("stranger", STRANGER_MAC))
            expect_silence(stranger, witness=printer)
            story.say(f"{STRANGER_MAC} was not answered; the printer, asking after it, was.")
        with story.step("the core releases the group (command line)"):
            story.say(farm.macbind("release", "--group", GROUP))
            for one in group:
                expect(f"dhcpd's host for {one.mac}", farm.dhcpd.omshell_host(str(one.mac)), None)
        with story.step("the old machine is refused"):
            machine, lease = machines[0]
            expect_silence(machine, witness=printer)
            answer = machine.renew(lease, timeout_s=1.5)
            expect("answer to the old machine's renewal", type(answer), Silence)
            story.say(f"{group[0].mac} asked anew, and to renew {lease.address}: no answer to either.")
        with story.step("the same address is allocated and served again, at once"):
            again = client.allocate("farm", "next-job")
            expect("the address", again.address, group[0].address)
            expect("the MAC", again.mac, group[0].mac)
            served = machine.dora(bind=True)
            expect("the address served", served and served.address, again.address)
            story.say(
                f"{again.address} is held by '{again.name}' now, generation {again.generation} after "
                f"{group[0].generation}; the old lease had {lease.lease_time_s} s to go."
            )
        with story.step("dhcpd was never restarted"):
            expect("dhcpd's pid", farm.dhcpd.pid, pid)
            story.say(farm.macbind("list"))


def tell_of_machines(story: Story, lab: Lab, farm: Farm, libvirtd: Libvirtd) -> None:
    """Two virtual machines: launched with one command, and one ended behind macbind's back."""
    template = place(farm.directory, "template") / "guest.xml"
    template.write_text(Guest.build().template())
    with story.step(
        "two virtual machines are launched from a template (macbind vm launch), and answer on TCP"
    ):
        command = f"vm launch {template} farm --group {MACHINES} --count 2 --uri {libvirtd.uri} --tcp 22"
        story.say(farm.macbind(*command.split()))
    with farm.client() as client:
        machines = list(client.list(group=MACHINES))
        expect("machines", len(machines), 2)
        for one in machines:
            words = greeting(lab, one.address)
            expect(f"{one.address} says who it is", str(one.address) in words, True)
        with story.step(
            "one is ended by virsh destroy, and its address is free without a word from the core"
        ):
            first = machines[0]
            name = next(name for name in libvirtd.virsh("list", "--name").split() if first.name in name)
            libvirtd.virsh("destroy", name)
            destroyed = time.perf_counter()
            until(
                lambda: not list(client.list(address=first.address, released=True)),
                60,
                "the address to be free",
            )
            freed = time.perf_counter() - destroyed
            expect(f"dhcpd's host for {first.mac}", farm.dhcpd.omshell_host(str(first.mac)), None)
            reason = client.history(name=first.name)[0].detail["reason"]
            story.say(f"{first.address} was free {freed * 1000:.0f} ms after virsh returned: {reason}.")
        with story.step("the other is ended by macbind vm destroy"):
            story.say(farm.macbind(*f"vm destroy {machines[1].name} --uri {libvirtd.uri}".split()))
            expect("domains left", libvirtd.virsh("list", "--all", "--name").split(), [])


def tell_of_ways(story: Story, lab: Lab, farm: Farm, libvirtd: Libvirtd, rounds: int) -> None:
    """One image boots by DHCP and by the script, alternately and alone; the time to the first ping is compared."""
    made = place(farm.directory, "guests")
    with story.step("a script for machines without DHCP is made (macbind guest-script linux)"):
        script = farm.macbind("guest-script", "linux", "--config", str(farm.config))
        story.say(f"{len(script.splitlines())} lines of sh, of which these are the farm's:")
        story.say("\n".join(line for line in script.splitlines() if line.startswith("  offer ")))
    by_dhcp = Guest.build()
    by_script = by_dhcp.with_files(made / "script.cpio", {"mac2ip": script})
    ways: dict[str, tuple[Guest, str]] = {
        "DHCP (busybox udhcpc)": (by_dhcp, ""),
        "the script": (by_script, ""),
        "the script, asking nobody (--probes 0)": (by_script, "--probes=0"),
    }
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    with (
        farm.client() as client,
        story.step(f"a machine boots each way, {rounds} times; from start to first ping"),
    ):
        for number in range(rounds):
            for letter, (way, (guest, options)) in zip("abc", ways.items(), strict=True):
                # Each its own: the clients of before still answer at the addresses they had.
                address = f"10.1.2.{len(ways) * number + 'abc'.index(letter) + 1}"
                one = client.allocate("farm", f"way-{letter}-{number + 1}", address=address)
                xml = guest.template(name=one.name, mac=str(one.mac), options=options)
                # The server asks by ARP once a second only, which would be the resolution of these times.
                neighbour = f"{one.address} dev {lab.bridge}"
                lab.server.ip(f"neigh replace {neighbour} lladdr {one.mac} nud permanent")
                started = time.perf_counter()
                console = boot_guest(libvirtd, xml)
                wait_ping(lab, one.address, console=console)
                seconds[way].append(time.perf_counter() - started)
                sign = "mac2ip ended with status 0" if guest is by_script else " bound "
                until(lambda: sign in console.text(), 60, f"{one.name} to say how it has found its address")  # noqa: B023
                lab.server.ip(f"neigh del {neighbour}")
                libvirtd.virsh("destroy", one.name)
        width = max(map(len, ways))
        for way, took in seconds.items():
            each = " ".join(f"{one:6.2f}" for one in took)
            story.say(f"{way.ljust(width)}  {sum(took) / len(took):6.2f} s on average of {each}")


def place(directory: Path, name: str) -> Path:
    """A new directory in another."""
    made = directory / name
    made.mkdir()
    return made


def addresses(group: Sequence[Allocation]) -> str:
    """A group as a table."""
    return "\n".join(f"{one.name:<12} {one.address!s:<12} {one.mac}" for one in group)


def boot(story: Story, lab: Lab, group: Sequence[Allocation]) -> list[tuple[DhcpClient, Lease]]:
    """Plugs a client in for each allocation; two made of packets, the last is busybox udhcpc."""
    machines: list[tuple[DhcpClient, Lease]] = []
    for number, one in enumerate(group[:-1], 1):
        machine = DhcpClient(lab.port(f"vm-{number}", str(one.mac)))
        lease = machine.dora(bind=True)
        if lease is None:
            raise StepFailed(f"{one.name}: expected {one.address} by DHCP, got no answer")
        expect(f"the address of {one.name}", lease.address, one.address)
        machines.append((machine, lease))
        story.say(f"{one.name}: DHCP client made with scapy has {lease.address}, gateway {lease.routers[0]}")
    last = group[-1]
    run = udhcpc(lab.port(f"vm-{len(group)}", str(last.mac)))
    expect(f"the address of {last.name}", run.address, last.address)
    story.say(f"{last.name}: busybox udhcpc has {run.address} after {run.elapsed_s * 1000:.0f} ms")
    for one in group:
        expect(f"ping to {one.address}", lab.ping(one.address), True)
    story.say("The server pings all three.")
    return machines


def play(farm: Farm, lab: Lab, libvirtd: Libvirtd | None) -> None:
    """Says how to use what is left open, and waits for Ctrl-C."""
    over = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: over.set())
    machines = "" if libvirtd is None else f"\n     virsh --connect '{libvirtd.uri}' list --all"
    print(f"""
   Left open. In another terminal, as root:
     export MACBIND_SOCKET={farm.socket}
     {sys.prefix}/bin/macbind status
     {sys.prefix}/bin/macbind allocate farm my-machine
     ip netns exec {lab.server.name} ip address         # the server's network
     tail -f {farm.log_file} {farm.dhcpd.log_file}{machines}
   Ctrl-C takes it down.""")
    over.wait()


def main(arguments: Sequence[str] | None = None) -> int:
    """Tells the story; 0 if every step showed what it is there to show."""
    parser = argparse.ArgumentParser(prog="make run", description="The main job on real parts.")
    parser.add_argument("--keep", action="store_true", help="leave everything open until Ctrl-C")
    parser.add_argument("--no-vm", action="store_true", help="leave out the virtual machines")
    parser.add_argument(
        "--guest", type=int, default=0, metavar="N", help="compare DHCP and the script in guests N times"
    )
    options = parser.parse_args(arguments)
    if options.no_vm and options.guest:
        parser.error("--guest needs virtual machines")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that everything is taken down
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # whoever reads a file or a pipe follows the story, too
    story = Story()
    try:
        with ExitStack() as stack:
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="macbind-run-")))
            with story.step("a network of its own: a bridge, and a cable for each machine to come"):
                lab = stack.enter_context(Lab())
            pools, libvirtd = POOLS, None
            if not options.no_vm:
                with story.step("libvirtd starts in that network"):
                    libvirtd = stack.enter_context(Libvirtd(lab, place(directory, "virt")))
                    pools += f'\n[hypervisor.local]\nuri = "{libvirtd.uri}"\n'
            with story.step("dhcpd's configuration is rendered from the pools and tested by dhcpd -t"):
                farm = Farm(lab, place(directory, "farm"), pools=pools)
                stack.callback(farm.dhcpd.stop)
                stack.callback(farm.stop)
                story.say((farm.directory / "macbind.conf").read_text())
            tell(story, lab, farm)
            if libvirtd is not None:
                tell_of_machines(story, lab, farm, libvirtd)
                if options.guest:
                    tell_of_ways(story, lab, farm, libvirtd, options.guest)
            story.table()
            if options.keep:
                play(farm, lab, libvirtd)
    except (
        StepFailed,
        AssertionError,
        MacbindError,
        CommandFailed,
        LibvirtdDied,
        MirrorFailed,
        TimeoutError,
        OSError,
    ) as error:
        print(f"\nFailed in step {len(story.steps) + 1}: {error}", file=sys.stderr)
        return 1
    print("\nEverything was shown; nothing is left running.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
