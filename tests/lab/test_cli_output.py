"""What commands print on a real farm: every form of every command, its schema, search, and dry runs."""

import csv
import io
import json
from typing import Any

import jsonschema_rs
import pytest
import yaml

from labkit.farm import Farm
from macbind.core.mac_address import MacAddress

POOLS = """
[subnet."10.0.0.0/8"]
routers = ["10.0.0.1"]

[pool.farm]
subnet = "10.0.0.0/8"
ranges = ["10.1.0.0/16"]

[pool.forms]
subnet = "10.0.0.0/8"
ranges = ["10.2.0.1-10.2.0.254"]

[pool.sought]
subnet = "10.0.0.0/8"
ranges = ["10.3.0.1-10.3.0.253"]

[pool.dry]
subnet = "10.0.0.0/8"
ranges = ["10.4.0.1-10.4.0.3"]
"""

QUESTIONS: list[list[str]] = [
    ["list"],
    ["list", "--gaps"],
    ["pools"],
    ["controllers"],
    ["free", "forms"],
    ["map", "forms"],
    ["history", "--pool", "forms"],
    ["show", "one"],
    ["why", "one"],
    ["status"],
    ["wait", "one", "two"],
    ["watch", "--no-wait", "--after", "0", "--pool", "forms"],
    ["allocate", "forms", "one"],
]


@pytest.fixture(scope="module")
def held(farm: Farm) -> Farm:
    """The farm with a group of three and a reservation with a foreign MAC."""
    with farm.client() as client:
        client.allocate("forms", "one")
        client.allocate_group("forms", "web", names=["two", "ten-2", "ten-10"])
        client.reserve("printer", "10.2.0.200", mac="00:11:22:aa:bb:cc")
    return farm


@pytest.mark.parametrize("command", QUESTIONS, ids=" ".join)
def test_every_form_of_every_command(held: Farm, command: list[str]) -> None:
    """JSON, YAML and JSONL are the same values, and as the schema says; CSV has the columns; the rest prints."""
    told = held.macbind(*command, "-o", "json")
    lines = [json.loads(line) for line in held.macbind(*command, "-o", "jsonl").splitlines()]
    schema = json.loads(held.macbind("schema", command[0]))
    if command[0] == "watch":  # it has no end, so each event is a value
        assert [json.loads(line) for line in told.splitlines()] == lines
        for one in lines:
            jsonschema_rs.validate(schema, one)
        read: Any = list(yaml.safe_load_all(held.macbind(*command, "-o", "yaml")))
        assert [one for (one,) in read] == lines
    else:
        value = json.loads(told)
        jsonschema_rs.validate(schema, value)
        if command[0] not in ("why", "status", "list", "controllers"):  # these say how long ago something was
            assert lines == (value if isinstance(value, list) else [value])
            assert yaml.safe_load(held.macbind(*command, "-o", "yaml")) == value
    rows = list(csv.DictReader(io.StringIO(held.macbind(*command, "-o", "csv", "--columns", "all"))))
    assert rows
    known = held.run(*command, "--columns", "none-such")
    assert known.returncode == 2
    assert f"Columns are: {', '.join(rows[0])}." in " ".join(known.stderr.split())
    assert held.macbind(*command, "-o", "name").splitlines()
    assert held.macbind(*command, "-o", "wide")


def test_what_has_no_row_is_still_a_value(farm: Farm) -> None:
    """A release of what is gone is an answer in JSON, a sentence in text, and no row of CSV."""
    gone = ["release", "nobody", "no-one"]
    value = farm.macbind_json(*gone)
    jsonschema_rs.validate(json.loads(farm.macbind("schema", "release")), value)
    assert [one["already_gone"] for one in value] == [True, True]
    assert farm.macbind(*gone).count("gone already") == 2
    assert farm.macbind(*gone, "-o", "csv", "--columns", "name") == "name\n"
    assert farm.macbind(*gone, "-o", "name") == ""


