"""A lease file of tens of megabytes: it is read, and nobody waits for it."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.conftest import open_directory
from labkit.farm import Farm
from labkit.net import Lab
from labkit.wait import until

PAIRS, LEASES = 150_000, 100_000


@pytest.fixture
def place() -> Iterator[Path]:
    """Where the farm of this test keeps its files."""
    with open_directory() as place:
        yield place


def write_history(path: Path) -> None:
    """A day of a busy farm between two rewrites: hosts made and deleted, leases of a dynamic range, one printer."""
    with path.open("w") as file:
        for number in range(PAIRS):
            name = f"macbind-10.1.{number >> 8 & 255}.{number & 255}-g{number + 1}"
            mac = f"00:16:3e:01:{number >> 8 & 255:02x}:{number & 255:02x}"
            file.write(
                f"host {name} {{\n  dynamic;\n  hardware ethernet {mac};\n  fixed-address 10.1.1.1;\n}}\n"
            )
            file.write(f"host {name} {{\n  dynamic;\n  deleted;\n}}\n")
        for number in range(LEASES):
            file.write(
                f"lease 10.9.{number >> 8 & 255}.{number & 255} {{\n  starts 4 2026/04/30 12:00:00;\n"
                "  ends 4 2036/04/30 12:00:00;\n  tstp 4 2036/04/30 12:00:00;\n  cltt 4 2026/04/30 12:00:00;\n"
                "  binding state active;\n  next binding state free;\n  rewind binding state free;\n"
                f"  hardware ethernet 00:11:22:33:{number >> 8 & 255:02x}:{number & 255:02x};\n"
                '  uid "\\001\\000\\021\\"3DU";\n  client-hostname "machine";\n}\n'
            )
        file.write(
            "host printer {\n  dynamic;\n  hardware ethernet 00:11:22:33:44:55;\n  fixed-address 10.1.1.9;\n}\n"
        )


def resident_mib(pid: int) -> float:
    """What a process has of the memory."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def test_a_large_lease_file_keeps_nobody_waiting(lab: Lab, place: Path) -> None:
    """While 60 MB are read no allocation waits for it, and the service has little more memory than before."""
    with Farm(lab, place) as farm, farm.client() as client:
        took_s: list[float] = []

        client.allocate("farm", "first")
        before_mib = resident_mib(farm.pid)
        large = place / "large.leases"
        write_history(large)
        compared = client.status().dhcpds[0].compared_at
        farm.leases = large
        reading_since = time.monotonic()
        farm.reload(dhcpd="probe_interval_s = 2\n")
        farm.wait_loaded(1)
        most_mib = 0.0
        while client.status().dhcpds[0].compared_at in (None, compared):
            began = time.monotonic()
            client.allocate("farm", "vm")
            took_s.append(time.monotonic() - began)
            client.release("vm")
            most_mib = max(most_mib, resident_mib(farm.pid))
        reading_s = time.monotonic() - reading_since
        until(lambda: "foreign_host" in farm.findings(), 60, "the printer to be found")
        assert len(took_s) > 20
        assert max(took_s) < reading_s / 3, "it waited for the file"
        assert most_mib - before_mib < 64
