"""Names: which an allocation has, what a hosts file and a zone lack, and that nothing of others is touched."""

import os
import stat
from collections.abc import Callable
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from macbind.core.host_names import HOSTS_HEAD, Held, HostNames, host_name, host_names, hosts_text, names_in
from macbind.core.name_records import (
    Change,
    Found,
    after,
    backward,
    difference,
    forward,
    mark,
    reverse_name,
)
from macbind.names.hosts_file import HostsFile
from macbind.names.trouble import Trouble

ONE, TWO = IPv4Address("10.1.1.3"), IPv4Address("10.1.1.4")
NAME, OURS = "web.farm.example.", "macbind"


def bound(**names: str) -> HostNames:
    """Names that are all bound."""
    return HostNames({name: IPv4Address(address) for name, address in names.items()}, frozenset(names))


@pytest.mark.parametrize(
    ("name", "hostname", "found"),
    [
        ("build-7", None, "build-7"),
        ("Build-7", None, "build-7"),
        ("job/17", None, None),
        ("a.b", None, None),
        ("web-", None, None),
        ("x" * 63, None, "x" * 63),
        ("x" * 64, None, None),
        ("localhost", None, None),
        ("web", "wpad", None),
        ("job/17", "Web", "web"),
        ("17", "vm-{name}", "vm-17"),
        ("17", "vm-{n}", "vm-1"),
        ("job/17", "vm-{name}", None),
    ],
)
def test_a_name_is_one_label_and_the_host_name_counts_first(
    name: str, hostname: str | None, found: str | None
) -> None:
    """What is no label of a host name, or asked for by programs themselves, is no name."""
    assert host_name(Held(name, ONE, hostname)) == found


def test_of_two_with_one_name_the_older_has_it() -> None:
    """The other is left out and said, whatever the order in which they are read."""
    old, new = Held("web", TWO, None, 1.0), Held("other", ONE, "WEB", 2.0)
    for some in ([old, new], [new, old]):
        names = host_names(some)
        assert names.held == {"web": TWO}
        assert names.doubled == ("other",)
        assert [one.code for one in names.findings()] == ["names_doubled"]


def test_a_name_comes_when_it_is_bound_and_stays_while_it_is_held() -> None:
    """A binding that has to be confirmed anew does not take the name away; another address does."""
    names = host_names([Held("web", ONE, is_bound=False)])
    assert names.shown({}) == {}
    assert names.shown({"web": ONE}) == {"web": ONE}
    assert names.shown({"web": TWO}) == {}
    assert bound(web=str(ONE)).shown({"web": TWO, "gone": ONE}) == {"web": ONE}


def test_findings_list_a_few_and_count_the_rest() -> None:
    """A thousand names that are none are one sentence."""
    (finding,) = host_names([Held(f"a/{number}", ONE) for number in range(1000)]).findings()
    assert finding.code == "names_unfit"
    assert "'a/0', 'a/1', 'a/2' and 997 more cannot be found by name" in finding.message


def test_what_has_changed_is_known() -> None:
    """Names that came, went, have another address, or were bound."""
    before = HostNames(
        {"same": ONE, "gone": ONE, "other": ONE, "late": TWO}, frozenset({"same", "gone", "other"})
    )
    now = HostNames(
        {"same": ONE, "other": TWO, "late": TWO, "new": ONE}, frozenset({"same", "other", "late"})
    )
    assert now.changed_since(before) == {"gone", "other", "late", "new"}


# -- the hosts file ------------------------------------------------------------------------------------------


def test_a_hosts_file_has_a_line_for_each_address() -> None:
    """In the order of the addresses, with the long name first; it is read back as it was."""
    names = {"b": IPv4Address("10.1.1.20"), "a": IPv4Address("10.1.1.3"), "c": IPv4Address("10.1.1.100")}
    text = hosts_text(names, "farm.example")
    assert text == (
        f"{HOSTS_HEAD}\n10.1.1.3 a.farm.example a\n10.1.1.20 b.farm.example b\n10.1.1.100 c.farm.example c\n"
    )
    assert names_in(text) == names
    assert names_in("127.0.0.1 localhost\n") is None


@given(st.lists(st.tuples(st.text(max_size=70), st.none() | st.text(max_size=70)), max_size=5))
def test_no_name_adds_a_line_or_a_word(given_names: list[tuple[str, str | None]]) -> None:
    """Whatever allocations are called, each has one line of three words at most."""
    some = [Held(name, IPv4Address(0x0A000001 + n), own) for n, (name, own) in enumerate(given_names)]
    names = host_names(some)
    head, *lines = hosts_text(names.held, "farm.example").splitlines()
    assert head == HOSTS_HEAD
    assert len(lines) == len(names.held) <= len(given_names)
    for line in lines:
        address, long, short = line.split(" ")
        assert (names.held[short], f"{short}.farm.example") == (IPv4Address(address), long)


