"""A real Prometheus in a lab, and what it and promtool say."""

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from labkit.net import Lab, Process
from labkit.wait import until

PORT = 9090
Series = dict[tuple[tuple[str, str], ...], float]
"""The value of each series, by its labels in order."""


class Prometheus:
    """Debian's Prometheus in the server's namespace of a lab, with this configuration. A context manager.

    Args:
        lab: The network.
        directory: Where its data and its log go.
        config: Its configuration file.
    """

    def __init__(self, lab: Lab, directory: Path, config: Path) -> None:
        self._lab, self._directory, self._config = lab, directory, config
        self._process: Process | None = None

    def __enter__(self) -> Self:
        command = [
            "prometheus",
            f"--config.file={self._config}",
            f"--storage.tsdb.path={self._directory / 'tsdb'}",
            f"--web.listen-address=127.0.0.1:{PORT}",
            "--log.level=warn",
        ]
        self._process = self._lab.popen(command, output=self._directory / "prometheus.log")
        until(self._is_ready, 60, "Prometheus to be ready", pause_s=0.1)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self._process.end()

    def _is_ready(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self._directory / "prometheus.log").read_text()
        url = f"http://127.0.0.1:{PORT}/-/ready"
        return self._lab.run(["curl", "-sf", url], check=False).returncode == 0

    def query(self, expression: str) -> Series:
        """What `promtool query instant` finds now."""
        command = ["promtool", "query", "instant", "--format=json", f"http://127.0.0.1:{PORT}", expression]
        found: list[dict[str, Any]] = json.loads(self._lab.run(command, deadline_s=60).stdout)
        return {tuple(sorted(one["metric"].items())): float(one["value"][1]) for one in found}


def promtool(*arguments: str, text: str | None = None) -> str:
    """Runs promtool and returns all that it says; fails unless it is content."""
    done = subprocess.run(
        ["promtool", *arguments], input=text, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, f"promtool {' '.join(arguments)}:\n{done.stdout}{done.stderr}"
    return done.stdout + done.stderr


def families(exposition: str) -> dict[str, str]:
    """The type of each metric of an exposition, by its name."""
    lines = [line.split(" ") for line in exposition.splitlines() if line.startswith("# TYPE ")]
    return {line[2]: line[3] for line in lines}


def series_names(exposition: str) -> set[str]:
    """Every name that a query may use."""
    parts: dict[str, Sequence[str]] = {"histogram": ("_bucket", "_sum", "_count")}
    return {name + end for name, kind in families(exposition).items() for end in parts.get(kind, ("",))}
