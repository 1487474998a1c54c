"""A Debian that cloud-init sets up from a seed: what it is told is what it is afterwards."""

from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path
from uuid import UUID

from labkit.debian import CLOUD, image
from labkit.installed import CACHE
from labkit.net import Lab
from labkit.nspawn import Machine
from macbind.core.mac_address import MacAddress
from macbind.guest.identity import Identity
from macbind.guest.nocloud import seed_files

WEB = Identity(
    MacAddress.parse("00:16:3e:01:01:03"),
    IPv4Interface("10.1.1.3/8"),
    IPv4Address("10.1.0.1"),
    hostname="web",
    data={"role": "worker"},
)
INSTANCE = UUID("6b0c7a52-1f6e-4d0f-9f5e-2a2f0d3c4b5a")
USER_DATA = """\
## template: jinja
#cloud-config
write_files:
  - {path: /role, content: "{{ ds.meta_data.macbind.data.role }} at {{ ds.meta_data.macbind.address }}"}
"""


def test_a_machine_is_what_its_seed_says(tmp_path: Path) -> None:
    """Address, gateway, host name and data arrive, under ifupdown; the card is found by its MAC and renamed."""
    root = tmp_path / "added"
    seed = root / "var/lib/cloud/seed/nocloud"
    seed.mkdir(parents=True)
    for name, content in seed_files(WEB, INSTANCE, user_data=USER_DATA).items():
        (seed / name).write_bytes(content)
    starting = root / "etc/systemd/system/network-online.target.wants"
    starting.mkdir(parents=True)
    (starting / "networking.service").symlink_to("/lib/systemd/system/networking.service")
    with Lab() as lab:
        port = lab.port("web", str(WEB.mac))
        port.namespace.ip("link set eth0 down")
        port.namespace.ip("link set eth0 name ens7")
        with Machine(lab, image(CACHE, CLOUD), tmp_path, port=port, added=root) as machine:
            machine.run("cloud-init", "status", "--wait", status=None, deadline_s=240)  # it misses ssh
            assert lab.ping("10.1.1.3")
            assert "10.1.1.3/8" in machine.run("ip", "-4", "addr", "show", "eth0").stdout
            route = machine.run("ip", "route", "show", "default").stdout
            assert route.startswith("default via 10.1.0.1 dev eth0"), route
            assert machine.run("hostname").stdout == "web\n"
            assert machine.run("cat", "/role").stdout == "worker at 10.1.1.3/8"
            asked = machine.run("cloud-init", "query", "ds.meta_data.macbind.data.role")
            assert asked.stdout == "worker\n"
