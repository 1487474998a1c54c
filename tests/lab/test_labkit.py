"""The laboratory proves itself on a real dhcpd with a configuration written by hand."""

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path

import pytest

from labkit.clients import ClientRun, dhclient, dhcpcd, udhcpc
from labkit.dhcp import DEFAULT_TIMEOUT_S, Ack, DhcpClient, Garbage, Nak, Route, Silence, expect_silence
from labkit.dhcpd import Dhcpd, DhcpdDied, check_config
from labkit.net import Lab, Port
from labkit.netns import CommandFailed, has_ended
from labkit.omshell import OmapiKey, OmshellFailed
from labkit.wait import until

VM, WITNESS, STRANGER = "00:16:3e:14:00:03", "00:16:3e:14:00:04", "00:16:3e:63:00:01"
VM_ADDRESS, WITNESS_ADDRESS = IPv4Address("10.20.0.3"), IPv4Address("10.20.0.4")
KEY = OmapiKey("labkey", "bGFiLXNlY3JldC1sYWItc2VjcmV0LWxhYi1zZWNyZXQ=")
SETTINGS = """
authoritative; ping-check false; default-lease-time 600; max-lease-time 600;
omapi-port 7911;
key labkey { algorithm hmac-sha256; secret "bGFiLXNlY3JldC1sYWItc2VjcmV0LWxhYi1zZWNyZXQ="; }
omapi-key labkey;
option classless-routes code 121 = string;
"""
OPTIONS = """
  option routers 10.0.0.1;
  option domain-name-servers 10.0.0.1, 10.0.0.2;
  option domain-name "lab.example";
  option classless-routes 18:0a:0a:0a:0a:00:00:01:00:0a:00:00:01;
  next-server 10.0.0.5; filename "boot.img";
"""
HOSTS = """
host vm { hardware ethernet 00:16:3e:14:00:03; fixed-address 10.20.0.3; option host-name "vm3"; }
host witness { hardware ethernet 00:16:3e:14:00:04; fixed-address 10.20.0.4; }
"""
CONFIG = f"{SETTINGS} deny unknown-clients;\nsubnet 10.0.0.0 netmask 255.0.0.0 {{ {OPTIONS} }}\n{HOSTS}"
RANGE_CONFIG = (
    f"{SETTINGS} subnet 10.0.0.0 netmask 255.0.0.0 {{ {OPTIONS} range 10.99.0.1 10.99.0.9; }}\n{HOSTS}"
)


@pytest.fixture
def dhcpd(lab: Lab, tmp_path: Path) -> Iterator[Dhcpd]:
    """A serving dhcpd with two reserved machines, which ignores all others."""
    with Dhcpd(lab, CONFIG, tmp_path / "dhcpd.leases", key=KEY) as dhcpd:
        yield dhcpd


@pytest.fixture
def port(lab: Lab, dhcpd: Dhcpd) -> Port:
    """The socket a machine under test is plugged into."""
    return lab.port("vm", VM)


@pytest.fixture
def vm(port: Port) -> DhcpClient:
    """The machine reserved for 10.20.0.3."""
    return DhcpClient(port, seed=3)


@pytest.fixture
def witness(lab: Lab, dhcpd: Dhcpd) -> DhcpClient:
    """The machine reserved for 10.20.0.4, whose offers show that the server is working."""
    return DhcpClient(lab.port("witness", WITNESS), seed=4)


def test_full_exchange_gives_exactly_the_reserved_address_and_options(vm: DhcpClient) -> None:
    """A reserved machine gets its own address with every option of the subnet and of its host entry."""
    lease = vm.dora()
    assert lease is not None
    assert (lease.address, lease.server, lease.mask) == (
        VM_ADDRESS,
        IPv4Address("10.0.0.1"),
        IPv4Address("255.0.0.0"),
    )
    assert lease.routers == (IPv4Address("10.0.0.1"),)
    assert lease.dns == (IPv4Address("10.0.0.1"), IPv4Address("10.0.0.2"))
    assert (lease.domain, lease.hostname, lease.lease_time_s) == ("lab.example", "vm3", 600)
    assert (lease.next_server, lease.filename) == (IPv4Address("10.0.0.5"), "boot.img")
    assert lease.routes == (
        Route(IPv4Network("10.10.10.0/24"), IPv4Address("10.0.0.1")),
        Route(IPv4Network("0.0.0.0/0"), IPv4Address("10.0.0.1")),
    )
    assert lease.options[53] == b"\x05"
    assert 0 < lease.elapsed_s < 15


def test_lease_is_extended_by_its_server_and_by_any_server(vm: DhcpClient) -> None:
    """RENEW and REBIND keep the address, whether the machine has it configured or not."""
    lease = vm.dora()
    assert lease is not None
    for _ in range(2):
        for answer in (vm.renew(lease), vm.rebind(lease)):
            assert isinstance(answer, Ack)
            assert answer.lease.address == VM_ADDRESS
        vm.bind(lease)


