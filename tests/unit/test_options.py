"""DHCP options: what reaches dhcpd, and every known way to poison it, refused."""

from ipaddress import IPv4Address
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from macbind.core.dhcp_options import DhcpOptions
from macbind.core.errors import InvalidOption
from macbind.core.option_kinds import MAX_FILENAME, MAX_HOSTNAME
from macbind.core.static_route import StaticRoute
from macbind.dhcp.isc import syntax

EVERYTHING = {
    "hostname": "web1",
    "routers": ["10.1.0.1", "10.1.0.2"],
    "domain_name_servers": ["10.1.0.53"],
    "domain_name": "farm.example.org",
    "next_server": "10.1.0.69",
    "filename": "pxe/linux.0",
    "static_routes": ["10.9.0.0/16 via 10.1.0.2"],
    "domain_search": ["farm.example.org", "example.org"],
    "mtu": 1450,
    "boot": {
        "bios": "undionly.kpxe",
        "efi64": "boot\\x64",
        "http": "http://10.1.0.69/b.efi",
        "ipxe": "b.ipxe",
    },
    "raw": {"252": "hex:68740a", "42": "hex:0a010007"},
}


BOOT = (
    'if suffix(option user-class, 4) = "iPXE" { filename "b.ipxe"; } '
    'elsif substring(option vendor-class-identifier, 0, 10) = "HTTPClient" '
    '{ option vendor-class-identifier "HTTPClient"; filename "http://10.1.0.69/b.efi"; } '
    "elsif substring(option pxe-system-type, 0, 2) = 00:07 or substring(option pxe-system-type, 0, 2) = 00:09 "
    "{ option server.filename = 62:6f:6f:74:5c:78:36:34:00; } "
    'elsif substring(option pxe-system-type, 0, 2) = 00:00 { filename "undionly.kpxe"; }'
)


def refused(values: dict[str, Any]) -> InvalidOption:
    """The error these options are refused with."""
    with pytest.raises(InvalidOption) as caught:
        DhcpOptions.parse(values)
    return caught.value


def test_options_become_statements() -> None:
    """Each option is one complete dhcpd statement; the default route joins the static routes."""
    assert syntax.statements(DhcpOptions.parse(EVERYTHING)) == [
        'option host-name "web1";',
        "option routers 10.1.0.1, 10.1.0.2;",
        "option domain-name-servers 10.1.0.53;",
        'option domain-name "farm.example.org";',
        'option domain-search "farm.example.org", "example.org";',
        "option interface-mtu 1450;",
        "next-server 10.1.0.69;",
        'filename "pxe/linux.0";',
        BOOT,
        "option unknown-121 = 10:0a:09:0a:01:00:02:00:0a:01:00:01;",
        "option unknown-249 = config-option unknown-121;",
        "option unknown-252 = 68:74:0a;",
        "option unknown-42 = 0a:01:00:07;",
    ]


def test_no_options_are_no_statements() -> None:
    """What is not set is not sent."""
    assert syntax.statements(DhcpOptions()) == []
    assert DhcpOptions.parse({}).to_dict() == {}


def test_options_are_written_as_they_are_read() -> None:
    """The textual form of a set of options is the one it was read from."""
    assert DhcpOptions.parse(EVERYTHING).to_dict() == EVERYTHING


def test_a_single_value_needs_no_list() -> None:
    """One router, DNS server or route may be written as a plain text."""
    options = DhcpOptions.parse(
        {
            "routers": "10.1.0.1",
            "domain_name_servers": "10.1.0.53",
            "static_routes": "10.9.0.0/16 via 10.1.0.2",
        }
    )
    assert options.routers == (IPv4Address("10.1.0.1"),)
    assert options.domain_name_servers == (IPv4Address("10.1.0.53"),)
    assert options.static_routes == (StaticRoute.parse("10.9.0.0/16 via 10.1.0.2"),)


