"""The commands of the page's tokens: add, list, remove. They need the configuration only, not the service."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from macbind.cli.options import DEFAULT_CONFIG, Config, seconds, settings_of
from macbind.cli.output import say
from macbind.cli.page_tables import MADE, TOKENS, ListedToken, MadeToken
from macbind.cli.service_tables import NAMES
from macbind.cli.show import VALUES, Show, prints
from macbind.core.errors import ConfigError, Conflict, InvalidRequest, NotFound
from macbind.core.page_token import May, Token, check_id, check_note, hashed

if TYPE_CHECKING:
    from pathlib import Path

_LONGEST = timedelta(days=3650)

token = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Tokens of the page: who may see it from elsewhere, or release there.",
)


def _file(config: Path) -> Path:
    """The file of tokens.

    Raises:
        ConfigError: The configuration names none.
    """
    settings = settings_of(config)
    if settings.page.tokens is None:
        raise ConfigError(
            f"{config}: [page] names no file of tokens.",
            hint='Write tokens = "/var/lib/macbind/page-tokens" there, and restart macbind.',
        )
    return settings.page.tokens


@token.command("add")
@prints(MADE, without=frozenset({"limit", "sort"}))
def add(
    name: Annotated[str, typer.Argument(metavar="ID", help="Its id; the audit log says page:ID.")],
    write: Annotated[
        bool, typer.Option("--write", help="It may release, too; else it may only read.")
    ] = False,
    expires: Annotated[
        str | None,
        typer.Option("--expires", metavar="TIME", help="Its end after so long: 12h, 90d; none without."),
    ] = None,
    note: Annotated[str, typer.Option("--note", help="What it is for.")] = "",
    config: Config = DEFAULT_CONFIG,
    *,
    show: Show,
) -> None:
    """Make a token of the page, and print it: it is shown this once, and only its hash is kept."""
    from macbind.config.token_file import change_tokens

    path, after_s = _file(config), seconds(expires)
    if after_s is not None and after_s > _LONGEST.total_seconds():
        raise InvalidRequest(f"--expires {expires} is more than ten years.", hint="Leave it out for no end.")
    end = None if after_s is None else (datetime.now(UTC) + timedelta(seconds=after_s)).replace(microsecond=0)
    secret = secrets.token_urlsafe(32)
    digest = hashed(secret, secrets.token_hex(16))
    made = Token(check_id(name), digest, May.WRITE if write else May.READ, end, check_note(note))

    def change(tokens: dict[str, Token]) -> None:
        if made.id in tokens:
            raise Conflict(
                f"There is a token '{made.id}' already.", hint="Choose another id, or remove that one first."
            )
        tokens[made.id] = made

    change_tokens(path, change)
    shown = MadeToken(made.id, f"{made.id}.{secret}", made.may, end)
    show.print([shown], whole=shown, prose=lambda _: say(shown.token))


@token.command("list")
@prints(TOKENS)
def list_(config: Config = DEFAULT_CONFIG, *, show: Show) -> None:
    """List the tokens of the page: what each may, until when, and when it was last used."""
    from macbind.config.token_file import read_tokens, read_used

    path = _file(config)
    tokens, used = read_tokens(path) if path.exists() else {}, read_used(path)
    now = datetime.now(UTC)
    show.print(
        ListedToken(one.id, one.may, one.expires_at, one.is_over(now), used.get(one.id), one.note)
        for one in tokens.values()
    )


@token.command("remove")
@prints(NAMES, VALUES)
def remove(
    name: Annotated[str, typer.Argument(metavar="ID", help="Its id.")],
    config: Config = DEFAULT_CONFIG,
    *,
    show: Show,
) -> None:
    """End a token of the page; whoever has it is refused from now on."""
    from macbind.config.token_file import change_tokens

    path = _file(config)

    def change(tokens: dict[str, Token]) -> None:
        if tokens.pop(name, None) is None:
            raise NotFound(f"There is no token '{name}'.", hint="`macbind token list` shows all.", name=name)

    change_tokens(path, change)
    show.print([name], prose=lambda _: None)
