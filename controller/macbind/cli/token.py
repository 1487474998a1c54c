"""The commands of tokens: add, list, remove. They need the configuration only, not the service."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from macbind.cli.options import DEFAULT_CONFIG, Config, seconds, settings_of
from macbind.cli.output import say
from macbind.cli.page_tables import MADE, TOKENS, By, ListedToken, MadeToken
from macbind.cli.service_tables import NAMES
from macbind.cli.show import VALUES, Show, prints
from macbind.core.errors import ConfigError, Conflict, InvalidRequest, NotFound
from macbind.core.page_token import BY_CERTIFICATE, May, Token, check_id, check_note, hashed

if TYPE_CHECKING:
    from pathlib import Path

_LONGEST = timedelta(days=3650)

token = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Tokens of the page and of cores on other hosts: who may read or change something there.",
)


def _file(config: Path) -> Path:
    """The file of tokens.

    Raises:
        ConfigError: The configuration names none.
    """
    from macbind.config.page import token_file

    settings = settings_of(config)
    path = token_file(settings.api, settings.page)
    if path is None:
        raise ConfigError(
            f"{config}: Neither [page] nor [api] names a file of tokens.",
            hint='Write tokens = "/var/lib/macbind/page-tokens" there, and restart macbind.',
        )
    return path


@token.command("add")
@prints(MADE, without=frozenset({"limit", "sort"}))
def add(
    name: Annotated[str, typer.Argument(metavar="ID", help="Its id; the audit log says page:ID or api:ID.")],
    write: Annotated[
        bool, typer.Option("--write", help="It may change allocations, too; else it may only read.")
    ] = False,
    expires: Annotated[
        str | None,
        typer.Option("--expires", metavar="TIME", help="Its end after so long: 12h, 90d; none without."),
    ] = None,
    pool: Annotated[
        list[str] | None,
        typer.Option("--pool", metavar="POOL", help="Only this pool. May be repeated; all pools without."),
    ] = None,
    certificate: Annotated[
        bool,
        typer.Option("--certificate", help="No secret: whoever has a client certificate with this name."),
    ] = False,
    note: Annotated[str, typer.Option("--note", help="What it is for.")] = "",
    config: Config = DEFAULT_CONFIG,
    *,
    show: Show,
) -> None:
    """Make a token, and print it: it is shown this once, and only its hash is kept."""
    from macbind.config.token_file import change_tokens

    path, after_s = _file(config), seconds(expires)
    if after_s is not None and after_s > _LONGEST.total_seconds():
        raise InvalidRequest(f"--expires {expires} is more than ten years.", hint="Leave it out for no end.")
    end = None if after_s is None else (datetime.now(UTC) + timedelta(seconds=after_s)).replace(microsecond=0)
    secret = secrets.token_urlsafe(32)
    digest = BY_CERTIFICATE if certificate else hashed(secret, secrets.token_hex(16))
    may, within = May.WRITE if write else May.READ, _pools(config, pool)
    made = Token(check_id(name), digest, may, end, check_note(note), within)

    def change(tokens: dict[str, Token]) -> None:
        if made.id in tokens:
            raise Conflict(
                f"There is a token '{made.id}' already.", hint="Choose another id, or remove that one first."
            )
        tokens[made.id] = made

    change_tokens(path, change)
    printed = None if certificate else f"{made.id}.{secret}"
    shown = MadeToken(made.id, printed, made.may, _listed(made), end)
    show.print([shown], whole=shown, prose=lambda _: None if printed is None else say(printed))


def _pools(config: Path, given: list[str] | None) -> frozenset[str] | None:
    """The pools of a new token; None for all.

    Raises:
        NotFound: The configuration has no such pool.
    """
    known = settings_of(config).pools
    for one in given or ():
        if one not in known:
            raise NotFound(
                f"There is no pool '{one}'.", hint=f"Pools are: {', '.join(sorted(known))}.", pool=one
            )
    return frozenset(given) if given else None


def _listed(one: Token) -> list[str] | None:
    return None if one.pools is None else sorted(one.pools)


@token.command("list")
@prints(TOKENS)
def list_(config: Config = DEFAULT_CONFIG, *, show: Show) -> None:
    """List the tokens: what each may, in which pools, until when, and when it was last used."""
    from macbind.config.token_file import read_tokens, read_used

    path = _file(config)
    tokens, used = read_tokens(path) if path.exists() else {}, read_used(path)
    now = datetime.now(UTC)
    show.print(
        ListedToken(
            one.id,
            one.may,
            By.CERTIFICATE if one.hash == BY_CERTIFICATE else By.SECRET,
            _listed(one),
            one.expires_at,
            one.is_over(now),
            used.get(one.id),
            one.note,
        )
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
    """End a token; whoever has it is refused from now on."""
    from macbind.config.token_file import change_tokens

    path = _file(config)

    def change(tokens: dict[str, Token]) -> None:
        if tokens.pop(name, None) is None:
            raise NotFound(f"There is no token '{name}'.", hint="`macbind token list` shows all.", name=name)

    change_tokens(path, change)
    show.print([name], prose=lambda _: None)