def test_an_explicit_default_route_is_not_repeated() -> None:
    """With 0.0.0.0/0 among the routes, the router is not added as a second default route."""
    options = DhcpOptions.parse({"routers": "10.1.0.1", "static_routes": ["0.0.0.0/0 via 10.1.0.9"]})
    assert "option unknown-121 = 00:0a:01:00:09;" in syntax.statements(options)


def test_an_unknown_option_is_refused_with_the_known_ones() -> None:
    """A misspelt option is not silently ignored."""
    error = refused({"router": "10.1.0.1"})
    assert "'router'" in error.message
    assert "routers" in error.hint


POISON = [
    'a"b',
    '"',
    "a\\",
    "a\\b",
    "a\nb",
    "a\n",
    "a\0b",
    "\x1b[2J",
    "a\x7f",
    "caf\u00e9",
    "\u0661",
    "a\u2028b",
]


@pytest.mark.parametrize(
    ("option", "value"),
    [
        (option, value)
        for option in ("hostname", "domain_name", "filename")
        for value in POISON
        if option != "filename" or "\\" not in value
    ],
)
def test_what_would_leave_its_quotes_is_refused(option: str, value: str) -> None:
    """Quotes, backslashes, control and non-ASCII characters would corrupt dhcpd's lease file."""
    error = refused({option: value})
    assert error.details == {"option": option}
    assert repr(value) in error.message
    assert error.hint


@pytest.mark.parametrize("option", ["hostname", "domain_name"])
@pytest.mark.parametrize(
    "value",
    [
        "",
        " ",
        "a b",
        "a;b",
        "a{b",
        "a}",
        "a#b",
        "-a",
        "a-",
        "_a",
        "a_b",
        "a,b",
        "$(x)",
        ".",
        "a..b",
        "a.",
        ".a",
    ],
)
def test_names_have_the_characters_of_names(option: str, value: str) -> None:
    """Host and domain names hold letters, digits and inner hyphens, so no semicolon or brace either."""
    assert refused({option: value}).details == {"option": option}


def test_a_host_name_is_one_label() -> None:
    """A dot belongs into the domain, and 63 characters are the end."""
    assert "domain_name" in refused({"hostname": "web1.farm"}).hint
    assert syntax.statements(DhcpOptions(hostname="a" * MAX_HOSTNAME))
    refused({"hostname": "a" * (MAX_HOSTNAME + 1)})


def test_a_domain_name_has_its_length_limits() -> None:
    """63 characters per label and 253 in all, as DNS has it."""
    longest = ".".join(["a" * 63] * 3 + ["a" * 61])
    assert len(longest) == 253
    assert DhcpOptions(domain_name=longest).domain_name == longest
    refused({"domain_name": longest + "a"})
    refused({"domain_name": "a" * 64 + ".example"})


def test_a_file_name_has_its_length_limit() -> None:
    """The BOOTP header has room for 127 characters."""
    assert syntax.statements(DhcpOptions(filename="x" * MAX_FILENAME))
    refused({"filename": "x" * (MAX_FILENAME + 1)})
    refused({"filename": ""})


@pytest.mark.parametrize("value", ["http://10.1.0.69/boot?mac=${net0/mac}&x=#1", "a b", "{};", "-", "%h"])
def test_a_file_name_may_be_a_script_s_url(value: str) -> None:
    """Everything printable but quote and backslash stays within its quotes and survives in the lease file."""
    assert syntax.statements(DhcpOptions(filename=value)) == [f'filename "{value}";']


@pytest.mark.parametrize("option", ["routers", "domain_name_servers", "next_server"])
@pytest.mark.parametrize(
    "value",
    ["gw.invalid", "localhost", "", "10.1", "010.1.0.1", "10.1.0.1, 10.1.0.2", "10.1.0.1;", "::1", 5, True],
)
def test_names_are_refused_where_addresses_are_due(option: str, value: object) -> None:
    """dhcpd would resolve a name at every request and serve nobody meanwhile."""
    if value == "" and option != "next_server":
        assert not syntax.statements(DhcpOptions.parse({option: value}))
        return
    error = refused({option: value})
    assert error.details == {"option": option}
    assert "resolves a name" in error.hint