def test_columns_sorting_and_limits(held: Farm) -> None:
    """Columns stand as asked for; numbers in names count as numbers; the limit comes after the sorting."""
    listed = ("list", "--pool", "forms", "--columns", "name,address")
    assert held.macbind(*listed, "--sort", "name", "--no-headers").split()[::2] == [
        "one",
        "printer",
        "ten-2",
        "ten-10",
        "two",
    ]
    assert held.macbind(*listed, "--sort", "group,-name", "-o", "csv").splitlines() == [
        "name,address",
        "two,10.2.0.2",
        "ten-10,10.2.0.4",
        "ten-2,10.2.0.3",
        "printer,10.2.0.200",
        "one,10.2.0.1",
    ]
    (last,) = held.macbind_json(*listed, "--sort", "-address", "--limit", "1")
    assert last == {"name": "printer", "address": "10.2.0.200"}
    assert held.macbind("list", "--pool", "forms", "--limit", "2", "-o", "name").split() == ["one", "two"]
    gaps = held.macbind(
        "list", "--pool", "forms", "--gaps", "--sort", "-address", "-o", "csv", "--no-headers"
    )
    assert gaps.splitlines()[1].startswith("10.2.0.200,00:11:22:aa:bb:cc,printer,")
    sizes = held.macbind("pools", "--sort", "-size", "--columns", "pool", "--no-headers").split()
    assert sizes == ["farm", "forms", "sought", "dry"]


def test_names_feed_another_command(held: Farm) -> None:
    """`-o name` prints what xargs hands to the next command, and nothing where there is nothing."""
    names = held.macbind("list", "--group", "web", "-o", "name").split()
    assert sorted(names) == ["ten-10", "ten-2", "two"]
    assert [one["name"] for one in held.macbind_json("list", "--search", names[0])] == [names[0]]
    assert held.run("list", "--group", "none-such", "-o", "name").stdout == ""


SPELLINGS = [
    ("00:16:3E:03:00:01", ["web-1"]),
    ("00-16-3e-03-00-01", ["web-1"]),
    ("0016.3e03.0001", ["web-1"]),
    ("00163E030001", ["web-1"]),
    ("0:16:3e:3:0:1", ["web-1"]),
    ("3e:03:00:01", ["web-1"]),
    ("3e03.00", ["web-1", "web-2", "mail"]),
    ("3e0300", ["web-1", "web-2", "mail"]),
    ("AA:bb", ["scanner"]),
    ("aabb", ["scanner"]),
    ("WEB-", ["web-1", "web-2"]),
    ("10.3.0.2", ["web-2"]),
    (".3.0.", ["web-1", "web-2", "mail", "scanner"]),
    ("of-mail", ["mail"]),
    ("red", ["web-1", "web-2"]),
    ("100%", []),
    ("web_1", []),
    ("\\", []),
    ("e:b", []),
]


@pytest.fixture(scope="module")
def sought(farm: Farm) -> Farm:
    """The farm with a group, a domain, and a foreign MAC."""
    with farm.client() as client:
        client.allocate_group("sought", "red", names=["web-1", "web-2"])
        client.allocate("sought", "mail", domain="Domain-of-mail")
        client.reserve("scanner", "10.3.0.9", mac="00:11:22:33:aa:bb")
    return farm


@pytest.mark.parametrize(("text", "names"), SPELLINGS, ids=[one for one, _ in SPELLINGS])
def test_search_finds_any_part_in_any_spelling(sought: Farm, text: str, names: list[str]) -> None:
    """Names, groups, domains, addresses, and MACs in every spelling; patterns of SQL are plain text."""
    found = sought.macbind("list", "--pool", "sought", "--search", text, "-o", "name").split()
    assert found == names


