"""The OMAPI session against an honest peer in memory: any cut of the bytes, any objects, any garbage."""

import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from ipaddress import IPv4Address

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from labkit.omapi_peer import EXISTS, NOT_FOUND, NOT_IMPLEMENTED, Key, Object, Peer, number
from macbind.core.binding import Binding, binding_name
from macbind.core.errors import DhcpdRefused, DhcpdUnavailable
from macbind.core.mac_address import MacAddress
from macbind.dhcp.isc.messages import (
    Reply,
    Request,
    create_host,
    delete,
    end_lease,
    find_host,
    find_host_by_name,
    find_lease,
    has_lease,
    host_in,
    lease_in,
)
from macbind.dhcp.isc.omapi import Algorithm, Session

patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # the machine may be busy
DHCPD_BUFFER = 4048
FIRST = 0x0A010100
ADDRESSES = [IPv4Address(FIRST + number) for number in range(40)]
MACS = [MacAddress(0x00163E000000 + (int(address) & 0xFFFFFF)) for address in ADDRESSES]

keys = st.builds(
    Key,
    st.text("abcdefghijklmnopqrstuvwxyz-.", min_size=1, max_size=40),
    st.sampled_from([item.value for item in Algorithm]),
    st.binary(min_size=1, max_size=64),
)
cuts = st.lists(st.integers(1, 400), max_size=30)
one = st.integers(0, len(ADDRESSES) - 1)


@st.composite
def objects(draw: st.DrawFn) -> list[Object]:
    """Hosts and leases of others and of ours, with everything in them as long as it can be."""
    found: list[Object] = []
    for index in draw(st.sets(one)):
        mac, address = bytes(MACS[index]), ADDRESSES[index].packed
        name = draw(st.sampled_from([binding_name(ADDRESSES[index], 3), "short", "n" * 255]))
        host = {b"ip-address": address, b"name": f"{name}{index}".encode()[:255], b"hardware-address": mac}
        if draw(st.booleans()):
            host[b"dhcp-client-identifier"] = b"c" * 255
        found.append((b"host", host | {b"hardware-type": number(1)}))
    for index in draw(st.sets(one)):
        lease = {b"state": number(2), b"ip-address": ADDRESSES[index].packed}
        lease |= {b"hardware-address": bytes(MACS[index]), b"ends": number(99)}
        for extra in draw(
            st.sets(st.sampled_from([b"client-hostname", b"dhcp-client-identifier", b"vendor"]))
        ):
            lease[extra] = b"x" * draw(st.integers(1, 900))
        found.append((b"lease", lease))
    return found


def _host(index: int, generation: int) -> Binding:
    address = ADDRESSES[index]
    return Binding(binding_name(address, generation), MACS[index], address)


Kind = Callable[[int, int, str], Request]
KINDS: list[Kind] = [
    lambda index, _, __: find_host(MACS[index]),
    lambda index, generation, _: find_host_by_name(_host(index, generation).name),
    lambda index, generation, statements: create_host(_host(index, generation), statements),
    lambda index, _, __: delete(1000 + index),
    lambda index, _, __: find_lease(ADDRESSES[index]),
    lambda index, _, __: has_lease(MACS[index]),
    lambda index, _, __: has_lease(ADDRESSES[index]),
    lambda index, _, __: end_lease(1000 + index),
]
"""Every request we ever make, from the number of a machine, a generation and statements."""

requests = st.builds(
    lambda kind, index, generation, size: kind(index, generation, "s" * size),
    st.sampled_from(KINDS),
    one,
    st.integers(1, 10**18),
    st.sampled_from([0, 0, 0, 40, 1000, 3476]),
)


def open_session(key: Key | None, peer: Peer, window: int | None = None) -> Session:
    """A session that has shaken hands."""
    credentials = (key.name, Algorithm(key.algorithm), key.secret) if key else None
    session = Session("main", credentials, window)
    while not session.ready:
        for reply in peer.answer(session.bytes_to_send()):
            assert session.feed(reply) == []
    peer.windows.clear()
    return session


def pieces(data: bytes, cut: Iterator[int]) -> Iterator[bytes]:
    """The data in pieces of these sizes, the rest whole."""
    while data:
        size = next(cut, len(data))
        yield data[:size]
        data = data[size:]


