"""A farm with an hour behind it: a /8, a /16 where specks come and go, and a /24 of desktops. All of it is served."""

from __future__ import annotations

import random
import sqlite3
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from labkit.farm import Farm
from labkit.net import Lab
from labkit.wait import until
from macbind.client.client import Client

URL = "http://127.0.0.1:8067/"
ADDRESSES = ("10.0.0.1/8", "172.16.0.1/16", "192.168.7.1/24")
POOLS = """
[page]
listen = "127.0.0.1:8067"

[subnet."10.0.0.0/8"]
gateway = "x.x.0.1"

[subnet."172.16.0.0/16"]
routers = ["172.16.0.1"]

[subnet."192.168.7.0/24"]
routers = ["192.168.7.1"]

[pool.ci]
subnet = "172.16.0.0/16"
exclude = ["172.16.255.0/24"]
mac_prefix = "52:54:00"

[pool.cloud]
subnet = "10.0.0.0/8"

[pool.desktops]
subnet = "192.168.7.0/24"
ranges = ["192.168.7.10-192.168.7.249"]
mac_prefix = "02:00"
cooldown_s = 3600
"""
LEASES = """\
host printer-2 {
  dynamic;
  hardware ethernet 00:1b:a9:12:34:56;
  fixed-address 172.16.0.60;
}
host build-master {
  dynamic;
  hardware ethernet 00:25:90:aa:01:07;
  fixed-address 172.16.12.4;
}
"""


@contextmanager
def demo_farm(place: Path, lab: Lab) -> Iterator[Farm]:
    """The farm, filled; it serves inside."""
    farm = Farm(lab, place, pools=POOLS, deadline_s=120)
    farm.leases.write_text(LEASES)
    with ExitStack() as parts:
        parts.enter_context(farm)
        with farm.client(300) as client:
            _fill(client, random.Random(7))
        farm.stop()
        _spread(place / "registry.db")
        farm.start()
        farm.wait_serving(120)
        with farm.client(60) as client:
            _live(client)
        yield farm


def _fill(client: Client, chance: random.Random) -> None:
    """Machines as they come: specks of a few to some hundred, of which many have ended."""
    specks = [(f"speck-{number}", chance.choice((8, 24, 60, 250, 400))) for number in range(4400, 4560)]
    for number, (name, count) in enumerate(specks):
        client.allocate_group("ci", name, count, labels={"job": str(52_000 + 7 * number)})
        if number > 20 and chance.random() < 0.5:
            gone, _ = specks[chance.randrange(number - 15)]
            client.release_group(gone)
        if number < 70:
            client.allocate("desktops", f"desk-{number:03}", group="third-floor" if number % 3 else "lobby")
        if number > 40 and number % 9 == 0:
            client.release(f"desk-{number - 40:03}")
        if number % 12 == 0:
            client.allocate_group("cloud", f"tenant-{number // 12}", chance.choice((40, 150, 400)))
        if number % 4 == 0:
            octets = chance.randrange(1, 250), chance.randrange(256), chance.randrange(10, 250)
            client.reserve(f"edge-{number // 4}", f"10.{octets[0]}.{octets[1]}.{octets[2]}")
    for name, _ in chance.sample(specks, 30):
        client.release_group(name)
    for number in range(24):
        client.reserve(f"runner-{number}", f"172.16.{90 + chance.randrange(60)}.{chance.randrange(1, 250)}")
    client.reserve("scanner", "192.168.7.240", mac="00:80:77:31:4a:90")


def _spread(registry: Path) -> None:
    """Lets what has just been done have happened over the last hour."""
    now = time.time()
    with closing(sqlite3.connect(registry)) as db, db:
        (last,) = db.execute("SELECT max(id) FROM audit").fetchone()
        db.execute(
            "UPDATE audit SET at = ? - 3400.0 * (1 - id * 1.0 / ?), actor = 'farm (uid 998, pid 2231)'",
            (now, last),
        )
        db.execute(
            "UPDATE allocation SET created_at = coalesce((SELECT max(at) FROM audit WHERE audit.ip = allocation.ip "
            "AND audit.gen = allocation.gen), created_at)"
        )  # fmt: skip


def _live(client: Client) -> None:
    """The last moments, so that there is something to measure."""
    for number in range(30):
        name = f"smoke-{number}"
        client.allocate("ci", name)
        client.release(name)
    until(lambda: all(one.releasing == 0 for one in client.pools() if one.pool == "ci"), 60, "all releases")