def test_search_in_pages(sought: Farm) -> None:
    """The database decides, page by page; released ones and groups count as without a search."""
    with sought.client() as client:
        whole = [one.name for one in client.list(pool="sought", search=".3.0.")]
        paged: list[str] = []
        after: dict[str, Any] = {}
        while True:
            params = {"pool": "sought", "q": ".3.0.", "limit": 1} | after
            page = client._get("/v1/allocations", params)
            paged += [one["name"] for one in page["allocations"]]
            if page["next"] is None:
                break
            after = {"after": page["next"]}
        assert paged == whole == ["web-1", "web-2", "mail", "scanner"]
        assert [one.name for one in client.list(group="red", search="2")] == ["web-2"]
        mac = MacAddress.parse("00:11:22:33:aa:bb")
        assert [one.name for one in client.list(mac=mac, search="nothing")] == []


def changes(farm: Farm) -> list[dict[str, Any]]:
    """The audit log."""
    found: list[dict[str, Any]] = farm.macbind_json("history", "--limit", "1000")
    return found


def test_a_dry_run_says_what_would_happen_and_changes_nothing(farm: Farm) -> None:
    """The same addresses are then really taken; log, free space, generations and dhcpd are as before."""
    with farm.client() as client:
        kept = client.allocate("dry", "kept", group="speck")
        before = changes(farm), list(client.free("dry")), farm.leases.read_text()
        would = client.allocate("dry", "next", dry_run=True)
        two = client.allocate_group("dry", "pair", 2, dry_run=True)
        assert [one.address for one in two] == [would.address, would.address + 1]
        pinned = client.reserve("desk", "10.4.0.3", dry_run=True)
        assert (pinned.name, pinned.pinned) == ("desk", True)
        gone = client.release_group("speck", dry_run=True)
        assert [one.name for one in gone.allocations] == ["kept"]
        assert client.release("kept", dry_run=True).allocations[0].address == kept.address
        assert client.release("nobody", dry_run=True).already_gone
        assert client.unreserve("nobody", dry_run=True).already_gone
        assert client.get("kept") == kept
        assert (changes(farm), list(client.free("dry")), farm.leases.read_text()) == before
        assert client.allocate("dry", "next").address == would.address
        client.release("next")


def test_a_dry_run_is_refused_as_the_change_would_be(farm: Farm) -> None:
    """What is held, outside or too much is an error with the same code."""
    with farm.client() as client:
        client.reserve("pinned-one", "10.4.0.2")
        for dry in ([], ["--dry-run"]):
            assert farm.run("allocate", "dry", "--group", "many", "-n", "9", *dry, "--json").returncode == 4
            assert "reservation" in farm.run("release", "pinned-one", *dry).stderr
            assert "is held by" in farm.run("reserve", "other", "10.4.0.2", *dry).stderr
        told = farm.run("unreserve", "pinned-one", "--dry-run")
        assert told.stdout == "10.4.0.2 (pinned-one) would be released\n"
        assert "nothing was changed" in told.stderr
        assert client.get("pinned-one").pinned
        client.unreserve("pinned-one")


def test_nobody_hears_of_a_dry_run(farm: Farm) -> None:
    """The next event after it is the next real change."""
    with farm.client() as client:
        last = max(one["id"] for one in changes(farm))
        farm.macbind("allocate", "dry", "ghost", "--dry-run")
        farm.macbind("allocate", "dry", "real")
        client.release("real")
        told = [one for one in client.events(last, wait=False) if getattr(one, "name", None)]
        assert [getattr(one, "name", None) for one in told] == ["real", "real"]


def test_a_script_is_not_asked(farm: Farm) -> None:
    """Without a terminal, a group is released as before, and several reservations end in one command."""
    with farm.client() as client:
        client.allocate_group("farm", "batch", 3)
        client.reserve("a", "10.1.9.1")
        client.reserve("b", "10.1.9.2")
    assert farm.macbind("release", "--group", "batch").count("released") == 3
    assert farm.macbind("unreserve", "a", "b").splitlines() == [
        "10.1.9.1 (a) released",
        "10.1.9.2 (b) released",
    ]