@pytest.mark.parametrize("option", ["routers", "domain_name_servers", "next_server"])
@pytest.mark.parametrize("value", ["0.0.0.0", "224.0.0.1", "239.255.255.255", "255.255.255.255"])  # noqa: S104
def test_addresses_of_no_host_are_refused(option: str, value: str) -> None:
    """A router or server has a unicast address."""
    assert refused({option: value}).details == {"option": option}


@pytest.mark.parametrize("option", ["routers", "domain_name_servers", "next_server"])
@pytest.mark.parametrize(
    "address", ["100.92.34.65", "66.34.70.80", "64.92.126.32", "34.34.34.34", "65.65.65.92"]
)
def test_addresses_that_would_poison_the_lease_file_are_refused(option: str, address: str) -> None:
    """An address of printable bytes only, one a quote (34) or backslash (92), cannot be written by dhcpd."""
    assert address in refused({option: address}).message
    harmless = address.rpartition(".")[0] + ".1"
    assert syntax.statements(DhcpOptions.parse({option: harmless}))


@pytest.mark.parametrize("option", ["routers", "domain_name_servers"])
def test_an_option_holds_63_addresses(option: str) -> None:
    """One DHCP option has 255 bytes; dhcpd would not send more."""
    addresses = [f"10.1.0.{last}" for last in range(1, 65)]
    assert syntax.statements(DhcpOptions.parse({option: addresses[:63]}))
    assert "at most 63" in refused({option: addresses}).hint


@pytest.mark.parametrize("option", ["hostname", "domain_name", "filename"])
@pytest.mark.parametrize("value", [5, True, ["a"], {"a": 1}])
def test_what_is_not_a_text_is_refused(option: str, value: object) -> None:
    """A number or list where a text is due is the caller's fault and named as such."""
    error = refused({option: value})
    assert error.details == {"option": option}
    assert repr(value) in error.message


@pytest.mark.parametrize(
    ("text", "wire"),
    [
        ("0.0.0.0/0 via 10.1.0.1", "00 0a010001"),
        ("10.0.0.0/8 via 10.1.0.1", "08 0a 0a010001"),
        ("10.9.0.0/16 via 10.1.0.1", "10 0a09 0a010001"),
        ("10.9.8.0/22 via 10.1.0.1", "16 0a0908 0a010001"),
        ("10.9.8.0/24 via 10.1.0.1", "18 0a0908 0a010001"),
        ("10.9.8.128/25 via 10.1.0.1", "19 0a090880 0a010001"),
        ("10.9.8.7/32 via 10.1.0.1", "20 0a090807 0a010001"),
        ("  10.9.8.7   via\t10.1.0.1 ", "20 0a090807 0a010001"),
    ],
)
def test_routes_go_over_the_wire_as_rfc_3442_has_it(text: str, wire: str) -> None:
    """Width, as many octets of the destination as the width needs, gateway."""
    assert StaticRoute.parse(text).to_bytes() == bytes.fromhex(wire)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "10.9.0.0/16",
        "10.9.0.0/16 10.1.0.1",
        "10.9.0.0/16 via",
        "via 10.1.0.1",
        "10.9.0.1/16 via 10.1.0.1",
        "10.9.0.0/33 via 10.1.0.1",
        "net via 10.1.0.1",
        "10.9.0.0/16 via gw.invalid",
        "10.9.0.0/16 via 10.1.0.1 10.1.0.2",
        '10.9.0.0/16 via 10.1.0.1"',
        "10.9.0.0/16 via 0.0.0.0",
        "10.9.0.0/16 via 224.0.0.1",
    ],
)
def test_unusable_routes_are_refused(text: str) -> None:
    """A route is a network and the address of a gateway."""
    assert refused({"static_routes": [text]}).hint


