"""How checks are run: side by side, with deadlines, and nothing that a check does ends the others."""

import json
import tempfile
import threading
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml
from typer.testing import CliRunner

from macbind.cli.commands import app
from macbind.cli.doctor import _moment
from macbind.core.errors import InvalidRequest
from macbind.core.findings import CODES, SEVERITIES, Finding, Severity, worst_first
from macbind.doctor import CHECKS, Check, Need, Result, Site, State, chosen, exit_code, run
from macbind.doctor.clients import clients_of
from macbind.doctor.database import file_system
from macbind.doctor.distribution import read_release
from macbind.doctor.files import blocked_at
from macbind.doctor.site import User
from macbind.registry.muted import Muted
from macbind.service.finding_log import FORGOTTEN_AFTER, MOST_KEPT, FindingLog

NOW = datetime(2026, 11, 30, tzinfo=UTC)
SITE = Site(Path("/nowhere/macbind.toml"))
SLOW = Finding("bridge_slow", "It is slow.", subject="br0")
DEAF = Finding("dhcpd_deaf", "It is deaf.", subject="main")


def check(name: str, *found: Finding, **how: object) -> Check:
    """A check that finds this, and needs nothing."""
    given = {"severity": Severity.WARNING, "about": "A test.", "look": lambda _: found, "needs": ()} | how
    return Check(name=name, **given)  # type: ignore[arg-type]


def results(*checks: Check) -> dict[str, Result]:
    """What comes of checks, by their names."""
    return {one.check: one for one in run(checks, SITE)}


def test_a_check_that_crashes_is_a_result_and_the_others_go_on() -> None:
    """With the class of what it raised; also where it raises in the middle of what it finds."""

    def crash(_: Site) -> Iterable[Finding]:
        yield SLOW
        raise ZeroDivisionError("nothing is left")

    found = results(check("first", look=crash), check("second", DEAF))
    assert found["first"].state is State.CRASHED
    (told,) = found["first"].findings
    assert (told.code, told.subject, told.severity) == ("check_crashed", "first", Severity.ERROR)
    assert "ZeroDivisionError: nothing is left" in told.message
    assert found["second"].findings == (DEAF,)


def test_a_check_that_hangs_is_late_and_the_others_are_not() -> None:
    """It says how long it had."""
    never = threading.Event()

    def hang(_: Site) -> list[Finding]:
        never.wait()
        return []

    found = results(check("hangs", look=hang, deadline_s=0.1), check("ends", SLOW))
    assert found["hangs"].state is State.LATE
    assert "did not end within 0.1 s" in found["hangs"].findings[0].message
    assert found["ends"].state is State.FOUND
    never.set()


def test_checks_run_side_by_side() -> None:
    """Two that wait for each other both end."""
    together = threading.Barrier(2)

    def meet(_: Site) -> list[Finding]:
        together.wait(20)
        return []

    found = results(check("one", look=meet), check("other", look=meet))
    assert [one.state for one in found.values()] == [State.WELL, State.WELL]


def test_a_blip_is_no_alarm() -> None:
    """What a second look does not show any more is not told; what both show is, as the second one says it."""
    looks = iter([[SLOW, DEAF], [Finding("bridge_slow", "It is still slow.", subject="br0")]])
    found = results(check("blip", look=lambda _: next(looks), visible_after_s=0.01))["blip"]
    assert [one.message for one in found.findings] == ["It is still slow."]


def test_what_depends_on_an_error_is_left_out_and_says_why() -> None:
    """A warning is no reason; what is not run, neither."""
    found = results(
        check("broken", DEAF),
        check("odd", SLOW),
        check("in-vain", DEAF, depends_on=("broken",)),
        check("after", DEAF, depends_on=("odd", "absent")),
    )
    assert (found["in-vain"].state, found["in-vain"].note) == (
        State.LEFT_OUT,
        "the check broken has found an error",
    )
    assert found["after"].state is State.FOUND


