"""`macbind doctor` on a machine with systemd: the commands that it prints are systemd's, and mend."""

import json
from typing import Any

import pytest

from labkit.installed import Installed
from labkit.wait import until

SOON_S = 60.0
DHCPD = "isc-dhcp-server"


@pytest.fixture(scope="module")
def site(bare: Installed) -> Installed:
    """A machine that serves."""
    bare.lab.port("machine")
    bare.set_up("--range", "10.1.1.3-10.1.1.250", "--dns", "10.0.0.1")
    return bare


def doctor(site: Installed, *names: str) -> dict[str, Any]:
    """The result of a run, by the names of the checks; the exit code as `exit`."""
    done = json.loads(site.run("sh", "-c", f"macbind doctor {' '.join(names)} --json || true").stdout)
    return {"exit": done["exit"]} | {one["check"]: one for one in done["checks"]}


def test_an_installed_site_is_well(site: Installed) -> None:
    """Also its OMAPI port, which is closed to root: the doctor asks as the service's user."""
    found = until(lambda: (now := doctor(site))["exit"] == 0 and now, SOON_S, "the site to be well")
    assert found["omapi-port"]["state"] == found["answers"]["state"] == "well"
    site.run("systemctl", "stop", "macbind")
    assert doctor(site, "omapi")["omapi"]["state"] == "well"
    site.run("systemctl", "start", "macbind")
    site.wait_serving()


@pytest.mark.parametrize(
    ("unit", "check", "code"),
    [
        ("macbind", "service", "service_unavailable"),
        (DHCPD, "dhcpd", "dhcpd_not_running"),
    ],
)
def test_a_stopped_unit_is_found_and_started_by_what_is_printed(
    site: Installed, unit: str, check: str, code: str
) -> None:
    """As a shell line of root's."""
    site.run("systemctl", "stop", unit)
    found = doctor(site, check)
    assert found["exit"] == 2
    (finding,) = found[check]["findings"]
    assert finding["code"] == code
    for line in finding["commands"]:
        site.run("sh", "-euc", line)
    site.wait_serving()
    until(lambda: doctor(site, check)[check]["state"] == "well", SOON_S, f"{check} to be well again")
