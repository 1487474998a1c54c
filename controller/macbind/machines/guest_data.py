"""What a machine is told beside its MAC, and by which channels.

Everything that can be wrong is found before an address is taken. Without a channel nothing of this happens.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from uuid import UUID

from macbind.core.allocation import Allocation, NetworkSettings
from macbind.core.errors import Conflict, InvalidRequest
from macbind.core.option_kinds import is_label
from macbind.guest.identity import Identity, check_data
from macbind.guest.nocloud import seed_files
from macbind.virt import seed_disks, xenstore
from macbind.virt.channel_xml import check_size
from macbind.virt.channels import Channel, parse_channels

if TYPE_CHECKING:
    from macbind.client.client import Client
    from macbind.machines.values import How
    from macbind.virt.clones import Original
    from macbind.virt.connection import Hypervisor
    from macbind.virt.template import Template

MAX_USER_DATA = 1 << 20
"""Bytes; far more than any cloud offers."""


@dataclass(frozen=True, slots=True)
class GuestData:
    """How the machines of one launch are told who they are.

    Attributes:
        channels: By what; empty if they are not.
        data: What they are told beside their identity.
        seed_pool: The storage pool of their seed disks; empty without the channel nocloud.
        user_data: The user-data on their seed disks; None for none.
        nic: What cloud-init calls the interface that has the address.
    """

    channels: tuple[Channel, ...] = ()
    data: Mapping[str, str] | None = None
    seed_pool: str = ""
    user_data: str | None = None
    nic: str = "eth0"

    def identity(self, client: Client, allocation: Allocation) -> tuple[Identity, NetworkSettings]:
        """Who the machine of an allocation is, as the service says.

        Raises:
            Conflict: The allocation is gone, and another has its name.
            PeerError: The service does not answer.
        """
        settings = client.network_settings(allocation.name)
        if (settings.interface.ip, settings.mac) != (allocation.address, allocation.mac):
            raise Conflict(
                f"'{allocation.name}' was released and allocated anew meanwhile.",
                hint="Launch again with another name.",
                name=allocation.name,
            )
        options = settings.options
        who = Identity(
            settings.mac,
            settings.interface,
            options.gateway,
            options.domain_name_servers,
            options.domain_name,
            options.hostname or (settings.name if is_label(settings.name) else None),
            self.data or {},
        )
        return who, settings

    def seed_image(self, who: Identity, settings: NetworkSettings, instance: UUID) -> bytes:
        """The seed disk of a machine.

        Args:
            who: The machine.
            settings: Its network settings.
            instance: Its domain's UUID.
        """
        routes, user_data = settings.options.static_routes, self.user_data
        return seed_disks.image(seed_files(who, instance, nic=self.nic, routes=routes, user_data=user_data))


def plan_guest_data(
    hypervisor: Hypervisor, template: Template, originals: list[Original], how: How
) -> GuestData:
    """How the machines of a launch are told, by what the caller and else the template chooses.

    Raises:
        InvalidRequest: It is not possible.
    """
    choice = template.choice
    chosen = how.get("channels")
    channels = (
        choice.channels if chosen is None else parse_channels([chosen] if isinstance(chosen, str) else chosen)
    )
    more = how.get("data") or {}
    data = check_data({**choice.data, **more})
    user_data, pool = how.get("user_data"), how.get("seed_pool")
    if more and not channels:
        raise InvalidRequest(
            "There is data for the machine, and no channel that would carry it.",
            hint=f"Choose one with --channel, or in the template: {', '.join(Channel)}.",
        )
    if Channel.NOCLOUD not in channels and (user_data is not None or pool is not None):
        raise InvalidRequest(
            f"{'User-data' if user_data is not None else 'A pool for seed disks'} is for the channel nocloud only.",
            hint="Choose it: --channel nocloud.",
        )
    if user_data is not None:
        _check_user_data(user_data)
    template.check(channels, len(data))
    lines = [f"data.{key}={value}" for key, value in data.items()]
    if Channel.FW_CFG in channels or Channel.SMBIOS in channels:
        check_size(lines)
    if Channel.XENSTORE in channels:
        xenstore.keys(lines)
        _refuse_remote_xen(hypervisor.uri)
    seed_pool = ""
    if Channel.NOCLOUD in channels:
        seed_disks.image({})  # what that needs is found out now
        seed_pool = seed_disks.choose_pool(hypervisor, pool or choice.seed_pool, originals)
    return GuestData(channels, data, seed_pool, user_data, f"eth{template.nic}")


def _check_user_data(user_data: str) -> None:
    try:
        size = len(user_data.encode())
    except (AttributeError, UnicodeEncodeError) as error:
        raise InvalidRequest(
            f"The user-data is no text: {error}.", hint="Give a text, as UTF-8 has it."
        ) from None
    if size > MAX_USER_DATA:
        raise InvalidRequest(
            f"The user-data has more than {MAX_USER_DATA >> 20} MiB.", hint="Let the machine fetch the rest."
        )


def _refuse_remote_xen(uri: str) -> None:
    """Xenstore has a socket on the hypervisor, which libvirt does not pass on."""
    parts = urlsplit(uri)
    if parts.scheme.partition("+")[0] != "xen":
        raise InvalidRequest(
            f"The channel xenstore needs a Xen hypervisor, and {uri} is none.",
            hint="Use fw_cfg, smbios or nocloud.",
            uri=uri,
        )
    if parts.hostname is not None:
        raise InvalidRequest(
            f"The channel xenstore works on the hypervisor itself only, not over {uri}.",
            hint="Launch there, with xen:///system; or use nocloud.",
            uri=uri,
        )
