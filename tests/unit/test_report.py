"""`macbind report` where there is next to nothing: no service, no configuration, a key that cannot be read."""

import json
import os
import pty
import subprocess
import sys
import tarfile
from pathlib import Path

import jsonschema_rs
import pytest
import yaml
from typer.testing import CliRunner

from macbind.cli.commands import app
from macbind.cli.report_parts import Sources, collect
from macbind.client.client import Client

MACBIND = [sys.executable, "-c", "from macbind.cli import main; main()"]
NOWHERE = "/nonexistent/macbind.sock"


def on_terminal(answer: bytes, *arguments: str) -> int:
    """The exit status of a command that is answered on a terminal."""
    ours, theirs = pty.openpty()
    try:
        os.write(ours, answer)
        return subprocess.run(
            [*MACBIND, *arguments],
            stdin=theirs,
            capture_output=True,
            timeout=120,
            check=False,
        ).returncode
    finally:
        os.close(ours)
        os.close(theirs)


@pytest.mark.parametrize(("answer", "written"), [(b"n\n", False), (b"y\n", True)])
def test_it_asks_on_a_terminal(tmp_path: Path, answer: bytes, written: bool) -> None:
    """No means no file; it works without a service and without a configuration."""
    target = tmp_path / "report.tar.gz"
    status = on_terminal(
        answer, "report", str(target), "--config", str(tmp_path / "none.toml"), "--socket", NOWHERE
    )
    assert (status == 0, target.exists()) == (written, written)
    if written:
        with tarfile.open(target) as archive:
            assert "macbind-report/configuration-problem.txt" in archive.getnames()


def test_what_cannot_be_cleaned_is_left_out(tmp_path: Path) -> None:
    """A key file that is there and cannot be read: no log and nothing of dhcpd's, and the report says why."""
    key = tmp_path / "key"
    key.mkdir()  # root may read every file, and no directory
    config = tmp_path / "macbind.toml"
    config.write_text(f'[dhcpd.main]\nkey_file = "{key}"\n[pool.farm]\nsubnet = "10.1.0.0/16"\n')
    log = tmp_path / "some.log"
    log.write_text("a line\n")
    parts, _ = collect(Sources(config, Client(NOWHERE), (log,)))
    found = {part.name: part.content for part in parts}
    assert f"The key file {key} cannot be read".encode() in found["left-out.txt"]
    assert not [name for name in found if name.startswith(("logs/", "dhcpd/"))]
    assert json.loads(found["versions.json"])["macbind"]


def test_what_was_written_is_told_in_every_form(tmp_path: Path) -> None:
    """JSON, JSONL and YAML name the file and its parts, as the schema says; CSV and names have the parts alone."""
    config = tmp_path / "macbind.toml"
    config.write_text("[dhcpd.main]\n")
    more = ["--yes", "--config", str(config), "--socket", str(tmp_path / "none")]

    def report(form: str) -> str:
        target = tmp_path / f"{form}.tar.gz"
        done = CliRunner().invoke(app, ["report", str(target), *more, "-o", form])
        assert (done.exit_code, target.exists()) == (0, True), done.output
        return done.stdout

    told = json.loads(report("json"))
    jsonschema_rs.validate(json.loads(CliRunner().invoke(app, ["schema", "report"]).stdout), told)
    assert told["file"] == str(tmp_path / "json.tar.gz")
    names = [one["name"] for one in told["parts"]]
    for one in (json.loads(report("jsonl")), yaml.safe_load(report("yaml"))):
        assert [part["name"] for part in one["parts"]] == names
    assert report("name").split() == names
    assert [line.partition(",")[0] for line in report("csv").splitlines()] == ["file", *names]
    assert report("wide").splitlines()[0].split() == ["FILE", "BYTES"]


def test_only_the_end_of_a_log_is_taken(tmp_path: Path) -> None:
    """From the beginning of a line, and at most a megabyte."""
    log = tmp_path / "long.log"
    log.write_text("".join(f"line {number:07}\n" for number in range(200_000)))
    parts, _ = collect(Sources(tmp_path / "none.toml", Client(NOWHERE), (log, tmp_path / "missing.log")))
    found = {part.name: part.content for part in parts}
    assert found["logs/1-long.log"].startswith(b"line ")
    assert found["logs/1-long.log"].endswith(b"line 0199999\n")
    assert len(found["logs/1-long.log"]) <= 1 << 20
    assert b"No such file" in found["logs/2-missing.log"]
