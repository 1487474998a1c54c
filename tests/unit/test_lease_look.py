"""Reading a lease file in pieces, a file that nobody should have put there, and searching for a client's leases."""

import os
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from macbind.core.mac_address import MacAddress
from macbind.dhcp.isc import files
from macbind.dhcp.isc.files import how_to_read, open_ordinary
from macbind.dhcp.isc.lease_file import MAX_RECORD_BYTES, LeaseFile, LeaseReader, parse
from macbind.dhcp.isc.lease_look import leases_of, read_lease_file
from unit.test_leases import REAL_FILE

MAC = MacAddress.parse("00:16:3e:00:00:99")


def everything(_: IPv4Address) -> bool:
    """Keeps all leases."""
    return True


def in_pieces(data: bytes, size: int) -> LeaseFile:
    """What a reader makes of it, fed with pieces of this size."""
    reader = LeaseReader()
    for start in range(0, len(data), size):
        reader.feed(data[start : start + size])
    return reader.finish()


@pytest.mark.parametrize("size", [1, 2, 7, 64, 333, 4096])
@pytest.mark.parametrize("damage", [b"", b"host torn {\n  dyn", b"garbage\nhost x {\n  dynamic;\n}\n\n\n"])
def test_pieces_of_any_size_say_the_same(size: int, damage: bytes) -> None:
    """Records, damage and its lines are those of the whole file."""
    whole = damage + REAL_FILE + damage
    assert in_pieces(whole, size) == parse(whole)


def test_record_without_end_fills_no_memory() -> None:
    """Of a record that never ends only a part is kept; what follows it is read."""
    reader = LeaseReader()
    for _ in range(40):
        reader.feed(b"  x" * (MAX_RECORD_BYTES // 30))
        assert len(reader._data) < 2 * MAX_RECORD_BYTES  # the memory is the behaviour
    reader.feed(b"\n" + REAL_FILE)
    read = reader.finish()
    assert read.hosts == parse(REAL_FILE).hosts
    assert "too long" in read.problems[0].text


def test_only_the_leases_of_interest_are_kept() -> None:
    """The leases of a large range elsewhere cost no memory."""
    reader = LeaseReader(lambda address: address == IPv4Address("10.1.1.1"))
    reader.feed(REAL_FILE)
    assert dict(reader.finish().leases) == {}


def test_others_go_on_between_two_pieces(tmp_path: Path) -> None:
    """A large file is read with many pauses, and given up when there is a reason."""
    path = tmp_path / "leases"
    path.write_bytes(REAL_FILE * 400)
    pauses: list[float] = []
    read = read_lease_file(path, everything, pauses.append)
    assert read is not None
    assert read.hosts == parse(REAL_FILE).hosts
    assert len(pauses) > path.stat().st_size // files.PIECE_BYTES
    assert read_lease_file(path, everything, lambda _: True) is None


def test_tail_that_is_being_written_is_waited_for(tmp_path: Path) -> None:
    """A torn last record is read on when dhcpd has written the rest; after some looks it is damage."""
    path = tmp_path / "leases"
    path.write_bytes(b"host a {\n  dynamic;\n")
    read = read_lease_file(path, everything, lambda _: None)
    assert read is not None
    assert not read.complete

    def write_on(_: float) -> None:
        path.write_bytes(b"host a {\n  dynamic;\n}\n")

    read = read_lease_file(path, everything, write_on)
    assert read is not None
    assert read.complete
    assert set(read.hosts) == {"a"}


def test_leases_of_a_client_are_found_beyond_a_piece(tmp_path: Path) -> None:
    """Each address is told once, however far apart its records are."""
    record = 'lease 10.9.0.{} {{\n  starts 1 2026/11/23 08:00:00;\n  hardware ethernet {};\n  uid "x";\n}}\n'
    ours = "".join(record.format(number, MAC) for number in (3, 4, 3))
    other = record.format(7, "00:16:3e:00:00:98")
    path = tmp_path / "leases"
    path.write_text(other * 20_000 + ours + other * 20_000 + ours)
    assert [str(address) for _, address in leases_of(path, [MAC])] == ["10.9.0.3", "10.9.0.4"]


def test_what_is_no_ordinary_file_hangs_nobody(tmp_path: Path) -> None:
    """A pipe, a device and a directory are refused at once; so is a link to one, and a file beyond any size."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/dev/zero")
    with (tmp_path / "huge").open("wb") as huge:
        huge.truncate(files.MAX_BYTES + 1)
    for name in ("pipe", "link", "huge", "."):
        with pytest.raises(OSError, match=r"ordinary|too large"):
            open_ordinary(tmp_path / name)


def test_the_way_to_read_a_file_is_told(tmp_path: Path) -> None:
    """The hint names what is in the way: the kind of the file."""
    os.mkfifo(tmp_path / "pipe")
    assert "ordinary file" in how_to_read(tmp_path / "pipe")
    assert "not a directory" in how_to_read(tmp_path)
