"""`macbind doctor` and libvirt: a hypervisor that is away, and a domain with a MAC that nobody allocated."""

import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest

from labkit.farm import MACBIND, POOLS, Farm
from labkit.guest import Guest
from labkit.net import Lab
from labkit.services import Services
from labkit.virt import Libvirtd
from labkit.wait import until

pytestmark = pytest.mark.timeout(600)

SOON_S = 60.0
RESTART = "systemctl restart libvirtd || systemctl restart virtqemud.socket"
STRANGER = "00:16:3e:01:01:77"


def test_a_hypervisor_that_is_away_and_a_stranger_among_domains() -> None:
    """libvirtd is started again by the printed line; the stranger keeps the address by the printed reservation."""
    with tempfile.TemporaryDirectory(prefix="mb-") as name, Lab() as lab:
        place = Path(name)
        place.chmod(0o755)
        for part in ("v", "farm"):
            (place / part).mkdir()
        with Libvirtd(lab, place / "v") as libvirtd:
            pools = f'{POOLS}\n[hypervisor.one]\nuri = "{libvirtd.uri}"\n'
            actions = {"systemctl restart libvirtd": libvirtd.restart}
            with Farm(lab, place / "farm", pools=pools) as farm, Services(place / "bin", actions) as services:
                macbind = services.directory / "macbind"
                macbind.write_text(f'#!/bin/sh\nexec {MACBIND[0]} -c "{MACBIND[2]}" "$@"\n')
                macbind.chmod(0o755)
                env = {
                    **os.environ,
                    "MACBIND_SOCKET": str(farm.socket),
                    "MACBIND_CONFIG": str(farm.config),
                    "PATH": f"{services.directory}:{os.environ['PATH']}",
                }

                def run(*command: str) -> "subprocess.CompletedProcess[str]":
                    return subprocess.run(
                        lab.server.argv(command),
                        capture_output=True,
                        text=True,
                        env=env,
                        timeout=120,
                        check=False,
                    )

                def found(check: str) -> list[Any]:
                    done = json.loads(run(*MACBIND, "doctor", check, "--json").stdout)
                    assert not [one["note"] for one in done["checks"] if one["note"]]
                    return list(done["checks"][-1]["findings"])

                def mend(finding: Any) -> None:
                    for line in finding["commands"]:
                        done = run("sh", "-euc", line)
                        assert done.returncode == 0, done.stderr

                assert found("hypervisors") == []
                assert found("domains") == []
                libvirtd.stop()
                (away,) = found("hypervisors")
                assert (away["code"], away["subject"]) == ("hypervisor_unavailable", "one")
                assert away["commands"] == [RESTART]
                mend(away)
                until(lambda: found("hypervisors") == [], SOON_S, "libvirtd to be found well")

                xml = Guest.build().template(name="stranger", mac=STRANGER)
                libvirtd.virsh("create", "/dev/stdin", stdin=xml)
                (stranger,) = found("domains")
                assert (stranger["code"], stranger["subject"]) == ("unallocated_mac", STRANGER)
                assert stranger["commands"] == ["macbind reserve stranger 10.1.1.119"]
                mend(stranger)
                assert found("domains") == []
                with farm.client() as client:
                    assert client.get("stranger").pinned
                assert farm.defects() == []
