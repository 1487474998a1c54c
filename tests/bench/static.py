"""A static pool: every address stands in dhcpd's configuration."""

import subprocess

from bench.rows import Result, Row, at_most
from bench.sites import directory, timed
from macbind.config import load
from macbind.dhcp.isc.config_test import find_dhcpd
from macbind.dhcp.isc.render import write

_CONFIG = """
[dhcpd.main]
key_file = "{place}/macbind.key"
config_file = "{place}/macbind.conf"

[pool.farm]
subnet = "10.1.0.0/16"
mode = "static"
"""


def measure(*, quick: bool) -> Result:
    """Rendering a /16, and having dhcpd test it, against the test alone."""
    row = Row("render a /16 in static mode, and `dhcpd -t`", "`dhcpd -t` alone", "s", at_most(1.5))
    with directory() as place:
        (place / "macbind.toml").write_text(_CONFIG.format(place=place))
        settings = load(place / "macbind.toml")
        for _ in range(2 if quick else 7):
            settings.dhcpds["main"].config_file.unlink(missing_ok=True)
            row.ours.append(timed(write, settings, "main"))
            test = [str(find_dhcpd()), "-4", "-t", "-cf", str(settings.dhcpds["main"].config_file)]
            row.base.append(timed(subprocess.run, test, capture_output=True, check=True))
    return Result([row])