def test_what_cannot_look_says_what_it_needs() -> None:
    """Here there is no configuration and no service."""
    found = results(check("a", SLOW, needs=(Need.CONFIGURATION,)), check("b", SLOW, needs=(Need.DAEMON,)))
    assert [one.note for one in found.values()] == [
        "the configuration is refused",
        "the service does not answer",
    ]


@pytest.mark.parametrize(
    ("code", "findings"),
    [
        (0, []),
        (0, [Finding("machine_away", "It is away.")]),
        (1, [SLOW]),
        (2, [SLOW, DEAF]),
        (1, [SLOW, Finding("dhcpd_deaf", "It is deaf.", muted=True)]),
    ],
)
def test_the_exit_code_is_that_of_the_worst(code: int, findings: list[Finding]) -> None:
    """Information and what is muted do not count."""
    assert exit_code(findings) == code


def test_checks_are_chosen_with_those_they_depend_on() -> None:
    """In their order; an unknown name is refused, with the one that was meant."""
    assert [one.name for one in chosen(["answers"])] == ["dhcpd", "dhcpd-file", "answers"]
    assert chosen([]) == list(CHECKS)
    with pytest.raises(InvalidRequest) as refused:
        chosen(["bridge"])
    assert "'bridges'" in refused.value.hint


def test_checks_are_in_order() -> None:
    """Each name once, and each depends only on checks before it."""
    names = [one.name for one in CHECKS]
    assert len(set(names)) == len(names)
    for index, one in enumerate(CHECKS):
        assert set(one.depends_on) <= set(names[:index])


def test_every_code_has_a_severity() -> None:
    """By the table; a code of a newer service keeps what it came with."""
    assert SEVERITIES.keys() == CODES.keys()
    assert DEAF.severity is Severity.ERROR
    assert Finding("tomorrow", "It is new.", severity=Severity.INFO).severity is Severity.INFO
    assert [one.code for one in worst_first([SLOW, DEAF])] == ["dhcpd_deaf", "bridge_slow"]


def test_the_account_of_a_finding() -> None:
    """Since when it is there, when it was last seen, and how often it has come; its sentence may change."""
    log = FindingLog()
    at = [NOW + timedelta(seconds=number) for number in range(5)]
    (first,) = log.note([SLOW], at[0])
    (second,) = log.note([Finding("bridge_slow", "It is slower.", subject="br0")], at[1])
    assert log.note([DEAF], at[2])[0].since == at[2]
    (third, _) = log.note([SLOW, DEAF], at[3])
    assert [(one.since, one.last_seen, one.count) for one in (first, second, third)] == [
        (at[0], at[0], 1),
        (at[0], at[1], 1),
        (at[3], at[3], 2),
    ]
    assert second.message == "It is slower."


def test_looks_that_overlap_count_nothing_twice() -> None:
    """Several ask for the status at once, and the one that ends last may have looked first."""
    log, later = FindingLog(), NOW + timedelta(seconds=9)
    old = log.begin()
    (first,) = log.note([SLOW], NOW, log.begin())
    assert log.note([DEAF], NOW, old)[0].since == NOW  # it had looked before the bridge was slow
    (again,) = log.note([SLOW], later, log.begin())
    assert (first.count, again.count, again.since, again.last_seen) == (1, 1, NOW, later)
    log.note([], later, log.begin())
    assert log.note([SLOW], later, log.begin())[0].count == 2


def test_what_was_gone_for_long_is_new() -> None:
    """A flood of findings does not fill the memory."""
    log = FindingLog()
    log.note([SLOW], NOW)
    log.note([], NOW + FORGOTTEN_AFTER + timedelta(seconds=1))
    assert log.note([SLOW], NOW + FORGOTTEN_AFTER + timedelta(seconds=2))[0].count == 1
    flood = [Finding("bridge_slow", "It is slow.", subject=f"br{number}") for number in range(MOST_KEPT + 5)]
    assert len(log.note(flood, NOW + timedelta(days=30))) == MOST_KEPT + 5
    assert len(log._accounts) == MOST_KEPT


