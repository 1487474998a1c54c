"""The pools of every site, and the names and addresses that belong to the harness itself."""

from ipaddress import IPv4Address

RANGES = {
    "shared": ("10.1.0.3", "10.1.0.26"),
    "own-0": ("10.1.1.3", "10.1.1.30"),
    "own-1": ("10.1.2.3", "10.1.2.14"),
    "own-2": ("10.1.3.3", "10.1.3.12"),
    "own-3": ("10.1.4.3", "10.1.4.32"),
    "domains": ("10.1.5.3", "10.1.5.22"),
    "asked": ("10.1.6.3", "10.1.6.18"),
}
"""First and last address of each pool: small, so that some are exhausted now and then."""
CROWD, CROWD_RANGE = "crowd", ("10.2.0.3", "10.2.6.200")
"""The pool and the group of the machines that stay while others come and go; its first and last address.

They are more than three times as many as fit into a usual piece of macbind's work.
"""
HOLES = slice(6, None, 13)
"""Which addresses of the crowd's pool are left to others, so that what comes and goes is in every piece."""
ASKED = "asked"
"""The pool for whose addresses the network is asked: strangers live there."""
_COOLDOWN_S = {"own-1": 1.0, "own-2": 3600.0}


def pools_toml() -> str:
    """The pools as macbind's configuration has them."""
    text = '[subnet."10.0.0.0/8"]\nrouters = ["10.0.0.1"]\n'
    for name, (first, last) in {**RANGES, CROWD: CROWD_RANGE}.items():
        text += f'\n[pool.{name}]\nsubnet = "10.0.0.0/8"\nranges = ["{first}-{last}"]\nclaim_timeout_s = 0\n'
        text += f"cooldown_s = {_COOLDOWN_S.get(name, 0.0)}\n"
        if name == ASKED:
            text += 'arp_probe = "br0"\n'
    return text


WITNESS, PROBE = "witness", "probe"
"""Names of the harness itself."""
PROBED, WITNESSED = "10.9.200.1", "10.9.200.2"
"""Their addresses."""
LOOKOUT = "10.9.200.3"
"""What the lookout pins, so that macbind has something to tell dhcpd."""


def addresses(pool: str) -> list[str]:
    """All addresses of a pool, lowest first."""
    first, last = (int(IPv4Address(end)) for end in (CROWD_RANGE if pool == CROWD else RANGES[pool]))
    return [str(IPv4Address(number)) for number in range(first, last + 1)]


def pool_of(address: str) -> str:
    """The pool that an address is in; empty if it is in none."""
    ends = {**RANGES, CROWD: CROWD_RANGE}
    number = IPv4Address(address)
    return next(
        (name for name, (low, high) in ends.items() if IPv4Address(low) <= number <= IPv4Address(high)), ""
    )


def mac_of(address: str) -> str:
    """The MAC that belongs to an address: the prefix and its low 24 bits."""
    return "00:16:3e:" + IPv4Address(address).packed[1:].hex(":")
