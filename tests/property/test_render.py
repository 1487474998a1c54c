"""Whatever the configuration file admits, dhcpd accepts."""

from __future__ import annotations

import json
import re
import tempfile
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from macbind.config import load
from macbind.core.errors import ConfigError
from macbind.dhcp.isc.config_test import check
from macbind.dhcp.isc.render import render

LABEL = st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9-]{0,20}[A-Za-z0-9])?", fullmatch=True)
FILENAME = st.text(
    st.characters(min_codepoint=0x20, max_codepoint=0x7E, exclude_characters='"\\'), min_size=1, max_size=127
)
HOSTS = st.integers(1 << 24, (224 << 24) - 1).map(lambda value: str(IPv4Address(value)))
ROUTES = st.tuples(st.integers(0, (1 << 32) - 1), st.integers(0, 32)).map(
    lambda pair: str(IPv4Network(pair, strict=False))
)


@st.composite
def options(draw: st.DrawFn, network: IPv4Network) -> dict[str, Any]:
    """Some options of a subnet or pool; gateways are among the first addresses."""
    gateways = st.integers(1, 3).map(lambda index: str(network[index]))
    every: dict[str, st.SearchStrategy[Any]] = {
        "routers": st.lists(gateways, min_size=1, max_size=2),
        "domain_name_servers": st.lists(HOSTS, min_size=1, max_size=63),
        "domain_name": st.lists(LABEL, min_size=1, max_size=5).map(".".join),
        "next_server": HOSTS,
        "filename": FILENAME,
        "static_routes": st.lists(st.builds("{} via {}".format, ROUTES, gateways), min_size=1, max_size=8),
        "gateway": st.sampled_from(["x.x.x", ".".join(str(network[0]).split(".")[:3])]).flatmap(
            lambda head: st.integers(1, 3).map(lambda index: f"{head}.{int(network[index]) & 255}")
        ),
    }
    chosen = {key: draw(value) for key, value in every.items() if draw(st.booleans())}
    if "gateway" in chosen:
        chosen.pop("routers", None)
    return chosen


@st.composite
def configurations(draw: st.DrawFn) -> str:
    """A configuration file of disjoint subnets, each with or without table, dynamic ranges and pools."""
    tables: dict[str, dict[str, Any]] = {
        "dhcpd.main": {
            "port": draw(st.integers(1, 65_535)),
            "key_name": draw(st.from_regex("[A-Za-z][A-Za-z0-9.-]{0,62}", fullmatch=True)),
            "fsync": draw(st.booleans()),
            "authoritative": draw(st.booleans()),
            "key_file": f"/{draw(FILENAME)}.key",
        }
    }
    for number in draw(st.lists(st.integers(0, 255), min_size=1, max_size=3, unique=True)):
        network = IPv4Network((f"10.{number}.0.0", draw(st.integers(20, 27))))
        size = network.num_addresses
        if draw(st.booleans()):
            table = tables[f'subnet."{network}"'] = draw(options(network))
            table["lease_time_s"] = draw(st.integers(60, 31_536_000))
            if draw(st.booleans()):
                table["dynamic"] = [f"{network[size - 6]}-{network[size - 4]}", str(network[size - 2])]
        halves = [(4, size // 2 - 1), (size // 2, size - 8)]
        for index, (lo, hi) in enumerate(draw(st.lists(st.sampled_from(halves), unique=True))):
            tables[f"pool.p{number}-{index}"] = draw(options(network)) | {
                "subnet": str(network),
                "ranges": [f"{network[lo]}-{network[hi]}"],
                "mode": draw(st.sampled_from(["live", "static"])),
                "mac_prefix": draw(st.sampled_from(["00:16:3e", "52:54:00"])),
            }
    assume(any(name.startswith("pool") for name in tables))
    return "\n".join(
        "\n".join([f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in table.items())])
        for name, table in tables.items()
    )


@given(configurations())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_dhcpd_accepts_every_configuration(text: str) -> None:
    """dhcpd accepts the text, and each address of a static pool stands in it exactly once, with its MAC."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "macbind.toml")
        path.write_text(text, encoding="utf-8")
        try:
            loaded = load(path)
        except ConfigError as error:
            # Only what would corrupt the lease file may be refused here: its bytes are decided by chance.
            assert "would corrupt dhcpd's lease file" in error.message, error.message  # noqa: PT017
            assume(False)
    rendered = render(loaded, "main")
    check(rendered)
    static = [pool for pool in loaded.pools.values() if pool.mode == "static"]
    assert re.findall(r"hardware ethernet (\S+); fixed-address (\S+);", rendered) == [
        (str(pool.plan.scheme.encode(address)), str(address))
        for pool in static
        for item in pool.plan.assignable
        for address in item
    ]
