"""Names that resolve: an allocation is found by name in a hosts file and in a name server, as long as it is held."""

import stat
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest

from docs.tables import PAGES
from lab.conftest import open_directory
from labkit.farm import POOLS, Farm
from labkit.name_servers import Bind, Dnsmasq, Unbound, getent
from labkit.net import Lab
from labkit.wait import until
from macbind.client.client import Client
from macbind.core.dhcp_options import DhcpOptions
from macbind.core.errors import MacbindError

SOON_S = 60.0
DOMAIN, REVERSE = "farm.example", "10.in-addr.arpa"
_PATIENT = """
from macbind.cli import main
from macbind.names import name_server
from macbind.service import changes
name_server.TIMEOUT_S = changes.NAMES_S = 60.0
main()
"""
PATIENT = [sys.executable, "-c", _PATIENT]
"""macbind that waits for names as long as a busy machine needs: whether they are there is judged, not how soon."""


@pytest.fixture
def place() -> Iterator[Path]:
    """Where everything of this test keeps its files."""
    with open_directory() as place:
        yield place


@pytest.fixture
def bind(lab: Lab, place: Path) -> Iterator[Bind]:
    """A BIND of this test's own that takes updates of both zones."""
    with Bind(lab, place / "bind", [DOMAIN, REVERSE]) as bind:
        yield bind


def names_of(bind: Bind, more: str = "") -> str:
    """The table of a configuration that writes there."""
    return (
        f'[names]\ndomain = "{DOMAIN}"\nserver = "127.0.0.1:{bind.port}"\nreverse_zones = ["{REVERSE}"]\n'
        f'tsig_key_file = "{bind.key_file}"\n{more}\n'
    )


def hosts_in(place: Path) -> Path:
    """The hosts file, in a directory of its own."""
    (place / "hosts").mkdir(exist_ok=True)
    return place / "hosts" / "macbind"


class Site(NamedTuple):
    """A farm, the name server that has its names, and its Python API."""

    farm: Farm
    bind: Bind
    client: Client


@pytest.fixture(scope="module")
def shared() -> Iterator[tuple[Farm, Bind]]:
    """What several tests use, one after the other."""
    with Lab() as lab, open_directory() as place, Bind(lab, place / "bind", [DOMAIN, REVERSE]) as bind:
        with Farm(lab, place, pools=POOLS + names_of(bind), command=PATIENT) as farm:
            yield farm, bind
        assert farm.defects() == []


@pytest.fixture
def site(shared: tuple[Farm, Bind]) -> Iterator[Site]:
    """The farm without allocations and findings, before and after a test."""
    farm, bind = shared
    with farm.client() as client:
        wait_no_finding(farm)
        yield Site(farm, bind, client)
        for one in list(client.list()):
            client.release(one.name)
        wait_no_finding(farm)


def wait_finding(farm: Farm, code: str, words: str = "") -> None:
    """Waits until there is such a finding, with these words."""

    def is_there() -> bool:
        found = farm.findings()
        return code in found and words in found[code]

    until(is_there, SOON_S, f"the finding {code} with {words!r}")


def wait_no_finding(farm: Farm) -> None:
    """Waits until nothing is wrong with names."""
    until(lambda: not any(code.startswith("names_") for code in farm.findings()), SOON_S, "no finding")


def wait_address(bind: Bind, name: str, address: str | None) -> None:
    """Waits until a name has this address, or none."""
    wanted = set() if address is None else {address}
    until(lambda: bind.address(name) == wanted, SOON_S, f"{name} to have {address}")


def test_a_name_resolves_both_ways_until_it_is_released(site: Site) -> None:
    """The records are there when `allocate` returns, and gone when `release` returns."""
    bind, client = site.bind, site.client
    made = client.allocate("farm", "build-7")
    assert bind.address("build-7.farm.example.") == {str(made.address)}
    assert bind.name(str(made.address)) == {"build-7.farm.example."}
    client.release("build-7")
    assert bind.address("build-7.farm.example.") == set()
    assert bind.ask("build-7.farm.example.", "TXT") == set()
    assert bind.name(str(made.address)) == set()


def test_a_group_has_its_names_and_a_host_name_counts_more_than_a_name(site: Site) -> None:
    """`--hostname` is the name that is found; all of a group come and go together."""
    bind, client = site.bind, site.client
    one = client.allocate("farm", "job/17", options=DhcpOptions(hostname="Web-1"))
    assert bind.address("web-1.farm.example.") == {str(one.address)}
    made = client.allocate_group("farm", "speck", 110)
    assert all(bind.address(f"{one.name}.farm.example.") == {str(one.address)} for one in made)
    client.release_group("speck")
    assert not any(bind.address(f"{one.name}.farm.example.") for one in made)
    assert bind.address("web-1.farm.example.") == {str(one.address)}


