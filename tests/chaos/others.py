"""What the process that plays the site knows of strangers, foreign hosts and a second DHCP server."""

from dataclasses import dataclass, field
from math import inf

from chaos.worker import Watch
from labkit.net import Process
from labkit.netns import Namespace


@dataclass
class Stranger:
    """A machine with a static address."""

    place: Namespace
    turns_at: float = 0.0
    address: str = ""

    def come(self, address: str) -> None:
        """Answers for an address from now on."""
        self.place.ip(f"addr add {address}/32 dev eth0")
        self.address = address

    def leave(self) -> None:
        """Answers no more."""
        if self.address:
            self.place.ip(f"addr del {self.address}/32 dev eth0")
        self.address = ""


@dataclass
class Host:
    """A host in dhcpd that macbind did not make."""

    name: str
    mac: str = ""
    address: str = ""
    of_mac: str = ""
    """The address whose MAC it has."""
    turns_at: float = 0.0
    made_at: float = inf
    may_exist: bool = False
    epoch: int = -1
    unsure_until: float = 0.0
    """Until when dhcpd may yet make it: nobody knows what came of the last question."""
    sure_at: float = 0.0
    """When no fault had touched dhcpd yet."""
    compared: set[str] = field(default_factory=set)
    known: bool = False

    @property
    def expected(self) -> dict[str, str]:
        """What dhcpd says of it."""
        return {"name": self.name, "mac": self.mac} | ({"ip": self.address} if self.address else {})


@dataclass
class OtherServer:
    """A second DHCP server.

    Attributes:
        place: Its place at the network.
        turns_at: When it comes or goes.
        process: It, while it is there.
        watch: Since when macbind could have found it.
        judged: Whether that was judged.
    """

    place: Namespace
    turns_at: float = 0.0
    process: Process | None = None
    watch: Watch = field(default_factory=Watch)
    judged: bool = False