def test_routes_that_would_poison_the_lease_file_are_refused() -> None:
    """A list of routes whose bytes are all printable, one a quote or backslash, cannot be written by dhcpd."""
    quote, backslash = "65.66.34.67/32 via 68.69.70.71", "65.66.92.67/32 via 68.69.70.71"
    for poison in (quote, backslash):
        error = refused({"static_routes": [poison]})
        assert "corrupt dhcpd's lease file" in error.message
        assert "default route" in error.hint
    assert syntax.statements(DhcpOptions.parse({"static_routes": ["65.66.67.68/32 via 68.69.70.71"]}))


def test_the_way_out_of_poison_works() -> None:
    """Adding a default route, as the hint says, makes the same list harmless."""
    poison = "65.66.34.67/32 via 68.69.70.71"
    assert syntax.statements(DhcpOptions.parse({"static_routes": [poison, "0.0.0.0/0 via 68.69.70.71"]}))
    assert syntax.statements(DhcpOptions.parse({"static_routes": [poison], "routers": "68.69.70.71"}))


def test_an_option_holds_255_bytes_of_routes() -> None:
    """Routes that do not fit, the added default route included, are refused."""
    routes = [f"10.9.{number}.0/24 via 10.1.0.1" for number in range(32)]
    assert syntax.statements(DhcpOptions.parse({"static_routes": routes[:31]}))
    assert "need 256 bytes" in refused({"static_routes": routes}).message
    full = [*routes[:31], "10.10.0.0/16 via 10.1.0.1"]
    assert syntax.statements(DhcpOptions.parse({"static_routes": full}))
    assert "need 260 bytes" in refused({"static_routes": full, "routers": "10.1.0.1"}).message


def test_options_complete_each_other() -> None:
    """The machine's own options come first, the others are filled in."""
    own = DhcpOptions.parse({"hostname": "web", "routers": "10.1.0.9"})
    base = DhcpOptions.parse({"routers": "10.1.0.1", "domain_name": "farm.example"})
    assert own.over(base).to_dict() == {
        "hostname": "web",
        "routers": ["10.1.0.9"],
        "domain_name": "farm.example",
    }


def test_only_differences_are_told_to_dhcpd() -> None:
    """What the subnet sends anyway is not repeated for every machine."""
    base = DhcpOptions.parse({"routers": "10.1.0.1", "domain_name": "farm.example"})
    own = DhcpOptions.parse({"hostname": "web", "domain_name": "farm.example"}).over(base)
    assert own.beyond(base).to_dict() == {"hostname": "web"}


def test_another_router_repeats_the_routes() -> None:
    """Clients that get static routes ignore the routers, so a new router means new routes."""
    base = DhcpOptions.parse({"routers": "10.1.0.1", "static_routes": ["10.9.0.0/16 via 10.1.0.2"]})
    own = DhcpOptions.parse({"routers": "10.1.0.9"}).over(base)
    assert syntax.statements(own.beyond(base)) == [
        "option routers 10.1.0.9;",
        "option unknown-121 = 10:0a:09:0a:01:00:02:00:0a:01:00:09;",
        "option unknown-249 = config-option unknown-121;",
    ]


def test_routes_stand_in_api_models() -> None:
    """pydantic reads and writes the textual form."""
    adapter = TypeAdapter(StaticRoute)
    route = adapter.validate_python("10.9.0.0/16 via 10.1.0.2")
    assert adapter.validate_python(route) is route
    assert adapter.dump_json(route) == b'"10.9.0.0/16 via 10.1.0.2"'
    assert adapter.json_schema()["type"] == "string"
    with pytest.raises((ValidationError, InvalidOption)):
        adapter.validate_python("nonsense")
