"""Tokens of the page: their lines, their file, and the commands that change it."""

from __future__ import annotations

import json
import os
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from macbind.cli.commands import app
from macbind.config.token_file import change_tokens, read_tokens, read_used, used_file, write_used
from macbind.core.errors import ConfigError, InvalidRequest, TokenExpired, TokenInvalid
from macbind.core.page_token import BY_CERTIFICATE, May, Token, check_id, check_note, hashed
from macbind.http.page_access import names_here
from macbind.http.tokens import Tokens

NOW = datetime(2026, 11, 29, 20, 0, tzinfo=UTC)
SALT = "0" * 32
CONFIG = '[page]\ntokens = "{}"\n[dhcpd.main]\n[pool.farm]\nsubnet = "10.1.0.0/16"\n'


def token(name: str = "ops", word: str = "s3cret", expires_at: datetime | None = None) -> Token:
    """A token with this secret."""
    return Token(name, hashed(word, SALT), May.READ, expires_at)


def put(path: Path, *tokens: Token) -> None:
    """Writes a file of these tokens."""
    change_tokens(path, lambda known: known.update({one.id: one for one in tokens}))


@given(
    st.from_regex(r"[a-z0-9][a-z0-9-]{0,31}", fullmatch=True),
    st.sampled_from(May),
    st.none() | st.datetimes(timezones=st.just(UTC)),
    st.text(max_size=60).filter(str.isprintable),
    st.none()
    | st.frozensets(st.from_regex(r"[a-z0-9][a-z0-9-]{0,31}", fullmatch=True), min_size=1, max_size=5),
    st.sampled_from((hashed("x", SALT), BY_CERTIFICATE)),
)
def test_a_line_is_read_as_it_was_written(
    name: str, may: May, end: datetime | None, note: str, pools: frozenset[str] | None, digest: str
) -> None:
    """Whatever id, end, note and pools are, and whether a secret or a certificate proves it."""
    made = Token(check_id(name), digest, may, end, check_note(note), pools)
    assert Token.of_line(made.line) == made
    assert "\n" not in made.line


@pytest.mark.parametrize("name", ["", "A", "a b", "-a", "a" * 33, "a/b", "ä", "a\n"])
def test_an_id_that_cannot_be_is_refused(name: str) -> None:
    """An id is a word for the audit log."""
    with pytest.raises(InvalidRequest, match="cannot be the id of a token"):
        check_id(name)


@pytest.mark.parametrize("note", ["x" * 201, "a\nb", "\x1b[31m"])
def test_a_note_that_would_break_its_line_is_refused(note: str) -> None:
    """A note is one line of printable text."""
    with pytest.raises(InvalidRequest, match="at most 200 printable characters"):
        check_note(note)


def test_only_the_whole_secret_fits() -> None:
    """Neither a part of it, nor more, nor another one; two tokens with one secret have different hashes."""
    one = token(word="s3cret")
    assert one.fits("s3cret")
    assert not any(one.fits(wrong) for wrong in ("", "s3cre", "s3crett", "S3CRET", "\udcff"))
    assert hashed("s3cret", "1" * 32) != one.hash


@pytest.mark.parametrize(
    "line", ["ops", "ops x read -", "ops certificate write: -", "ops certificate write:Farm -",
             f"Ops {SALT}${'0' * 64} read -", f"ops {SALT}${'0' * 64} all -",
             f"ops {SALT}${'0' * 64} read soon", f"ops {SALT}${'0' * 64} read 2026-11-29T20:00:00"],
)  # fmt: skip
def test_a_damaged_line_is_named(tmp_path: Path, line: str) -> None:
    """The error has file and line, and does not repeat what stands there."""
    path = tmp_path / "tokens"
    path.write_text(f"# made by hand\n{line}\n")
    with pytest.raises(ConfigError, match=r"tokens line 2: This is no token\.") as refused:
        read_tokens(path)
    assert line not in str(refused.value)


def test_a_token_counts_until_its_end(tmp_path: Path) -> None:
    """Wrong and expired are different errors; a changed file counts at once."""
    path = tmp_path / "tokens"
    put(path, token(expires_at=NOW + timedelta(hours=1)))
    tokens = Tokens(path)
    assert tokens.of("Bearer ops.s3cret", NOW).id == "ops"
    assert tokens.of("bearer  ops.s3cret", NOW).id == "ops"
    with pytest.raises(TokenExpired, match="'ops' expired at 2026-11-29 21:00:00 UTC"):
        tokens.of("Bearer ops.s3cret", NOW + timedelta(hours=1))
    for wrong in ("", "ops.s3cret", "Basic ops.s3cret", "Bearer ops", "Bearer ops.x", "Bearer other.s3cret"):
        with pytest.raises(TokenInvalid):
            tokens.of(wrong, NOW)
    put(path, token(word="other"))
    with pytest.raises(TokenInvalid):
        tokens.of("Bearer ops.s3cret", NOW)
    assert tokens.of("Bearer ops.other", NOW).may is May.READ


