"""Other ways to give a machine its address and to take it away, each with its server in a lab of its own.

Every one runs inside its lab's namespace, so nothing is added to what its processes and connections cost. A change
counts when OMAPI has acknowledged it, or, where nobody acknowledges anything, when a DISCOVER of that machine is
answered, or is not while another machine's is. libvirt's word is taken without a DISCOVER.
"""

import base64
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address
from itertools import count

import pypureomapi

from bench import fill
from bench.sites import (
    add_bare,
    bare_client,
    bare_database,
    directory,
    open_farm,
    remove_bare,
)
from contract.dhcpd_site import PORT, SECRET, mac_of, open_site, pool_of
from labkit.net import Lab, Process
from labkit.virt import Libvirtd
from macbind.core.binding import Binding
from macbind.core.mac_address import MacAddress
from macbind.probes.dhcp import OFFER, discover, read_answer

_SECRET = base64.b64encode(SECRET)
_POOL = pool_of("10.16.0.0-10.16.255.255")
_NEW = int(IPv4Address("10.17.0.0"))
_ASK_AGAIN_S = 0.002
_DEADLINE_S = 20.0


@dataclass(frozen=True)
class Contestant:
    """One way, with its server and the machines that exist already.

    Attributes:
        lab: Where its server runs.
        add: Gives the machine of this number its address.
        remove: Takes it away again.
    """

    lab: Lab
    add: Callable[[int], object]
    remove: Callable[[int], object]


def machine(number: int) -> tuple[MacAddress, IPv4Address]:
    """MAC and address of a machine that does not exist yet."""
    address = IPv4Address(_NEW + number)
    return mac_of(address), address


def existing(number: int) -> Sequence[IPv4Address]:
    """The addresses of the machines that exist already."""
    return fill.lowest(_POOL, number)


# -- ours ----------------------------------------------------------------------------------------------


@contextmanager
def macbind_client(population: int) -> Iterator[Contestant]:
    """`Client.allocate` and `Client.release`."""
    with open_farm(population=population) as farm, farm.client() as client:
        yield Contestant(
            farm.lab,
            lambda number: client.allocate("farm", f"new-{number}"),
            lambda number: client.release(f"new-{number}"),
        )


# -- over OMAPI ----------------------------------------------------------------------------------------


@contextmanager
def _dhcpd(population: int) -> Iterator[Lab]:
    """dhcpd with a key that both of the others can use: they know MD5, or prefer it."""
    with directory() as place:
        (place / "dhcpd.leases").write_text("".join(fill.host_records(list(existing(population)), _POOL)))
        with open_site(place, algorithm="hmac-md5") as site:
            yield site.lab


@contextmanager
def omshell(population: int) -> Iterator[Contestant]:
    """One omshell process per operation."""

    def run(script: str) -> None:
        connect = f"port {PORT}\nkey-algorithm hmac-md5\nkey omapi {_SECRET.decode()}\nconnect\n"
        done = subprocess.run(["omshell"], input=connect + script, capture_output=True, text=True, check=True)
        assert "can't" not in done.stdout + done.stderr, done.stdout + done.stderr

    def add(number: int) -> None:
        mac, address = machine(number)
        run(
            f'new host\nset name = "new-{number}"\nset hardware-address = {mac}\nset hardware-type = 1\n'
            f"set ip-address = {address.packed.hex(':')}\ncreate\n"
        )

    with _dhcpd(population) as lab:
        yield Contestant(lab, add, lambda number: run(f'new host\nset name = "new-{number}"\nopen\nremove\n'))


@contextmanager
def pypureomapi_client(population: int) -> Iterator[Contestant]:
    """pypureomapi, with a connection per operation."""

    @contextmanager
    def connection() -> Iterator[pypureomapi.Omapi]:
        omapi = pypureomapi.Omapi("127.0.0.1", PORT, b"omapi", _SECRET, timeout=5)
        try:
            yield omapi
        finally:
            omapi.close()

    def add(number: int) -> None:
        mac, address = machine(number)
        with connection() as omapi:
            omapi.add_host_supersede_name(str(address), str(mac), f"new-{number}")

    def remove(number: int) -> None:
        with connection() as omapi:
            omapi.del_host(str(machine(number)[0]))

    with _dhcpd(population) as lab:
        yield Contestant(lab, add, remove)


