"""One lab with everything in it: network, dhcpd, registry, libvirtd, macbind, the wire in between, the workers."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from chaos import attackers, pieces
from chaos.attack_guest import PORT as MALLORY
from chaos.attack_user import FILES, MAY_CHANGE
from chaos.control import Arm, Control, Phase
from chaos.journal import Entry, Journal, read
from chaos.lookout import PORT
from chaos.neighbours import OTHER_SERVER, STRANGERS
from chaos.pools import ASKED, CROWD, HOLES, PROBE, PROBED, WITNESS, WITNESSED, addresses, pools_toml
from chaos.proxy import Proxy, Wire
from chaos.worker import Orders, as_json
from labkit.dhcp import DhcpClient
from labkit.farm import OMAPI_PORT, Farm
from labkit.net import Lab, Process
from labkit.netns import run_command
from labkit.omshell import omshell_hosts
from labkit.postgres import Postgres
from labkit.virt import Libvirtd
from labkit.wait import until
from macbind.core.allocation import Allocation
from macbind.core.errors import MacbindError

TESTS = Path(__file__).parents[1]
PROXY_PORT = 7912
WORKERS = 4
"""Those that have a pool of their own."""
RECOVER_S = 120.0
"""How long macbind has to recover when every fault is mended."""
PATIENCE_S = 300.0
"""How long the harness waits for a call when nothing is broken: that of a crowd takes long on a busy machine."""
RESTS_S = 120.0
LOOK = 0.35
"""The share of answers that workers check with omshell at once; all when a bug is hunted."""
_LEASES_KIB, _REGISTRY_KIB = 8192, 24576
_FAKETIME = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1"
_GOOD_ENDS = frozenset({-signal.SIGKILL, 5})
"""How macbind may end: killed, or because the registry was not there when it started."""


@dataclass(frozen=True)
class Kind:
    """What a site is made of."""

    name: str
    registry: str = "sqlite"
    domains: bool = False
    clocks: bool = False
    weights: Mapping[str, float] | None = None
    """Other weights of faults; what is not named is not drawn."""
    recover_s: float = RECOVER_S
    crowd: bool = False
    """Whether many machines are there that stay."""
    tiny: bool = False
    """Whether macbind cuts its work into tiny pieces."""
    old_registries: float = 0.5
    """The share of rounds after which an older registry is put back, where there are domains."""
    resync_s: float = 2.0
    """How often macbind compares everything even without a reason."""
    attackers: bool = False
    """Whether there are attackers, in some rounds."""
    acts: Mapping[str, float] = field(default_factory=dict)
    """What the worker of domains does how often; empty for what it does by itself."""


class NotRecovered(RuntimeError):
    """macbind did not recover in time, or ended when it should run."""


class Site:
    """A context manager: everything runs inside, and nothing of it is left afterwards but the directory."""

    def __init__(self, kind: Kind, place: Path, seed: int, *, plant: str = "") -> None:
        self.kind, self.place, self.seed, self.plant = kind, place, seed, plant
        self.look = 1.0 if plant else LOOK
        self._undo = ExitStack()
        self._workers: list[Process] = []
        self._spare: tuple[Process, Path] | None = None
        self._prepared = 0
        self._restart_at = 0.0
        self.daemon_wanted = False
        self.postgres: Postgres | None = None
        self.libvirtd: Libvirtd | None = None
        self.other_libvirtd: Libvirtd | None = None
        self.unexpected: list[str] = []
        """Sentences about processes that ended by themselves."""

    # -- life ------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        with ExitStack() as undo:
            self._undo = undo
            self._build()
            self._undo = undo.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._undo.close()

    def _build(self) -> None:
        for part in ("journals", "answers", "clock"):
            (self.place / part).mkdir(parents=True)
        self.leases_disk = self._mount("leases", _LEASES_KIB)
        self.registry_disk = self._mount("registry", _REGISTRY_KIB)
        self.control, self.arm = Control(self.place / "control"), Arm(self.place / "armed")
        (self.place / "hits").touch()
        for who in ("macbind", "dhcpd"):
            self.set_clock(who, 0)
        self.lab = self._undo.enter_context(Lab())
        url = f"sqlite:///{self.registry_disk / 'registry.db'}"
        if self.kind.registry == "postgresql":
            self.postgres = self._undo.enter_context(Postgres())
            self._undo.callback(self._keep_postgres_log, self.postgres)
            url = self.postgres.emptied()
        self.url = url
        pools = pools_toml()
        if self.kind.domains:
            self.libvirtd, self.other_libvirtd = self._hypervisor("virt"), self._hypervisor("other")
            pools += f'\n[hypervisor.local]\nuri = "{self.libvirtd.uri}"\n'
            pools += f'\n[hypervisor.other]\nuri = "{self.other_libvirtd.uri}"\n'
        self.farm = Farm(
            self.lab,
            self.place,
            pools=pools,
            registry=url,
            leases=self.leases_disk / "dhcpd.leases",
            service=f'socket_mode = "0666"\nmay_change = ["root", "{MAY_CHANGE}"]'
            if self.kind.attackers
            else "",
            dhcpd=f'resync_s = {self.kind.resync_s}\nprobe = "{self.lab.bridge}"\nprobe_interval_s = 1',
        )
        self.farm.port = PROXY_PORT
        self.farm.config.chmod(0o640)
        self.farm.configure()
        self.dhcpd = self.farm.dhcpd
        self.dhcpd.log_file = self.place / "dhcpd.log"
        self.backup = self.place / "leases.backup"
        self.backup.touch()
        self.dhcpd.prefix = self._clock("dhcpd")
        self._undo.callback(self.dhcpd.stop)
        self.dhcpd.start()
        self.dhcpd.wait_ready()
        self.proxy = self._undo.enter_context(Proxy(self.lab.server, PROXY_PORT, OMAPI_PORT))
        self._undo.callback(self._stop_daemon)
        self._undo.callback(self._stop_workers)
        self.daemon_wanted = True
        self._start_daemon()
        self.settle(within_s=RECOVER_S)  # no bug that is planted keeps it from starting
        self.cable = self.lab.port("checker")
        self.witness = DhcpClient(self.cable, str(self._pin_witness().mac))
        if self.kind.crowd:
            self._gather()
        for port in (PORT, *STRANGERS, OTHER_SERVER, MALLORY):
            self.lab.port(port)
        self._start_workers()

    def _hypervisor(self, name: str) -> Libvirtd:
        (self.place / name).mkdir()
        return self._undo.enter_context(Libvirtd(self.lab, self.place / name))

    def _mount(self, name: str, kib: int) -> Path:
        place = self.place / name
        place.mkdir()
        run_command(["mount", "-t", "tmpfs", "-o", f"size={kib}k,mode=0755", "chaos", str(place)])
        self._undo.callback(self._unmount, place)
        return place

    def _unmount(self, place: Path) -> None:
        """Unmounts a disk; what is on it stays in the directory."""
        kept = {file.name: file.read_bytes() for file in place.iterdir() if file.name != "filler"}
        run_command(["umount", "--lazy", str(place)])
        for name, content in kept.items():
            (place / name).write_bytes(content)

    def _keep_postgres_log(self, server: Postgres) -> None:
        with suppress(FileNotFoundError):
            (self.place / "postgresql.log").write_bytes(server.log_file.read_bytes())

    def _command(self, go: Path) -> list[str]:
        sizes = pieces.draw(self.seed, self.kind.name, self._prepared) if self.kind.tiny else {}
        said = [str(self.place), self.kind.registry, self.plant, json.dumps(sizes), str(go)]
        few = f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, ({FILES}, {FILES})); "
        program = (few if self.kind.attackers else "") + (
            f"import sys; sys.path.insert(0, {str(TESTS)!r}); from chaos.daemon import main; "
            f"main({', '.join(map(repr, said))})"
        )
        return [*self._clock("macbind"), sys.executable, "-c", program]

    def _clock(self, who: str) -> list[str]:
        """The command that puts a program under a clock of its own, which is read anew at every look."""
        if not self.kind.clocks:
            return []
        return [
            "env",
            f"LD_PRELOAD={_FAKETIME}",
            f"FAKETIME_TIMESTAMP_FILE={self.place / 'clock' / who}",
            "FAKETIME_NO_CACHE=1",
            "DONT_FAKE_MONOTONIC=1",
        ]

    def set_clock(self, who: str, offset_s: int) -> None:
        """Moves a clock to so many seconds before or after the real time."""
        file = self.place / "clock" / who
        half_made = file.with_suffix(".new")
        half_made.write_text(f"{offset_s:+d}\n")
        half_made.replace(file)

    # -- macbind ---------------------------------------------------------------------------------------

    def _start_daemon(self) -> None:
        """Starts macbind: gives the spare one the word, and prepares the next."""
        self.control.starting()
        spare, go = self._spare or self._prepare()
        until(lambda: _opened(go, spare), RECOVER_S, "macbind to be imported")
        self.farm.adopt(spare)
        self._spare = self._prepare()

    def _prepare(self) -> tuple[Process, Path]:
        """A macbind that imports everything and waits until the other end of a pipe is opened."""
        self._prepared += 1
        go = self.place / f"go-{self._prepared}"
        os.mkfifo(go)
        self.farm.command = self._command(go)
        return self.farm.spawn(), go

    def _stop_daemon(self) -> None:
        self.daemon_wanted = False
        if self._spare is not None:
            self._spare[0].kill_now()
        self.farm.stop()

    def kill_daemon(self) -> None:
        """Kills macbind; the watch starts it again."""
        process = self.farm.process
        if process is not None and process.alive:
            process.kill_now()

    def watch(self, pause_s: float = 0.0) -> None:
        """Starts macbind again if it has ended, as a service manager does, after a pause."""
        process = self.farm.process
        assert process is not None
        if process.alive or not self.daemon_wanted:
            return
        if not self._restart_at:
            if process.returncode not in _GOOD_ENDS:
                self.unexpected.append(
                    f"macbind ended with {process.returncode}:\n{self.tail(self.farm.log())}"
                )
            self._restart_at = time.monotonic() + pause_s
        elif time.monotonic() >= self._restart_at:
            self._restart_at = 0.0
            self._start_daemon()

    def hits(self) -> list[str]:
        """The steps at which macbind has died, in order."""
        return (self.place / "hits").read_text().splitlines()

    @staticmethod
    def tail(text: str, lines: int = 25) -> str:
        """The end of a log."""
        return "\n".join(text.splitlines()[-lines:])

    # -- workers ---------------------------------------------------------------------------------------

    def _start_workers(self) -> None:
        shared = ["shared", CROWD] if self.kind.crowd else ["shared"]
        for number in range(WORKERS):
            self._start_worker(f"w{number}", [f"own-{number}", *shared])
        self._start_worker(f"w{WORKERS}", [ASKED])
        if self.libvirtd is not None:
            other = self.other_libvirtd.uri if self.kind.attackers and self.other_libvirtd else ""
            self._start_worker("vm", ["domains"], uri=self.libvirtd.uri, other_uri=other)
        self._start_worker("lookout", [], role="lookout")
        self._start_worker("neighbours", [], role="neighbours")
        if self.kind.attackers:
            self._start_attackers()

    def _start_attackers(self) -> None:
        for role in (attackers.GUEST, attackers.USER):
            self._start_worker(role, [], role=role)
        if self.libvirtd is not None and self.other_libvirtd is not None:
            uris = {"uri": self.libvirtd.uri, "other_uri": self.other_libvirtd.uri}
            self._start_worker(attackers.OWNER, [], role=attackers.OWNER, **uris)

    def _start_worker(
        self, name: str, pools: Sequence[str], *, uri: str = "", role: str = "", other_uri: str = ""
    ) -> None:
        orders = Orders(
            self.place,
            name,
            len(self._workers),
            self.seed,
            pools,
            self.farm.socket,
            self.lab.server.name,
            OMAPI_PORT,
            self.place / "macbind.key",
            self.look,
            uri,
            role,
            other_uri,
            self.kind.acts,
        )
        with (self.place / f"{name}.log").open("ab") as log:
            process = Process(
                [sys.executable, "-m", "chaos.worker", orders.to_json()],
                log,
                {"env": {**os.environ, "PYTHONPATH": str(TESTS)}},
            )
        self._workers.append(process)

    def _stop_workers(self) -> None:
        self.control.begin(Phase.END, self.control.round)
        for process in self._workers:
            with suppress(subprocess.TimeoutExpired):
                process.wait(3)
            process.end()

    def work(self, number: int, *, attacked: bool = False) -> None:
        """Lets the workers work, and attackers if it is their turn."""
        self.control.attacked = attacked
        self.control.begin(Phase.WORK, number)

    def rest(self) -> None:
        """Has the workers end what they are at.

        Raises:
            NotRecovered: One of them does not come to an end.
        """
        number = self.control.round
        self.control.begin(Phase.REST, number)

        def all_rest() -> bool:
            self.watch()
            for process in self._workers:
                if not process.alive:
                    logs = [self.tail(log.read_text()) for log in self.place.glob("[wvlna]*.log")]
                    raise NotRecovered(f"a worker ended with {process.returncode}:\n" + "".join(logs))
            return all(self.control.resting(index) >= number for index in range(len(self._workers)))

        try:
            until(all_rest, RESTS_S, "the workers to rest")
        except TimeoutError as error:
            raise NotRecovered(str(error)) from None

    def entries(self) -> list[Entry]:
        """What the workers have written down."""
        return read(sorted((self.place / "journals").iterdir()))

    # -- mending ---------------------------------------------------------------------------------------

    def mend(self) -> None:
        """Whatever was broken is whole again: every part runs, every disk has room, every clock is right."""
        self.arm.step = ""
        for disk in (self.leases_disk, self.registry_disk):
            (disk / "filler").unlink(missing_ok=True)
        self.proxy.become(Wire.WHOLE)
        for who in ("macbind", "dhcpd"):
            self.set_clock(who, 0)
        if self.postgres is not None and not self.postgres.alive:
            self.postgres.start()
        for server in (self.libvirtd, self.other_libvirtd):
            if server is not None and not server.alive:
                server.start()
        self.restart_dhcpd()

    @property
    def lease_disk_is_full(self) -> bool:
        """Whether somebody has filled it."""
        return (self.leases_disk / "filler").exists()

    def restart_dhcpd(self) -> None:
        """Starts dhcpd if it does not run, and waits until it serves; not while its disk is full.

        Then it would write the first of its hosts again and again until its stack is full.
        """
        if self.lease_disk_is_full:
            return
        if not self.dhcpd.alive:
            self.dhcpd.start()
            self.dhcpd.wait_ready()
        self.control.touch(begins=False)

    def serves(self) -> bool:
        """Whether macbind says that it serves every dhcpd."""
        try:
            with self.farm.client(timeout_s=2.0) as client:
                return all(one.state == "serving" for one in client.status().dhcpds)
        except MacbindError:
            return False

    def settle(self, gone: Sequence[str] = (), *, within_s: float | None = None) -> None:
        """Waits until macbind is as it should be: every part served, no backlog, no name of `gone` held.

        Raises:
            NotRecovered: It is not, within the deadline.
        """
        wrong: list[str] = []

        def settled() -> bool:
            self.watch()
            try:
                with self.farm.client(timeout_s=2.0) as client:
                    # A change that dhcpd confirms: whatever was done to it before, macbind knows of.
                    client.reserve(PROBE, PROBED)
                    client.unreserve(PROBE)
                    status = client.status()
                    held = sorted({one.name for one in client.list()} & set(gone))
            except MacbindError as error:
                wrong[:] = [str(error)]
                return False
            wrong[:] = [
                f"{one.name} is {one.state} with a backlog of {one.backlog}"
                for one in status.dhcpds
                if one.state != "serving" or one.backlog
            ]
            wrong.extend(f"{one.name} is not connected" for one in status.hypervisors if not one.connected)
            if held:
                wrong.append(f"domains that have ended still hold addresses: {', '.join(held)}")
            return not wrong

        limit_s = self.kind.recover_s if within_s is None else within_s
        try:
            until(settled, limit_s, "macbind to recover")
        except TimeoutError:
            raise NotRecovered(
                f"macbind did not recover within {limit_s:g} s: {'; '.join(wrong)}\n"
                f"{self.tail(self.farm.log())}"
            ) from None

    def _pin_witness(self) -> Allocation:
        with self.farm.client() as client:
            return client.reserve(WITNESS, WITNESSED)

    def _gather(self) -> None:
        """Allocates the machines that stay, and gives back the holes between them."""
        journal = Journal(self.place / "journals" / "site.jsonl", "site")
        names = [f"{CROWD}-{number}" for number in range(1, len(addresses(CROWD)) + 1)]
        with self.farm.client(PATIENCE_S) as client:
            journal.write("start", 0, kind="allocate_group", names=names, pool=CROWD, group=CROWD)
            made = client.allocate_group(CROWD, CROWD, len(names))
            journal.write("ok", 0, made=[as_json(one) for one in made], already_gone=False)
            for number, one in enumerate(made[HOLES], 1):
                journal.write("start", number, kind="release", names=[one.name])
                client.release(one.name)
                journal.write("ok", number, made=[], already_gone=False)

    # -- independent witnesses -------------------------------------------------------------------------

    def hosts(self, macs: Sequence[str]) -> dict[str, dict[str, str] | None]:
        """What dhcpd says of these MACs, by MAC."""
        return omshell_hosts(self.lab, OMAPI_PORT, macs, self.dhcpd.key)

    def answers(self) -> None:
        """Keeps what the service says about itself, so that it can be searched for secrets."""
        with self.farm.client() as client:
            for number, path in enumerate(("/v1/status", "/v1/allocations", "/openapi.json", "/v1/history")):
                answer = client._transport.call("GET", path)
                (self.place / "answers" / f"{number}.json").write_text(json.dumps(answer))
            _, metrics = client._transport.exchange("GET", "/metrics", None, may_repeat=True)
            (self.place / "answers" / "metrics").write_bytes(metrics)


def _opened(go: Path, spare: Process) -> bool:
    """Opens a pipe for a process, if that is waiting for it already."""
    try:
        os.close(os.open(go, os.O_WRONLY | os.O_NONBLOCK))
    except OSError as error:
        if error.errno == errno.ENXIO and spare.alive:
            return False
        raise
    go.unlink()
    return True
