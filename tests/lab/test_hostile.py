"""What held when the service was attacked holds: hostile guests, smuggled requests, borrowed identities."""

import shutil
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from labkit.dhcp import DhcpClient
from labkit.farm import Farm
from labkit.hostile import TEXTS, VERBS, message
from labkit.rude import Rude, request
from labkit.users import as_user
from macbind.core.dhcp_options import DhcpOptions
from macbind.core.errors import MacbindError
from macbind.core.mac_address import MacAddress
from macbind.dhcp.isc.lease_file import parse

POOLS = """
[subnet."10.0.0.0/8"]
routers = ["10.0.0.1"]
dynamic = ["10.7.0.1-10.7.0.50"]

[pool.farm]
subnet = "10.0.0.0/8"
ranges = ["10.1.1.3-10.1.9.250"]
"""
FARM = {"service": 'socket_mode = "0666"\n', "dhcpd": "resync_s = 1"}
MakeFarm = Callable[..., Farm]
READER = "nobody"


# -- guests ----------------------------------------------------------------------------------------------------


def test_hostile_guests_change_nothing(make_farm: MakeFarm) -> None:
    """Texts that break out of quotes, and messages in another's name: files are read on, and the owner keeps all."""
    farm = make_farm(pools=POOLS, **FARM)
    with farm.client() as client:
        owner = client.allocate("farm", "owner")
        guest = farm.lab.port("guest")
        for number, text in enumerate(TEXTS):
            mac = f"02:66:00:00:00:{number:02x}"
            one = DhcpClient(guest, mac, client_id=text[:255], hostname=text[:255].decode("latin-1"))
            assert one.dora() is not None, text
            with guest.packet_socket() as wire:
                for verb in VERBS:
                    wire.send(message(str(owner.mac), verb, text, address=str(owner.address)))
        machine = farm.lab.port("machine")
        lease = DhcpClient(machine, str(owner.mac)).dora()
        assert lease is not None
        assert lease.address == owner.address
        assert client.get("owner") == owner
        assert farm.findings().keys() == set()
    read = parse(farm.leases.read_bytes())
    assert (read.complete, read.problems, len(read.leases)) == (True, (), len(TEXTS))
    assert [one.name for one in read.hosts.values()] == [f"macbind-{owner.address}-g{owner.generation}"]
    copy = farm.directory / "copy.leases"
    shutil.copy(farm.leases, copy)
    done = farm.lab.run(
        ["dhcpd", "-4", "-T", "-cf", str(farm.directory / "macbind.conf"), "-lf", str(copy)], check=False
    )
    assert done.returncode == 0, done.stderr


# -- requests --------------------------------------------------------------------------------------------------

_TWO = b'Content-Length: 4\r\nContent-Length: 37\r\n\r\n{"pool":"farm","name":"smuggled-two"}'
_HIDDEN = request("POST", "/v1/allocations", b'{"pool":"farm","name":"smuggled"}')
SMUGGLED = {
    "behind a question": request() + _HIDDEN,
    "in a chunk": b"GET /v1/pools HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    + _HIDDEN,
    "two framings": b"POST /v1/release HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + _HIDDEN,
    "two lengths": b"GET /v1/pools HTTP/1.1\r\nHost: x\r\n" + _TWO,
    "an unknown coding": b"GET /v1/pools HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n"
    + _HIDDEN,
    "another method": request(X_HTTP_Method_Override="POST", X_Method_Override="DELETE") + _HIDDEN,
}


@pytest.mark.parametrize("how", SMUGGLED)
def test_smuggled_request_is_the_readers_own(farm: Farm, how: str) -> None:
    """Whatever the framing says, what is behind a question was asked by who connected: it changes nothing."""
    with Rude(farm.socket, READER) as one:
        one.send(SMUGGLED[how])
        seen: list[int] = []
        while len(seen) < 3 and (answer := one.answer()) is not None:
            seen.append(answer.status)
            if answer.status >= 400:
                break
    assert seen == [] or seen[-1] in (400, 403), seen
    with farm.client() as client:
        assert list(client.list()) == []


def test_offer_of_another_protocol_is_ignored(farm: Farm) -> None:
    """HTTP/2 is not spoken: the question is answered as it came."""
    with Rude(farm.socket, READER) as one:
        one.send(request(Connection="Upgrade, HTTP2-Settings", Upgrade="h2c", HTTP2_Settings="AAMAAABk"))
        answer = one.answer()
        assert answer is not None
        assert (answer.status, answer.head.startswith("http/1.1 200")) == (200, True)


def test_thousands_of_parameters_are_refused(farm: Farm) -> None:
    """One question with 6000 of them is an error of ours, and the connection stays of use or is closed."""
    with Rude(farm.socket, READER) as one:
        one.send(request(path="/v1/allocations?" + "&".join(f"a{number}=x" for number in range(6000))))
        answer = one.answer()
        assert answer is not None
        assert answer.status in (400, 414, 431)
    with Rude(farm.socket, READER) as other:
        assert other.ask().status == 200


_IN_NAMESPACE = """
import json, os, sys
from macbind import Client, MacbindError
assert os.getuid() == 0
with Client(sys.argv[1]) as client:
    try:
        client.allocate("farm", "of-nobody")
    except MacbindError as error:
        print(error.code, error)
"""


def test_root_of_a_user_namespace_is_the_user_who_made_it(farm: Farm) -> None:
    """Who maps itself to root is, for the service, the user that the kernel knows."""
    command = ["unshare", "--user", "--map-root-user", sys.executable, "-c", _IN_NAMESPACE, str(farm.socket)]
    done = subprocess.run(as_user(READER, *command), capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("not_permitted nobody (uid 65534, pid ")


# -- texts without an end --------------------------------------------------------------------------------------

LONG = 1_000_000
TEXTS_OF_TROUBLE = [
    "1." * LONG,
    "a" * LONG,
    "-" * LONG,
    "10.0.0.0/8 via " * (LONG // 15),
    ":" * LONG,
    " " * LONG + "x",
]


@pytest.mark.parametrize("option", ["hostname", "domain_name", "filename", "routers", "static_routes"])
@pytest.mark.parametrize("text", TEXTS_OF_TROUBLE, ids=range(len(TEXTS_OF_TROUBLE)))
def test_megabyte_of_an_option_is_refused_at_once(option: str, text: str) -> None:
    """No pattern goes back and forth over it: it takes less than a second of the processor."""
    began = time.process_time()
    with pytest.raises(MacbindError):
        DhcpOptions.parse({option: [text] if option in {"routers", "static_routes"} else text})
    assert time.process_time() - began < 1.0


@pytest.mark.parametrize("text", TEXTS_OF_TROUBLE, ids=range(len(TEXTS_OF_TROUBLE)))
def test_megabyte_of_a_mac_is_refused_at_once(text: str) -> None:
    """As every other text."""
    began = time.process_time()
    with pytest.raises(MacbindError):
        MacAddress.parse(text)
    assert time.process_time() - began < 1.0
