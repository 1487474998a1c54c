"""Several controllers that share a PostgreSQL and one or two dhcpds, each in a namespace of its own."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from labkit.dhcpd import Dhcpd
from labkit.farm import Farm
from labkit.net import Lab, Port
from labkit.postgres import Postgres
from labkit.wait import until

DHCPD, DATABASE, SECOND_DHCPD = "10.0.0.1", "10.0.0.2", "10.0.0.3"
"""The server's namespace has all of them, so that a controller can be cut off from one."""
_LEADS_S = 120.0
_NOBODY = "02:6c:61:62:ff:ff"
_SECOND = """
[dhcpd.second]
host = "{host}"
port = 7912
key_file = "{place}/second.key"
config_file = "{place}/second.conf"
leases_file = "{place}/second.leases"
"""


@dataclass(frozen=True)
class Several:
    """What is there.

    Attributes:
        controllers: The services; the first leads.
        database: Their PostgreSQL.
    """

    controllers: tuple[Farm, ...]
    database: Postgres

    def leading(self, asked: Farm) -> dict[str, Farm]:
        """Who leads each dhcpd and serves it, as one of them says."""
        by_socket = {str(one.socket): one for one in self.controllers}
        with asked.client() as client:
            return {
                lead.dhcpd: by_socket[one.socket]
                for one in client.controllers()
                for lead in one.leads
                if lead.state == "serving"
            }

    def wait_leading(self, asked: Farm, leads: dict[str, Farm]) -> None:
        """Waits until one of them says so: each tells the others what it leads in a moment of its own."""
        until(lambda: self.leading(asked) == leads, _LEADS_S, "the controllers to lead and to say so")


@contextmanager
def open_several(place: Path, count: int = 2, *, with_second_dhcpd: bool = False) -> Iterator[Several]:
    """So many controllers.

    Args:
        place: Where their files go; a short path.
        count: How many.
        with_second_dhcpd: Whether there is another dhcpd for the same pool.
    """
    with ExitStack() as stack:
        lab = stack.enter_context(Lab(tuple(f"{one}/8" for one in (DHCPD, DATABASE, SECOND_DHCPD))))
        database = stack.enter_context(Postgres(DATABASE, lab.server.argv))
        more = _SECOND.format(host=SECOND_DHCPD, place=place) if with_second_dhcpd else ""
        farm = Farm(lab, place, registry=database.emptied(), dhcpd=f'host = "{DHCPD}"\n{more}')
        stack.enter_context(farm.dhcpd)
        if with_second_dhcpd:
            # Both are in one namespace, so this one listens to machines at another port.
            options = ("-p", "6767")
            leases = place / "second.leases"
            second = Dhcpd(lab, place / "second.conf", leases, omapi_port=7912, options=options)
            stack.enter_context(second)
        controllers = []
        for number in range(1, count + 1):
            port = lab.port(f"c{number}")
            port.add_address(f"10.0.1.{number}/8")
            one = farm.beside(f"c{number}", port)
            stack.callback(one.stop)
            one.start()
            one.wait_answering(60)
            if number == 1:
                one.wait_serving(60)
            controllers.append(one)
        several = Several(tuple(controllers), database)
        names = ("main", "second") if with_second_dhcpd else ("main",)
        for one in controllers:
            several.wait_leading(one, dict.fromkeys(names, controllers[0]))
        yield several


def place_of(one: Farm) -> Port:
    """The port at which a controller is plugged in."""
    assert one.at is not None
    return one.at


def cut_off(one: Farm, address: str) -> None:
    """Loses every packet from a controller to an address, as where a cable or a host has gone."""
    port = place_of(one)
    port.namespace.ip(f"neigh replace {address} lladdr {_NOBODY} dev {port.interface} nud permanent")


def join(one: Farm, address: str) -> None:
    """Ends :func:`cut_off`."""
    port = place_of(one)
    port.namespace.ip(f"neigh del {address} dev {port.interface}")
