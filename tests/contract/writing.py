"""A registry with one writer in this process, as the daemon puts them together."""

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from contract.dhcpd_site import Site
from contract.invariant import check_invariant
from labkit.wait import until
from macbind.core.allocation import Allocation, State
from macbind.core.errors import DhcpdUnavailable
from macbind.core.findings import DhcpdState
from macbind.core.pool import Pool
from macbind.core.sizes import Sizes
from macbind.dhcp.isc.lease_file import parse
from macbind.dhcp.port import DhcpServer
from macbind.engine.confirmations import Confirmations
from macbind.engine.dhcp_writer import DhcpWriter
from macbind.registry.allocate import Wanted, allocate
from macbind.registry.leader import leader_for
from macbind.registry.pending_changes import backlog
from macbind.registry.queries import find
from macbind.registry.release import release
from macbind.registry.store import Registry

DEADLINE_S = 60.0


class Controller:
    """Entering starts the writer; leaving stops it, and checks the registry's invariant.

    Keyword arguments beyond the registry's go to the writer.

    Attributes:
        defects: What ended the writer, if anything did.
    """

    def __init__(
        self,
        directory: Path,
        pool: Pool,
        dhcpd: DhcpServer,
        *,
        busy_timeout_s: float = 30.0,
        sizes: Sizes = Sizes(),  # noqa: B008  # it is frozen
        **writer: Any,
    ) -> None:
        self.pool = pool
        self.url = f"sqlite:///{directory / 'registry.db'}"
        self.registry = Registry.open(
            self.url, {pool.name: pool}, ["main"], busy_timeout_s=busy_timeout_s, sizes=sizes
        )
        self.confirmations = Confirmations()
        self.defects: list[BaseException] = []
        leader = leader_for(self.url, self.registry.ids.dhcpds["main"])
        self.writer = DhcpWriter(
            dhcpd,
            self.registry,
            leader,
            self.confirmations,
            on_defect=self.defects.append,
            **writer,
        )

    def __enter__(self) -> Self:
        self.writer.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        if error is None:
            check_invariant(self.url, {self.pool.name: self.pool})

    def close(self) -> None:
        """Stops the writer and closes the registry."""
        self.writer.close()
        self.registry.close()

    def allocate(self, *names: str) -> list[Allocation]:
        """Allocates and wakes the writer."""
        with self.registry.write("test") as txn:
            made = allocate(txn, Wanted(self.pool.name, names))
        self.writer.wake()
        return made

    def release(self, *names: str) -> None:
        """Releases and wakes the writer."""
        with self.registry.write("test") as txn:
            for name in names:
                release(txn, name=name)
        self.writer.wake()

    def all(self) -> list[Allocation]:
        """Every allocation, those that are being released as well."""
        with self.registry.read() as view:
            return find(view, released=True)

    def states(self) -> dict[str, State]:
        """The state of each allocation by its name."""
        return {one.name: one.state for one in self.all()}

    def wait_state(self, state: DhcpdState, deadline_s: float = DEADLINE_S) -> None:
        """Waits until the writer says so."""
        until(lambda: self.writer.state is state, deadline_s, f"the writer to be {state}")

    def wait_settled(self, deadline_s: float = DEADLINE_S) -> None:
        """Waits until nothing is due and dhcpd is served."""

        def settled() -> bool:
            with self.registry.read() as view:
                return backlog(view, "main") == 0 and self.writer.state is DhcpdState.SERVING

        until(settled, deadline_s, "the writer to have nothing left to do")

    def agrees_with(self, site: Site) -> bool:
        """Whether dhcpd holds, in memory and on disk, exactly what the registry wants and says it holds."""
        live = [one for one in self.all() if one.released_at is None]
        wanted = {
            one.mac: self.pool.binding(one.address, one.mac, one.generation, one.options) for one in live
        }
        assert {one.state for one in live} <= {State.BOUND}
        server = site.server()
        try:
            observed = server.observe(list(wanted))
            on_disk = parse(site.dhcpd.leases.read_bytes())
        except DhcpdUnavailable:
            return False
        finally:
            server.close()
        names = {name for name, record in on_disk.hosts.items() if record.binding is not None}
        return names == {host.name for host in wanted.values()} and all(
            seen is not None and seen.serves_as(host)
            for seen, host in zip(observed, wanted.values(), strict=True)
        )


def hosts_named(count: int, prefix: str = "vm") -> Sequence[str]:
    """Names for this many machines."""
    return [f"{prefix}{number}" for number in range(count)]
