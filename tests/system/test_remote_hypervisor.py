"""The confined service watches libvirt over ssh, TLS and a program, and says what is missing until it can."""

from collections.abc import Iterator

import pytest

from labkit.debian import PACKAGES, image
from labkit.installed import CACHE, Installed, Parts
from labkit.net import Lab
from labkit.wait import until
from macbind.core.findings import HypervisorStatus

URI = "qemu+ssh://root@127.0.0.1/system"
HOME = "/var/lib/macbind/.ssh"
PROGRAM = "/usr/local/bin/to-libvirt"
CERTIFICATES = """
set -e
umask 022
mkdir -p /etc/pki/CA /etc/pki/libvirt/private
cd /etc/pki/libvirt
new="-newkey rsa:2048 -nodes"
openssl req -x509 $new -days 2 -subj /CN=lab -keyout /root/ca.pem -out /etc/pki/CA/cacert.pem
echo subjectAltName=DNS:localhost >/root/names
for who in server client; do
    openssl req $new -subj /CN=localhost -keyout private/${who}key.pem -out /root/$who.csr
    openssl x509 -req -in /root/$who.csr -CA /etc/pki/CA/cacert.pem -CAkey /root/ca.pem -CAcreateserial -days 2 \\
        -extfile /root/names -out ${who}cert.pem
done
chmod 600 private/*key.pem
systemctl stop libvirtd.service libvirtd.socket libvirtd-ro.socket libvirtd-admin.socket
systemctl start libvirtd-tls.socket libvirtd-ro.socket
systemctl start libvirtd.service
"""
"""Makes an authority and a certificate for each side, and has libvirtd listen for TLS."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, parts: Parts) -> Iterator[Installed]:
    """A machine with sshd and libvirtd that watches itself by ssh; the service has neither key nor known host."""
    debian = image(CACHE, (*PACKAGES, "openssh-server", "libvirt-daemon-system", "openssl"))
    remote = Parts(debian, parts.wheels, parts.built)
    with Lab() as lab, Installed(lab, remote, tmp_path_factory.mktemp("machine")) as machine:
        machine.make("install", "EXTRAS=postgresql,libvirt")
        machine.run("ssh-keygen", "-A")
        machine.run("systemctl", "restart", "ssh", "libvirtd")
        machine.set_up("--interface", "br0", "--hypervisor", URI)
        yield machine


def hypervisor(site: Installed) -> HypervisorStatus:
    """How the service gets on with libvirt."""
    now = site.status()
    assert now is not None
    return now.hypervisors[0]


def wait_problem(site: Installed, words: str) -> None:
    """Waits until the reason why there is no connection has these words."""
    until(lambda: words in hypervisor(site).problem, 60, f"the problem to say {words!r}")


def test_ssh_from_the_confined_unit(site: Installed) -> None:
    """An unknown host and a missing key are told with the next step; with both it is connected."""
    wait_problem(site, "Host key verification failed")
    assert "ssh-keyscan 127.0.0.1 >>~/.ssh/known_hosts" in hypervisor(site).problem
    site.as_user(
        "macbind", "sh", "-c", f"umask 077; mkdir {HOME}; ssh-keyscan 127.0.0.1 >>{HOME}/known_hosts"
    )
    wait_problem(site, "Permission denied")
    assert "The host takes no key of this user. Make one with `ssh-keygen`" in hypervisor(site).problem
    site.as_user("macbind", "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", f"{HOME}/id_ed25519")
    site.run("sh", "-c", f"umask 077; mkdir -p /root/.ssh; cat {HOME}/*.pub >>/root/.ssh/authorized_keys")
    until(lambda: hypervisor(site).connected, 60, "libvirt by ssh")
    site.run("systemctl", "restart", "macbind")
    site.wait_serving()
    until(lambda: hypervisor(site).connected, 60, "libvirt by ssh after a restart")
    until(lambda: (now := site.status()) and not now.findings, 60, "nothing to be found")


def test_a_program_from_the_confined_unit(site: Installed) -> None:
    """`qemu+ext` runs a program as the way to libvirt; one that fails is told with the next step."""
    uri = f"qemu+ext:///system?command={PROGRAM}"
    site.run("sed", "-i", f's|^uri = .*|uri = "{uri}"|', "/etc/macbind/macbind.toml")
    site.run("systemctl", "reload", "macbind")
    wait_problem(site, "Run the program in the URI's `command=` by hand")
    text = "#!/bin/sh\nexec virt-ssh-helper -r qemu:///system\n"
    site.run("sh", "-c", f"cat >{PROGRAM}; chmod 755 {PROGRAM}", stdin=text)
    until(lambda: hypervisor(site).connected, 60, "libvirt by a program")


def test_tls_from_the_confined_unit(site: Installed) -> None:
    """A key that the service may not read is told with the next step; with it the service is connected by TLS."""
    site.run("sh", "-c", CERTIFICATES)
    site.run("sed", "-i", 's|^uri = .*|uri = "qemu+tls://localhost/system"|', "/etc/macbind/macbind.toml")
    site.run("systemctl", "reload", "macbind")
    wait_problem(site, "Check the certificates: /etc/pki/CA/cacert.pem")
    site.run(
        "sh", "-c", "cd /etc/pki/libvirt/private && chgrp macbind clientkey.pem && chmod 640 clientkey.pem"
    )
    until(lambda: hypervisor(site).connected, 60, "libvirt by TLS")