def test_a_name_server_that_is_away_holds_nobody_up_and_is_made_up_for(site: Site) -> None:
    """`allocate` and `release` work meanwhile, a finding says so; when it is back, so are the names."""
    farm, bind, client = site
    gone = client.allocate("farm", "gone")
    bind.stop()
    made = client.allocate("farm", "build-7")
    client.release("gone")
    wait_finding(farm, "names_unavailable", f"127.0.0.1:{bind.port} cannot be reached")
    bind.start()
    wait_address(bind, "build-7.farm.example.", str(made.address))
    wait_address(bind, "gone.farm.example.", None)
    until(lambda: not bind.name(str(gone.address)), SOON_S, "the PTR to go")
    assert bind.name(str(made.address)) == {"build-7.farm.example."}
    wait_no_finding(farm)


def test_records_of_others_are_left_alone_and_reported(site: Site) -> None:
    """A name that somebody else has in the zone stays as it is, until it is taken away there."""
    farm, bind, client = site
    bind.update(DOMAIN, "printer", "A", "192.0.2.9")
    made = client.allocate("farm", "printer")
    wait_finding(farm, "names_foreign", "printer.farm.example.")
    assert bind.address("printer.farm.example.") == {"192.0.2.9"}
    assert bind.name(str(made.address)) == {"printer.farm.example."}
    client.release("printer")
    wait_no_finding(farm)
    assert bind.address("printer.farm.example.") == {"192.0.2.9"}
    assert bind.name(str(made.address)) == set()


def test_what_others_add_to_a_name_of_ours_stays(site: Site) -> None:
    """Of a name, the record that macbind made goes, and no other."""
    bind, client = site.bind, site.client
    client.allocate("farm", "build-7")
    bind.update(DOMAIN, "build-7", "A", "192.0.2.9")
    bind.update(DOMAIN, "build-7", "TXT", '"a note"')
    client.release("build-7")
    assert bind.address("build-7.farm.example.") == {"192.0.2.9"}
    assert bind.ask("build-7.farm.example.", "TXT") == {'"a note"'}


def test_a_killed_service_leaves_nothing_over(site: Site) -> None:
    """What was released while no name server was there, and the service was killed, goes at the next start."""
    farm, bind, client = site
    kept = client.allocate("farm", "kept")
    client.allocate("farm", "gone")
    bind.stop()
    client.release("gone")
    farm.kill()
    bind.start()
    assert bind.address("gone.farm.example.")
    farm.start()
    farm.wait_serving()
    wait_address(bind, "gone.farm.example.", None)
    assert bind.address("kept.farm.example.") == {str(kept.address)}


def test_a_comparison_mends_what_was_changed_by_hand(lab: Lab, place: Path, bind: Bind) -> None:
    """A record of ours that somebody has removed comes back."""
    with Farm(lab, place, pools=POOLS + names_of(bind, "resync_s = 1")) as farm, farm.client() as client:
        made = client.allocate("farm", "build-7")
        bind.update(DOMAIN, "build-7", "A", str(made.address), remove=True)
        wait_address(bind, "build-7.farm.example.", str(made.address))
        assert farm.defects() == []


def test_a_key_that_the_server_does_not_know_is_a_finding(lab: Lab, place: Path, bind: Bind) -> None:
    """A refusal is said with the zone, and so is a key file that cannot be used; a reload takes the right one."""
    other = place / "other.key"
    other.write_text(bind.key_file.read_text().replace('"macbind"', '"stranger"'))
    other.chmod(0o640)
    table = names_of(bind).replace(str(bind.key_file), str(other))
    with Farm(lab, place, pools=POOLS + table) as farm, farm.client() as client:
        wait_finding(farm, "names_refused", "refuses the transfer of the zone farm.example")
        made = client.allocate("farm", "build-7")
        farm.reload(pools=POOLS + table.replace(str(other), str(place / "none.key")))
        wait_finding(farm, "names_key_refused", "does not exist")
        farm.reload(pools=POOLS + names_of(bind))
        wait_address(bind, "build-7.farm.example.", str(made.address))
        wait_no_finding(farm)
        assert farm.defects() == []


def test_of_two_controllers_one_writes_and_the_other_takes_over(lab: Lab, place: Path, bind: Bind) -> None:
    """Both serve; when the one that writes is killed, the other one writes."""
    with Farm(lab, place, pools=POOLS + names_of(bind)) as farm:
        wait_no_finding(farm)
        other = farm.beside("two")
        other.start()
        try:
            other.wait_answering()
            with other.client() as client:
                made = client.allocate("farm", "build-7")
                wait_address(bind, "build-7.farm.example.", str(made.address))
                farm.kill()
                until(lambda: _released(other, "build-7"), SOON_S, "the release")
                wait_address(bind, "build-7.farm.example.", None)
        finally:
            other.stop()
        assert other.defects() == []


def _released(farm: Farm, name: str) -> bool:
    with farm.client() as client:
        try:
            client.release(name)
        except MacbindError:  # dhcpd's lead is still to be taken over
            return False
    return True