def test_bound_machine_can_be_pinged_until_it_is_flushed(lab: Lab, vm: DhcpClient) -> None:
    """`bind` makes the machine reachable at its address and MAC; `flush` undoes that."""
    vm.port.mac = STRANGER
    assert vm.dora(bind=True) is not None
    assert vm.port.mac == VM
    assert vm.port.addresses() == (IPv4Interface("10.20.0.3/8"),)
    assert lab.ping(VM_ADDRESS)
    assert vm.port.ping("10.0.0.1")
    vm.port.flush()
    assert vm.port.addresses() == ()
    assert not lab.ping(VM_ADDRESS, deadline_s=0.1)


def test_machine_that_remembers_a_wrong_address_is_refused(vm: DhcpClient) -> None:
    """INIT-REBOOT is acknowledged for the reserved address and refused at once for any other."""
    right, wrong = vm.init_reboot(VM_ADDRESS), vm.init_reboot("10.20.0.99")
    assert isinstance(right, Ack)
    assert right.lease.address == VM_ADDRESS
    assert isinstance(wrong, Nak)
    assert wrong.server == IPv4Address("10.0.0.1")
    assert wrong.elapsed_s < 15


def test_released_and_declined_reservations_are_given_again(dhcpd: Dhcpd, vm: DhcpClient) -> None:
    """RELEASE and DECLINE reach the server, and the reserved address stays the machine's own."""
    lease = vm.dora()
    assert lease is not None
    vm.release(lease)
    vm.decline(lease)
    again = vm.dora()
    assert again is not None
    assert again.address == VM_ADDRESS
    assert f"DHCPRELEASE of {VM_ADDRESS} from {VM}" in dhcpd.log()
    assert f"DHCPDECLINE of {VM_ADDRESS} from {VM}" in dhcpd.log()


def test_machine_with_a_fixed_address_can_ask_for_options(vm: DhcpClient) -> None:
    """INFORM is answered with the options and without a lease time."""
    answer = vm.inform("10.7.7.7")
    assert isinstance(answer, Ack)
    assert (answer.lease.address, answer.lease.domain) == (IPv4Address("10.7.7.7"), "lab.example")
    assert answer.lease.lease_time_s is None


def test_unknown_machine_meets_silence(lab: Lab, witness: DhcpClient) -> None:
    """A machine without reservation gets no word, which is proven without waiting for a timeout."""
    stranger = DhcpClient(lab.port("stranger", STRANGER))
    assert expect_silence(stranger, witness).waited_s < DEFAULT_TIMEOUT_S
    assert stranger.discover(timeout_s=0.1) is None
    assert isinstance(stranger.init_reboot("10.20.0.77", timeout_s=0.1), Silence)


def test_silence_is_not_claimed_for_a_machine_that_is_answered(
    dhcpd: Dhcpd, vm: DhcpClient, witness: DhcpClient
) -> None:
    """`expect_silence` fails when the machine is answered, and when the witness is not."""
    with pytest.raises(AssertionError, match=r"OFFER 10\.20\.0\.3"):
        expect_silence(vm, witness)
    dhcpd.freeze()
    with pytest.raises(AssertionError, match="witness"):
        expect_silence(vm, witness, timeout_s=0.1)


def test_many_machines_can_share_one_port(vm: DhcpClient, witness: DhcpClient) -> None:
    """A client with another MAC than its port is served, and takes no reply to others for its own."""
    other = DhcpClient(vm.port, WITNESS, hostname="guest", client_id=b"\x00same")
    offers = (vm.discover(), other.discover(), witness.discover())
    assert [offer and offer.address for offer in offers] == [VM_ADDRESS, WITNESS_ADDRESS, WITNESS_ADDRESS]


def test_garbage_does_not_end_dhcpd(dhcpd: Dhcpd, vm: DhcpClient) -> None:
    """Broken messages of every kind get no answer worth having, and the server goes on serving."""
    for kind in Garbage:
        vm.send_garbage(kind)
    vm.send_garbage(b"GET / HTTP/1.1\r\n\r\n")
    assert vm.dora() is not None
    assert dhcpd.alive


def test_dynamic_range_serves_strangers_and_forgets_with_the_lease_file(lab: Lab, tmp_path: Path) -> None:
    """A stranger keeps its address of the range over a restart; when the leases are lost another gets it."""
    with Dhcpd(lab, RANGE_CONFIG, tmp_path / "range.leases") as dhcpd:
        port = lab.port("strangers")
        first, second = DhcpClient(port, STRANGER), DhcpClient(port, "00:16:3e:63:00:02")
        lease = first.dora()
        assert lease is not None
        assert IPv4Address("10.99.0.1") <= lease.address <= IPv4Address("10.99.0.9")
        dhcpd.restart(keep_leases=True)
        assert isinstance(first.renew(lease), Ack)
        assert isinstance(second.init_reboot(lease.address), Nak)
        dhcpd.restart(keep_leases=False)
        assert isinstance(second.init_reboot(lease.address), Ack)


