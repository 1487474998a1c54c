"""Events as they are printed."""

import json
from datetime import UTC, datetime
from ipaddress import IPv4Address

import pytest

from macbind.cli.formats import Form
from macbind.cli.show import Show
from macbind.cli.tables import EVENTS
from macbind.cli.watch import print_event
from macbind.core.event import Change, FindingsNow, Gap
from macbind.core.findings import Finding

CHANGE = Change(
    7,
    datetime(2030, 1, 1, tzinfo=UTC),
    "root",
    "release",
    IPv4Address("10.1.1.3"),
    5,
    "web",
    "farm",
    None,
    {"pool": "farm", "reason": "its domain \x1b[2J has ended"},
)


def test_text_is_one_harmless_line(capsys: pytest.CaptureFixture[str]) -> None:
    """What others have written moves no cursor."""
    print_event(CHANGE, Show(EVENTS))
    (line,) = capsys.readouterr().out.splitlines()
    assert line.endswith("  release  10.1.1.3  web  farm  by root (its domain \\x1b[2J has ended)")
    print_event(FindingsNow((Finding("disk_low", "a\x9bb", "Mend it."),)), Show(EVENTS))
    assert capsys.readouterr().out == "! a\\x9bb Mend it.\n"
    print_event(FindingsNow(()), Show(EVENTS))
    print_event(Gap(3, 9), Show(EVENTS))
    assert capsys.readouterr().out.splitlines() == [
        "No findings.",
        "! The changes from 4 to 8 are no longer in the audit log.",
    ]


def test_json_is_one_object_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Each says what it is."""
    for event, kind in ((CHANGE, "change"), (Gap(3, 9), "gap"), (FindingsNow(()), "findings")):
        print_event(event, Show(EVENTS, Form.JSONL))
        (line,) = capsys.readouterr().out.splitlines()
        assert json.loads(line)["event"] == kind
        assert line.isascii()
    print_event(CHANGE, Show(EVENTS, Form.JSONL))
    assert json.loads(capsys.readouterr().out)["id"] == 7


def test_rows_are_changes_only(capsys: pytest.CaptureFixture[str]) -> None:
    """CSV begins with its header at the first event; what is no change is said beside it."""
    show = Show(EVENTS, Form.CSV, EVENTS.chosen("name,reason"))
    print_event(FindingsNow(()), show, is_first=True)
    print_event(CHANGE, show)
    printed = capsys.readouterr()
    assert printed.out.splitlines() == ["name,reason", "web,its domain \\x1b[2J has ended"]
    assert printed.err == "No findings.\n"
    print_event(CHANGE, Show(EVENTS, Form.JSON, EVENTS.chosen("pool,name")))
    assert json.loads(capsys.readouterr().out) == {"pool": "farm", "name": "web"}
