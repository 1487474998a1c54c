"""Seed disks as cloud-init itself sees them: Debian's, with every way it has to configure a network."""

import json
import re
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from labkit.netns import run_command
from macbind.core.mac_address import MacAddress
from macbind.core.static_route import StaticRoute
from macbind.guest.identity import Identity
from macbind.guest.nocloud import NO_USER_DATA, VOLUME_ID, seed_files
from macbind.virt.seed_disks import image

SOON_S = 120.0
INSTANCE = UUID("6b0c7a52-1f6e-4d0f-9f5e-2a2f0d3c4b5a")
WEB = Identity(
    MacAddress.parse("00:16:3e:01:01:03"),
    IPv4Interface("10.1.1.3/16"),
    IPv4Address("10.1.0.1"),
    (IPv4Address("10.1.0.2"), IPv4Address("10.1.0.3")),
    "farm.example",
    "web",
    {"role": "worker", "awkward": "a: b, {c} \"d\" 'e' # <f> %20 \\n", "answer": "yes", "empty": ""},
)
READ = """
import json, sys
from cloudinit import helpers
from cloudinit.sources.DataSourceNoCloud import DataSourceNoCloud
paths = helpers.Paths({"cloud_dir": sys.argv[1], "run_dir": sys.argv[1]})
source = DataSourceNoCloud({"datasource": {"NoCloud": {"fs_label": None}}}, None, paths)
assert source.get_data()
print(json.dumps({
    "id": source.get_instance_id(), "host": source.get_hostname().hostname, "meta": source.metadata,
    "network": source.network_config, "user": source.get_userdata_raw().decode(),
}))
"""


def converted(directory: Path, identity: Identity, kind: str, distribution: str, *routes: StaticRoute) -> str:
    """Everything cloud-init writes to configure the network of a distribution."""
    given, made = directory / "network-config", directory / "made"
    given.write_bytes(seed_files(identity, INSTANCE, routes=routes)["network-config"])
    asked = ["--network-data", str(given), "--kind", "yaml", "--mac", f"eth0,{identity.mac}"]
    way = ["--directory", str(made), "--distro", distribution, "--output-kind", kind]
    run_command(["cloud-init", "devel", "net-convert", *asked, *way], deadline_s=SOON_S)
    return "\n".join(path.read_text() for path in sorted(made.rglob("*")) if path.is_file())


@pytest.mark.parametrize(
    ("kind", "distribution", "expected"),
    [
        (
            "netplan",
            "ubuntu",
            # Newer ones say the gateway as a route.
            [
                "10.1.1.3/16",
                r"(gateway4:|to: default\s+via:) 10.1.0.1\n",
                "macaddress: 00:16:3e:01:01:03",
                "10.1.0.3",
            ],
        ),
        (
            "eni",
            "debian",
            [
                "iface eth0 inet static",
                "address 10.1.1.3/16",
                "    gateway 10.1.0.1",
                "dns-search farm.example",
            ],
        ),
        ("networkd", "arch", ["MACAddress=00:16:3e:01:01:03", "Address=10.1.1.3/16", "Gateway=10.1.0.1"]),
        ("sysconfig", "rhel", ["HWADDR=00:16:3e:01:01:03", "IPADDR=10.1.1.3", "255.255.0.0", "10.1.0.1"]),
        ("network-manager", "fedora", ["10.1.1.3/16", "10.1.0.1", "dns=10.1.0.2;10.1.0.3;"]),
    ],
)
def test_every_renderer_configures_the_address(
    tmp_path: Path, kind: str, distribution: str, expected: list[str]
) -> None:
    """Address, mask, default gateway and DNS arrive in each distribution's own files, for this MAC."""
    text = converted(tmp_path, WEB, kind, distribution)
    assert [part for part in expected if not re.search(part, text)] == []


@pytest.mark.parametrize(
    ("kind", "distribution", "expected"),
    [
        ("netplan", "ubuntu", r"to: 10\.9\.0\.0/16\s+via: 10\.1\.0\.9"),
        ("eni", "debian", r"route add -net 10\.9\.0\.0/16 gw 10\.1\.0\.9"),
        ("networkd", "arch", r"Destination=10\.9\.0\.0/16\s+Gateway=10\.1\.0\.9"),
        ("network-manager", "fedora", r"route\d=10\.9\.0\.0/16,10\.1\.0\.9"),
    ],
)
def test_a_default_route_of_the_machines_own(
    tmp_path: Path, kind: str, distribution: str, expected: str
) -> None:
    """Static routes are there beside the gateway; one to everywhere is the gateway, and not there twice."""
    other = replace(WEB, gateway=IPv4Address("10.1.0.8"))
    own = [
        StaticRoute.parse(f"{network} via 10.1.0.{last}")
        for network, last in (("0.0.0.0/0", 8), ("10.9.0.0/16", 9))
    ]
    text = converted(tmp_path, other, kind, distribution, *own)
    assert re.search(expected, text)
    assert text.count("10.1.0.8") == 1
    assert "10.1.0.1\n" not in text


def seeded(directory: Path, files: dict[str, bytes]) -> Any:
    """What cloud-init makes of the files of a seed."""
    place = directory / "seed" / "nocloud"
    place.mkdir(parents=True)
    for name, content in files.items():
        (place / name).write_bytes(content)
    command = ["/usr/bin/python3", "-c", READ, str(directory)]
    return json.loads(run_command(command, deadline_s=SOON_S).stdout)


def test_cloud_init_reads_what_was_meant(tmp_path: Path) -> None:
    """Instance, host name, network and user-data are what they should be, and the data is text to the letter."""
    script = "#!/bin/sh\necho hello\n"
    found = seeded(tmp_path, dict(seed_files(WEB, INSTANCE, user_data=script)))
    assert (found["id"], found["host"], found["user"]) == (str(INSTANCE), "web", script)
    assert found["meta"]["macbind"]["data"] == dict(WEB.data)
    assert found["meta"]["macbind"]["address"] == "10.1.1.3/16"
    [card] = found["network"]["config"]
    assert card["subnets"][0]["dns_search"] == ["farm.example"]


def test_its_own_checker_finds_nothing_wrong(tmp_path: Path) -> None:
    """The user-data that says nothing is valid by cloud-init's schema."""
    path = tmp_path / "user-data"
    path.write_text(NO_USER_DATA)
    command = ["cloud-init", "schema", "--config-file", str(path)]
    assert "Valid" in run_command(command, deadline_s=SOON_S).stdout


def test_the_disk_is_found_by_its_label(tmp_path: Path) -> None:
    """blkid, by which cloud-init looks for it, sees the file system and its name."""
    path = tmp_path / "seed"
    path.write_bytes(image(seed_files(WEB, INSTANCE)))
    said = run_command(["blkid", "--probe", "--output", "export", str(path)]).stdout.splitlines()
    assert {f"LABEL={VOLUME_ID}", "TYPE=iso9660"} <= set(said)
    assert path.stat().st_size < 1 << 20
