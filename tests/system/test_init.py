"""`macbind init` on a machine where macbind was just installed: what it proposes, refuses and writes."""

import json
from collections.abc import Iterator

import pytest

from labkit.installed import REPOSITORY, Installed

FILES = (
    "/etc/macbind/macbind.toml",
    "/etc/macbind/dhcpd.env",
    "/etc/dhcp/macbind.conf",
    "/etc/dhcp/macbind.key",
    "/etc/systemd/system/isc-dhcp-server.service.d/macbind.conf",
)


@pytest.fixture
def machine(bare: Installed) -> Iterator[Installed]:
    """The machine, without a site before the test and after it."""
    yield bare
    bare.run("rm", "-f", *FILES)


def there(machine: Installed) -> list[str]:
    """Which of the files exist."""
    return [path for path in FILES if machine.run("test", "-e", path, status=None).returncode == 0]


def test_proposals_alone_make_a_site(machine: Installed) -> None:
    """--yes takes interface, subnet and gateway from the only bridge; secrets are for root and macbind's group."""
    machine.run("macbind", "init", "--yes")
    text = machine.run("cat", FILES[0]).stdout
    assert '[subnet."10.0.0.0/8"]' in text
    assert 'routers = ["10.0.0.1"]' in text
    assert "ranges" not in text
    assert machine.run("cat", FILES[1]).stdout == (
        "MACBIND_INTERFACES=br0\nDHCPDv4_CONF=/etc/dhcp/macbind.conf\n"
    )
    modes = machine.run("stat", "--format=%a %U:%G", *FILES[:4]).stdout.split("\n")[:4]
    assert modes == ["640 root:macbind", "644 root:root", "644 root:root", "640 root:macbind"]
    machine.run("macbind", "render", "--check")
    machine.as_user("macbind", "cat", FILES[0], FILES[3])


def test_a_bridge_that_lets_machines_wait_is_no_reason_to_refuse(machine: Installed) -> None:
    """The site is made, and what mends the bridge is printed beside it."""
    machine.run("ip", "link", "set", "br0", "type", "bridge", "forward_delay", "1500")
    done = machine.run("macbind", "init", "--yes")
    command = "ip link set dev br0 type bridge forward_delay 0"
    assert "The bridge br0 passes nothing on for 15 s" in done.stderr
    assert f"    {command}\n" in done.stderr
    machine.run(*command.split())
    assert there(machine) == list(FILES)


@pytest.mark.parametrize("document", ["README.md", "controller/docs/operate/install.md"])
def test_documentation_has_the_commands_that_work(machine: Installed, document: str) -> None:
    """What the documents tell a new user to run is what these tests run, with the packages that are there."""
    text = (REPOSITORY / document).read_text()
    block = text.partition("## Install\n")[2].partition("```sh\n")[2].partition("```")[0]
    told = [line.partition("#")[0].strip() for line in block.splitlines()]
    packages = told[0].removeprefix("apt-get install ").split()
    machine.run("dpkg-query", "--show", *packages)
    next_ones = json.loads(machine.run("macbind", "init", "--yes", "--json").stdout)["next"]
    assert told[1:] == ["make install", "macbind init", *next_ones]


def test_scripts_for_machines_are_installed(machine: Installed) -> None:
    """The installed package brings the parts of the scripts along, and makes them without any service."""
    machine.run("macbind", "init", "--yes")
    machine.run("macbind", "guest-script", "linux", "--output", "/var/tmp/mac2ip")
    assert machine.run("/var/tmp/mac2ip", "--decode", "00:16:3e:01:01:03").stdout == "10.1.1.3/8 10.0.0.1\n"
    assert "network-pre.target" in machine.run("macbind", "guest-script", "linux-unit").stdout


def test_site_made_by_hand_is_put_right(machine: Installed) -> None:
    """A file that root wrote, and a key that render made, become readable for macbind, and for nobody else."""
    machine.run(
        "sh", "-c", f"umask 077; cat >{FILES[0]}", stdin='[dhcpd.main]\n[pool.farm]\nsubnet = "10.0.0.0/8"\n'
    )
    machine.run("macbind", "render")
    assert machine.as_user("macbind", "cat", FILES[0], status=1).stdout == ""
    machine.run("systemd-tmpfiles", "--create", "macbind.conf")
    modes = machine.run("stat", "--format=%a %U:%G", FILES[0], FILES[3]).stdout.splitlines()
    assert modes == ["640 root:macbind"] * 2


def test_flags_say_more_than_proposals(machine: Installed) -> None:
    """Every option finds its way into the file that the service's own parser reads."""
    printed = machine.run(
        *("macbind", "init", "--yes", "--interface", "br0", "--subnet", "10.0.0.0/16", "--pool", "speck"),
        *("--range", "10.0.1.1-10.0.1.9", "--range", "10.0.2.0/24", "--gateway", "10.0.0.254"),
        *("--dns", "10.0.0.2", "--dns", "10.0.0.3", "--domain-name", "farm.example.org"),
    ).stdout
    assert printed.splitlines() == [
        *(f"{path}: written" for path in FILES),
        "Now run:",
        "  systemctl enable --now macbind-firewall",
        "  systemctl restart isc-dhcp-server",
        "  systemctl enable --now macbind",
        "  macbind status",
    ]
    rendered = machine.run("cat", FILES[2]).stdout
    assert "subnet 10.0.0.0 netmask 255.255.0.0 {" in rendered
    assert "option routers 10.0.0.254;" in rendered
    assert "option domain-name-servers 10.0.0.2, 10.0.0.3;" in rendered
    text = machine.run("cat", FILES[0]).stdout
    assert '[pool."speck"]\nsubnet = "10.0.0.0/16"\nranges = ["10.0.1.1-10.0.1.9", "10.0.2.0/24"]\n' in text
    assert 'exclude = ["10.0.0.1"]' in text  # its own address, when it is not the gateway


