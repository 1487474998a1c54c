"""Programs that fork and thread while they use a client: each process gets what it asked for, and nothing else."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from labkit.farm import POOLS as FARM_POOLS
from labkit.farm import Farm

POOLS = FARM_POOLS

FORKS = """
import os, sys
from macbind import Client
client = Client(sys.argv[1], timeout_s=60)
client.get(client.allocate("farm", "forked-base").name)
for turn in range(30):
    child = os.fork()
    me = f"forked-{turn}-{'kid' if child == 0 else 'par'}"
    got = client.allocate("farm", me)
    right = (got.name, client.get(me).address) == (me, got.address) and client.release(me, generation=got.generation)
    if child == 0:
        os._exit(0 if right else 1)
    assert right and os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""
THREADS = """
import os, sys, threading
from macbind import Client
client = Client(sys.argv[1], timeout_s=60)

def work(who):
    for turn in range(10):
        me = f"{who}-{turn}"
        got = client.allocate("farm", me)
        if (got.name, client.get(me).address) != (me, got.address):
            os._exit(1)
        client.release(me, generation=got.generation)

def crowd(who):
    threads = [threading.Thread(target=work, args=(f"{who}-{number}",)) for number in range(4)]
    for one in threads:
        one.start()
    return threads

threads = crowd("threaded-par")
children = []
for number in range(3):                 # while the threads have connections in use
    child = os.fork()
    if child == 0:
        for one in crowd(f"threaded-kid{number}"):
            one.join()
        os._exit(0)
    children.append(child)
for one in threads:
    one.join()
for child in children:
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""
SERVER = """
import multiprocessing, sys
from macbind import Client

def work(client, me):
    assert client.allocate("farm", me).name == me
    client.release(me)

if __name__ == "__main__":
    client = Client(sys.argv[1], timeout_s=60)
    client.pools()
    for method in ("forkserver", "spawn", "fork"):
        context = multiprocessing.get_context(method)
        workers = [context.Process(target=work, args=(client, f"{method}-{number}")) for number in range(3)]
        for one in workers:
            one.start()
        for one in workers:
            one.join()
            assert one.exitcode == 0
"""


@pytest.mark.parametrize("program", [FORKS, THREADS, SERVER], ids=["fork", "fork with threads", "forkserver"])
def test_each_process_gets_what_it_asked_for(farm: Farm, tmp_path: Path, program: str) -> None:
    """A client that was used before the fork gives each side its own machine's address, and nothing is left over."""
    script = tmp_path / "program.py"
    script.write_text(program)
    done = subprocess.run(
        [sys.executable, str(script), str(farm.socket)],
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    left = {one["name"] for one in farm.macbind_json("list")}
    assert left <= {"forked-base"}, json.dumps(sorted(left))


def test_restart_between_two_calls_is_not_noticed(farm: Farm) -> None:
    """A kept connection that the service closed as it ended is replaced, for changes, too."""
    with farm.client() as client:
        made = client.allocate("farm", "restarted")
        farm.stop()
        farm.start()
        farm.wait_serving()
        assert [one.name for one in client.release("restarted").allocations] == ["restarted"]
        assert client.release(address=made.address).already_gone
