"""All checks, in the order in which they are shown; one depends only on checks before it."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from macbind.config.document import did_you_mean
from macbind.core.errors import InvalidRequest
from macbind.core.findings import Severity
from macbind.doctor import (
    clients,
    configuration,
    conflicts,
    database,
    dhcpd,
    distribution,
    files,
    machines,
    network,
    omapi,
    service,
)
from macbind.doctor.check import Check, Need

_CONFIGURED, _ROOT, _DHCPD = Need.CONFIGURATION, Need.ROOT, Need.DHCPD
_RESTART, _START = "systemctl restart isc-dhcp-server", "systemctl start macbind"
_BLIP_S = 3.0
"""A restart of dhcpd takes less."""

CHECKS = (
    Check(
        name="configuration",
        severity=Severity.ERROR,
        about="The configuration is refused, or a subnet reaches no dhcpd.",
        look=configuration.look,
        needs=(),
        is_cheap=True,
    ),
    Check(
        name="registry",
        severity=Severity.ERROR,
        about="The registry cannot be used, or contradicts the configuration.",
        look=configuration.look_at_registry,
        needs=(_CONFIGURED, Need.FILES),
    ),
    Check(
        name="service",
        severity=Severity.ERROR,
        about="The service does not answer, or has found something.",
        look=service.look,
        needs=(),
        commands=(_START,),
    ),
    Check(
        name="keys",
        severity=Severity.ERROR,
        about="An OMAPI key is missing, unusable, or open to every user.",
        look=files.look_at_keys,
        needs=(_CONFIGURED, Need.FILES),
        commands=("macbind render", _RESTART, "chmod 0640 FILE"),
        is_cheap=True,
    ),
    Check(
        name="secrets",
        severity=Severity.ERROR,
        about="Every user may read the registry, or a configuration with a password.",
        look=files.look_at_secrets,
        needs=(_CONFIGURED, Need.FILES),
        commands=("chmod o= FILE",),
        is_cheap=True,
    ),
    Check(
        name="rendered",
        severity=Severity.WARNING,
        about="dhcpd's configuration on disk is not what macbind.toml says.",
        look=configuration.look_at_rendered,
        needs=(_CONFIGURED, _DHCPD),
        commands=("macbind render", _RESTART),
        is_cheap=True,
    ),
    Check(
        name="dhcpd",
        severity=Severity.ERROR,
        about="No dhcpd runs on this machine.",
        look=dhcpd.look_for_one,
        needs=(_CONFIGURED, _DHCPD, _ROOT),
        visible_after_s=_BLIP_S,
        commands=(_RESTART,),
    ),
    Check(
        name="dhcpd-file",
        severity=Severity.ERROR,
        about="dhcpd runs with a configuration that macbind's part is not in.",
        look=dhcpd.look_at_conf,
        needs=(_CONFIGURED, _DHCPD, _ROOT),
        depends_on=("dhcpd",),
        commands=("echo 'include \"FILE\";' >>OWN-FILE", _RESTART),
    ),
    Check(
        name="dhcpd-age",
        severity=Severity.WARNING,
        about="dhcpd was started before its configuration was changed.",
        look=dhcpd.look_at_age,
        needs=(_CONFIGURED, _DHCPD, _ROOT),
        depends_on=("dhcpd", "dhcpd-file"),
        commands=(_RESTART,),
    ),
    Check(
        name="dhcpd-alone",
        severity=Severity.ERROR,
        about="A second dhcpd runs on this machine.",
        look=dhcpd.look_for_others_here,
        needs=(_CONFIGURED, _DHCPD, _ROOT),
        depends_on=("dhcpd",),
        visible_after_s=_BLIP_S,
        commands=("kill PID",),
    ),
    Check(
        name="answers",
        severity=Severity.ERROR,
        about="dhcpd does not answer machines.",
        look=dhcpd.look_at_answers,
        needs=(_CONFIGURED, Need.PROBE, _ROOT),
        depends_on=("dhcpd", "dhcpd-file"),
        visible_after_s=_BLIP_S,
        commands=(_RESTART,),
    ),
    Check(
        name="hosts",
        severity=Severity.WARNING,
        about="Hosts or leases of others are in the way of a pool, or dhcpd's files cannot be understood.",
        look=conflicts.look_at_hosts,
        needs=(_CONFIGURED, _DHCPD, _ROOT),
        deadline_s=60.0,
    ),
    Check(
        name="ranges",
        severity=Severity.WARNING,
        about="dhcpd hands out addresses of a pool by itself.",
        look=conflicts.look_at_ranges,
        needs=(_CONFIGURED, _DHCPD, _ROOT),
        deadline_s=60.0,
    ),
    Check(
        name="omapi",
        severity=Severity.ERROR,
        about="dhcpd does not answer over OMAPI, or does not take the key.",
        look=omapi.look_at_key,
        needs=(_CONFIGURED, Need.NO_DAEMON, _ROOT),
        depends_on=("keys", "dhcpd", "dhcpd-file"),
        visible_after_s=_BLIP_S,
        commands=(_RESTART,),
    ),
    Check(
        name="omapi-port",
        severity=Severity.ERROR,
        about="Every program of this machine can connect to the OMAPI port.",
        look=omapi.look_at_port,
        needs=(_CONFIGURED, _DHCPD, _ROOT),
        depends_on=("dhcpd",),
        commands=("systemctl enable --now macbind-firewall",),
    ),
    Check(
        name="second-server",
        severity=Severity.ERROR,
        about="Another DHCP server answers machines.",
        look=dhcpd.look_for_others,
        needs=(_CONFIGURED, Need.PROBE, _ROOT),
    ),
    Check(
        name="lease-file",
        severity=Severity.ERROR,
        about="The lease file is missing or unreadable, or its disk is nearly full.",
        look=files.look_at_leases,
        needs=(_CONFIGURED, Need.FILES),
        visible_after_s=1.0,
        commands=("chmod o+r FILE", _RESTART),
        is_cheap=True,
    ),
    Check(
        name="bridges",
        severity=Severity.WARNING,
        about="A bridge passes nothing on for seconds after a machine was plugged in.",
        look=network.look_at_bridges,
        commands=("ip link set dev BRIDGE type bridge forward_delay 0",),
        is_cheap=True,
    ),
    Check(
        name="clones",
        severity=Severity.WARNING,
        about="Clones with one machine-id take one address in turns, in a subnet that is not macbind's.",
        look=clients.look,
        needs=(_CONFIGURED, _ROOT),
        deadline_s=60.0,
    ),
    Check(
        name="macs",
        severity=Severity.WARNING,
        about="A machine on the network has a MAC of a pool that is not allocated.",
        look=network.look_at_macs,
        needs=(_CONFIGURED, _ROOT),
        depends_on=("registry",),
        commands=("macbind reserve NAME ADDRESS",),
    ),
    Check(
        name="neighbours",
        severity=Severity.ERROR,
        about="A machine on the network has an allocated address, and another MAC.",
        look=network.look_at_addresses,
        needs=(_CONFIGURED, _ROOT),
        depends_on=("registry",),
        visible_after_s=1.0,
    ),
    Check(
        name="hypervisors",
        severity=Severity.WARNING,
        about="A hypervisor cannot be reached.",
        look=machines.look_at_hypervisors,
        needs=(_CONFIGURED, Need.LIBVIRT),
        visible_after_s=_BLIP_S,
        deadline_s=40.0,
        commands=("systemctl restart libvirtd",),
    ),
    Check(
        name="domains",
        severity=Severity.WARNING,
        about="A domain runs with a MAC of a pool that is not allocated.",
        look=machines.look_at_domains,
        needs=(_CONFIGURED, Need.LIBVIRT, _ROOT),
        depends_on=("registry", "hypervisors"),
        visible_after_s=1.0,
        deadline_s=40.0,
        commands=("macbind reserve NAME ADDRESS",),
    ),
    Check(
        name="leases",
        severity=Severity.WARNING,
        about="dhcpd's lease file and the registry differ, and no service mends that.",
        look=machines.look_at_leases,
        needs=(_CONFIGURED, _DHCPD, Need.NO_DAEMON, _ROOT),
        depends_on=("registry",),
        deadline_s=60.0,
        commands=(_START,),
    ),
    Check(
        name="clock",
        severity=Severity.ERROR,
        about="The clock is wrong, or differs from the database's.",
        look=database.look_at_clock,
        needs=(_CONFIGURED, Need.FILES),
        depends_on=("registry",),
        commands=("timedatectl set-ntp true",),
    ),
    Check(
        name="durability",
        severity=Severity.ERROR,
        about="The database may forget what it has confirmed.",
        look=database.look_at_durability,
        needs=(_CONFIGURED, Need.FILES),
        depends_on=("registry",),
        commands=("psql URL -c 'ALTER SYSTEM SET fsync = on'",),
    ),
    Check(
        name="distribution",
        severity=Severity.INFO,
        about="The next release of this distribution has no dhcpd.",
        look=distribution.look,
        needs=(),
    ),
)
"""All checks."""


def chosen(names: Collection[str], checks: Sequence[Check] = CHECKS) -> list[Check]:
    """The checks of these names, with those that they depend on; all if none is named.

    Raises:
        InvalidRequest: There is no check of a name.
    """
    by_name = {one.name: one for one in checks}
    for name in names:
        if name not in by_name:
            raise InvalidRequest(
                f"There is no check '{name}'.",
                hint=did_you_mean(name, by_name, quote="'") or "`macbind doctor --list` names them.",
            )
    if not names:
        return list(checks)
    wanted, more = set[str](), list(names)
    while more:
        name = more.pop()
        if name not in wanted:
            wanted.add(name)
            more += by_name[name].depends_on
    return [one for one in checks if one.name in wanted]
