"""The files of a seed disk, as cloud-init's NoCloud data source reads them. Pure.

They are YAML by format and JSON by notation, which is YAML as well and leaves no question of quoting. Sources:
cloud-init's documentation, "NoCloud" and "Networking config Version 1". In version 1 a gateway is one: the default
route of version 2 becomes a call of ``route`` under ifupdown, a program that Debian no longer installs, and version
2's ``gateway4`` is deprecated.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any
from uuid import UUID

from macbind.core.static_route import StaticRoute
from macbind.guest.identity import Identity

VOLUME_ID = "CIDATA"
"""By this label cloud-init finds the disk."""
NO_USER_DATA = "#cloud-config\n{}\n"


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
        "network-config": _yaml({"version": 1, "config": [_card(identity, nic, routes)]}),
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


def _card(identity: Identity, nic: str, routes: Iterable[StaticRoute]) -> dict[str, Any]:
    subnet: dict[str, Any] = {"type": "static", "address": str(identity.interface)}
    if identity.gateway is not None:
        subnet["gateway"] = str(identity.gateway)
    ways = [
        _route(route) for route in routes if route.destination.prefixlen
    ]  # the default one is the gateway
    if ways:
        subnet["routes"] = ways
    if identity.dns:
        subnet["dns_nameservers"] = list(map(str, identity.dns))
    if identity.search is not None:
        subnet["dns_search"] = [identity.search]
    return {"type": "physical", "name": nic, "mac_address": str(identity.mac), "subnets": [subnet]}


def _route(route: StaticRoute) -> dict[str, str]:
    network = route.destination
    return {
        "network": str(network.network_address),
        "netmask": str(network.netmask),
        "gateway": str(route.gateway),
    }