@pytest.mark.parametrize("name", ["a\n10.0.0.1 b", "a b", "a\tb", "a#b", "a\x00", "a\u2028b", "-a", ""])
def test_names_that_would_write_more_than_one_are_none(name: str) -> None:
    """A newline, a space or a comment is no part of a name."""
    assert host_name(Held(name, ONE)) is None
    assert host_name(Held("x", ONE, f"{name}-{{n}}")) in {None, "x"}


def test_the_file_is_written_once_and_is_whole_at_every_moment(tmp_path: Path) -> None:
    """It gets a new inode, so an open reader has the old one; an equal content is not written again."""
    file = HostsFile(tmp_path / "hosts", "farm.example")
    assert file.keep(bound(web=str(ONE)))
    with (tmp_path / "hosts").open() as reader:
        assert file.keep(bound(web=str(TWO)))
        assert reader.read() == hosts_text({"web": ONE}, "farm.example")
    assert not file.keep(bound(web=str(TWO)))
    assert not HostsFile(tmp_path / "hosts", "farm.example").keep(bound(web=str(TWO)))
    assert stat.S_IMODE((tmp_path / "hosts").stat().st_mode) == 0o644
    assert [one.name for one in tmp_path.iterdir()] == ["hosts"]


def test_the_file_is_open_to_all_whatever_the_umask_is(tmp_path: Path) -> None:
    """The service runs with 0077, and name servers run as other users."""
    before = os.umask(0o077)
    try:
        HostsFile(tmp_path / "hosts", "farm.example").keep(bound(web=str(ONE)))
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "hosts").stat().st_mode) == 0o644


def test_what_a_killed_service_has_left_is_no_obstacle(tmp_path: Path) -> None:
    """A file that was not finished is made anew, and nothing else is left beside the hosts file."""
    (tmp_path / ".hosts.new").write_text("half")
    HostsFile(tmp_path / "hosts", "farm.example").keep(bound(web=str(ONE)))
    assert [one.name for one in tmp_path.iterdir()] == ["hosts"]
    assert names_in((tmp_path / "hosts").read_text()) == {"web": ONE}


@pytest.mark.parametrize("names", [{}, {"web": str(ONE)}], ids=["no names", "a name"])
def test_an_empty_file_is_written(tmp_path: Path, names: dict[str, str]) -> None:
    """A machine that lost its power may have left one; it is nobody's."""
    path = tmp_path / "hosts"
    path.touch()
    assert HostsFile(path, "farm.example").keep(bound(**names))
    assert names_in(path.read_text()) == dict.fromkeys(names, ONE)


def test_a_change_by_hand_is_undone(tmp_path: Path) -> None:
    """What somebody has written into the file of ours is gone at the next look."""
    file, path = HostsFile(tmp_path / "hosts", "farm.example"), tmp_path / "hosts"
    file.keep(bound(web=str(ONE)))
    path.write_text(f"{path.read_text()}10.9.9.9 other.farm.example other\nnonsense\n")
    assert file.keep(bound(web=str(ONE)))
    assert path.read_text() == hosts_text({"web": ONE}, "farm.example")


@pytest.mark.parametrize("kind", ["text", "link", "directory", "pipe"])
def test_what_macbind_did_not_write_is_left_alone(tmp_path: Path, kind: str) -> None:
    """A file without our first line, a link to one, and what is no file are refused and stay."""
    path, other = tmp_path / "hosts", tmp_path / "other"
    other.write_text("127.0.0.1 localhost\n")
    make: dict[str, Callable[[], object]] = {
        "text": lambda: path.write_text("127.0.0.1 localhost\n"),
        "link": lambda: path.symlink_to(other),
        "directory": path.mkdir,
        "pipe": lambda: os.mkfifo(path),
    }
    make[kind]()
    before = path.lstat()
    with pytest.raises(Trouble) as caught:
        HostsFile(path, "farm.example").keep(bound(web=str(ONE)))
    assert caught.value.finding.code in {"names_file_foreign", "names_file_failed"}
    assert str(path) in caught.value.finding.message
    assert (path.lstat().st_ino, path.lstat().st_mode) == (before.st_ino, before.st_mode)
    assert other.read_text() == "127.0.0.1 localhost\n"


# -- records -------------------------------------------------------------------------------------------------


def ours(record: str, *more: str, texts: frozenset[str] = frozenset(), owner: str = OURS) -> Found:
    """A record of ours, and others beside it."""
    return Found(frozenset({record, *more}), texts | {mark(owner, record)})


