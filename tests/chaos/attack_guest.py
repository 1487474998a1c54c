"""A guest that floods the network with DHCP in the names of others.

It says that it has the MACs of allocations, of free addresses and of nobody; it asks, declines and releases; and
wherever there is room for a text it sends one that would break out of quotes. What dhcpd and macbind make of it, the
lookout and the checker see: every reservation is served as before, and no address is lost or given to it.
"""

from contextlib import suppress

from chaos.attackers import Attacker
from chaos.pools import RANGES, addresses, mac_of
from chaos.worker import Orders
from labkit.hostile import TEXTS, VERBS, message
from labkit.netns import Namespace

PORT = "mallory"
"""The place of the guest at the network."""
_BURST, _MESSAGES = 12, 300


class Guest(Attacker):
    """Sends, and hears nothing. Messages are made once for a round, as making one takes longer than sending it."""

    pause_s = 0.03

    def __init__(self, orders: Orders) -> None:
        super().__init__(orders)
        self._socket = Namespace(f"{orders.namespace}-{PORT}").open_packet("eth0")
        self._socket.setblocking(False)
        self._messages: list[bytes] = []

    def act(self) -> None:
        """A burst."""
        if not self._messages:
            self._messages = [self._message() for _ in range(_MESSAGES)]
        for frame in self.random.choices(self._messages, k=_BURST):
            with suppress(OSError):  # the queue is full
                self._socket.send(frame)
        self.count("DHCP messages of a hostile guest", _BURST)

    def leave(self) -> bool:
        """Nothing of it is there when it is silent."""
        self._messages.clear()
        return True

    def _message(self) -> bytes:
        address = self.random.choice(addresses(self.random.choice(list(RANGES))))
        stolen = self.random.random() < 0.8
        mac = mac_of(address) if stolen else f"02:66:00:00:00:{self.random.randrange(256):02x}"
        return message(
            mac,
            self.random.choice(VERBS),
            self.random.choice(TEXTS),
            address=address,
            xid=self.random.getrandbits(32),
        )