def exchange(
    session: Session, peer: Peer, batch: Sequence[Request], sizes: Sequence[int] = (), *, rotate: int = 0
) -> list[Reply]:
    """All replies to a batch; bytes arrive in pieces, and the replies of a window in another order."""
    tickets = session.submit(batch)
    cut = iter(sizes)
    got: dict[int, Reply] = {}
    while not session.idle:
        replies = peer.answer(session.bytes_to_send())
        turn = rotate % len(replies)
        left = b"".join(replies[turn:] + replies[:turn])
        for piece in pieces(left, cut):
            assert session.bytes_to_send() == b"", "a window is sent before the last one is answered"
            got.update(session.feed(piece))
    return [got[ticket] for ticket in tickets]


@patient
@given(
    keys,
    objects(),
    st.lists(requests, max_size=60),
    cuts,
    st.integers(0, 20),
    st.sampled_from([None, 1, 2, 3, 7]),
)
def test_replies_come_in_the_order_of_the_requests_wherever_the_bytes_are_cut(
    key: Key, held: list[Object], batch: list[Request], sizes: list[int], rotate: int, window: int | None
) -> None:
    """Each request gets its own reply, whatever a window holds, however bytes are cut and replies are ordered."""
    mixed, alone = Peer(key, held), Peer(key, [(kind, dict(values)) for kind, values in held])
    one_by_one = open_session(key, alone)
    expected = [exchange(one_by_one, alone, [request])[0] for request in batch]
    session = open_session(key, mixed, window)
    assert exchange(session, mixed, batch, sizes, rotate=rotate) == expected


@patient
@given(st.none() | keys, objects(), st.lists(requests, max_size=80))
def test_windows_fit_the_buffers_of_dhcpd_in_both_directions(
    key: Key | None, held: list[Object], batch: list[Request]
) -> None:
    """Neither the requests nor the replies of a window fill a buffer, whatever dhcpd holds."""
    peer = Peer(key, held)
    exchange(open_session(key, peer), peer, batch)
    assert all(sent < DHCPD_BUFFER and received < DHCPD_BUFFER for sent, received in peer.windows)


@patient
@given(
    st.none() | keys,
    st.sampled_from(KINDS),
    st.sampled_from([0, 1, 40, 3476]),
    st.booleans(),
)
def test_worst_cases_fit_the_buffers_of_dhcpd(
    key: Key | None, kind: Kind, statements: int, is_full: bool
) -> None:
    """Every kind of request, sent for everything dhcpd holds or for what it has not, keeps to the window."""
    largest: list[Object] = []
    for mac, address in zip(MACS, ADDRESSES, strict=True):
        keys_of = {b"hardware-address": bytes(mac), b"ip-address": address.packed}
        filled = keys_of | {b"dhcp-client-identifier": b"c" * 255}
        largest.append((b"host", filled | {b"hardware-type": number(1), b"name": b"n" * 255}))
        largest.append((b"lease", filled | {b"client-hostname": b"h" * 255, b"agent.remote-id": b"r" * 2000}))
    peer = Peer(key, largest if is_full else [])
    batch = [kind(index, 10**18, "s" * statements) for index in range(len(ADDRESSES))]
    exchange(open_session(key, peer), peer, batch)
    assert all(sent < DHCPD_BUFFER and received < DHCPD_BUFFER for sent, received in peer.windows)


@patient
@given(keys, st.lists(st.sampled_from([find_host(MACS[0]), has_lease(MACS[0]), delete(1)]), max_size=200))
def test_windows_are_well_filled(key: Key, batch: list[Request]) -> None:
    """A batch is not one round trip per request: at least five fit into a window, whatever they are."""
    peer = Peer(key)
    exchange(open_session(key, peer), peer, batch)
    assert len(peer.windows) <= len(batch) / 5 + 1


@patient
@given(keys, st.binary(min_size=1, max_size=300), st.integers(0, 2), cuts)
def test_garbage_is_a_typed_error_or_the_wait_for_more(
    key: Key, garbage: bytes, stage: int, sizes: list[int]
) -> None:
    """Random bytes at any stage are never taken for an answer and never raise anything of another kind."""
    peer = Peer(key)
    session = Session("main", (key.name, Algorithm(key.algorithm), key.secret))
    if stage == 1:
        for reply in peer.answer(session.bytes_to_send()):
            session.feed(reply)
    elif stage == 2:
        session = open_session(key, peer)
        session.submit([find_host(MACS[0])])
        session.bytes_to_send()
    for piece in pieces(garbage, iter(sizes)):
        try:
            assert session.feed(piece) == []
        except (DhcpdUnavailable, DhcpdRefused):
            break


