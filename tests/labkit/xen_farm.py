"""macbind and its dhcpd in domain 0 of a real Xen, as on a hypervisor of a site."""

import compileall
import json
import shlex
from types import TracebackType
from typing import Any, Self

from labkit.farm import MACBIND, defects_in
from labkit.wait import until
from labkit.xen import COMMAND_S, LOOK_S, ROOT, Xen

SERVING_S = 1000.0  # 30 s on a processor of its own: emulated, Python starts slowly
_SOCKET = "/run/macbind/macbind.sock"
_CURL = ("curl", "--silent", "--show-error", "--fail-with-body", "--unix-socket", _SOCKET)
_TOML = """\
[registry]
url = "sqlite:////root/registry.db"

[service]
log_format = "json"

[dhcpd.main]
key_file = "{here}/macbind.key"
config_file = "{here}/macbind.conf"
leases_file = "/root/dhcpd.leases"

[hypervisor.xen]
uri = "xen:///system"
transition_s = {transition_s}
{pools}"""
_START = """\
set -eu
mkdir -p {run}
touch /root/dhcpd.leases
setsid dhcpd -4 -d -f -cf {here}/macbind.conf -lf /root/dhcpd.leases --no-pid br0 >{here}/dhcpd.log 2>&1 &
setsid {macbind} serve --config {config} >{here}/macbind.log 2>&1 &
"""


class XenFarm:
    """A context manager: inside, macbind serves in domain 0. It ends with its Xen."""

    def __init__(self, xen: Xen, pools: str, *, transition_s: int) -> None:
        self.xen = xen
        self._config = xen.directory / "macbind.toml"
        self._config.write_text(_TOML.format(pools=pools, transition_s=transition_s, here=xen.directory))

    def __enter__(self) -> Self:
        compileall.compile_dir(
            ROOT / "controller/macbind", quiet=1
        )  # domain 0 is slow, and may not write there
        parts = {
            "macbind": shlex.join(MACBIND),
            "config": shlex.quote(str(self._config)),
            "here": shlex.quote(str(self.xen.directory)),
            "run": _SOCKET.rpartition("/")[0],
        }
        self.outside("render")
        self.xen.run(_START.format(**parts))
        try:
            until(self._serves, SERVING_S, "macbind in domain 0 to serve", pause_s=LOOK_S)
        except TimeoutError as error:
            error.add_note(self.log())
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            error.add_note(self.log())

    def outside(self, *arguments: str) -> str:
        """Runs a command that needs no service, with this configuration, on this machine, which is quicker."""
        return self.xen.lab.run([*MACBIND, *arguments, "--config", str(self._config)], deadline_s=300).stdout

    def macbind(self, *arguments: str, deadline_s: float = COMMAND_S) -> str:
        """Runs the command line in domain 0 and returns what it printed; it must succeed."""
        return self.xen.run(shlex.join([*MACBIND, *arguments]), deadline_s=deadline_s)

    def ask(self, path: str, **body: str) -> Any:
        """What the HTTP API answers, to a POST if there is a body: quicker than the command line, which has to start.

        It must be no error.
        """
        what = ["--json", json.dumps(body)] if body else []
        return json.loads(self.xen.run(shlex.join([*_CURL, f"http://macbind/v1/{path}", *what])))

    def allocate(self, name: str, address: str) -> None:
        """Allocates this address of the pool `farm`; dhcpd has confirmed it when this returns."""
        self.ask("allocations", pool="farm", name=name, address=address)

    def addresses(self) -> dict[str, str]:
        """The address of each allocation, by its name."""
        return {one["name"]: one["address"] for one in self.ask("allocations")["allocations"]}

    def log(self) -> str:
        """What the service has logged."""
        file = self.xen.directory / "macbind.log"
        return file.read_text(errors="replace") if file.exists() else ""

    def defects(self) -> list[str]:
        """Lines of the log that a service without defects never writes."""
        return defects_in(self.log())

    def _serves(self) -> bool:
        said, status = self.xen.attempt(shlex.join([*_CURL, "http://macbind/v1/status"]))
        if status != 0:
            return False
        now = json.loads(said)
        return all(one["state"] == "serving" for one in now["dhcpds"]) and now["hypervisors"][0]["connected"]
