"""An installation over time: packaged, rebooted, upgraded and removed, with its allocations."""

import re

import pytest

from labkit.dhcp import DhcpClient
from labkit.installed import Installed
from labkit.net import Port
from labkit.wait import until

KEPT = (
    "/etc/macbind/macbind.toml",
    "/etc/macbind/omapi.nft",
    "/etc/dhcp/macbind.conf",
    "/etc/dhcp/macbind.key",
    "/var/lib/macbind/registry.db",
)


@pytest.fixture(scope="module")
def machine(bare: Installed) -> Installed:
    """A machine that serves."""
    bare.set_up("--range", "10.1.1.3-10.1.1.250", "--dns", "none")
    return bare


def served(port: Port, mac: str, address: str) -> bool:
    """Whether the machine with this MAC gets exactly this address by plain DHCP."""
    lease = DhcpClient(port, mac).dora()
    return lease is not None and str(lease.address) == address


def test_reboot_upgrade_and_removal_keep_the_allocations(machine: Installed) -> None:
    """After a reboot all is back by itself; an upgrade changes no data; removal leaves data, and a way back."""
    port = machine.lab.port("vm")
    made = machine.macbind_json("allocate", "farm", "old")
    vm = (made["mac"], made["address"])

    machine.reboot()
    machine.wait_serving()
    until(lambda: served(port, *vm), 90, "the machine to be served after the reboot")
    assert "tcp dport 7911" in machine.run("nft", "list", "ruleset").stdout
    assert machine.run("systemctl", "--failed", "--quiet", "--no-legend", "--plain").stdout == ""

    kept = sums(machine)
    machine.run("sh", "-c", "echo '# mine' >>/etc/macbind/omapi.nft")
    pid = machine.pid("macbind")
    assert "systemctl restart macbind" in machine.make("install")
    assert machine.pid("macbind") == pid, "an upgrade restarts nothing by itself"
    machine.run("systemctl", "restart", "macbind")
    machine.wait_serving()
    assert machine.run("tail", "-n1", "/etc/macbind/omapi.nft").stdout == "# mine\n"
    assert {**sums(machine), **{name: kept[name] for name in kept if "db" in name or "nft" in name}} == kept
    assert machine.macbind_json("show", "old")["allocation"]["address"] == made["address"]
    assert served(port, *vm)

    machine.make("uninstall")
    left = machine.run("find", "/usr/local", "-name", "*macbind*").stdout
    assert left == ""
    assert set(sums(machine)) == set(KEPT)
    assert machine.unit("macbind", "LoadState") == "not-found"
    assert machine.unit("isc-dhcp-server", "ActiveState") == "active"
    assert served(port, *vm), "dhcpd serves on what it was told"
    assert "tcp dport 7911" in machine.run("nft", "list", "ruleset").stdout, "its port is still open behind"

    machine.make("install")
    machine.run("systemctl", "enable", "--now", "macbind")
    machine.wait_serving()
    assert machine.macbind_json("show", "old")["allocation"]["address"] == made["address"]


def sums(machine: Installed) -> dict[str, str]:
    """What is in the files that stay."""
    lines = machine.run("sha256sum", *KEPT).stdout.splitlines()
    return {name: digest for digest, name in (line.split() for line in lines)}


def test_package_is_made_without_touching_the_machine(machine: Installed) -> None:
    """With DESTDIR everything goes below it, names only the final places, and works when it is put there."""
    before = machine.run("find", "/etc", "/usr/local", "-newer", "/etc/dhcp/macbind.key").stdout
    machine.make("install", "DESTDIR=/tmp/package", "PREFIX=/opt/macbind", "EXTRAS=postgresql,libvirt")
    assert machine.run("find", "/etc", "/usr/local", "-newer", "/etc/dhcp/macbind.key").stdout == before
    files = machine.run(
        "find", "/tmp/package", "-not", "-type", "d", "-not", "-path", "*/lib/python3*"
    ).stdout
    made = {path.removeprefix("/tmp/package") for path in files.splitlines()}
    assert {
        "/etc/apparmor.d/dhcpd.d/macbind",
        "/etc/macbind/omapi.nft",
        "/opt/macbind/bin/macbind",
        "/opt/macbind/lib/systemd/system/macbind.service",
        "/opt/macbind/lib/systemd/system/macbind-firewall.service",
        "/opt/macbind/lib/systemd/system/macbind-firewall-check.timer",
        "/opt/macbind/lib/macbind/share/macbind/isc-dhcp-server.conf",
        "/opt/macbind/lib/sysusers.d/macbind.conf",
        "/opt/macbind/lib/tmpfiles.d/macbind.conf",
        *(
            f"/opt/macbind/share/doc/macbind/dhcpd/{name}"
            for name in (
                "README.md",
                "prometheus/scrape.yml",
                "prometheus/macbind.rules.yml",
                "grafana/macbind.json",
            )
        ),
        *(
            f"/opt/macbind/share/doc/macbind/controller/docs/{name}.md"
            for name in ("guests/linux", "guests/windows", "use/channels")
        ),
        "/opt/macbind/share/doc/macbind/macbind.toml",
        "/opt/macbind/share/man/man1/macbind.1",
        "/opt/macbind/share/man/man1/macbind-config.1",
        "/opt/macbind/share/man/man1/macbind-dhcp.1",
        "/opt/macbind/share/man/man1/macbind-token.1",
        "/opt/macbind/share/man/man1/macbind-vm.1",
        "/opt/macbind/share/man/man5/macbind.toml.5",
        "/opt/macbind/share/bash-completion/completions/macbind",
        "/opt/macbind/share/zsh/site-functions/_macbind",
        "/opt/macbind/share/fish/vendor_completions.d/macbind.fish",
    } <= made
    assert machine.run("grep", "-rlI", "/tmp/package", "/tmp/package", status=None).stdout == ""
    unit = machine.run("cat", "/tmp/package/opt/macbind/lib/systemd/system/macbind.service").stdout
    assert re.search("^ExecStart=/opt/macbind/bin/macbind serve$", unit, re.MULTILINE)
    machine.run("cp", "-a", "/tmp/package/opt/macbind", "/opt/macbind")
    machine.run("rm", "-r", "/tmp/package")
    version = machine.run("/opt/macbind/bin/macbind", "--version").stdout
    assert version == machine.run("macbind", "--version").stdout
    modules = "import libvirt, icmplib, macbind.virt.watcher; print(libvirt.__file__)"
    used = machine.run("/opt/macbind/lib/macbind/bin/python", "-c", modules).stdout
    assert used.startswith("/opt/macbind/"), "Debian's, and nothing else of Debian's"
    machine.make("uninstall", "DESTDIR=/", "PREFIX=opt/macbind")
    assert machine.run("find", "/opt/macbind", "-not", "-type", "d").stdout == ""