def test_records_of_both_directions() -> None:
    """Each name has its address, and each address of the zone its name."""
    names = {"web": ONE, "far": IPv4Address("192.0.2.7")}
    assert forward(names, "farm.example")[NAME] == "10.1.1.3"
    assert backward(names, "farm.example", "10.in-addr.arpa") == {"3.1.1.10.in-addr.arpa.": NAME}
    assert backward(names, "farm.example", "0.in-addr.arpa") == {}
    assert reverse_name(ONE) == "3.1.1.10.in-addr.arpa."


@pytest.mark.parametrize(
    ("wanted", "kept", "found", "changes"),
    [
        ("10.1.1.3", "10.1.1.3", None, [Change(NAME, frozenset(), "10.1.1.3")]),
        ("10.1.1.3", "10.1.1.3", ours("10.1.1.3"), []),
        (None, "10.1.1.3", ours("10.1.1.3"), []),
        (None, None, None, []),
    ],
)
def test_only_what_differs_is_sent(
    wanted: str | None, kept: str | None, found: Found | None, changes: list[Change]
) -> None:
    """What is there is left; what is held and not bound is neither made nor removed."""
    assert difference(
        OURS,
        {NAME: wanted} if wanted else {},
        {NAME: kept} if kept else {},
        {NAME: found} if found else {},
    ).changes == tuple(changes)


def test_a_record_of_ours_is_replaced_or_removed_with_all_that_was_seen() -> None:
    """The change says what it found, so that one that was overtaken is refused."""
    there = {NAME: ours("10.1.1.3", "192.0.2.9", texts=frozenset({'"a note"'}))}
    texts = frozenset({'"a note"', mark(OURS, "10.1.1.3")})
    for wanted in ({NAME: "10.1.1.4"}, {}):
        (change,) = difference(OURS, wanted, wanted, there).changes
        assert change == Change(NAME, frozenset({"10.1.1.3"}), wanted.get(NAME), texts)
        now = dict(there)
        after(now, [change], OURS)
        assert "192.0.2.9" in now[NAME].data
        assert '"a note"' in now[NAME].texts
        assert difference(OURS, wanted, wanted, now).changes == ()


def test_a_mark_without_its_record_is_mended() -> None:
    """Somebody has removed the record only: it is made again."""
    there = {NAME: Found(frozenset(), frozenset({mark(OURS, "10.1.1.3")}))}
    wanted = {NAME: "10.1.1.3"}
    (change,) = difference(OURS, wanted, wanted, there).changes
    assert (change.old, change.new) == (frozenset({"10.1.1.3"}), "10.1.1.3")


@pytest.mark.parametrize(
    "found",
    [
        Found(frozenset({"192.0.2.9"})),
        Found(),
        ours("192.0.2.9", owner="another"),
        Found(frozenset({"192.0.2.9"}), frozenset({'"macbind owner=macbind record=192.0.2.9" "more"'})),
    ],
)
def test_what_others_have_is_never_changed(found: Found) -> None:
    """Neither where a name of ours is to be, nor where none is; the first is told."""
    wanted = {NAME: "10.1.1.3"}
    assert difference(OURS, wanted, wanted, {NAME: found}) == difference(OURS, {}, {}, {}).__class__(
        (), ((NAME, "10.1.1.3"),)
    )
    assert difference(OURS, {}, {}, {NAME: found}).changes == ()


def test_a_record_of_others_that_is_right_is_nothing_to_tell() -> None:
    """An admin has entered the same address by hand."""
    wanted = {NAME: "10.1.1.3"}
    assert difference(OURS, wanted, wanted, {NAME: Found(frozenset({"10.1.1.3"}))}).foreign == ()


_owners = st.sampled_from([f"{letter}.farm.example." for letter in "abcd"])
_records = st.sampled_from(["10.1.1.3", "10.1.1.4"])
_found = st.builds(
    lambda data, marks: Found(frozenset(data), frozenset(mark(owner, one) for owner, one in marks)),
    st.sets(_records | st.just("192.0.2.9")),
    st.sets(st.tuples(st.sampled_from([OURS, "another"]), _records)),
)


@given(
    st.dictionaries(_owners, _records),
    st.sets(_owners),
    st.dictionaries(_owners, _found),
)
def test_a_difference_once_made_is_none_and_has_touched_nothing_of_others(
    held: dict[str, str], pending: set[str], there: dict[str, Found]
) -> None:
    """Whatever the zone has: afterwards nothing is lacking, and all without a mark of ours is as before."""
    wanted = {name: record for name, record in held.items() if name not in pending}
    now = dict(there)
    after(now, difference(OURS, wanted, held, there).changes, OURS)
    assert difference(OURS, wanted, held, now).changes == ()
    for name, found in there.items():
        if not found.marked(OURS):
            assert now[name] == found
        left = now.get(name, Found())
        assert found.data - found.marked(OURS) <= left.data
        assert {text for text in found.texts if f"owner={OURS} " not in text} <= left.texts
    for name, record in wanted.items():
        assert record in now[name].data or not there.get(name, Found()).marked(OURS)
