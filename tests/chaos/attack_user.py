"""A user who may connect, and means harm: it takes every place, under as many users as the machine has.

Most of its connections say nothing. Others ask for large things, trickle half a head, send what is no request, or a
body of a thousand unknown keys, and never read an answer. Root, which the other workers are, must always have a
place: that is checked with a new connection whenever the service has refused most of ours.
"""

import pwd
import re
import socket
from contextlib import suppress

from chaos.attackers import Attacker
from chaos.worker import Orders
from labkit.rude import acting_as, request

PLACES = "root has a place"
"""The name of the check."""
MAY_CHANGE = "games"
"""Who may change in the configuration of a site with attackers, beside root."""
FILES = 1024
"""The open-file limit of macbind where there are attackers, so that there are few enough places to take."""
_READER, _ODD = "nobody", 1
_MANY, _FEW = 40, 2
"""How many connections it makes at a time, and how many when every place is taken."""
_USERS = 12
"""More than it needs: of 720 places the tenth would get less than one."""
_CONNECT_S, _ANSWER_S = 0.5, 3.0
_LARGE = b"{" + b",".join(b'"%d":1' % number for number in range(1000)) + b"}"
_NAMES = b'{"pool":"own-0","names":[' + b",".join([b'"x"'] * 5000) + b"]}"
_SMUGGLED = b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
_AS_READER: tuple[bytes, ...] = (
    request(path="/v1/history?limit=1000"),
    request(path="/v1/allocations?limit=1000"),
    request(path="/metrics"),
    request(path="/v1/events"),
    request(path="/v1/allocations?" + "&".join(f"a{number}=x" for number in range(2000))),
    request("POST", "/v1/allocations", b'{"pool":"shared","name":"' + b"x" * 60_000 + b'"}'),
    request() + request("POST", "/v1/release", b'{"name":"w0-1"}') + request("DELETE", "/v1/reservations/x"),
    b"POST /v1/release HTTP/1.1\r\nHost: x\r\n" + _SMUGGLED,
    b"GET /v1/pools HTTP/1.1\r\nHost",
    b"\x16\x03\x01\x02\x00" + bytes(200),
)
_AS_CHANGER: tuple[bytes, ...] = (
    request("POST", "/v1/allocations", _LARGE),
    request("POST", "/v1/allocations", b"[" * 20_000),
    request("POST", "/v1/release", b'{"name":"\\u0000"}'),
    request("POST", "/v1/allocations", _NAMES),
)
_ODDITIES = [(_READER, one) for one in _AS_READER] + [(MAY_CHANGE, one) for one in _AS_CHANGER]
"""Who sends what."""


class User(Attacker):
    """Has connections, and asks odd things by some."""

    pause_s = 0.08
    is_elsewhere = False

    def __init__(self, orders: Orders) -> None:
        super().__init__(orders)
        self._held: list[socket.socket] = []
        self._odd: list[socket.socket] = []
        self._users = [one.pw_name for one in pwd.getpwall() if one.pw_uid][:_USERS]
        self._tried = self._user = 0
        self._socket = str(orders.socket)

    def act(self) -> None:
        """Takes more places, asks something odd, and looks whether root still has one."""
        self._take_places()
        self._ask_odd_things()
        if self._is_full:
            self._look()

    def leave(self) -> bool:
        """Every connection is closed."""
        for some in (self._held, self._odd):
            while some:
                some.pop().close()
        self._tried = self._user = 0
        return True

    def _take_places(self) -> None:
        """Some more connections by one user, and by the next when it is refused: each gets half of what is left."""
        last = self._held[-self._tried :] if self._tried else []
        if last and sum(map(_is_ended, last)) * 2 > len(last):
            self._user += 1
        for one in self._held:
            if _is_ended(one):
                one.close()
        self._held = [one for one in self._held if one.fileno() >= 0]
        if not self._held:  # macbind was started again
            self._user = 0
        before = len(self._held)
        user = self._users[self._user % len(self._users)]
        for _ in range(_FEW if self._is_full else _MANY):
            if (new := self._connect(user)) is not None:
                self._held.append(new)
        self._tried = len(self._held) - before
        self.count("connections of a hostile user", self._tried)

    @property
    def _is_full(self) -> bool:
        """Whether every one of its users was refused since it began."""
        return self._user >= len(self._users)

    def _ask_odd_things(self) -> None:
        while len(self._odd) >= 30:
            self._odd.pop(0).close()
        for user, what in self.random.sample(_ODDITIES, _ODD):
            one = self._connect(user)
            if one is not None:
                with suppress(OSError):
                    one.send(what)
                self._odd.append(one)
                self.count("odd requests")

    def _look(self) -> None:
        """Whether root is refused; what cannot be connected to, or says nothing, is down for another reason."""
        starts = self.control.starts
        said = self._ask_as_root()
        if said:
            refused = re.search(rb"has \d+ connections to the service", said)
            decided = self.control.starts == starts
            body = said.rpartition(b"\r\n\r\n")[2].decode(errors="replace")
            self.check(PLACES, "", "", decided, body if refused else None)

    def _ask_as_root(self) -> bytes:
        one = self._connect(None)
        if one is None:
            return b""
        with one, suppress(OSError):
            one.settimeout(_ANSWER_S)
            one.sendall(request())
            return one.recv(65536)
        return b""

    def _connect(self, user: str | None) -> socket.socket | None:
        one = socket.socket(socket.AF_UNIX)
        one.settimeout(_CONNECT_S)
        try:
            with acting_as(user):
                one.connect(self._socket)
        except OSError:  # it does not run, or too many wait to be accepted
            one.close()
            return None
        one.setblocking(False)
        return one


def _is_ended(one: socket.socket) -> bool:
    """Whether the service has refused a connection, or ended it: nobody has asked anything, and something came."""
    try:
        one.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True
