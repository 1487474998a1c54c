"""Options against their invariants, and against a real dhcpd that reads, writes and reads them again."""

import re
import shutil
import subprocess
import tempfile
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from macbind.core.binding_size import MAX_STATEMENTS, size_of
from macbind.core.dhcp_options import DhcpOptions
from macbind.core.errors import InvalidOption
from macbind.core.option_kinds import BOOT_CLIENTS
from macbind.core.static_route import StaticRoute
from macbind.dhcp.isc import syntax
from macbind.dhcp.isc.lease_file import parse

QUAD = r"\d{1,3}(\.\d{1,3}){3}"
HEX = r"[0-9a-f]{2}(:[0-9a-f]{2})*"
FILE = rf'(filename "[^"\\]+";|option server.filename = {HEX}:00;)'
STATEMENT = re.compile(
    rf'(option (host-name|domain-name)) "[^"\\]+";|{FILE}'
    rf"|(option (routers|domain-name-servers|ntp-servers)|next-server) {QUAD}(, {QUAD})*;"
    rf"|option unknown-\d+ = {HEX};|option unknown-249 = config-option unknown-121;|option interface-mtu \d+;"
    r'|option domain-search "[A-Za-z0-9.-]+"(, "[A-Za-z0-9.-]+")*;'
    rf'|(( els)?if [^"{{}}]*("(iPXE|HTTPClient)")? {{ (option vendor-class-identifier "HTTPClient"; )?{FILE} }})+'
)

# Addresses whose bytes are printable, quote and backslash among them, make poisonous values common.
nasty = st.tuples(*[st.sampled_from([0x22, 0x41, 0x5C, 0x7E])] * 4).map(lambda four: IPv4Address(bytes(four)))
hosts = st.integers(0x01000000, 0xDFFFFFFF).map(IPv4Address) | nasty
networks = st.builds(
    lambda address, length: IPv4Network((int(address), length), strict=False),
    hosts,
    st.integers(0, 32) | st.just(32),
)
routes = st.builds(StaticRoute, networks, hosts)


def accepted(**values: Any) -> bool:
    """Whether these options are valid."""
    try:
        DhcpOptions(**values)
    except InvalidOption:
        return False
    return True


labels = st.sampled_from(["a", "Z-9", "0", "web-1", "a" * 63])
printable = st.characters(min_codepoint=0x20, max_codepoint=0x7E, exclude_characters='"')
file_names = st.text(printable, min_size=1, max_size=127)
domains = st.lists(labels, min_size=1, max_size=3).map(".".join)
nasty_bytes = st.lists(st.sampled_from([0, 0x22, 0x41, 0x5C, 0xFF]), min_size=1, max_size=9).map(bytes)
raw_tables = st.dictionaries(
    st.sampled_from(["2", "43", "42", "60", "66", "67", "125", "150", "252"]),
    (nasty_bytes | st.binary(min_size=1, max_size=255)).map(lambda value: f"hex:{value.hex()}"),
    max_size=3,
).filter(lambda table: accepted(raw=table))
boot_tables = st.dictionaries(st.sampled_from(BOOT_CLIENTS), file_names)
servers = hosts.filter(lambda address: accepted(next_server=address))
several = st.lists(servers, max_size=3).map(tuple)
route_lists = st.lists(routes, max_size=3).map(tuple).filter(lambda some: accepted(static_routes=some))
valid_options = st.builds(
    DhcpOptions,
    hostname=st.none() | labels,
    routers=several,
    domain_name_servers=several,
    domain_name=st.none() | domains,
    domain_search=st.lists(domains, max_size=3).map(tuple).filter(lambda some: accepted(domain_search=some)),
    mtu=st.none() | st.integers(576, 65535).filter(lambda mtu: accepted(mtu=mtu)),
    next_server=st.none() | servers,
    filename=st.none() | file_names,
    boot=boot_tables,
    static_routes=route_lists,
    ntp_servers=several,
    raw=st.just({}),
) | st.builds(DhcpOptions, raw=raw_tables, boot=boot_tables, filename=st.none() | file_names)
LARGEST = DhcpOptions(
    hostname="a" * 63,
    routers=tuple(IPv4Address(0xDFFFFF00 + last) for last in range(63)),
    domain_name_servers=tuple(IPv4Address(0xDFFFFF00 + last) for last in range(63)),
    domain_name=".".join(["a" * 63] * 3 + ["a" * 61]),
    next_server=IPv4Address(0xDFFFFFFF),
    filename="x" * 127,
    static_routes=tuple(
        StaticRoute(IPv4Network((0xDFFFFF00 + last, 32)), IPv4Address(0xDFFFFFFF)) for last in range(27)
    ),
)

texts = st.text(max_size=40) | st.text('abz09.-_ "\\;{}#\n\t\0', max_size=12)
anything = st.fixed_dictionaries(
    {},
    optional={
        "hostname": texts,
        "domain_name": texts,
        "filename": texts,
        "mtu": texts | st.integers(),
        "ntp_servers": texts | st.lists(texts | hosts.map(str), max_size=3),
        "domain_search": texts | st.lists(texts | domains, max_size=3),
        "boot": texts
        | st.dictionaries(texts | st.sampled_from(BOOT_CLIENTS), texts | file_names, max_size=3),
        "raw": texts
        | raw_tables
        | st.dictionaries(st.integers(0, 300).map(str), texts | st.just("hex:4122")),
        "next_server": texts | hosts.map(str),
        "routers": texts | st.lists(texts | hosts.map(str), max_size=3),
        "domain_name_servers": texts | st.lists(texts | hosts.map(str), max_size=3),
        "static_routes": texts | st.lists(texts | routes.map(str), max_size=3),
    },
)