def test_use_is_written_down_at_most_once_a_minute(tmp_path: Path) -> None:
    """Beside the tokens, which are not touched; what cannot be written keeps nobody out."""
    path = tmp_path / "tokens"
    put(path, token())
    tokens, before = Tokens(path), path.read_bytes()
    tokens.of("Bearer ops.s3cret", NOW)
    assert read_used(path) == {"ops": NOW}
    used_file(path).unlink()
    tokens.of("Bearer ops.s3cret", NOW + timedelta(seconds=59))
    assert read_used(path) == {}
    tokens.of("Bearer ops.s3cret", NOW + timedelta(seconds=60))
    assert read_used(path) == {"ops": NOW + timedelta(seconds=60)}
    assert path.read_bytes() == before
    used_file(path).unlink()
    used_file(path).mkdir()
    assert tokens.of("Bearer ops.s3cret", NOW + timedelta(minutes=5)).id == "ops"


@pytest.mark.parametrize("text", ["", "[]", '{"ops": "x"}', "nonsense", '{"ops": 1e99}'])
def test_a_damaged_record_of_use_is_no_error(tmp_path: Path, text: str) -> None:
    """It is no more than a help."""
    used_file(tmp_path / "tokens").write_text(text)
    assert read_used(tmp_path / "tokens") == {}


def test_files_keep_their_mode_and_others_do_not_read_them(tmp_path: Path) -> None:
    """A new file is 0640; an exchanged one stays as an admin has set it."""
    path = tmp_path / "tokens"
    put(path, token())
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    path.chmod(0o600)
    put(path, token("more"))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert set(read_tokens(path)) == {"ops", "more"}
    write_used(path, {"ops": NOW})
    assert sorted(one.name for one in tmp_path.iterdir()) == ["tokens", "tokens.lock", "tokens.used"]


@pytest.mark.parametrize("name", ["tokens", "tokens.lock", "tokens.new", "tokens.used", "tokens.used.new"])
@pytest.mark.parametrize("is_there", [True, False])
def test_no_link_beside_the_tokens_is_followed(tmp_path: Path, name: str, is_there: bool) -> None:
    """Root writes in a directory of the service's user: a link of that user leads to no other file."""
    victim, place = tmp_path / "shadow", tmp_path / "place"
    place.mkdir()
    if is_there:
        victim.write_text("root:*:1::::::\n")
        victim.chmod(0o604)
    (place / name).symlink_to(victim)
    path = place / "tokens"
    if name in ("tokens", "tokens.lock"):
        with pytest.raises(ConfigError, match="is a symbolic link"):
            put(path, token())
    else:
        put(path, token())
    if name == "tokens":
        with pytest.raises(ConfigError, match="is a symbolic link"):
            read_tokens(path)
    if name == "tokens.used":
        with pytest.raises(ConfigError, match="is a symbolic link"):
            write_used(path, {"ops": NOW})
        assert read_used(path) == {}
    else:
        write_used(path, {"ops": NOW})
    assert victim.exists() == is_there
    if is_there:
        assert victim.read_text() == "root:*:1::::::\n"
        assert stat.S_IMODE(victim.stat().st_mode) == 0o604
    assert (place / name).is_symlink()
    left = {one.name for one in place.iterdir()} - {name}
    assert left <= {"tokens", "tokens.lock", "tokens.used"}


def test_a_pipe_in_the_place_of_the_tokens_hangs_nobody(tmp_path: Path) -> None:
    """It is refused like everything that is no ordinary file."""
    path = tmp_path / "tokens"
    os.mkfifo(path)
    with pytest.raises(ConfigError, match="it is no ordinary file"):
        put(path, token())
    with pytest.raises(ConfigError, match="it is no ordinary file"):
        read_tokens(path)


@pytest.fixture
def config(tmp_path: Path) -> str:
    """A configuration with a file of tokens."""
    path = tmp_path / "macbind.toml"
    path.write_text(CONFIG.format(tmp_path / "tokens"))
    return str(path)