@pytest.mark.parametrize("client", [udhcpc, dhclient, dhcpcd])
def test_client_of_real_machines_gets_the_reserved_address(
    lab: Lab, port: Port, client: Callable[..., ClientRun]
) -> None:
    """udhcpc, dhclient and dhcpcd get the reserved address, configure it, and leave no process behind."""
    run = client(port)
    assert run.address == VM_ADDRESS, run.output
    assert run.elapsed_s < 60
    assert IPv4Interface("10.20.0.3/8") in port.addresses()
    assert lab.ping(VM_ADDRESS)
    until(lambda: not port.namespace.pids(), 60, "the client's processes to end")


@pytest.mark.parametrize("client", [udhcpc, dhclient, dhcpcd])
def test_client_of_real_machines_without_a_lease_says_so(
    lab: Lab, dhcpd: Dhcpd, client: Callable[..., ClientRun]
) -> None:
    """A machine without reservation ends its attempt at the deadline, with no address."""
    run = client(lab.port("stranger", STRANGER), deadline_s=0.3)
    assert run.address is None
    assert run.elapsed_s < 15


@pytest.mark.parametrize("client", [dhclient, dhcpcd])
def test_client_with_a_memory_asks_for_its_old_address(
    dhcpd: Dhcpd, port: Port, tmp_path: Path, client: Callable[..., ClientRun]
) -> None:
    """With the same state directory the second run is a reboot: the client asks for the address it had."""
    state = tmp_path / "disk"
    assert client(port, state=state).address == VM_ADDRESS
    port.flush()
    asked = dhcpd.log().count("DHCPDISCOVER")
    assert client(port, state=state).address == VM_ADDRESS
    assert dhcpd.log().count("DHCPDISCOVER") == asked


def test_frozen_dhcpd_answers_when_it_is_thawed(dhcpd: Dhcpd, vm: DhcpClient) -> None:
    """While frozen the server is silent and its OMAPI port still connects; thawed, it serves again."""
    dhcpd.freeze()
    assert dhcpd.alive
    assert vm.discover(timeout_s=0.1) is None
    dhcpd.lab.open_socket("127.0.0.1", 7911).close()
    dhcpd.thaw()
    assert vm.dora() is not None


def test_killed_dhcpd_is_down_until_it_is_restarted(dhcpd: Dhcpd, vm: DhcpClient) -> None:
    """After SIGKILL nothing answers and the pid is refused; a restart serves under a new pid."""
    pid = dhcpd.pid
    dhcpd.kill()
    assert not dhcpd.alive
    assert vm.discover(timeout_s=0.1) is None
    with pytest.raises(DhcpdDied, match="status -9"):
        _ = dhcpd.pid
    dhcpd.restart()
    assert dhcpd.pid != pid
    assert vm.dora() is not None


def test_dhcpd_that_dies_at_start_shows_the_end_of_its_log(lab: Lab, tmp_path: Path) -> None:
    """A configuration that dhcpd refuses ends the waiting at once, with dhcpd's own words."""
    dhcpd = Dhcpd(lab, "subnet nonsense;\n", tmp_path / "dhcpd.leases")
    dhcpd.start()
    with pytest.raises(DhcpdDied, match=r"dhcpd\.conf line 1"):
        dhcpd.wait_ready()
    assert "line 1" in check_config(lab, dhcpd.config).stderr


def test_omshell_creates_and_finds_a_host(lab: Lab, dhcpd: Dhcpd, witness: DhcpClient) -> None:
    """A host created over OMAPI is found under its MAC and is served; one that is not there is None."""
    stranger = DhcpClient(lab.port("stranger"), STRANGER)
    assert dhcpd.omshell_host(STRANGER) is None
    expect_silence(stranger, witness)
    dhcpd.omshell(
        f'new host\nset name = "guest"\nset hardware-address = {STRANGER}\nset hardware-type = 1\n'
        "set ip-address = 65.66.67.68\ncreate\n"
    )
    assert dhcpd.omshell_host(STRANGER) == {"name": "guest", "mac": STRANGER, "ip": "65.66.67.68"}
    assert dhcpd.omshell_host(VM) == {"name": "vm", "mac": VM, "ip": str(VM_ADDRESS)}
    dhcpd.omshell(
        f"new host\nset hardware-address = {STRANGER}\nset hardware-type = 1\nopen\n"
        "set ip-address = 10.99.0.1\nupdate\n"
    )
    lease = stranger.dora()
    assert lease is not None
    assert lease.address == IPv4Address("10.99.0.1")


