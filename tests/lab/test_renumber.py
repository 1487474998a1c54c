"""Machines that get another address while they run: real libvirt, QEMU and dhcpd, and nothing of ours inside."""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest

from labkit.farm import Farm
from labkit.guest import BOOT_DEADLINE_S, Guest, boot, greeting
from labkit.net import Lab
from labkit.virt import Libvirtd
from labkit.wait import until
from macbind.client.client import Client
from macbind.core.allocation import Allocation, Renumbering
from macbind.core.errors import Conflict, MachineFailed
from macbind.core.why import Reason
from macbind.machines import Progress, Step, Wait, abort_renumbering, launch, renumber
from macbind.virt.connection import run_event_loop
from macbind.virt.domain_xml import macs_in

pytestmark = pytest.mark.timeout(600)

POOLS = """
[subnet."10.0.0.0/8"]
routers = ["10.0.0.1"]
lease_time_s = 3600

[pool.farm]
subnet = "10.0.0.0/8"
ranges = ["10.1.1.3-10.1.1.60"]
release = "undefine"

[pool.shelf]
subnet = "10.0.0.0/8"
ranges = ["10.1.2.3-10.1.2.60"]
"""
MACHINES = {"web": "", "calm": "", "loyal": "macbind.faithful", "stiff": "acpiphp.disable=1"}
"""Each machine's kernel command line."""
SOON_S = 60.0
LEASE_S = 10.0
"""The lease of who stands still: it must not expire earlier."""
LONG_S = 3600.0
_ENDS_AT = """
import os, signal, sys
from macbind import Client
from macbind.machines import renumber

name, to, step, number, lease_s = sys.argv[1:]

class Holder(Client):
    def begin_renumber(self, *arguments, **named):
        begun = super().begin_renumber(*arguments, **named)
        self.token = begun.token
        return begun

def end(progress):
    if progress.step == step:
        if number == str(int(signal.SIGKILL)):  # so that nobody has to wait for it
            client.lease_renumber(name, client.token, lease_s=0.001)
        os.kill(os.getpid(), int(number))

with Holder() as client:
    renumber(client, name, to, live=True, uri=os.environ["LIBVIRT_DEFAULT_URI"], lease_s=float(lease_s),
        on_progress=end)
"""