def test_the_commands_add_list_and_remove(tmp_path: Path, config: str) -> None:
    """The secret is printed once and kept nowhere; two tokens cannot have one id."""
    cli, more = CliRunner(), ["--config", config]
    assert "No tokens." in cli.invoke(app, ["token", "list", *more]).stderr
    added = cli.invoke(
        app, ["token", "add", "ops-1", "--write", "--expires", "90d", "--note", "the wall", *more]
    )
    name, _, secret = added.stdout.strip().partition(".")
    assert (name, len(secret)) == ("ops-1", 43)
    assert secret not in (tmp_path / "tokens").read_text()
    assert Tokens(tmp_path / "tokens").of(f"Bearer ops-1.{secret}", datetime.now(UTC)).may is May.WRITE
    again = cli.invoke(app, ["token", "add", "ops-1", *more])
    assert (again.exit_code, again.stdout) == (4, "")
    assert "There is a token 'ops-1' already." in again.stderr
    listed = json.loads(cli.invoke(app, ["token", "list", "--json", *more]).stdout)
    assert [(one["id"], one["may"], one["note"], one["is_over"]) for one in listed] == [
        ("ops-1", "write", "the wall", False)
    ]
    row = cli.invoke(app, ["token", "list", *more]).stdout.splitlines()[1]
    assert row.split()[:2] == ["ops-1", "write"]
    assert row.endswith("the wall")
    assert cli.invoke(app, ["token", "remove", "ops-1", *more]).exit_code == 0
    gone = cli.invoke(app, ["token", "remove", "ops-1", *more])
    assert (gone.exit_code, gone.stderr.splitlines()[0]) == (4, "macbind: There is no token 'ops-1'.")


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (["Ops"], "cannot be the id of a token"),
        (["ops", "--expires", "soon"], "'soon'"),
        (["ops", "--expires", "99999d"], "more than ten years"),
        (["ops", "--note", "a\nb"], "at most 200 printable characters"),
    ],
)
def test_bad_input_makes_no_token(tmp_path: Path, config: str, given: list[str], says: str) -> None:
    """One sentence, and no file."""
    done = CliRunner().invoke(app, ["token", "add", *given, "--config", config])
    assert done.exit_code == 4
    assert says in done.stderr
    assert not (tmp_path / "tokens").exists()


def test_without_a_file_in_the_configuration_the_error_says_how(tmp_path: Path) -> None:
    """The line that is missing is in the hint."""
    path = tmp_path / "macbind.toml"
    path.write_text('[dhcpd.main]\n[pool.farm]\nsubnet = "10.1.0.0/16"\n')
    done = CliRunner().invoke(app, ["token", "add", "ops", "--config", str(path)])
    assert done.exit_code == 3
    assert "Neither [page] nor [api] names a file of tokens." in done.stderr
    assert 'tokens = "/var/lib/macbind/page-tokens"' in done.stderr


def test_names_of_this_machine() -> None:
    """IP addresses and known names are ours, whatever the port; every other name is somebody else's."""
    is_ours = names_here("10.0.0.1", ["Farm.Example.org."])
    for host in ("localhost:1", "10.9.9.9:80", "[fe80::1]:80", "farm.example.org", "FARM.example.ORG.:8067"):
        assert is_ours(host), host
    for host in ("", " ", "evil.example", "farm.example.org.evil", "10.0.0.1.nip.example", "[x]", "a:b:c"):
        assert not is_ours(host), host


def test_pools_and_certificates_are_listed(tmp_path: Path) -> None:
    """A pool must be there; a certificate has no secret to print, and no secret fits it."""
    path = tmp_path / "macbind.toml"
    path.write_text(CONFIG.format(tmp_path / "tokens"))

    def run(*words: str) -> str:
        done = CliRunner().invoke(app, ["token", *words, "--config", str(path)])
        assert done.exit_code == 0, done.output
        return done.stdout

    run("add", "ci", "--write", "--pool", "farm")
    assert run("add", "core-1", "--certificate") == ""
    listed = {one["id"]: one for one in json.loads(run("list", "--json"))}
    assert (listed["ci"]["pools"], listed["ci"]["by"]) == (["farm"], "secret")
    assert (listed["core-1"]["pools"], listed["core-1"]["by"]) == (None, "certificate")
    tokens = Tokens(tmp_path / "tokens")
    for wrong in ("core-1.certificate", "core-1.", "core-1"):
        with pytest.raises(TokenInvalid):
            tokens.of(f"Bearer {wrong}", NOW)
    assert tokens.of_certificate("core-1", NOW).may is May.READ
    for other in ("ci", "core-2", ""):
        with pytest.raises(TokenInvalid, match="is not known here"):
            tokens.of_certificate(other, NOW)
    none = CliRunner().invoke(app, ["token", "add", "x", "--pool", "nix", "--config", str(path)])
    assert none.exit_code != 0
    assert "There is no pool 'nix'." in none.stderr
