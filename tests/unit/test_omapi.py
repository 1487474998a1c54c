"""The OMAPI session's own behaviour: keys, refusals, limits, and what replies mean."""

from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from labkit.omapi_peer import STARTUP, STATUS, UPDATE, Key, Message, Peer, number
from macbind.core.binding import Binding
from macbind.core.errors import DhcpdRefused, DhcpdUnavailable, InvalidOption, PeerError
from macbind.core.mac_address import MacAddress
from macbind.dhcp.isc.messages import Reply, Request, ResultCode, create_host, find_host, host_in, lease_in
from macbind.dhcp.isc.omapi import Algorithm, Session

MAC, ADDRESS = MacAddress.parse("00:16:3e:01:01:03"), IPv4Address("10.1.1.3")
HOST = Binding("macbind-10.1.1.3-g1", MAC, ADDRESS)
KEY = Key("omapi", "hmac-sha256", b"secret")


def session_for(key: Key) -> Session:
    """A session with this key that has sent nothing yet."""
    return Session("main", (key.name, Algorithm(key.algorithm), key.secret))


def talk(session: Session, peer: Peer, *requests: Request) -> list[Reply]:
    """Shakes hands if need be, sends, and returns the replies."""
    while not session.ready:
        for raw in peer.answer(session.bytes_to_send()):
            session.feed(raw)
    replies: list[Reply] = []
    session.submit(requests)
    while not session.idle:
        for raw in peer.answer(session.bytes_to_send()):
            replies += [reply for _, reply in session.feed(raw)]
    return replies


def asking(session: Session, peer: Peer) -> int:
    """Sends one look-up; returns its transaction id."""
    talk(session, peer)
    session.submit([find_host(MAC)])
    return int.from_bytes(session.bytes_to_send()[16:20])


@pytest.mark.parametrize("algorithm", list(Algorithm))
def test_every_algorithm_of_dhcpd_signs_both_ways(algorithm: Algorithm) -> None:
    """With each of dhcpd's algorithms a host is made and found again."""
    key = Key("omapi", algorithm.value, b"secret")
    made, found = talk(session_for(key), Peer(key), create_host(HOST), find_host(MAC))
    assert made.result == 0
    assert host_in(found) == HOST


def test_dhcpd_without_a_key_is_spoken_to_without_one() -> None:
    """Where dhcpd demands no key, none is needed."""
    assert host_in(talk(Session("main", None), Peer(None), find_host(MAC))[0]) is None


@pytest.mark.parametrize(
    "theirs",
    [
        replace(KEY, name="another"),
        replace(KEY, algorithm="hmac-md5"),
        None,
    ],
    ids=["name", "algorithm", "none"],
)
def test_unknown_key_is_refused_and_named_as_the_cause(theirs: Key | None) -> None:
    """A key dhcpd has not, by name or algorithm, is told from a dead server during the handshake."""
    with pytest.raises(DhcpdRefused, match="no OMAPI key of this name and algorithm"):
        talk(session_for(KEY), Peer(theirs))


def test_wrong_secret_is_refused_with_the_first_request() -> None:
    """dhcpd's unsigned refusal of our signature is recognised."""
    with pytest.raises(DhcpdRefused, match="secrets differ"):
        talk(session_for(KEY), Peer(replace(KEY, secret=b"other")), find_host(MAC))


def test_missing_key_is_refused_with_the_first_request() -> None:
    """A dhcpd that demands a key answers the first look-up with a refusal that names the reason."""
    reply = talk(Session("main", None), Peer(KEY), find_host(MAC))[0]
    with pytest.raises(DhcpdRefused, match="NO_KEY"):
        host_in(reply)


def reply_to(tid: int) -> Message:
    """An answer that there is no such host."""
    return Message(STATUS, rid=tid, message={b"result": number(23)})


WRONG: dict[str, tuple[Callable[[int], bytes], type[PeerError]]] = {
    "unsigned": (lambda tid: reply_to(tid).encode(), DhcpdRefused),
    "signed with another secret": (lambda tid: reply_to(tid).encode(replace(KEY, secret=b"x")), DhcpdRefused),
    "signed with another digest": (
        lambda tid: reply_to(tid).encode(replace(KEY, algorithm="hmac-sha1")),
        DhcpdRefused,
    ),
    "to nothing we asked": (lambda tid: reply_to(tid + 1).encode(KEY), DhcpdUnavailable),
    "of no known kind": (lambda tid: replace(reply_to(tid), opcode=77).encode(KEY), DhcpdUnavailable),
    "a request itself": (lambda tid: replace(reply_to(tid), opcode=1).encode(KEY), DhcpdUnavailable),
    "sent twice": (lambda tid: reply_to(tid).encode(KEY) * 2, DhcpdUnavailable),
    "endless": (lambda _: b"\0\0\0\5\0\0\0\0" + b"\1" * 70_000, DhcpdUnavailable),
}


@pytest.mark.parametrize(("answer", "error"), WRONG.values(), ids=WRONG)
def test_wrong_reply_is_a_typed_error(answer: Callable[[int], bytes], error: type[PeerError]) -> None:
    """A reply that is unsigned, of somebody else, unasked or endless is refused for what it is."""
    session, peer = session_for(KEY), Peer(KEY)
    raw = answer(asking(session, peer))
    with pytest.raises(error):
        session.feed(raw)


