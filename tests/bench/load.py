"""DHCP while the writer keeps dhcpd as busy as it can."""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from bench.rows import TOLD, By, Result, Row, at_most
from bench.sites import open_farm
from labkit.farm import Farm
from labkit.net import Port

RATE, CLIENTS = 500, 1_000
_DROPS = re.compile(r"^drops: (\d+)", re.MULTILINE)
_DELAY = re.compile(r"^avg delay: ([\d.]+) ms", re.MULTILINE)
_RECEIVED = re.compile(r"^received packets: (\d+)", re.MULTILINE)


@dataclass(frozen=True)
class Service:
    """What a crowd of DHCP clients met: exchanges without an answer, and the milliseconds of a whole one."""

    drops: int
    delay_ms: float


def measure(*, quick: bool) -> Result:
    """500 exchanges per second of reserved machines, with an idle writer and with one that runs flat out."""
    rounds, seconds, batch = (2, 2, 500) if quick else (5, 5, 2_000)
    what = f"DHCP, {RATE} exchanges/s, the writer running flat out"
    drops = Row(f"{what}: unanswered", "the writer idle", "", at_most(0), by=By.OURS, pick=max)
    delay = Row(f"{what}: DISCOVER to ACK", "the writer idle", "ms", TOLD, by=By.EXCESS)
    with open_farm() as farm:
        port = farm.lab.port("machines")
        port.add_address("10.0.0.2/8")
        with farm.client(60) as client:
            first = min(client.allocate_group("farm", "reserved", CLIENTS), key=lambda one: one.address)
        for _ in range(rounds):
            idle = _ask(farm, port, str(first.mac), seconds)
            with _busy(farm, batch):
                loaded = _ask(farm, port, str(first.mac), seconds)
            for row, ours, base in (
                (drops, loaded.drops, idle.drops),
                (delay, loaded.delay_ms, idle.delay_ms),
            ):
                row.ours.append(ours)
                row.base.append(base)
    return Result([drops, delay])


def _ask(farm: Farm, port: Port, mac: str, seconds: int) -> Service:
    # It waits a second for late answers, so that what was on its way at the end does not count as lost.
    command = ["perfdhcp", "-4", "-r", str(RATE), "-p", str(seconds), "-R", str(CLIENTS), "-b", f"mac={mac}"]
    command += ["-W", "1000000", "-l", port.interface, str(farm.lab.addresses[0].ip)]
    done = farm.lab.run(command, port, deadline_s=seconds + 30, check=False)
    received = [int(number) for number in _RECEIVED.findall(done.stdout)]
    assert len(received) == 2, done.stdout + done.stderr  # OFFERs and ACKs
    assert min(received) >= RATE * seconds / 2, done.stdout
    drops, delays = _DROPS.findall(done.stdout), _DELAY.findall(done.stdout)
    assert len(drops) == len(delays) == 2, done.stdout
    return Service(sum(map(int, drops)), sum(map(float, delays)))


@contextmanager
def _busy(farm: Farm, batch: int) -> Iterator[None]:
    """Inside, a group is allocated and released again and again."""
    enough, errors, rounds = threading.Event(), list[Exception](), list[int]()

    def work() -> None:
        try:
            with farm.client(60) as client:
                while not enough.is_set():
                    client.allocate_group("farm", "crowd", batch)
                    client.release_group("crowd")
                    rounds.append(batch)
        except Exception as error:  # noqa: BLE001  # handed over to the caller's thread
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        enough.set()
        thread.join()
    assert rounds, errors
    if errors:
        raise errors[0]