def test_dnsmasq_and_the_resolver_read_the_hosts_file(lab: Lab, place: Path) -> None:
    """Both find a name after `allocate`, and do not after `release`; the file is whole and open to all."""
    hosts = hosts_in(place)
    table = f'[names]\ndomain = "{DOMAIN}"\nhosts_file = "{hosts}"\n'
    with (
        Dnsmasq(lab, hosts.parent, place / "dnsmasq.log") as dnsmasq,
        Farm(lab, place, pools=POOLS + table, command=PATIENT) as farm,
        farm.client() as client,
    ):
        made = client.allocate("farm", "build-7")
        assert getent(lab, place, hosts, "build-7").split() == [
            str(made.address),
            "build-7.farm.example",
            "build-7",
        ]
        here = {str(made.address)}
        until(lambda: dnsmasq.address("build-7.farm.example.") == here, SOON_S, "dnsmasq to know the name")
        assert dnsmasq.address("build-7.") == here
        assert dnsmasq.name(str(made.address)) == {"build-7.farm.example."}
        assert stat.S_IMODE(hosts.stat().st_mode) == 0o644
        client.release("build-7")
        assert getent(lab, place, hosts, "build-7") == ""
        until(lambda: not dnsmasq.address("build-7.farm.example."), SOON_S, "dnsmasq to forget the name")
        assert [one.name for one in hosts.parent.iterdir()] == ["macbind"]
        assert farm.defects() == []


def test_names_that_are_none_are_left_out_and_said(lab: Lab, place: Path) -> None:
    """A name with a slash, a name that programs ask for, and a host name that is taken: each is a finding."""
    hosts = hosts_in(place)
    table = f'[names]\ndomain = "{DOMAIN}"\nhosts_file = "{hosts}"\n'
    with Farm(lab, place, pools=POOLS + table, command=PATIENT) as farm, farm.client() as client:
        client.allocate("farm", "job/17")
        client.allocate("farm", "localhost")
        made = client.allocate("farm", "web")
        client.allocate("farm", "web-too", options=DhcpOptions(hostname="web"))
        wait_finding(farm, "names_unfit", "'job/17', 'localhost'")
        wait_finding(farm, "names_doubled", "'web-too'")
        assert hosts.read_text().splitlines()[1:] == [f"{made.address} web.farm.example web"]
        for name in ("job/17", "localhost", "web-too"):
            client.release(name)
        wait_no_finding(farm)


def test_a_hosts_file_of_others_stays_and_one_that_cannot_be_written_holds_nobody_up(
    lab: Lab, place: Path
) -> None:
    """Both are findings; allocations go on, and the file is made up for."""
    hosts = hosts_in(place)
    hosts.write_text("127.0.0.1 localhost\n")
    table = f'[names]\ndomain = "{DOMAIN}"\nhosts_file = "{hosts}"\n'
    with Farm(lab, place, pools=POOLS + table) as farm, farm.client() as client:
        wait_finding(farm, "names_file_foreign")
        client.allocate("farm", "build-7")
        assert hosts.read_text() == "127.0.0.1 localhost\n"
        hosts.parent.rename(place / "moved")  # at once: without the file there, macbind makes its own
        wait_finding(farm, "names_file_failed", "No such file or directory")
        hosts.parent.mkdir()
        until(lambda: hosts.exists() and "build-7" in hosts.read_text(), SOON_S, "the file")
        wait_no_finding(farm)
        assert farm.defects() == []


@pytest.mark.parametrize("kind", ["stub", "forward"])
def test_unbound_asks_the_name_server_as_the_documentation_says(lab: Lab, place: Path, kind: str) -> None:
    """With the lines of the page, it finds names both ways: at BIND as a stub, at dnsmasq as a forwarder."""
    page = (PAGES / "operate" / "names.md").read_text(encoding="utf-8")
    lines = page.partition("/etc/unbound/unbound.conf.d/macbind.conf\n")[2].partition("```")[0]
    lines = lines.replace("stub-", f"{kind}-")
    zones = ["farm.example.org", "1.10.in-addr.arpa"]
    hosts = hosts_in(place)
    hosts.write_text("10.1.1.3 web.farm.example.org web\n")
    with ExitStack() as servers:
        if kind == "stub":
            bind = servers.enter_context(Bind(lab, place / "bind", zones, port=5353))
            bind.update(zones[0], "web", "A", "10.1.1.3")
            bind.update(zones[1], "3.1", "PTR", "web.farm.example.org.")
        else:
            servers.enter_context(Dnsmasq(lab, hosts.parent, place / "dnsmasq.log", port=5353))
        unbound = servers.enter_context(Unbound(lab, place / "unbound", lines))
        until(lambda: unbound.address("web.farm.example.org.") == {"10.1.1.3"}, SOON_S, "the address")
        until(lambda: unbound.name("10.1.1.3") == {"web.farm.example.org."}, SOON_S, "the name")
