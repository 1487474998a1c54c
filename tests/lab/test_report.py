"""`macbind report`: what is in it, and that no secret is, with the service and without it."""

import base64
import json
import stat
import tarfile
from pathlib import Path

import pytest

from labkit.farm import Farm
from macbind.dhcp.isc.key import read_key


def members(path: Path) -> dict[str, bytes]:
    """The files of a report."""
    with tarfile.open(path) as archive:
        found = {}
        for one in archive.getmembers():
            content = archive.extractfile(one)
            assert content is not None
            assert stat.S_IMODE(one.mode) == 0o600
            found[one.name.removeprefix("macbind-report/")] = content.read()
        return found


def spellings(raw: bytes) -> list[bytes]:
    """How a secret may be written."""
    text = base64.b64encode(raw)
    return [
        raw,
        text,
        text.rstrip(b"="),
        base64.urlsafe_b64encode(raw),
        raw.hex().encode(),
        raw.hex().upper().encode(),
        raw.hex(":").encode(),
        repr(raw)[2:-1].encode(),
    ]


@pytest.fixture
def leaky(tmp_path: Path) -> Path:
    """A log into which somebody has written secrets; the key is added by the test."""
    path = tmp_path / "leaky.log"
    path.write_text(
        "an ordinary line\nconnecting to postgresql://macbind:hunter2@db/macbind\n"
        '{"authorization": "Bearer tok.en.42", "password": "hunter3"}\n'
    )
    return path


def test_a_report_has_everything_and_no_secret(farm: Farm, leaky: Path, tmp_path: Path) -> None:
    """Not in logs, not in configurations, in no spelling; nobody else may read it, and nothing is overwritten."""
    key = read_key(farm.directory / "macbind.key", "macbind")
    with leaky.open("ab") as log:
        for one in spellings(key.secret):
            log.write(b"before " + one + b" behind\n")
    farm.macbind("allocate", "farm", "build-7", "--reason", "a test")
    target = tmp_path / "report.tar.gz"
    said = farm.macbind(
        "report", str(target), "--yes", "--log", str(leaky), "--log", str(farm.dhcpd.log_file)
    )
    assert said.splitlines()[0].split() == ["FILE", "BYTES"]
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    found = members(target)
    assert {
        "macbind.toml",
        "versions.json",
        "dhcpd/main/macbind.conf",
        "logs/macbind.log",
        "logs/dhcpd-main.log",
        "logs/1-leaky.log",
        "files.json",
        "status.json",
        "pools.json",
        "renumberings.json",
        "history.json",
    } <= found.keys()
    assert all(name in said for name in found)
    whole = b"\0".join(found.values())
    for secret in (*spellings(key.secret), b"hunter2", b"hunter3", b"tok.en.42"):
        assert secret not in whole, secret
    assert found["logs/1-leaky.log"].startswith(b"an ordinary line\n")
    assert found["logs/1-leaky.log"].count(b"before <removed> behind") == len(spellings(key.secret))
    assert b"dhcpd" in found["logs/2-dhcpd.log"]
    assert json.loads(found["status.json"])["dhcpds"][0]["name"] == "main"
    assert json.loads(found["history.json"])[0]["detail"]["reason"] == "a test"
    assert json.loads(found["versions.json"])["dhcpd"].startswith("isc-dhcpd")
    assert next(one["bytes"] > 0 for one in json.loads(found["files.json"]) if "bytes" in one)

    done = farm.run("report", str(target), "--yes")
    assert (done.returncode, done.stderr.splitlines()[0]) == (4, f"macbind: {target} exists already.")
    done = farm.run("report", str(tmp_path / "other.tar.gz"))
    assert done.returncode == 4
    assert not (tmp_path / "other.tar.gz").exists()
    assert farm.run("report", str(tmp_path / "no" / "report.tar.gz"), "--yes").returncode == 4
    done = farm.run("report", str(tmp_path / "third.tar.gz"), "--yes", "--json")
    assert json.loads(done.stdout)["parts"][0]["name"] == "macbind.toml"
    farm.macbind("release", "build-7")


def test_a_report_of_a_service_that_does_not_run(farm: Farm, tmp_path: Path) -> None:
    """It has the audit log from the registry, says that nobody answers, and tells what is wrong with the file."""
    farm.macbind("allocate", "farm", "build-8")
    assert farm.stop() == 0
    farm.macbind("report", str(tmp_path / "down.tar.gz"), "--yes")
    found = members(tmp_path / "down.tar.gz")
    assert b"cannot be reached" in found["status.json.problem"]
    assert json.loads(found["history.json"])[0]["name"] == "build-8"

    right = farm.config.read_text()
    broken = (
        right + '\n[pool.bad]\nsubnet = "nonsense"\n[hypervisor.x]\nuri = "qemu+tcp://me:hunter4@h/system"\n'
    )
    farm.config.write_text(broken)
    farm.macbind("report", str(tmp_path / "broken.tar.gz"), "--yes")
    found = members(tmp_path / "broken.tar.gz")
    assert b"nonsense" in found["configuration-problem.txt"]
    assert b"hunter4" not in b"".join(found.values())
    farm.config.write_text(right)
    farm.start()
    farm.wait_serving()
    farm.macbind("release", "build-8")


POOLS = """
[subnet."10.0.0.0/8"]
routers = ["10.0.0.1"]

[pool.farm]
subnet = "10.0.0.0/8"
ranges = ["10.1.1.3-10.1.1.250"]
"""
