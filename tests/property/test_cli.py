"""The command line against anything: it exits with a documented status, and never with a traceback."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from typer.main import get_command
from typer.testing import CliRunner

from macbind.cli.commands import app
from macbind.cli.output import EXIT_CODES

DOCUMENTED = {0, 1, 2, *(code for _, code, _ in EXIT_CODES)}
DEFECT = 70
WRITERS, YES = {"init", "report"}, {"--yes", "-y"}
"""Commands that write files, and the options that let them: they ask before, and nobody answers here."""
GROUP = get_command(app)
COMMANDS: list[list[str]] = [
    # `man` is not among them: it writes wherever it is told to.
    *([name] for name in GROUP.commands if name != "man"),  # type: ignore[attr-defined]
    *(["vm", name] for name in GROUP.commands["vm"].commands),  # type: ignore[attr-defined]
]
OPTIONS = sorted(
    {
        spelling
        for command in [*GROUP.commands.values(), *GROUP.commands["vm"].commands.values()]  # type: ignore[attr-defined]
        for parameter in command.params
        for spelling in [*parameter.opts, *parameter.secondary_opts]
        if spelling.startswith("-")
    }
)
texts = st.text(max_size=20) | st.text("\0\udcff\ud800\n\t é=-/.:0", max_size=8)
values = texts | st.sampled_from(
    ["farm", "vm", "10.1.1.3", "00:16:3e:01:01:03", "nan", "-1", "1e999", "0", "é"]
)
arguments = st.lists(st.sampled_from(OPTIONS) | values, max_size=6)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CliRunner]:
    """Runs commands in this process, in a place where there is no service, no configuration and no hypervisor."""
    nowhere = tmp_path_factory.mktemp("nowhere")
    environment = {
        "MACBIND_SOCKET": str(nowhere / "none.sock"),
        "MACBIND_CONFIG": str(nowhere / "none.toml"),
        "LIBVIRT_DEFAULT_URI": "test:///nonexistent",
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(nowhere)
        # The runner would make the tree of commands anew for every example, which is most of the work.
        patch.setattr("typer.testing._get_command", lambda _: GROUP)
        yield CliRunner(env=environment)
    assert list(Path(nowhere).iterdir()) == []


@given(st.sampled_from(COMMANDS), arguments)
@settings(max_examples=250)
@example(["vm", "launch"], ["a\0b", "farm"])
@example(["list"], ["--socket", "\0"])
@example(["list"], ["--socket", "x" * 5000])
@example(["render"], ["--config", "\0"])
@example(["render"], ["--config", "x" * 5000])
@example(["show"], ["\ud800"])
def test_any_arguments_end_with_a_documented_status(
    run: CliRunner, command: list[str], rest: list[str]
) -> None:
    """What is not understood is 2, what is not possible 3, 4 or 5; a defect is none of it."""
    assume(command[0] not in WRITERS or YES.isdisjoint(rest))
    done = run.invoke(app, [*command, *rest])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    assert done.exit_code in DOCUMENTED - {DEFECT}, done.output
    assert "Traceback" not in done.output


@given(arguments)
def test_any_words_end_with_a_documented_status(run: CliRunner, words: list[str]) -> None:
    """Also where there is no command."""
    done = run.invoke(app, words)
    assert done.exit_code in DOCUMENTED - {DEFECT}, done.output
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
