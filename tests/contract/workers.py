"""Processes of the contract suite: holders of locks, rivals for leadership, users of one registry."""

from __future__ import annotations

import multiprocessing
import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from typing import Any

from contract.book import Book, make_pool
from macbind.core.errors import RegistryUnavailable, RequestError
from macbind.core.pool import Pool
from macbind.registry.allocate import Wanted, allocate
from macbind.registry.database import open_engine
from macbind.registry.leader import leader_for
from macbind.registry.pending_changes import confirm, doubt, pending_changes
from macbind.registry.release import expire, release
from macbind.registry.reserve import reserve
from macbind.registry.resting import sweep
from macbind.registry.store import Registry
from macbind.registry.transaction import Transaction

_CONTEXT = multiprocessing.get_context("forkserver")
# By name, because the server does not know our path; it must not import anew for every process.
_CONTEXT.set_forkserver_preload(
    [__name__, "macbind.registry.store", "psycopg", "sqlalchemy.dialects.postgresql"]
)

DHCPDS = ("d1", "d2")


@contextmanager
def process(work: Callable[..., None], *args: Any) -> Iterator[tuple[ForkServerProcess, Connection]]:
    """A process that runs ``work(pipe, *args)``, and our end of its pipe; it is gone afterwards."""
    ours, theirs = _CONTEXT.Pipe()
    running = _CONTEXT.Process(target=work, args=(theirs, *args), daemon=True)
    running.start()
    theirs.close()
    try:
        yield running, ours
    finally:
        running.kill()
        running.join()
        ours.close()


def say(pipe: Connection, deadline_s: float = 120) -> Any:
    """What the process says next."""
    assert pipe.poll(deadline_s), "the process says nothing"
    return pipe.recv()


# -- work ----------------------------------------------------------------------------------------------


def hold_write_lock(pipe: Connection, url: str) -> None:
    """Opens a transaction that changes things and never ends it."""
    with open_engine(url).begin():
        pipe.send("held")
        pipe.poll(None)


def lead(pipe: Connection, url: str, number: int) -> None:
    """Wants to lead, says ``leads`` when it does, and ``lost`` when it finds that it no longer does."""
    leader = leader_for(url, number)
    while not leader.acquire():
        pipe.poll(0.05)
    pipe.send("leads")
    try:
        while not pipe.poll(0.05):
            leader.check()
    except RegistryUnavailable:
        pipe.send("lost")
    pipe.poll(None)


def open_registry(pipe: Connection, url: str) -> None:
    """Opens a registry at a word, and says how that went."""
    pipe.send("ready")
    pipe.recv()
    book = Book(url)
    try:
        book.open(*stress_pools(), busy_timeout_s=60)
    except Exception as error:  # noqa: BLE001  # the test shows it
        pipe.send(repr(error))
    else:
        pipe.send(str(book.one(f"of-{os.getpid()}", pool="a").address))


def stress_pools() -> list[Pool]:
    """Two small pools that are often full: one rests its addresses, one is served by two dhcpds."""
    return [
        make_pool("a", subnet="10.1.1.0/26", cooldown_s=0.2, dhcpds=("d1",)),
        make_pool("b", subnet="10.2.0.0/26", prefix="52:54:00", ranges=["10.2.0.8-10.2.0.47"], dhcpds=DHCPDS),
    ]


def use(pipe: Connection, url: str, seed: int) -> None:
    """Does random things to a registry until it is killed or told to stop; errors of ours end it."""
    rng = random.Random(seed)
    pools = {pool.name: pool for pool in stress_pools()}
    registry = Registry.open(url, pools, DHCPDS, busy_timeout_s=60)  # eight on one core: SQLite queues nobody
    pipe.send("open")
    steps = [_allocate, _allocate, _claim, _pin, _release, _release, _release_group, _expire, _doubt]
    while not pipe.poll(0):
        if rng.random() < 0.4:
            _confirm(registry, rng)
            continue
        try:
            with registry.write(f"seed {seed}") as txn:
                for _ in range(rng.choice([1, 1, 1, 4])):  # several, in any order of pools, as a batch does
                    rng.choice(steps)(txn, rng)
        except RequestError:
            pass
    registry.close()
    pipe.send("stopped")


def _name(rng: random.Random) -> str:
    return f"m{rng.randrange(150)}"


def _allocate(txn: Transaction, rng: random.Random) -> None:
    pool, count = rng.choice("ab"), rng.choice([1, 1, 1, 2, 5])
    if count == 1:
        allocate(txn, Wanted(pool, (_name(rng),)))
    else:
        group = f"g{rng.randrange(20)}"
        allocate(
            txn, Wanted(pool, tuple(f"{group}-{n}" for n in range(count)), group=group, whole_group=True)
        )


def _claim(txn: Transaction, rng: random.Random) -> None:
    pool = rng.choice("ab")
    ranges = txn.pools[pool].plan.assignable
    address = IPv4Address(rng.randint(int(ranges[0].lo), int(ranges[-1].hi)))
    allocate(txn, Wanted(pool, (_name(rng),), address=address))


def _pin(txn: Transaction, rng: random.Random) -> None:
    name, address = f"p{rng.randrange(6)}", IPv4Address("10.2.0.1") + rng.randrange(60)
    if rng.random() < 0.5:
        reserve(txn, name, address)
    else:
        release(txn, name=name, pinned=True)


def _release(txn: Transaction, rng: random.Random) -> None:
    release(txn, name=_name(rng))


def _release_group(txn: Transaction, rng: random.Random) -> None:
    release(txn, group=f"g{rng.randrange(20)}")


def _expire(txn: Transaction, rng: random.Random) -> None:
    expire(txn)
    for pool in txn.pools.values():
        sweep(txn, pool, rng.choice([1, 100]))


def _doubt(txn: Transaction, rng: random.Random) -> None:
    doubt(txn, rng.choice(DHCPDS), [IPv4Address("10.2.0.8") + rng.randrange(40)])


def _confirm(registry: Registry, rng: random.Random) -> None:
    name = rng.choice(DHCPDS)
    with registry.read() as view:
        looked = pending_changes(view, name, rng.choice([1, 10, 100]))
    with registry.write("writer") as txn:
        confirm(txn, name, looked)