@patient
@given(keys, objects(), st.lists(requests, min_size=1, max_size=10), st.data())
def test_damaged_replies_are_never_believed(
    key: Key, held: list[Object], batch: list[Request], data: st.DataObject
) -> None:
    """One changed byte in a signed reply is an error or leaves it incomplete; it is never a wrong answer."""
    peer = Peer(key, held)
    session = open_session(key, peer)
    session.submit(batch)
    reply = bytearray(peer.answer(session.bytes_to_send())[0])
    reply[data.draw(st.integers(0, len(reply) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        assert session.feed(bytes(reply)) == []
    except (DhcpdUnavailable, DhcpdRefused):
        return
    assert not session.idle


@patient
@given(objects(), st.lists(requests, min_size=1, max_size=10), cuts, st.data())
def test_unsigned_replies_changed_anywhere_are_read_or_refused(
    held: list[Object], batch: list[Request], sizes: list[int], data: st.DataObject
) -> None:
    """Without a key anything may arrive: what is read is a host, a lease, or an error of ours."""
    peer = Peer(None, held)
    session = open_session(None, peer)
    session.submit(batch)
    left = bytearray(b"".join(peer.answer(session.bytes_to_send())))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(left)))
        left[at : at + data.draw(st.integers(0, 8))] = data.draw(st.binary(max_size=8))
    for piece in pieces(bytes(left), iter(sizes)):
        try:
            replies = session.feed(piece)
        except DhcpdUnavailable:
            return
        for _, reply in replies:
            for read in (host_in, lease_in):
                with suppress(DhcpdRefused):
                    read(reply)


@patient
@given(
    st.none() | keys, st.booleans(), st.integers(0, 0xFFFFFFFF), st.integers(0, 0xFFFF), st.integers(1, 9000)
)
def test_announced_lengths_are_not_believed(
    key: Key | None, is_value: bool, length: int, name: int, size: int
) -> None:
    """Whatever lengths a message announces, no more than one message's bytes are kept before it is refused."""
    session = open_session(key, Peer(key))
    header = struct.pack("!6I", 0, 0 if is_value else length, 3, 0, 0, 0)
    first = header + struct.pack("!H", name) + b"n" * name + struct.pack("!I", length)
    try:
        session.feed(first)
        for _ in range(200_000 // size):
            session.feed(b"\1" * size)
    except (DhcpdUnavailable, DhcpdRefused):
        return
    raise AssertionError("it takes bytes without end")


@patient
@given(keys, st.lists(st.integers(0, len(ADDRESSES) - 1), max_size=30))
def test_asking_for_a_lease_changes_nothing(key: Key, indices: list[int]) -> None:
    """The question whether there is a lease has three answers and no effect."""
    peer = Peer(key, [(b"lease", {b"ip-address": ADDRESSES[0].packed})])
    before = dict(peer.objects)
    replies = exchange(open_session(key, peer), peer, [has_lease(ADDRESSES[index]) for index in indices])
    assert [reply.result for reply in replies] == [NOT_IMPLEMENTED if index else EXISTS for index in indices]
    assert peer.objects == before


@patient
@given(keys, st.sets(one))
def test_deleted_hosts_are_not_found(key: Key, indices: set[int]) -> None:
    """What a look-up names can be deleted by its handle, once."""
    peer = Peer(key)
    session = open_session(key, peer)
    hosts = [Binding(binding_name(ADDRESSES[i], 1), MACS[i], ADDRESSES[i]) for i in sorted(indices)]
    exchange(session, peer, [create_host(host) for host in hosts])
    handles = [reply.handle for reply in exchange(session, peer, [find_host(host.mac) for host in hosts])]
    for result in (0, NOT_FOUND):
        deleted = exchange(session, peer, [delete(handle) for handle in handles])
        assert [reply.result for reply in deleted] == [result] * len(hosts)
    assert peer.objects == {}
