"""`macbind check`: what is wrong with a configuration, and what it would change, of a real site."""

import json
from pathlib import Path
from typing import Any

import pytest

from labkit.farm import Farm

SUBNET = '[subnet."10.0.0.0/8"]\nrouters = ["10.0.0.1"]\n'
ONE_POOL = '[pool.farm]\nsubnet = "10.0.0.0/8"\nranges = ["10.1.1.3-10.1.1.250"]\n'
POOLS = SUBNET + ONE_POOL


def checked(farm: Farm, text: str) -> dict[str, Any]:
    """What a configuration with these pools would change."""
    path = variant(farm, text)
    done = farm.run("check", str(path), "--json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["faults"] == []
    return dict(answer["changes"])


def variant(farm: Farm, text: str) -> Path:
    """A second configuration of this site, with these pools."""
    path = farm.directory / "variant.toml"
    path.write_text(farm.config.read_text().replace(POOLS, text))
    return path


@pytest.mark.parametrize("running", [True, False], ids=["running", "stopped"])
def test_the_configuration_in_use_changes_nothing(farm: Farm, running: bool) -> None:
    """The file that is in use is right and changes nothing, whether the service runs or not."""
    if not running:
        assert farm.stop() == 0
    assert farm.macbind("check", str(farm.config)) == f"{farm.config} is right, and changes nothing.\n"
    assert farm.macbind("check") == f"{farm.config} is right, and changes nothing.\n"
    if not running:
        farm.start()
        farm.wait_serving()


def test_what_would_change_is_listed_and_does_not_happen(farm: Farm) -> None:
    """Ranges, renewed bindings, dhcpds and files are listed; the registry is as before, and serves meanwhile."""
    with farm.client() as client:
        made = client.allocate_group("farm", "check", 3)
        text = (
            SUBNET
            + ONE_POOL.replace("10.1.1.250", "10.1.1.240").replace(
                "ranges", 'domain_name = "x.example"\nranges'
            )
            + '[pool.more]\nsubnet = "10.0.0.0/8"\nranges = ["10.1.2.0/28", "10.1.3.1"]\n'
            + '[dhcpd.spare]\nport = 7912\nkey_file = "/nowhere/k"\nconfig_file = "/nowhere/c"\n'
        )
        assert checked(farm, text) == {
            "pools": [
                {
                    "pool": "farm",
                    "state": "kept",
                    "added": [],
                    "removed": [{"lo": "10.1.1.241", "hi": "10.1.1.250"}],
                    "renewed": 3,
                },
                {
                    "pool": "more",
                    "state": "new",
                    "added": [
                        {"lo": "10.1.2.0", "hi": "10.1.2.15"},
                        {"lo": "10.1.3.1", "hi": "10.1.3.1"},
                    ],
                    "removed": [],
                    "renewed": 0,
                },
            ],
            "dhcpds_added": ["spare"],
            "dhcpds_removed": [],
            "render": ["spare"],
            "unreachable": [],
        }
        assert farm.macbind("check", str(variant(farm, text))).splitlines() == [
            f"{farm.directory}/variant.toml is right, and changes this:",
            "  pool farm: no longer hands out 10.1.1.241-10.1.1.250",
            "  pool farm: 3 bindings are made anew",
            "  pool more: new, hands out 10.1.2.0-10.1.2.15, 10.1.3.1",
            "  dhcpd spare: new, is told every binding",
            "  dhcpd spare: its configuration file is not up to date, run `macbind render` and restart it",
        ]
        assert list(client.list(group="check")) == made
        assert [one.pool for one in client.pools()] == ["farm"]
        client.release_group("check")


def test_a_new_subnet_needs_dhcpds_restart(farm: Farm) -> None:
    """Whatever changes dhcpd's configuration file is told to need `macbind render` and a restart."""
    found = checked(farm, POOLS + '[subnet."11.0.0.0/8"]\n')
    assert (found["render"], found["pools"]) == (["main"], [])


def test_each_fault_is_one_sentence(farm: Farm) -> None:
    """Every fault that is known is told with file, line and key, nearest to the top first; the exit code is 3."""
    path = variant(farm, SUBNET + "rnages = []\n" + ONE_POOL + 'mode = "lvie"\n')
    done = farm.run("check", str(path))
    number = path.read_text().splitlines().index("rnages = []") + 1
    assert (done.returncode, done.stdout) == (3, "")
    first, second = done.stderr.splitlines()
    assert first.startswith(f"macbind: {path} line {number}: [subnet.\"10.0.0.0/8\"] has no key 'rnages'.")
    assert second == (
        f"macbind: {path} line {number + 4}: [pool.farm] mode must be 'live' or 'static', not \"lvie\"."
    )
    done = farm.run("check", str(path), "--json")
    assert done.returncode == 3
    assert [(one["code"], one["details"]["key"]) for one in json.loads(done.stdout)["faults"]] == [
        ("config_error", "rnages"),
        ("config_error", "mode"),
    ]


def test_what_the_registry_refuses_is_told(farm: Farm) -> None:
    """A change that allocations cannot follow is told as the service would tell it, with the place in the file."""
    with farm.client() as client:
        client.allocate("farm", "kept")
        other = variant(
            farm, SUBNET + ONE_POOL.replace("pool.farm", "pool.other").replace("10.1.1", "10.1.7")
        )
        done = farm.run("check", str(other))
        assert done.returncode == 3
        assert done.stderr == (
            f"macbind: {other}: The pool 'farm' is no longer configured but still has 1 allocations, e.g. "
            "'kept'. Put [pool.farm] back and release them first (pools now: other).\n"
        )
        prefix = variant(farm, POOLS + 'mac_prefix = "52:54:00"\n')
        line = prefix.read_text().splitlines().index("[pool.farm]") + 1
        done = farm.run("check", str(prefix))
        assert done.stderr == (
            f"macbind: {prefix} line {line}: The pool 'farm' has allocations made under another subnet or "
            "mac_prefix, e.g. 'kept'. Undo the change, release 'kept' and the others, then change the pool.\n"
        )
        assert client.get("kept").state == "bound"
        client.release("kept")


def test_no_registry_is_made_and_one_out_of_reach_is_told(farm: Farm) -> None:
    """A site whose registry does not exist yet is checked without making one; a damaged one is a peer's fault."""
    path = farm.directory / "new.toml"
    new = farm.directory / "new.db"
    path.write_text(farm.config.read_text().replace(farm.registry, f"sqlite:///{new}"))
    assert farm.macbind("check", str(path)).splitlines()[1:] == [
        "  pool farm: new, hands out 10.1.1.3-10.1.1.250",
        "  dhcpd main: new, is told every binding",
    ]
    assert not new.exists()
    new.write_text("this is no database, and no journal either" * 100)
    done = farm.run("check", str(path))
    assert done.returncode == 5
    assert "this file is something else" in done.stderr
