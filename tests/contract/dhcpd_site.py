"""A real dhcpd in a lab, macbind's own way to it, and machines on its network."""

import base64
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from labkit.dhcp import DhcpClient
from labkit.dhcpd import Dhcpd
from labkit.net import Lab
from labkit.omshell import OmapiKey
from macbind.core.address_plan import AddressPlan
from macbind.core.address_range import AddressRange
from macbind.core.binding import Binding, binding_name
from macbind.core.binding_plan import Change, Ensure, Remove
from macbind.core.dhcp_options import NO_OPTIONS, DhcpOptions
from macbind.core.mac_address import MacAddress
from macbind.core.pool import Pool, Subnet
from macbind.dhcp.isc.connection import OmapiClient
from macbind.dhcp.isc.omapi import Algorithm
from macbind.dhcp.isc.server import IscDhcpd

PORT = 7911
SECRET = b"0123456789abcdef0123456789abcdef"
NETWORK = IPv4Network("10.0.0.0/8")
ADDRESS = IPv4Address("10.1.1.3")
MAC = MacAddress.parse("00:16:3e:01:01:03")
_STATE = re.compile(r"^state = 00:00:00:(\d\d)$", re.MULTILINE)
FREE, ACTIVE = 1, 2


def config(algorithm: str = "hmac-sha256", *, dynamic: str = "", more: str = "") -> str:
    """dhcpd's configuration, written by hand: reserved machines are served, others only from ``dynamic``."""
    strangers = f"range {dynamic};" if dynamic else "deny unknown-clients;"
    return f"""
authoritative; ping-check false; default-lease-time 600; max-lease-time 600; dont-use-fsync true;
omapi-port {PORT};
key omapi {{ algorithm {algorithm}; secret "{base64.b64encode(SECRET).decode()}"; }}
omapi-key omapi;
subnet 10.0.0.0 netmask 255.0.0.0 {{ option routers 10.0.0.1; {strangers} }}
{more}
"""


@dataclass
class Site:
    """A serving dhcpd; what macbind asks goes through the lab's network, and omshell is the judge."""

    lab: Lab
    dhcpd: Dhcpd
    algorithm: str
    at_exit: ExitStack

    def client(
        self,
        *,
        name: str = "omapi",
        algorithm: str | None = None,
        secret: bytes = SECRET,
        port: int = PORT,
        timeout_s: float = 30.0,
        window: int | None = None,
    ) -> OmapiClient:
        """An OMAPI connection as macbind makes it."""
        key = (name, Algorithm(algorithm or self.algorithm), secret)
        return OmapiClient(
            "main",
            lambda limit_s: self.lab.open_socket("127.0.0.1", port, limit_s),
            key,
            timeout_s=timeout_s,
            window=window,
        )

    def server(
        self, *, sees_leases: bool = True, timeout_s: float = 30.0, window: int | None = None
    ) -> IscDhcpd:
        """The dhcpd as the writer sees it."""
        server = IscDhcpd(
            "main",
            lambda: self.client(timeout_s=timeout_s, window=window),
            self.dhcpd.leases if sees_leases else None,
        )
        self.at_exit.callback(server.close)
        return server

    def held(self, mac: MacAddress = MAC) -> str | None:
        """The name of the host dhcpd itself says it has for a MAC."""
        found = self.dhcpd.omshell_host(str(mac))
        return None if found is None else found["name"]

    def add_host(self, name: str, mac: MacAddress = MAC, address: IPv4Address | None = ADDRESS) -> None:
        """Makes a host with omshell."""
        lines = ["new host", f'set name = "{name}"', f"set hardware-address = {mac}", "set hardware-type = 1"]
        lines += [f"set ip-address = {address.packed.hex(':')}"] if address else []
        self.dhcpd.omshell("\n".join([*lines, "create", ""]))

    def lease_state(self, address: IPv4Address | str) -> int:
        """The state of a lease as omshell shows it."""
        packed = IPv4Address(address).packed.hex(":")
        said = self.dhcpd.omshell(f"new lease\nset ip-address = {packed}\nopen\n")
        match = _STATE.search(said)
        assert match is not None, said
        return int(match[1])

    def machine(self, mac: MacAddress | str = MAC, **options: object) -> DhcpClient:
        """A machine with this MAC; all share one port."""
        port = self.lab.ports.get("machines") or self.lab.port("machines")
        return DhcpClient(port, str(mac), **options)  # type: ignore[arg-type]


@contextmanager
def open_site(
    directory: Path, *, algorithm: str = "hmac-sha256", dynamic: str = "", more: str = ""
) -> Iterator[Site]:
    """A lab with a dhcpd whose files are in the directory."""
    key = OmapiKey("omapi", base64.b64encode(SECRET).decode(), algorithm)
    text = config(algorithm, dynamic=dynamic, more=more)
    with (
        Lab() as lab,
        Dhcpd(lab, text, directory / "dhcpd.leases", key=key) as dhcpd,
        ExitStack() as at_exit,
    ):
        yield Site(lab, dhcpd, algorithm, at_exit)


def pool_of(*ranges: str, options: DhcpOptions | None = None, cooldown_s: float = 0.0) -> Pool:
    """A live pool on the lab's network."""
    plan = AddressPlan.build(NETWORK, "00:16:3e", ranges=[AddressRange.parse(text) for text in ranges])
    subnet = Subnet(NETWORK, DhcpOptions(routers=(IPv4Address("10.0.0.1"),)))
    return Pool("farm", plan, subnet, ("main",), options=options or DhcpOptions(), cooldown_s=cooldown_s)


def mac_of(address: IPv4Address) -> MacAddress:
    """The MAC a pool gives to an address."""
    return MacAddress(0x00163E000000 + (int(address) & 0xFFFFFF))


def ensure(
    generation: int = 1,
    address: IPv4Address = ADDRESS,
    mac: MacAddress | None = None,
    options: DhcpOptions = NO_OPTIONS,
) -> Ensure:
    """The change that makes a generation of an address real."""
    host = Binding(binding_name(address, generation), mac or mac_of(address), address, options)
    return Ensure(address, generation, host)


def remove(generation: int = 1, address: IPv4Address = ADDRESS, mac: MacAddress | None = None) -> Remove:
    """The change that takes a generation of an address away."""
    return Remove(address, generation, mac or mac_of(address))


def addresses(count: int, first: str = "10.1.0.0") -> list[IPv4Address]:
    """Consecutive addresses."""
    start = int(IPv4Address(first))
    return [IPv4Address(start + number) for number in range(count)]


def apply_all(server: IscDhcpd, changes: Iterable[Change]) -> None:
    """Carries out changes none of which may be refused."""
    batch: Sequence[Change] = list(changes)
    assert server.apply(batch) == [None] * len(batch)