@given(anything)
@settings(max_examples=300)
def test_whatever_is_accepted_stays_within_its_statement(values: dict[str, Any]) -> None:
    """Any input is refused, or yields statements of the known forms, printable, with no quote to escape by."""
    try:
        statements = syntax.statements(DhcpOptions.parse(values))
    except InvalidOption:
        return
    for statement in statements:
        assert STATEMENT.fullmatch(statement), statement
        assert statement.isascii()
        assert statement.isprintable()


@given(valid_options)
def test_reading_inverts_writing(options: DhcpOptions) -> None:
    """The textual form says everything."""
    assert DhcpOptions.parse(options.to_dict()) == options


def test_what_was_the_longest_once_can_still_be_told() -> None:
    """Machines that have every option there was before, as long as possible, are told them as before."""
    assert size_of(LARGEST) <= MAX_STATEMENTS


@given(valid_options)
@example(LARGEST)
def test_the_estimate_is_never_too_small(options: DhcpOptions) -> None:
    """A binding takes no more bytes than its options are said to, and at least half as many."""
    assert len(syntax.of_host(options)) <= size_of(options) <= 2 * len(syntax.of_host(options)) + 350


@given(valid_options, valid_options)
def test_beyond_and_over_are_inverse(own: DhcpOptions, base: DhcpOptions) -> None:
    """What a machine gets is restored from the subnet's options and what goes beyond them."""
    whole = own.over(base)
    assert whole.beyond(base).over(base) == whole


@given(valid_options, valid_options)
def test_over_prefers_its_own_and_is_idempotent(own: DhcpOptions, base: DhcpOptions) -> None:
    """Completing twice is completing once; nothing own is changed; with nothing below all stays as it is."""
    whole = own.over(base)
    assert whole.over(base) == whole
    for key, value in own.to_dict().items():
        assert (
            value.items() <= whole.to_dict()[key].items()
            if key in ("boot", "raw")
            else whole.to_dict()[key] == value
        )
    assert own.over(DhcpOptions()) == own
    assert DhcpOptions().over(own) == own
    assert own.beyond(own) == DhcpOptions()
    assert own.beyond(DhcpOptions()) == own


@given(valid_options, valid_options)
def test_dhcpd_sends_what_was_meant(own: DhcpOptions, base: DhcpOptions) -> None:
    """A host's statements on top of its subnet's amount to the statements of both together."""
    whole = own.over(base)
    assert effect(base) | effect(whole.beyond(base)) == effect(whole)


def effect(options: DhcpOptions) -> dict[str, object]:
    """What dhcpd makes of the statements: the last one of a kind counts, and the boot file depends on who asks."""
    found: dict[str, object] = {}
    for statement in syntax.statements(replace(options, filename=None, boot={})):
        head = re.match(r"(option )?\S+", statement)
        assert head
        found[head[0].replace("ntp-servers", "unknown-42")] = statement
    if options.filename:
        found |= dict.fromkeys(("anybody", *BOOT_CLIENTS), options.filename)
    return found | dict(options.boot)


def rewritten_by_dhcpd(text: str) -> list[bytes]:
    """The lease file as dhcpd writes it anew after having read this one, and after having read its own.

    dhcpd does so at every start, before it looks for its network interface, which does not exist here.
    """
    dhcpd = shutil.which("dhcpd")
    assert dhcpd, "install isc-dhcp-server"
    with tempfile.TemporaryDirectory() as directory:
        config, leases = Path(directory, "dhcpd.conf"), Path(directory, "dhcpd.leases")
        config.write_text("subnet 10.0.0.0 netmask 255.0.0.0 { }\n")
        leases.write_text(text)
        files = ["-cf", str(config), "-lf", str(leases), "--no-pid"]
        command = [dhcpd, "-4", "-f", *files, "no-such-if"]
        written = []
        for _ in ("as it was sent", "as dhcpd wrote it"):
            subprocess.run(command, capture_output=True, check=False)
            written.append(leases.read_bytes())
        assert Path(directory, "dhcpd.leases~").exists()
        return written


def lease_file(*statements: str) -> str:
    """A lease file with a host that has these statements, and one behind it."""
    return (
        f"host a {{\n  dynamic;\n  hardware ethernet 00:16:3e:01:01:01;\n  fixed-address 10.1.1.1;\n"
        f"  {' '.join(statements)}\n}}\n"
        "host b {\n  dynamic;\n  hardware ethernet 00:16:3e:01:01:02;\n  fixed-address 10.1.1.2;\n}\n"
    )


@given(valid_options)
@example(LARGEST)
@settings(max_examples=60, deadline=None)
def test_options_survive_two_restarts_of_dhcpd(options: DhcpOptions) -> None:
    """dhcpd reads, writes, reads and writes a host with any options and loses neither it nor the next one."""
    statements = syntax.statements(options)
    first, second = rewritten_by_dhcpd(lease_file(*statements))
    assert second == first
    values = len(statements) - bool(options.boot) + len(options.boot) + ("http" in options.boot)
    assert len(re.findall(rb"^\s+supersede ", first, re.MULTILINE)) == values
    assert parse(first).hosts == parse(lease_file().encode()).hosts
    assert parse(first).problems == ()


@pytest.mark.parametrize(
    "poison",
    [
        "option unknown-121 20:41:42:22:43:44:45:46:47;",
        "option routers 66.34.70.80;",
        "next-server 65.65.65.92;",
        "option interface-mtu 8769;",
        "option unknown-252 = 41:22:42;",
    ],
)
def test_the_danger_is_real(poison: str) -> None:
    """What we refuse makes dhcpd lose the host behind it at the second start; our own reader finds it."""
    first, second = rewritten_by_dhcpd(lease_file(poison))
    assert b"host b" in first
    assert b"host b" not in second
    assert "b" in parse(first).hosts