@pytest.mark.parametrize("path", FILES)
def test_nothing_is_overwritten(machine: Installed, path: str) -> None:
    """If one of the files exists, whatever is in it, it stays as it is, no other is made, and the way on is told."""
    machine.run("sh", "-c", f"echo mine >{path}")
    refused = machine.run("macbind", "init", "--yes", status=4)
    assert f"nothing of it is overwritten: {path}." in refused.stderr
    assert "edit /etc/macbind/macbind.toml and run `macbind render`" in refused.stderr
    assert there(machine) == [path]
    assert machine.run("cat", path).stdout == "mine\n"


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--interface", "br7"], "There is no interface 'br7' with an IPv4 address.\n  These have one: br0."),
        (["--subnet", "10.0.0.1/8"], "'10.0.0.1/8' "),
        (["--subnet", "192.168.7.0/24"], "'br0' has no address on 192.168.7.0/24"),
        (["--range", "192.168.7.0/24"], "These answers make no configuration: [pool.farm] ranges"),
        (["--range", "none"], "'none' is not an IPv4 address"),
        (["--range", "10.0.0.1\n[x]"], "These answers make no configuration: [pool.farm] ranges"),
        (["--gateway", "10.0.0.0"], "10.0.0.0 is not a machine's address on the subnet"),
        (["--dns", 'a"; evil'], "These answers make no configuration: "),
        (["--pool", "Farm"], "has a name that cannot be used"),
        (["--hypervisor", "qemu:///system"], "libvirt's Python module is not installed for macbind"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_impossible_answers_are_refused_before_anything_is_written(
    machine: Installed, flags: list[str], sentence: str
) -> None:
    """One sentence that names what is wrong, exit status 4, and no file."""
    refused = machine.run("macbind", "init", "--yes", *flags, status=4)
    assert sentence in refused.stderr
    assert refused.stderr.startswith("macbind: ")
    assert "Traceback" not in refused.stderr
    assert "macbind-init-" not in refused.stderr, "the draft's path is nobody's business"
    assert there(machine) == []


def test_failure_half_way_leaves_nothing(machine: Installed) -> None:
    """When the last file cannot be written, those before it are taken back."""
    machine.run("mount", "-t", "tmpfs", "-o", "nr_inodes=4", "tmpfs", "/etc/macbind")
    try:
        machine.run("touch", "/etc/macbind/1", "/etc/macbind/2")
        refused = machine.run("macbind", "init", "--yes", status=3)
    finally:
        machine.run("umount", "/etc/macbind")
    assert "No space left on device" in refused.stderr
    assert there(machine) == []


def test_dhcpd_that_is_missing_is_said(machine: Installed) -> None:
    """Without dhcpd to test the configuration nothing is written, with exit status 3."""
    machine.run("mount", "--bind", "/usr/bin", "/usr/sbin")
    try:
        refused = machine.run("macbind", "init", "--yes", status=3)
    finally:
        machine.run("/usr/bin/umount", "/usr/sbin")
    assert "dhcpd is not installed on this machine." in refused.stderr
    assert there(machine) == []


def test_without_a_terminal_it_does_not_guess(machine: Installed) -> None:
    """Where nobody can be asked and --yes was not given, the way on is told."""
    refused = machine.run("macbind", "init", status=4)
    assert "there is no terminal to ask them on" in refused.stderr
    assert there(machine) == []


def test_ordinary_user_is_told_to_be_root(machine: Installed) -> None:
    """Somebody who may not write there is told so in a sentence, and nothing is made."""
    refused = machine.as_user("nobody", "macbind", "init", "--yes", status=3)
    assert "Permission denied" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert there(machine) == []


def test_terminal_is_asked_question_by_question(machine: Installed) -> None:
    """On a terminal each answer can be typed or taken, and nothing is written unless the text is agreed to."""
    typed = ["", "", "10.0.0.254", "none", "farm.example.org", "speck", "10.0.1.0/24 10.0.2.0/24", "", "n"]
    script = ["script", "--quiet", "--return", "--command", "macbind init", "/dev/null"]
    shown = machine.run(*script, stdin="\n".join([*typed, ""]), status=1).stdout
    for question in (
        "Interface the machines are behind [br0]",
        "Their subnet [10.0.0.0/8]",
        "Write this? [Y/n]",
    ):
        assert question in shown
    assert there(machine) == []
    machine.run(*script, stdin="\n".join([*typed[:-1], "y", ""]))
    text = machine.run("cat", FILES[0]).stdout
    assert 'routers = ["10.0.0.254"]' in text
    assert "domain_name_servers" not in text
    assert 'domain_name = "farm.example.org"' in text
    assert '[pool."speck"]\nsubnet = "10.0.0.0/8"\nranges = ["10.0.1.0/24", "10.0.2.0/24"]\n' in text
