"""Who is connected to a port, out of the kernel's table of connections."""

import os
import socket

from macbind.dhcp.isc.omapi_clients import Connection, describe, established, intruders, read_connections

TABLE = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:1EE7 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 10 1 0 100 0 0 10 0
   1: 0100007F:1EE7 0100007F:9C40 01 00000000:00000000 00:00000000 00000000     0        0 11 1 0 20 4 30 10 -1
   2: 0100007F:9C40 0100007F:1EE7 01 00000000:00000000 00:00000000 00000000   115        0 12 1 0 20 4 30 10 -1
   3: 0100007F:1EE7 0100007F:9C42 01 00000000:00000000 00:00000000 00000000     0        0 13 1 0 20 4 30 10 -1
   4: 0100007F:9C42 0100007F:1EE7 01 00000000:00000000 00:00000000 00000000  4242        0 14 1 0 20 4 30 10 -1
   5: 0100000A:1EE7 0700000A:ABCD 01 00000000:00000000 00:00000000 00000000     0        0 15 1 0 20 4 30 10 -1
   6: 0100007F:1EE7 0100007F:9C44 08 00000000:00000000 00:00000000 00000000     0        0 16 1 0 20 4 30 10 -1
"""


def test_others_are_told_from_ourselves() -> None:
    """Our own connection, one that is closing and the listening socket are nobody else; users are named by number."""
    assert intruders(established(TABLE), 7911, [0x9C40]) == [
        Connection(7911, "10.0.0.7", 0xABCD, -1),
        Connection(7911, "127.0.0.1", 0x9C42, 4242),
    ]


def test_description_names_the_user_where_there_is_one() -> None:
    """A user by name, an unknown one by number, one of another machine not at all."""
    assert describe(Connection(7911, "127.0.0.1", 5, 0)) == "A program of root (127.0.0.1 port 5)"
    assert describe(Connection(7911, "127.0.0.1", 5, 4_000_000)).startswith("A program of uid 4000000")
    assert describe(Connection(7911, "10.0.0.7", 5, -1)) == "10.0.0.7 port 5"


def test_connection_over_mapped_ipv6_is_the_same_connection() -> None:
    """A server that listens on IPv6 shows IPv4 clients as mapped addresses; others stay as they are."""
    table = """\
  sl  local_address                         remote_address                        st tx rx tr uid  timeout inode
   0: 0000000000000000FFFF00000100007F:1EE7 0000000000000000FFFF00000100007F:9C40 01 0:0 00:0 0 0 0 11
   1: 00000000000000000000000001000000:1EE7 00000000000000000000000001000000:9C42 01 0:0 00:0 0 0 0 12
"""
    assert [(one.peer, one.peer_port) for one in established(table)] == [
        ("127.0.0.1", 0x9C40),
        ("::1", 0x9C42),
    ]


def test_real_connections_are_read() -> None:
    """The kernel's own table shows a connection that we make, with our user."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client, server.accept()[0]:
            own = client.getsockname()[1]
            assert intruders(read_connections(), port, [own]) == []
            assert intruders(read_connections(), port, []) == [
                Connection(port, "127.0.0.1", own, os.geteuid())
            ]
