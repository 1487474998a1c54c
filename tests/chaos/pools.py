"""The pools of every site, and the names and addresses that belong to the harness itself."""

from ipaddress import IPv4Address

RANGES = {
    "shared": ("10.1.0.3", "10.1.0.26"),
    "own-0": ("10.1.1.3", "10.1.1.30"),
    "own-1": ("10.1.2.3", "10.1.2.14"),
    "own-2": ("10.1.3.3", "10.1.3.12"),
    "own-3": ("10.1.4.3", "10.1.4.32"),
    "domains": ("10.1.5.3", "10.1.5.12"),
}
"""First and last address of each pool: small, so that some are exhausted now and then."""
_COOLDOWN_S = {"own-1": 1.0, "own-2": 3600.0}


def pools_toml() -> str:
    """The pools as macbind's configuration has them."""
    text = '[subnet."10.0.0.0/8"]\nrouters = ["10.0.0.1"]\n'
    for name, (first, last) in RANGES.items():
        text += f'\n[pool.{name}]\nsubnet = "10.0.0.0/8"\nranges = ["{first}-{last}"]\nclaim_timeout_s = 0\n'
        text += f"cooldown_s = {_COOLDOWN_S.get(name, 0.0)}\n"
    return text


WITNESS, PROBE = "witness", "probe"
"""Names of the harness itself."""
PROBED, WITNESSED = "10.9.200.1", "10.9.200.2"
"""Their addresses."""


def addresses(pool: str) -> list[str]:
    """All addresses of a pool, lowest first."""
    first, last = (int(IPv4Address(end)) for end in RANGES[pool])
    return [str(IPv4Address(number)) for number in range(first, last + 1)]


def mac_of(address: str) -> str:
    """The MAC that belongs to an address: the prefix and its low 24 bits."""
    return "00:16:3e:" + IPv4Address(address).packed[1:].hex(":")