@contextmanager
def bare(population: int) -> Iterator[Contestant]:
    """An open OMAPI connection, and one flush of one row for every change: the least that keeps a registry."""
    with (
        open_farm(population=population) as farm,
        bare_client(farm) as omapi,
        bare_database(farm.directory) as commit,
    ):

        def host(number: int) -> Binding:
            mac, address = machine(number)
            return Binding(f"new-{number}", mac, address)

        def add(number: int) -> None:
            add_bare(omapi, [host(number)])
            commit("add")

        def remove(number: int) -> None:
            remove_bare(omapi, [host(number)])
            commit("remove")

        yield Contestant(farm.lab, add, remove)


# -- by files ------------------------------------------------------------------------------------------


class _Asker:
    """Asks for machines by DISCOVER until what it hears is what it waits for."""

    def __init__(self, lab: Lab) -> None:
        self._socket = lab.port("machines").open_packet_socket()
        self._numbers = count(1)

    def close(self) -> None:
        """Closes the socket."""
        self._socket.close()

    def until_served(self, mac: MacAddress) -> None:
        """Returns when the machine gets an offer."""
        self._repeat(lambda: self._hears(mac) == [True])

    def until_gone(self, mac: MacAddress, witness: MacAddress) -> None:
        """Returns when the witness, who asks directly after the machine, gets an offer and the machine none."""
        self._repeat(lambda: self._hears(mac, witness) == [False, True])

    def _hears(self, *macs: MacAddress) -> list[bool]:
        """Who of these was offered an address before the last one was, or before it is time to ask again."""
        asked = [(mac, next(self._numbers)) for mac in macs]
        for mac, xid in asked:
            self._socket.send(discover(mac, xid))
        heard = [False] * len(asked)
        until = time.monotonic() + _ASK_AGAIN_S
        while not heard[-1] and select.select([self._socket], [], [], max(0, until - time.monotonic()))[0]:
            frame = self._socket.recv(2048)
            found = read_answer(frame)
            if found is not None and found.kind == OFFER and (found.mac, found.xid) in asked:
                heard[asked.index((found.mac, found.xid))] = True
        return heard

    def _repeat(self, condition: Callable[[], bool]) -> None:
        give_up = time.monotonic() + _DEADLINE_S
        while not condition():
            if time.monotonic() > give_up:
                raise TimeoutError(f"the server did not follow its file within {_DEADLINE_S:g} s")


class _Files:
    """A server that reads its hosts from a file."""

    def __init__(
        self, stack: ExitStack, population: int, line: Callable[[MacAddress, IPv4Address], str]
    ) -> None:
        self.place = stack.enter_context(directory())
        self.lab = stack.enter_context(Lab())
        self.asker = _Asker(self.lab)
        stack.callback(self.asker.close)
        self.witness = mac_of(existing(1)[0])
        self._line = line
        self._old = "".join(line(mac_of(one), one) for one in existing(population))
        self._new: dict[int, str] = {}

    def text(self) -> str:
        """All hosts."""
        return self._old + "".join(self._new.values())

    def contestant(self, apply: Callable[[], object]) -> Contestant:
        """The contestant; `apply` makes the server read the file again."""

        def add(number: int) -> None:
            self._new[number] = self._line(*machine(number))
            apply()
            self.asker.until_served(machine(number)[0])

        def remove(number: int) -> None:
            del self._new[number]
            apply()
            self.asker.until_gone(machine(number)[0], self.witness)

        return Contestant(self.lab, add, remove)

    def start(self, *command: str) -> Process:
        """Starts the server, from inside the namespace."""
        with (self.place / "server.log").open("ab") as log:
            return Process(command, log, {})