@pytest.mark.parametrize("of", [KEY, None], ids=["signed", "of an authenticator"])
def test_without_a_key_a_reply_that_claims_one_is_not_omapi(of: Key | None) -> None:
    """Who never signed is not told about secrets that differ."""
    session, peer = Session("main", None), Peer(None)
    raw = replace(reply_to(asking(session, peer)), authid=7).encode(of)
    with pytest.raises(DhcpdUnavailable, match="a signed answer to a question that was not"):
        session.feed(raw)


def test_truncated_reply_is_waited_for() -> None:
    """Half a reply is no reply yet; the rest completes it."""
    session, peer = session_for(KEY), Peer(KEY)
    raw = reply_to(asking(session, peer)).encode(KEY)
    assert session.feed(raw[:-1]) == []
    assert not session.idle
    assert [reply.result for _, reply in session.feed(raw[-1:])] == [23]
    assert session.idle


@pytest.mark.parametrize(
    "greeting",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"220 mail.example.org ESMTP\r\n",
        number(101) + number(24),
        number(100) + number(28),
    ],
    ids=["http", "ssh", "smtp", "version", "header"],
)
def test_something_that_is_no_omapi_is_named_as_such(greeting: bytes) -> None:
    """Another service on the port, or another protocol version, is recognised by its first bytes."""
    with pytest.raises(DhcpdUnavailable, match="not OMAPI"):
        session_for(KEY).feed(greeting)


def test_key_without_a_handle_is_refused() -> None:
    """An answer to our key that names no authenticator is no permission."""
    session = session_for(KEY)
    session.feed(STARTUP)
    with pytest.raises(DhcpdRefused):
        session.feed(Message(UPDATE).encode())


def test_nothing_is_sent_before_the_handshake() -> None:
    """Requests are refused while the session is not open."""
    with pytest.raises(DhcpdUnavailable, match="not open yet"):
        session_for(KEY).submit([find_host(MAC)])


@pytest.mark.parametrize("length", [3601, 10_000, 100_000])
def test_statements_that_dhcpd_cannot_take_are_refused(length: int) -> None:
    """More statements than fit into a message are the caller's fault, found before anything is sent."""
    with pytest.raises(InvalidOption):
        create_host(HOST, "s" * length)


def test_reservation_without_an_address_is_refused() -> None:
    """A host that would only make its machine known is never created."""
    with pytest.raises(InvalidOption):
        create_host(replace(HOST, address=None))


def test_batch_with_an_impossible_message_sends_none_of_it() -> None:
    """When one message of a batch is too large, the others do not go out with the next batch."""
    session, peer = session_for(KEY), Peer(KEY)
    talk(session, peer)
    monster = create_host(HOST)
    monster.message.obj.append((b"statements", b"s" * 5000))
    with pytest.raises(InvalidOption):
        session.submit([create_host(replace(HOST, name="first")), monster])
    assert session.idle
    assert session.bytes_to_send() == b""
    assert peer.objects == {}


def test_transaction_ids_survive_four_billion_requests() -> None:
    """The 32-bit transaction id starts anew, at one."""
    session, peer = session_for(KEY), Peer(KEY)
    talk(session, peer)
    session._tid = 0xFFFFFFFD
    replies = talk(session, peer, *[find_host(MAC) for _ in range(5)])
    assert [reply.result for reply in replies] == [23] * 5
    assert session._tid == 3


def test_refusals_read_well() -> None:
    """A result code is shown by name and number, an unknown one by number."""
    assert ResultCode.describe(26) == "IO_ERROR (26)"
    assert ResultCode.describe(4711) == "result 4711"


LEASE = {b"ip-address": ADDRESS.packed, b"state": number(2), b"hardware-address": bytes(MAC)}


def test_leases_are_read_with_their_state() -> None:
    """A lease has an address, a state, and an Ethernet client if it names one."""
    lease = lease_in(Reply(0, 1, LEASE))
    assert lease is not None
    assert (lease.address, lease.state, lease.mac) == (ADDRESS, "active", MAC)
    other = lease_in(Reply(0, 1, LEASE | {b"state": number(99), b"hardware-address": b"long" * 4}))
    assert other is not None
    assert (other.state, other.mac) == ("state 99", None)
    assert lease_in(Reply(23)) is None


@pytest.mark.parametrize(
    "reply",
    [Reply(6), Reply(0, 1, {}), Reply(0, 1, LEASE | {b"ip-address": b"\n\1\1"})],
    ids=["refused", "empty", "short"],
)
def test_leases_dhcpd_cannot_have_sent_are_refused(reply: Reply) -> None:
    """A refusal, and a lease without a proper address, are typed errors."""
    with pytest.raises(DhcpdRefused):
        lease_in(reply)


def test_hosts_of_others_are_read_whatever_they_hold() -> None:
    """A host may have no address, several, and a name of any bytes."""
    values = {b"name": b"caf\xe9", b"hardware-address": bytes(MAC)}
    assert host_in(Reply(0, 1, values)) == Binding("café", MAC, None)
    assert host_in(Reply(0, 1, values | {b"ip-address": b"\n\1\1\3\n\1\1\4"})) == Binding("café", MAC, None)


@pytest.mark.parametrize(
    "reply", [Reply(393222), Reply(0, 1, {b"name": b"x", b"hardware-address": b"\0\1"})], ids=["code", "mac"]
)
def test_hosts_that_cannot_be_understood_are_refused(reply: Reply) -> None:
    """A refusal, and a host without an Ethernet address, are typed errors."""
    with pytest.raises(DhcpdRefused):
        host_in(reply)
