"""Signs in dhcpd's log, and following a log that is rotated, truncated, cut in the middle of a line, or missing."""

import os
import signal
from pathlib import Path

import pytest

from labkit.wait import until
from macbind.core.errors import LogUnavailable
from macbind.dhcp.isc.log import FollowedFile, FollowedJournal, follow, read_sign


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("Nov  1 10:00:00 farm dhcpd[7]: Corrupt lease file - possible data loss!", "lease_file_damaged"),
        ("/var/lib/dhcp/dhcpd.leases line 12: expecting numeric value.", "lease_file_damaged"),
        ("receive_packet failed on br0: Network is down", "dhcpd_deaf"),
        ("write_lease: unable to write lease 10.1.1.3", "lease_file_unwritable"),
        ("commit_leases: unable to commit: No space left on device", "lease_file_unwritable"),
        ("Can't start OMAPI protocol: address in use", "two_dhcpds"),
        ("Dynamic and static leases present for 10.1.1.3.", "leased_address"),
        ("DHCPDECLINE of 10.9.0.3 from 00:16:3e:01:01:03 via br0: abandoned", "address_declined"),
        ("DHCPDECLINE of 10.1.1.3 from 00:16:3e:01:01:03 via br0: not found", None),
        ("Abandoning IP address 10.1.250.1: pinged before offer", "address_declined"),
        ("DHCPDISCOVER from 00:16:3e:01:01:03 via br0", None),
        ("DHCPDISCOVER from 00:16:3e:01:01:09 via br0: network 10.0.0.0/8: no free leases", None),
        ("Wrote 0 leases to leases file.", None),
        ("DHCPACK on 10.1.250.1 to 52:54:00:00:00:01 (Network is down) via br0", None),
        ("DHCPREQUEST for 10.1.250.1 from 52:54:00:00:00:01 (x.leases line 1:) via br0", None),
        ("DHCPOFFER on 10.1.250.1 to 52:54:00:00:00:01 (Abandoning IP address) via br0", None),
        ("", None),
    ],
)
def test_lines_that_mean_trouble_are_told_from_ordinary_ones(line: str, code: str | None) -> None:
    """Each kind of sign is a finding with the line in it and a hint; what dhcpd says all day is none."""
    found = read_sign("main", line)
    assert (found.code if found else None) == code
    if found is not None:
        assert " ".join(line.split()).rstrip(".!") in found.message
        assert found.hint


def test_only_what_is_written_from_now_on_is_read(tmp_path: Path) -> None:
    """Old lines are left alone; a line is read once, when it has its end."""
    path = tmp_path / "log"
    path.write_text("old\n")
    log = follow(str(path))
    assert log.lines() == []
    with path.open("a") as file:
        file.write("one\ntw")
        file.flush()
        assert log.lines() == ["one"]
        file.write("o\n")
        file.flush()
        assert log.lines() == ["two"]
    log.close()


def test_rotated_log_is_followed(tmp_path: Path) -> None:
    """What the old file got before it was moved is read, and then the new one from its beginning."""
    path = tmp_path / "log"
    path.touch()
    log = FollowedFile(path)
    old = path.open("a")
    path.rename(tmp_path / "log.1")
    old.write("last\n")
    old.close()
    path.write_text("first\n")
    assert log.lines() == ["last", "first"]
    log.close()


def test_truncated_log_is_followed(tmp_path: Path) -> None:
    """A log that was cut to nothing and written again is read from its beginning."""
    path = tmp_path / "log"
    path.write_text("a long line that was here before\n")
    log = FollowedFile(path)
    path.write_text("new\n")
    assert log.lines() == ["new"]
    log.close()


def test_log_that_is_not_there_yet_is_waited_for(tmp_path: Path) -> None:
    """A missing file has no lines; when it appears, all of it is new."""
    path = tmp_path / "log"
    log = FollowedFile(path)
    assert log.lines() == []
    path.write_text("first\n")
    assert log.lines() == ["first"]
    log.close()


def test_log_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    """A directory in the log's place is an error with the path and a hint."""
    log = FollowedFile(tmp_path)
    with pytest.raises(LogUnavailable, match="cannot be read") as failed:
        log.lines()
    assert "log in the [dhcpd.…] table" in failed.value.hint
    log.close()


def test_old_lines_stay_old_when_they_become_readable_later(tmp_path: Path) -> None:
    """A log that could not be opened at first is followed from its end, too."""
    path, log_file = tmp_path / "place", tmp_path / "log"
    path.mkdir()
    log = FollowedFile(path)
    with pytest.raises(LogUnavailable):
        log.lines()
    path.rmdir()
    log_file.write_text("old\n")
    log_file.rename(path)
    assert log.lines() == []
    with path.open("a") as file:
        file.write("new\n")
    assert log.lines() == ["new"]
    log.close()


def test_log_that_is_a_pipe_hangs_nobody(tmp_path: Path) -> None:
    """What is no ordinary file is refused at once."""
    os.mkfifo(tmp_path / "pipe")
    log = FollowedFile(tmp_path / "pipe")
    with pytest.raises(LogUnavailable, match="no ordinary file"):
        log.lines()


def test_journal_that_cannot_be_followed_stays_a_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While journalctl ends by itself every look says so; it is not run again and again for it."""
    runs = tmp_path / "runs"
    program = tmp_path / "journalctl"
    program.write_text(f"#!/bin/sh\necho run >>{runs}\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    log = follow("journal:isc-dhcp-server.service")

    def fails() -> bool:
        try:
            log.lines()
        except LogUnavailable as error:
            return "status 1" in error.message
        return False

    until(fails, 60, "the first failure")
    assert all(fails() for _ in range(5))
    assert runs.read_text() == "run\n"
    log.close()


def test_journal_whose_reader_is_ended_is_read_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """systemd ends journalctl with the service, which may stop slowly: that is no problem of the journal's."""
    runs = tmp_path / "runs"
    program = tmp_path / "journalctl"
    program.write_text(f'#!/bin/sh\necho "$$ $*" >>{runs}\necho "line of $$"\nexec tail -f /dev/null\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    log = FollowedJournal("isc-dhcp-server.service", believed_s=0.0)
    first = until(log.lines, 60, "the first line")
    os.kill(int(runs.read_text().split()[0]), signal.SIGTERM)
    second = until(log.lines, 60, "a line of the next reader")
    assert first != second
    began = [line.split() for line in runs.read_text().splitlines()]
    assert ["--lines=0" in words for words in began] == [True, False]
    assert began[1][-2].startswith("--since=@")
    log.close()


def test_line_without_an_end_fills_no_memory(tmp_path: Path) -> None:
    """Of a line that never ends only the latest part is kept."""
    path = tmp_path / "log"
    path.touch()
    log = FollowedFile(path)
    with path.open("a") as file:
        for _ in range(3):
            file.write("x" * 100_000)
            file.flush()
            assert log.lines() == []
        file.write("\n")
    assert [len(line) for line in log.lines()] == [4096]
    log.close()
