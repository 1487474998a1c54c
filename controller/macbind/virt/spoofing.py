"""Anti-spoofing: the network filter by which libvirt lets a machine use its own MAC and addresses only.

libvirt's own ``clean-traffic`` lets IPv4 and ARP through, and no IPv6 at all. macbind's filter is made of the same
parts, and lets the IPv6 through that a machine makes of its MAC. A driver without filters takes a filter, says
nothing, and filters nothing; so the driver is checked before, and the binding after the start.
"""

from __future__ import annotations

from typing import Any

from macbind.core.errors import InvalidRequest, MachineFailed
from macbind.core.mac_address import MacAddress
from macbind.virt.connection import Hypervisor, libvirt
from macbind.virt.domain_xml import macs_in
from macbind.virt.machine_xml import ANTI_SPOOFING_FILTER, STANDARD_FILTER

_DRIVERS = frozenset({"QEMU", "LXC"})
"""The drivers of libvirt that carry out network filters."""
_FILTERED = ("bridge", "network", "ethernet")
"""Types of NICs that have a tap device; a network may have none all the same."""
_IPV6_FILTER = "macbind-no-ipv6-spoofing"
_FILTERS = (
    # The source :: is a machine's that asks whether an address is free. A router's advertisement is no machine's.
    f"""<filter name='{_IPV6_FILTER}' chain='ipv6-ip' priority='-610'>
  <uuid>6d616362-696e-4d64-8a70-763673706f66</uuid>
  <rule action='drop' direction='out' priority='50'><ipv6 protocol='icmpv6' type='134'/></rule>
  <rule action='return' direction='out' priority='100'><ipv6 srcipaddr='::' srcipmask='128'/></rule>
  <rule action='return' direction='out' priority='500'><ipv6 srcipaddr='$IPV6'/></rule>
  <rule action='drop' direction='out' priority='1000'/>
</filter>""",
    f"""<filter name='{ANTI_SPOOFING_FILTER}' chain='root'>
  <uuid>6d616362-696e-4d64-8a70-636c65616e74</uuid>
  <filterref filter='no-mac-spoofing'/>
  <filterref filter='no-ip-spoofing'/>
  <rule action='accept' direction='out' priority='-650'><mac protocolid='ipv4'/></rule>
  <filterref filter='allow-incoming-ipv4'/>
  <filterref filter='{_IPV6_FILTER}'/>
  <rule action='accept' direction='inout' priority='-550'><mac protocolid='ipv6'/></rule>
  <filterref filter='no-arp-spoofing'/>
  <rule action='accept' direction='inout' priority='-500'><mac protocolid='arp'/></rule>
  <filterref filter='no-other-l2-traffic'/>
  <filterref filter='qemu-announce-self'/>
</filter>""",
)


def prepare(hypervisor: Hypervisor, wanted: str, nic_type: str) -> None:
    """Sees to it that machines can be filtered.

    Args:
        hypervisor: Where they will run.
        wanted: The filter they will have.
        nic_type: How their NIC is connected.

    Raises:
        InvalidRequest: They cannot be.
    """
    if hypervisor.driver not in _DRIVERS:
        raise InvalidRequest(
            f"Anti-spoofing is not possible at {hypervisor.uri}: libvirt's driver {hypervisor.driver} carries out no "
            "network filter.",
            hint="Launch without it, and filter on the switch or bridge.",
            driver=hypervisor.driver,
        )
    if nic_type not in _FILTERED:
        raise InvalidRequest(
            f"Anti-spoofing is not possible for a NIC of the type '{nic_type}': it has no tap device to filter.",
            hint=f"Use a NIC of the type {', '.join(_FILTERED)}, or launch without it.",
        )
    connection = hypervisor.connection
    with hypervisor.doing("The network filters could not be listed"):
        known = {one.name() for one in connection.listAllNWFilters()}
    needed = STANDARD_FILTER if wanted == ANTI_SPOOFING_FILTER else wanted
    if needed not in known:
        raise InvalidRequest(
            f"Anti-spoofing needs the network filter '{needed}', which {hypervisor.uri} does not have.",
            hint="Install libvirt-daemon-config-nwfilter there and restart libvirtd, or launch without it.",
            filter=needed,
        )
    if wanted == ANTI_SPOOFING_FILTER and not {wanted, _IPV6_FILTER} <= known:
        with hypervisor.doing(f"The network filter '{wanted}' could not be defined"):
            for xml in _FILTERS:
                connection.nwfilterDefineXML(xml)


def check_bound(hypervisor: Hypervisor, domain: str, mac: MacAddress) -> None:
    """Checks that a machine that runs is filtered.

    Raises:
        MachineFailed: It is not.
    """
    connection = hypervisor.connection
    with hypervisor.doing("The network filters in force could not be listed", step="start"):
        bindings = [_described(one) for one in connection.listAllNWFilterBindings()]
    if not any(mac in _macs_of(xml) for xml in bindings):
        raise MachineFailed(
            f"The machine '{domain}' is not filtered: libvirt has bound no filter to its NIC {mac}.",
            hint="Only a NIC with a tap device can be filtered: its network must have a bridge.",
            step="start",
            domain=domain,
            mac=str(mac),
        )


def _described(binding: Any) -> str:
    try:
        return str(binding.XMLDesc(0))
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_NWFILTER_BINDING:
            return ""  # of a machine that has just ended
        raise


def _macs_of(binding: str) -> frozenset[MacAddress]:
    inside = binding.partition("<mac ")[2].partition(">")[0].rstrip("/")
    return macs_in(f"<domain><devices><interface><mac {inside}/></interface></devices></domain>")
