"""The search for secrets finds them in every form and place, and leaves the one place alone where they belong."""

import base64
import subprocess
import sys
from pathlib import Path

import pytest

from chaos.secrets import Guard, Secret, search
from labkit.wait import until

RAW = bytes(range(32))
TEXT = base64.b64encode(RAW).decode()


@pytest.fixture
def secret(tmp_path: Path) -> Secret:
    """A key at home in a file that only owner and group may read."""
    home = tmp_path / "key"
    home.write_text(f'secret "{TEXT}";')
    home.chmod(0o640)
    return Secret.of_key("the key", TEXT, home)


def test_a_secret_at_home_is_no_leak(tmp_path: Path, secret: Secret) -> None:
    """The file it belongs to may hold it, and files without it are counted."""
    (tmp_path / "log").write_text("nothing")
    assert search([secret], [tmp_path]) == (2, [])


@pytest.mark.parametrize(
    ("form", "content"),
    [
        ("base64", TEXT.encode()),
        ("bytes", RAW),
        ("hex", RAW.hex().encode()),
        ("HEX", RAW.hex().upper().encode()),
    ],
)
def test_a_secret_elsewhere_is_found_in_every_form(
    tmp_path: Path, secret: Secret, form: str, content: bytes
) -> None:
    """In any file below the directory, amid other bytes."""
    place = tmp_path / "deep"
    place.mkdir()
    (place / "log").write_bytes(b"before " + content + b" behind")
    assert search([secret], [tmp_path])[1] == [f"the key ({form}) is in {place / 'log'}"]


def test_a_key_file_that_everybody_may_read_is_a_leak(tmp_path: Path, secret: Secret) -> None:
    """Even at home a secret is only for owner and group."""
    secret.home.chmod(0o644)
    assert search([secret], [tmp_path])[1] == [f"{secret.home} with the key has mode 0644"]


@pytest.mark.parametrize("part", ["cmdline", "environ"])
def test_a_secret_in_a_process_is_found(secret: Secret, part: str) -> None:
    """In the command line or the environment of any process, while it runs."""
    argument = [TEXT] if part == "cmdline" else []
    environment = {"SECRET": TEXT} if part == "environ" else {}
    command = [sys.executable, "-c", "input()", *argument]
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE) as process:
        try:
            with Guard([secret]) as guard:
                until(lambda: guard.leaks, 60, "the leak to be found")
        finally:
            process.kill()
    assert set(guard.leaks) == {f"the key (base64) is in the {part} of process {process.pid}"}
    assert guard.processes
