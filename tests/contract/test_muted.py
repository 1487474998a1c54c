"""What is muted, kept in the registry; and a clock that cannot be right beside the registry."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import insert, text

from contract.book import Book, make_pool
from macbind.config import load
from macbind.core.errors import ConfigError
from macbind.core.findings import Finding
from macbind.doctor import Site
from macbind.doctor.database import look_at_clock
from macbind.registry.muted import all_muted, marked, mute, unmute
from macbind.registry.tables import audit
from macbind.service.peers import Peers
from macbind.service.status import StatusReport

NOW = datetime(2026, 11, 30, tzinfo=UTC)
HOUR = timedelta(hours=1)


def test_what_is_muted_is_known_until_it_is_over(book: Book) -> None:
    """Muting again sets another end; what is over is forgotten by the next one."""
    book.open(make_pool())
    with book.registry.write("root", now=NOW) as txn:
        mute(txn, "bridge_slow", "", NOW + HOUR)
        mute(txn, "bridge_slow", "br0", NOW + HOUR)
        mute(txn, "bridge_slow", "br0", NOW + 2 * HOUR)
    with book.registry.read() as view:
        found = all_muted(view, NOW)
        assert [(str(one), one.until, one.actor, one.at) for one in found] == [
            ("bridge_slow", NOW + HOUR, "root", NOW),
            ("bridge_slow=br0", NOW + 2 * HOUR, "root", NOW),
        ]
        assert [str(one) for one in all_muted(view, NOW + HOUR)] == ["bridge_slow=br0"]
    with book.registry.write("root", now=NOW + HOUR) as txn:
        mute(txn, "disk_low", "", NOW + 2 * HOUR)
        assert txn.db.scalar(text("SELECT count(*) FROM muted")) == 2
        assert unmute(txn, "bridge_slow", "br0")
        assert not unmute(txn, "bridge_slow", "br0")
    slow, low = Finding("bridge_slow", "It is slow."), Finding("disk_low", "It is full.", subject="/var")
    with book.registry.read() as view:
        assert [one.muted for one in marked([slow, low], all_muted(view, NOW), NOW)] == [False, True]


def test_the_status_marks_what_is_muted(book: Book) -> None:
    """It stays in the status, with its account."""
    book.open(make_pool(ranges=["10.1.1.1"]))
    book.one("vm")
    report = StatusReport(book.registry, Peers)
    (first,) = report.status().findings
    assert (first.code, first.subject, first.muted, first.count) == ("pool_exhausted", "farm", False, 1)
    with book.registry.write("root") as txn:
        mute(txn, "pool_exhausted", "farm", datetime.now(UTC) + HOUR)
    (second,) = report.status().findings
    assert second.muted
    assert second.since == first.since
    report.keep_account()


def test_a_registry_of_an_older_macbind_mutes_nothing(book: Book) -> None:
    """It can be looked at; whoever mutes is told what to do."""
    book.open(make_pool())
    with book.registry.write("root") as txn:
        txn.db.execute(text("DROP TABLE muted"))
    with book.registry.read() as view:
        assert all_muted(view, NOW) == []
    with pytest.raises(ConfigError) as refused, book.registry.write("root") as txn:
        mute(txn, "bridge_slow", "", NOW)
    assert "Start macbind" in refused.value.hint


def test_a_change_that_is_yet_to_come_shows_a_wrong_clock(book: Book, url: str, tmp_path: Path) -> None:
    """The clock was ahead when it was made, or is behind now."""
    book.open(make_pool())
    config = tmp_path / "macbind.toml"
    config.write_text(
        f'[registry]\nurl = "{url.replace("+psycopg", "")}"\n[dhcpd.main]\n[pool.farm]\nsubnet = "10.0.0.0/8"\n'
    )
    site = Site(config, load(config))
    assert list(look_at_clock(site)) == []
    ahead = datetime.now(UTC) + HOUR
    with book.registry.write("root") as txn:
        txn.db.execute(insert(audit).values(at=ahead.timestamp(), actor="root", action="allocate", detail={}))
    (found,) = look_at_clock(site)
    assert found.code == "clock_wrong"
    assert f"{ahead:%Y-%m-%d %H:%M:%S} UTC, which is yet to come" in found.message