@dataclass
class Site:
    """A lab with dhcpd, macbind and libvirtd, and the machines that were launched in it."""

    lab: Lab
    libvirtd: Libvirtd
    farm: Farm
    client: Client
    guest: Guest

    @property
    def env(self) -> dict[str, str]:
        """Where everything is, for commands."""
        return {
            **os.environ,
            "MACBIND_SOCKET": str(self.farm.socket),
            "LIBVIRT_DEFAULT_URI": self.libvirtd.uri,
        }

    def run(self, *command: str) -> "subprocess.CompletedProcess[str]":
        """Runs a command where the machines can be pinged from."""
        argv = self.lab.server.argv(list(command))
        return subprocess.run(argv, env=self.env, capture_output=True, text=True, timeout=400, check=False)

    def renumber(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Runs `macbind renumber`."""
        return self.run(*self.farm.command, "renumber", *arguments)

    def renumbered(self, *arguments: str) -> Any:
        """Runs `macbind renumber`, which must succeed; returns its answer."""
        done = self.renumber(*arguments, "--timeout", str(BOOT_DEADLINE_S), "--json")
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout)

    def crash(self, name: str, to: str, step: str) -> None:
        """Renumbers a machine until a step is done, when the process is killed; waits until its lease has expired."""
        done = self.run(sys.executable, "-c", _ENDS_AT, name, to, step, str(int(signal.SIGKILL)), str(LONG_S))
        assert done.returncode != 0, "it was not killed"
        assert done.stdout == ""
        assert "Traceback" not in done.stderr, done.stderr
        self.until_unleased()

    def until_unleased(self) -> None:
        """Waits until nobody holds a renumbering under way."""
        until(
            lambda: all(datetime.now(UTC) > _lease(one) for one in self.client.renumberings()),
            SOON_S,
            "the lease to expire",
        )

    @contextmanager
    def halted(self, name: str, to: str, step: str) -> "Iterator[subprocess.Popen[bytes]]":
        """A process that renumbers, and stands still when a step is done; it is killed in the end."""
        command = [sys.executable, "-c", _ENDS_AT, name, to, step, str(int(signal.SIGSTOP)), str(LEASE_S)]
        with subprocess.Popen(self.lab.server.argv(command), env=self.env) as holder:
            try:
                stat = Path(f"/proc/{holder.pid}/stat")
                until(lambda: stat.read_text().rpartition(")")[2].split()[0] == "T", 60, f"{step} to be done")
                yield holder
            finally:
                holder.kill()

    def xml(self, name: str, *options: str) -> str:
        """A domain as libvirt describes it."""
        return self.libvirtd.virsh("dumpxml", name, *options)

    def card(self, name: str) -> set[str]:
        """The MACs of a running domain."""
        return {str(mac) for mac in macs_in(self.xml(name))}

    def findings(self) -> set[str]:
        """The codes of what an admin should look at."""
        return {finding.code for finding in self.client.status().findings}

    def answers(self, address: Any, within_s: float = 15.0) -> bool:
        """Whether a machine answers there."""
        return self.lab.ping(str(address), within_s)

    def serves(self, one: Allocation) -> bool:
        """Whether dhcpd has exactly this reservation."""
        host = self.farm.dhcpd.omshell_host(str(one.mac))
        name = f"macbind-{one.address}-g{one.generation}"
        return host == {"name": name, "mac": str(one.mac), "ip": str(one.address)}

    def holders(self) -> dict[str, str]:
        """Who holds which address; a new address in brackets."""
        return {
            str(one.address): f"({one.name})" if one.renumbers_from is not None else one.name
            for one in self.client.list(released=True)
        }

    def until_holds(self, name: str, *addresses: str) -> None:
        """Waits until a name holds exactly these addresses."""
        until(
            lambda: (
                [where for where, who in self.holders().items() if who.strip("()") == name] == list(addresses)
            ),
            SOON_S,
            f"{name} to hold {addresses}, not {self.holders()}",
        )


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    """One lab for all tests, with its machines launched at once; its macbind watches the hypervisor."""
    run_event_loop()  # its thread must not be born inside, where it would outlive the lab
    with tempfile.TemporaryDirectory(prefix="mb-") as name, Lab() as lab:
        directory = Path(name)
        for part in ("virt", "farm"):
            (directory / part).mkdir()
        with Libvirtd(lab, directory / "virt") as libvirtd:
            watched = f'{POOLS}\n[hypervisor.local]\nuri = "{libvirtd.uri}"\n'
            with Farm(lab, directory / "farm", pools=watched) as farm, farm.client(60) as client:
                site = Site(lab, libvirtd, farm, client, Guest.build())

                def start(name: str) -> None:
                    template = site.guest.template(cmdline=MACHINES[name])
                    wait = Wait(timeout_s=BOOT_DEADLINE_S)
                    guarded = name == "web"
                    launch(
                        client,
                        template,
                        "farm",
                        name=name,
                        uri=libvirtd.uri,
                        wait=wait,
                        anti_spoofing=guarded,
                    )

                define_filter(libvirtd, "clean-traffic", set())
                start_lasting(site)
                with ThreadPoolExecutor(len(MACHINES)) as pool:
                    list(lab.server.call(lambda: pool.map(start, MACHINES)))
                yield site
                assert farm.defects() == []


def define_filter(libvirtd: Libvirtd, name: str, known: set[str]) -> None:
    """Gives libvirtd one of the filters that come with libvirt, and those it uses."""
    file = Path("/etc/libvirt/nwfilter") / f"{name}.xml"
    for used in re.findall(r"filterref filter='([^']+)'", file.read_text()):
        if used not in known:
            define_filter(libvirtd, used, known)
    libvirtd.virsh("nwfilter-define", str(file))
    known.add(name)


def start_lasting(site: Site) -> None:
    """Starts a machine that has a definition: `db`."""
    one = site.client.allocate("farm", "db", address="10.1.1.51")
    boot(site.libvirtd, site.guest.template(name="db", mac=str(one.mac)), persistent=True)


@pytest.fixture(scope="module", autouse=True)
def refused(site: Site) -> "Iterator[dict[str, Future[subprocess.CompletedProcess[str]]]]":
    """What comes of renumbering the two machines that cannot be; it goes on while other machines are."""
    with ThreadPoolExecutor(2) as pool:
        yield {
            name: pool.submit(site.renumber, name, "--to", to, "--live", "--json", "--timeout", "20")
            for name, to in (("loyal", "10.1.1.21"), ("stiff", "10.1.1.22"))
        }


def test_a_running_machine_is_renumbered_and_no_other_is_touched(site: Site) -> None:
    """The old address falls silent and is free, the new one answers, in the same slot; another machine goes on."""
    before, calm = site.client.get("web"), site.client.get("calm")
    calm_xml, slot = site.xml("calm"), _slots(site.xml("web"))
    assert site.renumbered("web", "--to", "10.1.1.20", "--live") == {
        "name": "web",
        "address": "10.1.1.20",
        "mac": "00:16:3e:01:01:14",
        "before": str(before.address),
        "domain": "web",
        "changed": True,
    }
    assert greeting(site.lab, "10.1.1.20").split()[-2:] == ["10.1.1.20/8", "00:16:3e:01:01:14"]
    assert not site.answers(before.address, 1)
    now = site.client.get("web")
    assert (now.address, now.domain_uuid, now.created_at) == (
        IPv4Address("10.1.1.20"),
        before.domain_uuid,
        before.created_at,
    )
    assert site.serves(now)
    assert site.farm.dhcpd.omshell_host(str(before.mac)) is None
    site.until_holds("web", "10.1.1.20")
    assert _slots(site.xml("web")) == slot
    assert "<parameter name='IP' value='10.1.1.20'/>" in site.xml("web")
    assert "urn:macbind:renumber" not in site.xml("web")
    assert site.answers(calm.address)
    assert site.serves(site.client.get("calm"))
    assert (site.client.get("calm"), site.xml("calm")) == (calm, calm_xml)
    until(lambda: site.client.why(str(before.address))[0].code is Reason.FREE, SOON_S, "it to be free")
    assert site.client.allocate("farm", "next").address == before.address
    site.client.release("next")


def _slots(xml: str) -> list[str]:
    """The lines that say where interfaces are plugged in."""
    return [line.strip() for line in xml.partition("<interface")[2].splitlines() if "<address type=" in line][
        :1
    ]


def test_nothing_is_done_twice(site: Site) -> None:
    """A machine that has the address already is left alone, whatever else is said, with exit status 0."""
    address = str(site.client.get("calm").address)
    before = site.xml("calm")
    done = site.renumbered("calm", "--to", address, "--live")
    assert (done["address"], done["changed"]) == (address, False)
    assert site.xml("calm") == before


def test_what_broke_off_is_seen_and_goes_on(site: Site) -> None:
    """Its process killed when the machine has no NIC: both addresses are held; the same call again goes on."""
    old = site.client.get("web")
    site.crash("web", "10.1.2.30", "NIC unplugged")
    assert site.card("web") == set()
    assert site.holders()[str(old.address)] == "web"
    assert site.holders()["10.1.2.30"] == "(web)"
    shown = site.farm.macbind("show", "web")
    assert "renumbers to:         10.1.2.30" in shown
    assert f"renumbers from {old.address}" in site.farm.macbind("list")
    refusal = site.renumber("web", "--to", "10.1.1.31", "--live")
    assert refusal.returncode == 4
    assert "is being renumbered from" in refusal.stderr
    site.renumbered("web", "--to", "10.1.2.30", "--live")
    assert site.answers("10.1.2.30")
    assert site.client.get("web").pool == "shelf"
    site.until_holds("web", "10.1.2.30")


def test_what_broke_off_is_aborted(site: Site) -> None:
    """Its process killed when the new card was in, and it answers: --abort gives it its old card and address."""
    old = site.client.get("web")
    site.crash("web", "10.1.1.40", "NIC plugged in")
    assert site.card("web") == {"00:16:3e:01:01:28"}
    until(lambda: site.answers("10.1.1.40"), SOON_S, "its system to find the new card")
    done = site.renumbered("web", "--abort")
    assert (done["address"], done["before"], done["changed"]) == (str(old.address), "10.1.1.40", True)
    assert site.answers(old.address)
    assert site.card("web") == {str(old.mac)}
    site.until_holds("web", str(old.address))
    assert site.renumbered("web", "--abort")["changed"] is False


def test_forged_record_moves_no_machine(site: Site) -> None:
    """A note in a domain's metadata counts only where the registry knows that domain, and only for a plain NIC."""
    site.client.allocate("farm", "victim", address="10.1.1.55")
    boot(site.libvirtd, site.guest.template(name="forger"))
    ran = site.farm.directory / "ran"
    script = site.farm.directory / "evil.sh"
    script.write_text(f"#!/bin/sh\ntouch {ran}\n")
    script.chmod(0o755)

    def forge(domain: str, name: str, mac: str) -> None:
        nic = f"<interface type='ethernet'><mac address='{mac}'/><script path='{script}'/></interface>"
        note = f"<renumber name='{name}'>{nic}</renumber>"
        key = ("--key", "macbind-renumber", "--set", note, "--live")
        site.libvirtd.virsh("metadata", domain, "urn:macbind:renumber:1", *key)

    forge("forger", "victim", "00:16:3e:01:01:37")
    refusal = site.renumber("victim", "--to", "10.1.1.56", "--live")
    assert refusal.returncode == 4
    assert "has the MAC of 'victim'" in refusal.stderr
    site.libvirtd.virsh("destroy", "forger")
    site.client.release("victim")

    old = site.client.get("web")
    site.crash("web", "10.1.1.57", "NIC unplugged")
    kept = re.search(r"<macbind-renumber:renumber.*?</macbind-renumber:renumber>", site.xml("web"), re.DOTALL)
    assert kept is not None
    forge("web", "web", str(old.mac))
    refusal = site.renumber("web", "--abort")
    assert refusal.returncode == 5
    assert "its type is 'ethernet'" in refusal.stderr
    assert site.card("web") == set()
    assert not ran.exists()
    own = kept[0].replace("macbind-renumber:", "")
    own = re.sub(r" xmlns:macbind-renumber=\S+?(?=[ >])", "", own)
    site.libvirtd.virsh(
        "metadata", "web", "urn:macbind:renumber:1", "--key", "macbind-renumber", "--set", own, "--live"
    )
    site.until_unleased()
    site.renumbered("web", "--abort")
    assert site.card("web") == {str(old.mac)}
    site.until_holds("web", str(old.address))


def test_a_lease_keeps_others_away_while_it_lives(site: Site) -> None:
    """Whatever they ask for, also after macbind has been started again; nothing of the machine is touched."""
    old, token = site.client.get("web"), "token-of-this-test"
    site.client.begin_renumber("web", "10.1.1.42", token=token, lease_s=LONG_S)
    attempts = (["--abort"], ["--to", "10.1.1.42", "--live"])
    for restart in (False, True):
        if restart:
            site.farm.stop()
            site.farm.start()
            site.farm.wait_serving()
        for attempt in attempts:
            refusal = site.renumber("web", *attempt)
            assert refusal.returncode == 4, refusal
            assert "'web' is being renumbered" in refusal.stderr
        with pytest.raises(Conflict, match="by somebody else, whose lease lives until"):
            site.client.abort_renumber("web")
    assert site.card("web") == {str(old.mac)}
    site.client.abort_renumber("web", token)
    site.until_holds("web", str(old.address))


def test_who_stands_still_loses_the_machine_to_another(site: Site) -> None:
    """When its lease has expired, another process turns back; the first, which wakes up, touches nothing."""
    old = site.client.get("web")
    with site.halted("web", "10.1.1.42", "NIC unplugged") as holder:
        site.until_unleased()
        assert site.card("web") == set()
        done = site.renumbered("web", "--abort")
        assert (done["address"], done["before"]) == (str(old.address), "10.1.1.42")
        holder.send_signal(signal.SIGCONT)
        assert holder.wait(60) != 0
    assert site.card("web") == {str(old.mac)}
    assert site.answers(old.address)
    site.until_holds("web", str(old.address))


def test_a_lease_is_renewed_while_a_machine_is_renumbered(site: Site) -> None:
    """It lives on, though the renumbering takes far longer than it, and is over when that fails."""
    old, leases = site.client.get("web"), set[datetime]()

    def wait(progress: Progress) -> None:
        if progress.step is Step.RESERVED:
            until(renewed, 60, "renewals")
            raise BrokenPipeError

    def renewed() -> bool:
        leases.add(_lease(site.client.renumberings()[0]))
        return len(leases) > 4

    with pytest.raises(BrokenPipeError):
        site.lab.server.call(
            lambda: renumber(
                site.client,
                "web",
                "10.1.1.49",
                live=True,
                uri=site.libvirtd.uri,
                on_progress=wait,
                lease_s=4.5,
            )
        )
    assert max(leases) - min(leases) > timedelta(seconds=4.5)
    site.until_holds("web", str(old.address))


def _lease(one: Renumbering) -> datetime:
    assert one.lease_until is not None
    return one.lease_until


class Overtaken:
    """A client whose machine another process renumbers between its first look and its next call."""

    def __init__(self, site: Site, *arguments: str) -> None:
        self._site, self._arguments = site, arguments

    def __getattr__(self, name: str) -> Any:
        return getattr(self._site.client, name)

    def begin_renumber(self, *arguments: Any, **named: Any) -> Any:
        """Lets the other one go first, once."""
        self._let_pass()
        return self._site.client.begin_renumber(*arguments, **named)

    def lease_renumber(self, *arguments: Any, **named: Any) -> Any:
        """Lets the other one go first, once."""
        self._let_pass()
        return self._site.client.lease_renumber(*arguments, **named)

    def _let_pass(self) -> None:
        first, self._arguments = self._arguments, ()
        if first:
            self._site.renumbered(*first)


def test_who_comes_too_late_leaves_the_nic_alone(site: Site) -> None:
    """The other process has renumbered the machine, or has aborted that: nothing is exchanged any more."""
    there = "10.1.1.47"
    late: Any = Overtaken(site, "web", "--to", there, "--live")
    done = site.lab.server.call(lambda: renumber(late, "web", there, live=True, uri=site.libvirtd.uri))
    assert (str(done.address), done.changed) == (there, False)
    assert site.answers(there)
    site.crash("web", "10.1.1.48", "NIC plugged in")
    late = Overtaken(site, "web", "--to", "10.1.1.48", "--live")
    with pytest.raises(Conflict, match="No such renumbering of 'web' is under way any more"):
        site.lab.server.call(lambda: abort_renumbering(late, "web", uri=site.libvirtd.uri))
    assert site.card("web") == {"00:16:3e:01:01:30"}
    site.until_holds("web", "10.1.1.48")


def test_a_thread_does_not_disturb_another(site: Site) -> None:
    """The second thread of a process has no token: it is refused as any other process."""
    old, refusals = site.client.get("web"), list[str]()

    def meddle(progress: Progress) -> None:
        if progress.step is Step.UNPLUGGED and not refusals:
            with pytest.raises(Conflict) as caught:
                abort_renumbering(site.client, "web", uri=site.libvirtd.uri)
            refusals.append(caught.value.message)

    def give(to: str) -> None:
        renumber(site.client, "web", to, live=True, uri=site.libvirtd.uri, on_progress=meddle)

    site.lab.server.call(lambda: give("10.1.1.43"))
    site.lab.server.call(lambda: give(str(old.address)))
    (refusal,) = refusals
    assert refusal.startswith(f"'web' is being renumbered from {old.address} to 10.1.1.43 by somebody else")
    site.until_holds("web", str(old.address))


def test_who_is_told_cannot_keep_a_machine_from_its_way_back(site: Site) -> None:
    """Each word to it fails, as to a terminal that is gone: the machine has its card and address again."""
    old = site.client.get("web")

    def fail(progress: Progress) -> None:
        if failed or progress.step not in (Step.RESERVED, Step.UNPLUGGED):
            failed.append(progress.step)
            raise BrokenPipeError

    failed = list[Step]()
    with pytest.raises(BrokenPipeError) as caught:
        site.lab.server.call(
            lambda: renumber(
                site.client, "web", "10.1.1.44", live=True, uri=site.libvirtd.uri, on_progress=fail
            )
        )
    assert getattr(caught.value, "__notes__", []) == []
    assert failed == [Step.PLUGGED_IN, Step.UNPLUGGED, Step.PLUGGED_IN, Step.PINGED, Step.UNDONE]
    assert site.card("web") == {str(old.mac)}
    site.until_holds("web", str(old.address))


def test_a_machine_that_is_off_is_renumbered_in_its_definition(site: Site) -> None:
    """It starts with its new address; --live is refused, as is leaving it out for one that runs."""
    one = site.client.allocate("farm", "spare")
    site.libvirtd.virsh("define", "/dev/stdin", stdin=site.guest.template(name="spare", mac=str(one.mac)))
    until(lambda: site.client.get("spare").domain_uuid, SOON_S, "its domain to be seen")
    refusals = {"spare": ["--live"], "calm": []}
    for name, more in refusals.items():
        refusal = site.renumber(name, "--to", "10.1.1.45", *more)
        assert refusal.returncode == 4, refusal.stderr
        assert "--live" in refusal.stderr
        assert "10.1.1.45" not in site.holders()
    site.renumbered("spare", "--to", "10.1.1.45")
    assert site.card("spare") == {"00:16:3e:01:01:2d"}
    site.until_holds("spare", "10.1.1.45")
    site.libvirtd.virsh("undefine", "spare")
    site.client.release("spare")  # it has never run: a definition that is gone ends nothing
    site.until_holds("spare")


def test_a_lasting_machine_is_renumbered_with_its_definition(site: Site) -> None:
    """Both are changed, so that it has its address also after the next start."""
    until(lambda: site.answers("10.1.1.51"), 60, "db to answer")
    site.renumbered("db", "--to", "10.1.1.52", "--live", "--tcp", "22")
    stored = {str(mac) for mac in macs_in(site.xml("db", "--inactive"))}
    assert stored == site.card("db") == {"00:16:3e:01:01:34"}
    site.until_holds("db", "10.1.1.52")


def test_an_address_somebody_answers_at_is_refused(site: Site) -> None:
    """A stranger would be taken for the machine: refused before anything is changed."""
    stranger = site.lab.port("stranger")
    stranger.add_address("10.1.1.55/8")
    refusal = site.renumber("calm", "--to", "10.1.1.55", "--live")
    assert refusal.returncode == 5, refusal
    assert "Somebody answers a ping at 10.1.1.55 already" in refusal.stderr
    assert "10.1.1.55" not in site.holders()


def test_a_machine_saved_on_its_way_keeps_both_addresses(site: Site) -> None:
    """It will go on with the card it was saved with; started again, its renumbering is aborted as any other."""
    old = site.client.get("db")
    site.crash("db", "10.1.1.53", "NIC plugged in")
    site.libvirtd.virsh("managedsave", "db")
    refusal = site.renumber("db", "--abort")
    assert refusal.returncode == 5, refusal
    assert "The machine 'db' is saved" in refusal.stderr
    assert site.holders()["10.1.1.53"] == "(db)"
    site.libvirtd.virsh("start", "db")
    assert site.card("db") == {"00:16:3e:01:01:35"}
    site.renumbered("db", "--abort")
    stored = {str(mac) for mac in macs_in(site.xml("db", "--inactive"))}
    assert stored == site.card("db") == {str(old.mac)}
    site.until_holds("db", str(old.address))


def test_a_machine_saved_to_a_file_on_its_way_is_not_turned_back(site: Site) -> None:
    """libvirt knows nothing of it any more: both addresses are kept until it is restored, and then it turns back."""
    old, image, saved = site.client.get("calm"), site.libvirtd.directory / "calm.image", list[Step]()

    def save(progress: Progress) -> None:
        if progress.step is Step.PLUGGED_IN and not saved:
            saved.append(progress.step)
            site.libvirtd.virsh("save", "calm", str(image))

    with pytest.raises(MachineFailed, match="stopped") as caught:
        site.lab.server.call(
            lambda: renumber(
                site.client, "calm", "10.1.1.58", live=True, uri=site.libvirtd.uri, on_progress=save
            )
        )
    (note,) = caught.value.__notes__
    assert "is gone. If it has ended," in note
    site.until_holds("calm", str(old.address), "10.1.1.58")
    site.libvirtd.virsh("restore", str(image))
    assert site.card("calm") == {"00:16:3e:01:01:3a"}
    site.lab.server.call(lambda: abort_renumbering(site.client, "calm", uri=site.libvirtd.uri))
    assert site.card("calm") == {str(old.mac)}
    site.until_holds("calm", str(old.address))


def test_an_address_of_a_silent_machine_is_refused(site: Site) -> None:
    """One that answers no pings has its address all the same: it is found by its MAC, and nothing is changed."""
    before = site.xml("calm")
    stranger = site.lab.port("mute")
    stranger.add_address("10.1.1.56/8")
    switch = ["sysctl", "-qw", "net.ipv4.icmp_echo_ignore_all=1"]
    subprocess.run(stranger.namespace.argv(switch), check=True)
    refusal = site.renumber("calm", "--to", "10.1.1.56", "--live")
    assert refusal.returncode == 5, refusal
    assert f"Another machine, {stranger.mac}, has the address 10.1.1.56 already" in refusal.stderr
    assert "10.1.1.56" not in site.holders()
    assert site.xml("calm") == before


def test_libvirtd_may_crash_in_the_middle(site: Site) -> None:
    """Killed when the card is out, and started again: the renumbering goes on by itself, and no address is lost."""
    crashes: list[Progress] = []

    def crash(progress: Progress) -> None:
        if progress.step is Step.UNPLUGGED and not crashes:
            crashes.append(progress)
            site.libvirtd.kill()
            site.libvirtd.start()

    done = site.lab.server.call(
        lambda: renumber(
            site.client,
            "calm",
            "10.1.1.46",
            live=True,
            uri=site.libvirtd.uri,
            on_progress=crash,
            wait=Wait(timeout_s=BOOT_DEADLINE_S),
        )
    )
    assert crashes
    assert str(done.address) == "10.1.1.46"
    assert site.card("calm") == {str(done.mac)}
    site.until_holds("calm", "10.1.1.46")


def test_a_machine_that_ignores_the_new_card_gets_the_old_one_back(
    site: Site, refused: "dict[str, Future[subprocess.CompletedProcess[str]]]"
) -> None:
    """One that uses only cards it knows: in time, it has its card and address again, and the new address is free."""
    done = refused["loyal"].result()
    error = json.loads(done.stdout)["error"]
    assert (done.returncode, error["code"], error["details"]["step"]) == (
        5,
        "machine_failed",
        "wait",
    )
    assert "did not answer a ping at 10.1.1.21 within 20 s" in error["message"]
    assert "undo" not in error["details"], error
    _unchanged(site, "loyal", "10.1.1.21")
    assert "urn:macbind:renumber" not in site.xml("loyal")


def test_an_answer_of_another_machine_does_not_count(site: Site, refused: "dict[str, Future[Any]]") -> None:
    """Somebody takes the address when the card is out: the machine has not arrived, and goes back."""
    refused["loyal"].result()
    old, strangers = site.client.get("loyal"), list[str]()
    stranger = site.lab.port("thief")

    def take(progress: Progress) -> None:
        if progress.step is Step.UNPLUGGED and not strangers:
            stranger.add_address("10.1.1.57/8")
            strangers.append(str(stranger.mac))

    with pytest.raises(MachineFailed, match=f"but {stranger.mac} has that address"):
        site.lab.server.call(
            lambda: renumber(
                site.client,
                "loyal",
                "10.1.1.57",
                live=True,
                uri=site.libvirtd.uri,
                on_progress=take,
                wait=Wait(timeout_s=20),
            )
        )
    assert strangers
    assert site.card("loyal") == {str(old.mac)}
    site.until_holds("loyal", str(old.address))


def test_a_machine_that_does_not_let_go_of_its_card_keeps_it(
    site: Site, refused: "dict[str, Future[subprocess.CompletedProcess[str]]]"
) -> None:
    """One whose system takes no part in hot-plugging: it keeps card and address, and the new address is free."""
    done = refused["stiff"].result()
    error = json.loads(done.stdout)["error"]
    assert (done.returncode, error["code"], error["details"]["step"]) == (
        5,
        "machine_failed",
        "unplug",
    )
    assert "undo" not in error["details"], error
    _unchanged(site, "stiff", "10.1.1.22")


def test_a_card_that_is_lost_after_all_is_told_and_plugged_in_again(site: Site, refused: object) -> None:
    """QEMU remembers at the next reset what it was asked: the machine keeps its address, and gets its card back."""
    one = site.client.get("stiff")
    site.libvirtd.virsh("reset", "stiff")
    until(lambda: site.card("stiff") == set(), SOON_S, "QEMU to take the card away")
    until(lambda: "nic_lost" in site.findings(), SOON_S, "macbind to say so")
    assert site.client.get("stiff") == one
    refusal = site.renumber("stiff", "--abort", "--timeout", "1")
    assert refusal.returncode == 5
    assert "finds it when it reboots" in refusal.stderr
    assert site.card("stiff") == {str(one.mac)}
    site.libvirtd.virsh("reset", "stiff")
    until(lambda: site.answers(one.address), BOOT_DEADLINE_S, "it to boot with its card")
    until(lambda: "nic_lost" not in site.findings(), SOON_S, "the finding to end")
    _unchanged(site, "stiff", "10.1.1.22")
    assert site.renumbered("stiff", "--abort")["changed"] is False


def _unchanged(site: Site, name: str, target: str) -> None:
    one = site.client.get(name)
    assert site.answers(one.address)
    assert site.card(name) == {str(one.mac)}
    assert site.serves(one)
    site.until_holds(name, str(one.address))
    probe = f"probe-{name}"
    assert str(site.client.allocate("farm", probe, address=target).address) == target
    site.client.release(probe)


def test_destroying_a_machine_on_its_way_frees_both_addresses(site: Site) -> None:
    """`virsh destroy` when its card is out: neither address is held any longer."""
    site.crash("web", "10.1.1.41", "NIC unplugged")
    site.libvirtd.virsh("destroy", "web")
    site.until_holds("web")