def test_refusals_of_omapi_are_errors_not_absent_hosts(dhcpd: Dhcpd) -> None:
    """A wrong key, a wrong secret or a name that exists raise; a stopped server does as well."""
    taken = f'new host\nset name = "vm"\nset hardware-address = {STRANGER}\nset hardware-type = 1\ncreate\n'
    with pytest.raises(OmshellFailed, match="already exists"):
        dhcpd.omshell(taken)
    dhcpd.key = OmapiKey("labkey", "d3Jvbmctc2VjcmV0")
    with pytest.raises(OmshellFailed):
        dhcpd.omshell_host(VM)
    dhcpd.key = OmapiKey("nokey", KEY.secret)
    with pytest.raises(OmshellFailed):
        dhcpd.omshell_host(VM)
    dhcpd.stop()
    with pytest.raises(OmshellFailed):
        dhcpd.omshell_host(VM)


def test_sockets_of_the_lab_leave_the_callers_namespace_alone(dhcpd: Dhcpd) -> None:
    """A socket reaches the lab's loopback from this process, whose own namespace never changes."""
    before = Path("/proc/thread-self/ns/net").readlink()
    with dhcpd.lab.open_socket("127.0.0.1", 7911, timeout_s=1) as sock:
        assert sock.getpeername() == ("127.0.0.1", 7911)
    assert Path("/proc/thread-self/ns/net").readlink() == before
    with pytest.raises(ConnectionRefusedError):
        dhcpd.lab.open_socket("127.0.0.1", 7912)


def test_labs_live_side_by_side(lab: Lab) -> None:
    """Two labs with the same addresses do not see each other, and one outlives the other."""
    lab.port("one").add_address("10.1.1.1/8")
    with Lab() as other:
        assert other.name != lab.name
        assert other.port("one").addresses() == ()
        assert not other.ping("10.1.1.1", deadline_s=0.1)
        assert lab.ping("10.1.1.1")
    assert lab.ping("10.1.1.1")


def test_lab_takes_everything_down_when_its_set_up_fails() -> None:
    """A bridge address that is refused leaves no namespace behind."""
    lab = Lab(["10.0.0.1/8", "10.0.0.1/8"])
    with pytest.raises(CommandFailed, match="already assigned"), lab:
        raise AssertionError("never entered")
    assert not list(Path("/run/netns").glob(f"{lab.name}*"))


def test_lab_ends_its_processes_and_those_they_left_behind(tmp_path: Path) -> None:
    """Leaving the lab ends what was started in it, orphans and frozen processes included."""
    with Lab() as lab:
        port = lab.port("vm")
        leader = lab.popen(["setsid", "--fork", "sleep", "1000"], port, output=tmp_path / "log")
        leader.wait(60)
        orphans = until(port.namespace.pids, 60, "the orphan")
        frozen = lab.popen(["sleep", "1000"], output=tmp_path / "log")
        frozen.send_signal(signal.SIGSTOP)
    assert all(has_ended(pid) for pid in {*orphans, frozen.pid})
    assert not list(Path("/run/netns").glob(f"{lab.name}*"))


def test_failed_command_says_what_it_said(lab: Lab) -> None:
    """A command that fails raises with its own words; a port name that is no name is refused."""
    with pytest.raises(CommandFailed, match="No such file"):
        lab.run(["cat", "/nonexistent"])
    assert lab.run(["false"], check=False).returncode == 1
    with pytest.raises(ValueError, match="port name"):
        lab.port("not a name")


def test_waiting_ends_with_the_name_of_what_never_came() -> None:
    """`until` returns what the condition returned, and names it when the deadline passes."""
    assert until(lambda: "here", 1, "anything") == "here"
    with pytest.raises(TimeoutError, match=r"gave up after 0\.01 s waiting for godot"):
        until(lambda: False, 0.01, "godot")


def play(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run `python -m labkit` for a tenth of a second."""
    return subprocess.run(
        [sys.executable, "-m", "labkit", "--for", "0.1", *arguments],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_playground_shows_its_topology_and_goes_away() -> None:
    """`python -m labkit` prints the commands to play with and takes the lab down when its time is over."""
    done = play()
    assert done.returncode == 0, done.stderr
    assert "ip netns exec labkit-" in done.stdout
    assert VM in done.stdout
    assert done.stdout.endswith("The lab is gone.\n")


def test_playground_with_a_bad_config_shows_what_dhcpd_says(tmp_path: Path) -> None:
    """A configuration that dhcpd refuses ends `python -m labkit` with status 1 and dhcpd's own words."""
    config = tmp_path / "bad.conf"
    config.write_text("subnet nonsense;\n")
    refused = play("--config", str(config))
    assert refused.returncode == 1
    assert "bad.conf line 1" in refused.stderr
