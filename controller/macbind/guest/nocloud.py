"""The files of a seed disk, as cloud-init's NoCloud data source reads them. Pure.

They are YAML by format and JSON by notation, which is YAML as well and leaves no question of quoting. Sources:
cloud-init's documentation, "NoCloud" and "Networking config Version 2".
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address
from typing import Any
from uuid import UUID

from macbind.guest.identity import Identity
from macbind.options import StaticRoute

VOLUME_ID = "CIDATA"
"""By this label cloud-init finds the disk."""
NO_USER_DATA = "#cloud-config\n{}\n"
_EVERYWHERE = "0.0.0.0/0"  # older releases do not know netplan's "default"


def seed_files(
    identity: Identity,
    instance: UUID,
    *,
    nic: str = "eth0",
    routes: Iterable[StaticRoute] = (),
    user_data: str | None = None,
) -> Mapping[str, bytes]:
    """The content of each file, by name.

    Args:
        identity: Who the machine is. Its data is in the meta-data: ``cloud-init query ds.meta_data.macbind``.
        instance: What tells cloud-init that this machine is a new one: the domain's UUID.
        nic: What the interface is called afterwards; not every distribution can be configured by MAC alone.
        routes: Routes beside the default one.
        user_data: The user's own user-data, as it is to be.
    """
    files = {
        "meta-data": _yaml(_meta_data(identity, instance)),
        "network-config": _yaml({"version": 2, "ethernets": {nic: _ethernet(identity, nic, routes)}}),
        "user-data": NO_USER_DATA if user_data is None else user_data,
    }
    return {name: text.encode() for name, text in files.items()}


def _yaml(value: object) -> str:
    return f"{json.dumps(value, indent=2)}\n"


def _meta_data(identity: Identity, instance: UUID) -> dict[str, Any]:
    known: dict[str, Any] = {"instance-id": str(instance)}
    if identity.hostname is not None:
        known["local-hostname"] = identity.hostname
    own: dict[str, Any] = {}
    for line in identity.lines():
        key, _, value = line.partition("=")
        if not key.startswith("data."):
            own[key] = value
    return known | {"macbind": own | {"data": dict(identity.data)}}


def _ethernet(identity: Identity, nic: str, routes: Iterable[StaticRoute]) -> dict[str, Any]:
    ethernet: dict[str, Any] = {
        "match": {"macaddress": str(identity.mac)},
        "set-name": nic,
        "dhcp4": False,
        "addresses": [str(identity.interface)],
    }
    ways = [(str(route.destination), route.gateway) for route in routes]
    if identity.gateway is not None and _EVERYWHERE not in dict(ways):
        ways.insert(0, (_EVERYWHERE, identity.gateway))
    if ways:
        ethernet["routes"] = [_route(identity, to, gateway) for to, gateway in ways]
    servers: dict[str, Any] = {}
    if identity.dns:
        servers["addresses"] = list(map(str, identity.dns))
    if identity.search is not None:
        servers["search"] = [identity.search]
    return ethernet | ({"nameservers": servers} if servers else {})


def _route(identity: Identity, to: str, gateway: IPv4Address) -> dict[str, Any]:
    route: dict[str, Any] = {"to": to, "via": str(gateway)}
    # A gateway of another subnet is on the same wire all the same, or dhcpd could not name it either.
    return route if gateway in identity.interface.network else route | {"on-link": True}
