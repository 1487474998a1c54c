"""The channels by which a machine is told more than its MAC, and what a template says of them. Pure.

A template chooses in its ``<metadata>``::

    <channels xmlns="urn:macbind:channels:1" use="fw_cfg smbios">
      <data key="role">worker</data>
    </channels>

:mod:`macbind.virt.channel_xml` puts what they carry into the domain XML.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from xml.etree.ElementTree import Element  # nosec B405  # the type only, reads none

from macbind.core.errors import InvalidRequest
from macbind.guest.identity import check_data

CHANNELS_NAMESPACE = "urn:macbind:channels:1"
"""XML namespace of the <channels> element of a template; not the mark's: libvirt keeps one element of each."""
_CHANNELS_TAG = f"{{{CHANNELS_NAMESPACE}}}channels"
_DATA_TAG = f"{{{CHANNELS_NAMESPACE}}}data"


class Channel(StrEnum):
    """How a machine is told, beside its MAC."""

    FW_CFG = "fw_cfg"
    """A blob of QEMU's fw_cfg device."""
    SMBIOS = "smbios"
    """SMBIOS OEM strings (type 11)."""
    NOCLOUD = "nocloud"
    """A seed disk for cloud-init's NoCloud data source."""
    XENSTORE = "xenstore"
    """Keys in Xenstore."""


def parse_channels(names: Iterable[str]) -> tuple[Channel, ...]:
    """The channels of these names, each once, in the order given.

    Raises:
        InvalidRequest: There is no such channel.
    """
    found = []
    for name in names:
        try:
            found.append(Channel(name))
        except ValueError:
            raise InvalidRequest(
                f"There is no channel {str(name)!r}.", hint=f"Channels are {', '.join(Channel)}."
            ) from None
    return tuple(dict.fromkeys(found))


@dataclass(frozen=True, slots=True)
class Choice:
    """What a template says about channels.

    Attributes:
        channels: Which its machines use.
        data: What they are told beside their identity.
        seed_pool: The storage pool of seed disks; None for that of the first disk.
    """

    channels: tuple[Channel, ...] = ()
    data: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    seed_pool: str | None = None


def choice_in(root: Element) -> Choice:
    """What a template chooses.

    Raises:
        InvalidRequest: It names a channel that does not exist, or data that no channel can carry.
    """
    found = root.findall(f"./metadata/{_CHANNELS_TAG}")
    if not found:
        return Choice()
    if len(found) > 1:
        raise InvalidRequest(
            "The template's <metadata> has two <channels>.",
            hint="Make them one: use='fw_cfg smbios'.",
        )
    [element] = found
    data: dict[str, str] = {}
    for child in element:
        key = child.get("key")
        if child.tag != _DATA_TAG or key is None or len(child):
            raise InvalidRequest(
                "The template's <channels> holds something that is no data.",
                hint="Write data as <data key='role'>worker</data>.",
            )
        if key in data:
            raise InvalidRequest(
                f"The template's <channels> has the key {key!r} twice.", hint="Keep one of them."
            )
        data[key] = (child.text or "").strip()
    unknown = sorted(element.attrib.keys() - {"use", "pool"})
    if unknown:
        raise InvalidRequest(
            f"The template's <channels> has an attribute {unknown[0]!r}.",
            hint="It may have use='...' (channels) and pool='...' (the storage pool of seed disks).",
        )
    return Choice(
        parse_channels(element.get("use", "").split()), check_data(data), element.get("pool") or None
    )