def test_what_a_silence_covers() -> None:
    """One subject or all of them, and only until its end."""
    end = NOW + timedelta(hours=1)
    of_all, of_one = (Muted("bridge_slow", subject, end, "root", NOW) for subject in ("", "br1"))
    assert of_all.covers(SLOW, NOW)
    assert not of_one.covers(SLOW, NOW)
    assert not of_all.covers(DEAF, NOW)
    assert not of_all.covers(SLOW, end)
    assert [str(of_all), str(of_one)] == ["bridge_slow", "bridge_slow=br1"]


def test_the_end_of_a_silence_is_a_duration_or_a_date() -> None:
    """In the future, and never for ever."""
    assert abs(_moment("2h") - datetime.now(UTC) - timedelta(hours=2)) < timedelta(seconds=60)
    assert _moment("2999-01-31").astimezone().date().isoformat() == "2999-01-31"
    assert _moment("2999-01-31T12:00:00+00:00") == datetime(2999, 1, 31, 12, tzinfo=UTC)
    for text in ("2001-01-01", "soon", None, "999999999999d"):
        with pytest.raises(InvalidRequest):
            _moment(text)


def test_the_clients_of_an_identifier(tmp_path: Path) -> None:
    """Every record that has not ended counts, in whatever pieces the file is read; other states do not."""

    def record(mac: str, uid: str, ends: str = "never", state: str = "active") -> str:
        lines = [f"ends {ends}", f"binding state {state}", f"hardware ethernet {mac}", f"uid {uid}"]
        return "lease 10.0.0.9 {\n" + "".join(f"  {line};\n" for line in lines) + "}\n"

    a, b, c = (f"52:54:00:00:00:0{number}" for number in (1, 2, 3))
    path = tmp_path / "dhcpd.leases"
    path.write_text(
        record(a, '"clone"')
        + record(b, '"clone"', "1 2026/11/30 00:00:01")
        + record(c, '"clone"', "1 2026/11/29 00:00:00")
        + record(c, '"other"', state="free")
        + record(c, r'"\001\"x;"')
        + "lease 10.0.0.10 {\n  torn"
    )
    assert clients_of(path, NOW) == {'"clone"': {a, b}, r'"\001\"x;"': {c}}


def test_the_file_system_of_a_file(tmp_path: Path) -> None:
    """The longest mount point counts, of several at one place the last."""
    mounts = (
        "1 0 8:1 / / rw - ext4 /dev/sda rw\n"
        f"2 1 0:5 / {tmp_path} rw shared:3 - tmpfs tmpfs rw\n"
        f"3 1 0:6 / {tmp_path}/with\\040space rw - xfs /dev/sdb rw\n"
    )
    assert file_system(Path("/nowhere/x"), mounts) == "ext4"
    assert file_system(tmp_path / "x", mounts) == "tmpfs"
    assert file_system(tmp_path / "with space" / "x", mounts) == "xfs"
    assert file_system(Path(f"{tmp_path}-other"), mounts) == "ext4"


def test_a_release_is_read_as_a_shell_would() -> None:
    """Quotes and comments; a line that is none is passed over."""
    text = '# a comment\nID=debian\nVERSION_ID="13"\nPRETTY_NAME=\'Debian "13"\'\nBAD="open\n\n'
    assert read_release(text) == {"ID": "debian", "VERSION_ID": "13", "PRETTY_NAME": 'Debian "13"'}


def test_what_keeps_a_user_out() -> None:
    """The first directory or the file itself, by its own bits: those of the owner, of a group, or of all others."""
    with tempfile.TemporaryDirectory() as name:
        place, file = Path(name), Path(name, "closed", "file")
        place.chmod(0o755)
        file.parent.mkdir(mode=0o750)
        file.write_text("x")
        file.chmod(0o640)
        owner, group = file.stat().st_uid, file.stat().st_gid
        member = User("member", owner + 1, frozenset({group}))
        stranger = User("stranger", owner + 1, frozenset({group + 1}))
        assert blocked_at(file, User("owner", owner, frozenset())) is None
        assert blocked_at(file, member) is None
        assert blocked_at(file, stranger) == file.parent
        file.parent.chmod(0o755)
        assert blocked_at(file, stranger) == file
        file.chmod(0o604)
        assert blocked_at(file, member) == file
        assert blocked_at(place / "gone", stranger) is None