@contextmanager
def dnsmasq(population: int) -> Iterator[Contestant]:
    """dnsmasq's hosts file, and SIGHUP."""
    with ExitStack() as stack:
        files = _Files(stack, population, lambda mac, address: f"{mac},{address}\n")
        hosts = files.place / "hosts"
        hosts.write_text(files.text())
        command = [
            "dnsmasq",
            "--keep-in-foreground",
            "--conf-file=/dev/null",
            "--port=0",
            "--user=root",
            "--pid-file=",
        ]
        command += [
            "--bind-interfaces",
            f"--interface={files.lab.bridge}",
            "--dhcp-range=10.0.0.0,static,255.0.0.0",
        ]
        command += [f"--dhcp-hostsfile={hosts}", f"--dhcp-leasefile={files.place / 'leases'}", "--no-ping"]
        command += ["--dhcp-authoritative", f"--log-facility={files.place / 'log'}", "--quiet-dhcp"]
        server = files.lab.server.call(lambda: files.start(*command))
        stack.callback(server.end)
        files.asker.until_served(files.witness)

        def apply() -> None:
            hosts.write_text(files.text())
            server.send_signal(signal.SIGHUP)

        yield files.contestant(apply)


@contextmanager
def restarted_dhcpd(population: int) -> Iterator[Contestant]:
    """A regenerated dhcpd.conf, and a restart."""
    head = (
        "authoritative; ping-check false; default-lease-time 600; max-lease-time 600;\n"
        "subnet 10.0.0.0 netmask 255.0.0.0 { option routers 10.0.0.1; deny unknown-clients; }\n"
    )
    with ExitStack() as stack:
        files = _Files(
            stack,
            population,
            lambda mac, ip: f"host h{ip} {{ hardware ethernet {mac}; fixed-address {ip}; }}\n",
        )
        config, leases = files.place / "dhcpd.conf", files.place / "dhcpd.leases"
        leases.touch()
        command = [
            "dhcpd",
            "-4",
            "-d",
            "-f",
            "-cf",
            str(config),
            "-lf",
            str(leases),
            "--no-pid",
            files.lab.bridge,
        ]
        running: list[Process] = []

        def stop() -> None:
            while running:
                running[-1].terminate()
                running.pop().wait()

        def apply() -> None:
            config.write_text(head + files.text())
            stop()
            running.append(files.start(*command))

        stack.callback(stop)
        files.lab.server.call(apply)
        files.asker.until_served(files.witness)
        yield files.contestant(apply)


@contextmanager
def virsh(population: int) -> Iterator[Contestant]:
    """`virsh net-update --live`: libvirt's own network, with dnsmasq behind it."""

    def host(mac: MacAddress, address: IPv4Address) -> str:
        return f"<host mac='{mac}' ip='{address}'/>"

    with directory() as place, Lab(["192.168.77.1/24"]) as lab, Libvirtd(lab, place) as libvirtd:
        (place / "net.xml").write_text(_network([host(mac_of(one), one) for one in existing(population)]))
        libvirtd.virsh("net-create", str(place / "net.xml"))
        command = ["virsh", "--quiet", "--connect", libvirtd.uri, "net-update", "bench"]

        def update(what: str, number: int) -> None:
            one = [what, "ip-dhcp-host", host(*machine(number)), "--live"]
            subprocess.run([*command, *one], capture_output=True, check=True)

        yield Contestant(lab, lambda number: update("add", number), lambda number: update("delete", number))


def _network(hosts: Sequence[str]) -> str:
    # Mode "open" leaves the firewall alone: with NAT libvirt writes its rules anew at each update, some 0.2 s.
    return (
        "<network><name>bench</name><forward mode='open'/><bridge name='virbr0' stp='off' delay='0'/>"
        f"<ip address='10.0.0.1' netmask='255.0.0.0'><dhcp>{''.join(hosts)}</dhcp></ip></network>"
    )


Opener = Callable[[int], AbstractContextManager[Contestant]]
OURS = "macbind"
LEAST = "a bare OMAPI message and a flush"
ALL: dict[str, tuple[Opener, int]] = {
    OURS: (macbind_client, 40),
    LEAST: (bare, 40),
    "pypureomapi, a connection per operation": (pypureomapi_client, 40),
    "omshell, a process per operation": (omshell, 20),
    "dnsmasq, hosts file and SIGHUP": (dnsmasq, 5),
    "dhcpd.conf regenerated, restart": (restarted_dhcpd, 5),
    "virsh net-update": (virsh, 3),
}
"""How to open each, for so many existing machines, and how many operations a round of it has: slow ones fewer."""
