"""Who may do what: the kernel's word about the caller against the configuration's lists."""

import grp
import json
import pwd
import subprocess
import sys
from collections.abc import Callable

import pytest

from labkit.farm import Farm
from labkit.users import as_user

POOLS = """
[subnet."10.0.0.0/8"]
routers = ["10.0.0.1"]

[pool.farm]
subnet = "10.0.0.0/8"
ranges = ["10.1.1.3-10.1.1.250"]
"""
OPEN = 'socket_mode = "0666"\n'
MakeFarm = Callable[..., Farm]


ASK = """
import json, sys
from macbind import Client, MacbindError
socket, calls = json.loads(sys.argv[1])
with Client(socket) as client:
    for method, *arguments in calls:
        try:
            result = getattr(client, method)(*arguments)
            print(json.dumps([list(result) if method == "list" else "", "done"], default=str))
        except MacbindError as error:
            print(json.dumps([str(error), error.code]))
"""
READ: list[list[str]] = [["list"], ["pools"], ["status"], ["history"], ["get", "of-root"]]
CHANGE: list[list[str]] = [
    ["allocate", "farm", "n"],
    ["allocate_group", "farm", "g", "1"],
    ["release", "of-root"],
    ["release_group", "g"],
    ["reserve", "n", "10.0.0.9"],
    ["unreserve", "of-root"],
]


def ask(farm: Farm, user: str, calls: list[list[str]]) -> list[tuple[str, str]]:
    """What becomes of calls to the Python API by a process of this user: words and code of each."""
    done = subprocess.run(
        [*as_user(user, sys.executable, "-c", ASK), json.dumps([str(farm.socket), calls])],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [tuple(json.loads(line)) for line in done.stdout.splitlines()]


def test_users_do_what_the_lists_say(make_farm: MakeFarm) -> None:
    """A user, a user's primary group and a group's member may change; readers may read; others may nothing."""
    member = next((group for group in grp.getgrall() if group.gr_mem), None)
    listed = ["www-data", "@games"] + ([f"@{member.gr_name}"] if member else [])
    service = f'{OPEN}may_change = {json.dumps(listed)}\nmay_read = ["daemon"]\n'
    farm = make_farm(pools=POOLS, service=service)
    may_change = ["root", "www-data", "games"] + ([member.gr_mem[0]] if member else [])
    for user in may_change:
        asked = ask(farm, user, [["allocate", "farm", f"of-{user}"], *READ])
        assert {code for _, code in asked} == {"done"}, asked
    for user, may_read in (("daemon", True), ("nobody", False)):
        reads, changes = ask(farm, user, READ), ask(farm, user, CHANGE)
        assert {code for _, code in reads} == {"done" if may_read else "not_permitted"}
        assert {code for _, code in changes} == {"not_permitted"}
        caller = f"{user} (uid {pwd.getpwnam(user).pw_uid}, pid "
        refusals = [*changes] if may_read else [*reads, *changes]
        assert all(words.startswith(caller) for words, _ in refusals)
        assert all(
            "may not change allocations. Add the user or one of its @groups to may_change" in words
            for words, _ in changes
        )
        if not may_read:
            assert all(
                "may not read allocations. Add the user or one of its @groups to may_read" in words
                for words, _ in reads
            )
    with farm.client() as client:
        assert [one.name for one in client.list(released=True)] == [f"of-{user}" for user in may_change]
        actors = {entry.name: entry.actor for entry in client.history()}
    assert actors["of-www-data"].startswith(f"www-data (uid {pwd.getpwnam('www-data').pw_uid}, pid ")


def test_everybody_may_read_and_nobody_else_change_by_default(make_farm: MakeFarm) -> None:
    """Without lists root changes and all who can connect may read; the command line says so with exit status 6."""
    farm = make_farm(pools=POOLS, service=OPEN)
    farm.macbind("allocate", "farm", "of-root")
    assert {code for _, code in ask(farm, "nobody", READ)} == {"done"}
    assert {code for _, code in ask(farm, "nobody", CHANGE)} == {"not_permitted"}
    refused = farm.run("release", "of-root", "--json", user="nobody")
    assert refused.returncode == 6
    assert json.loads(refused.stdout)["error"]["code"] == "not_permitted"
    assert "macbind: nobody (uid 65534, pid " in refused.stderr
    with farm.client() as client:
        assert [one.name for one in client.list(released=True)] == ["of-root"]


def test_socket_that_may_not_be_opened_says_whose_fault_it_is(make_farm: MakeFarm) -> None:
    """A user outside the socket's group is told so by exit status 6, with the way in; the mode is as configured."""
    farm = make_farm(pools=POOLS, service='socket_mode = "0660"\nsocket_group = "games"\n')
    status = farm.socket.stat()
    assert (status.st_mode & 0o7777, status.st_gid) == (0o660, grp.getgrnam("games").gr_gid)
    done = farm.run("list", "--json", user="nobody")
    assert done.returncode == 6
    assert json.loads(done.stdout)["error"]["code"] == "not_permitted"
    assert f"may not connect to the macbind service at {farm.socket}" in done.stderr
    assert "Join the socket's group" in done.stderr
    assert farm.run("list", user="games").returncode == 0


FORGER = """
import sys, httpx
with httpx.Client(transport=httpx.HTTPTransport(uds=sys.argv[1], verify=False), base_url="http://x") as http:
    for value in ("0:0", "[0:0]:1", "0:0, 0:0", "127.0.0.1"):
        headers = {name: value for name in ("X-Forwarded-For", "Forwarded", "X-Real-IP")}
        answer = http.post("/v1/allocations", json={"pool": "farm", "name": "forged"}, headers=headers)
        print(answer.status_code)
"""


def test_header_cannot_replace_the_kernels_word(make_farm: MakeFarm, monkeypatch: pytest.MonkeyPatch) -> None:
    """Headers of a proxy change nothing about who is calling, even where the environment trusts proxies."""
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "*")
    farm = make_farm(pools=POOLS, service=OPEN)
    done = subprocess.run(
        [*as_user("nobody", sys.executable, "-c", FORGER), str(farm.socket)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.split() == ["403"] * 4
    with farm.client() as client:
        assert list(client.list(released=True)) == []


def test_service_that_may_not_make_its_socket_exits_with_3(make_farm: MakeFarm) -> None:
    """An ordinary user who starts the service is told what is not writable, without a traceback."""
    farm = make_farm(pools=POOLS)
    closed = farm.directory / "closed"
    closed.mkdir(mode=0o700)
    for place in (f"{closed}/run/macbind.sock", f"{farm.directory}/other.sock"):
        config = farm.directory / "other.toml"
        config.write_text(farm.config.read_text().replace(str(farm.socket), place))
        config.chmod(0o644)
        done = farm.run("serve", "--config", str(config), user="nobody")
        assert done.returncode == 3, done.stderr
        assert done.stderr.startswith(f"macbind: The socket {place} cannot be made: ")
        assert "Traceback" not in done.stderr