# -- the command line --------------------------------------------------------------------------------------


def ask(*words: str) -> Any:
    """What `macbind doctor` prints, and how it exits."""
    return CliRunner().invoke(app, ["doctor", *words, "--config", "/nowhere/macbind.toml"])


def test_help_says_what_the_exit_codes_mean() -> None:
    """All three, in one place."""
    said = " ".join(ask("--help").output.split())
    assert "Exit 0: all is well. Exit 1: there is a warning. Exit 2: there is an error." in said


def test_without_a_configuration_the_rest_is_left_out() -> None:
    """That is an error, with its hint; the distribution can be looked at."""
    done = ask("configuration", "bridges", "distribution", "--json")
    assert done.exit_code == 2
    found = {one["check"]: one for one in json.loads(done.stdout)["checks"]}
    assert [one["code"] for one in found["configuration"]["findings"]] == ["config_refused"]
    assert found["configuration"]["findings"][0]["severity"] == "error"
    assert found["bridges"]["note"] == "the configuration is refused"
    assert ask("configuration", "--only", "warning").exit_code == 0
    assert ask("configuration", "--only", "error").exit_code == 2


def test_the_list_names_every_check() -> None:
    """A line each; with --json all that is known of it."""
    assert [line.split()[0] for line in ask("--list").output.splitlines()[1:]] == [one.name for one in CHECKS]
    listed = {one["name"]: one for one in json.loads(ask("--list", "--json").output)}
    assert listed["dhcpd"]["visible_after_s"] == 3.0
    assert listed["answers"]["depends_on"] == ["dhcpd", "dhcpd-file"]


def test_findings_are_rows_of_every_form() -> None:
    """JSON, JSONL and YAML are one value, as the schema says; CSV has a line for each; a name is for --mute."""
    asked = ["configuration", "bridges"]
    told = json.loads(ask(*asked, "-o", "json").stdout)
    assert [one["check"] for one in told["checks"]] == asked
    schema = CliRunner().invoke(app, ["schema", "doctor"]).stdout
    jsonschema_rs.validate(json.loads(schema), told)
    for one in (
        json.loads(ask(*asked, "-o", "jsonl").stdout),
        yaml.safe_load(ask(*asked, "-o", "yaml").stdout),
    ):
        assert [part["findings"] for part in one["checks"]] == [part["findings"] for part in told["checks"]]
    done = ask(*asked, "-o", "csv", "--columns", "check,severity,code", "--no-headers")
    assert (done.stdout, done.exit_code) == ("configuration,error,config_refused\n", 2)
    (finding,) = told["checks"][0]["findings"]
    name = ask(*asked, "-o", "name").stdout.strip()
    assert name == f"{finding['code']}={finding['subject']}".rstrip("=")
    assert ask(*asked, "-o", "wide").stdout.split()[:2] == ["CHECK", "SEVERITY"]
    assert ask("bridges", "-o", "csv").exit_code in (0, 2)


def test_lists_of_the_doctor_are_rows_too() -> None:
    """Checks as names for the next command; columns are those of findings."""
    assert ask("--list", "-o", "name").stdout.split() == [one.name for one in CHECKS]
    assert ask("--list", "-o", "csv").stdout.splitlines()[0] == "check,severity,finds"
    done = ask("--list", "--columns", "code")
    assert (done.exit_code, "--columns and --sort are for findings." in done.stderr) == (4, True)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["nonsense"], "There is no check 'nonsense'"),
        (["--mute", "bridge_fast", "--until", "2h"], "There is no finding 'bridge_fast'"),
        (["--mute", "bridge_slow"], "must be told of again some day"),
        (["--mute", "bridge_slow", "--until", "2001-01-01"], "is over already"),
        (["--until", "2h"], "--until goes with --mute"),
    ],
)
def test_what_makes_no_sense_is_refused(words: list[str], says: str) -> None:
    """With the exit code of a request that is not possible."""
    done = ask(*words)
    assert done.exit_code == 4
    assert says in done.output
