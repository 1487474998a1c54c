"""``macbind guest-script``: what a machine runs to find its address by itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from macbind.errors import InvalidRequest, NotFound

if TYPE_CHECKING:
    from macbind.config import Settings
    from macbind.guest.facts import GuestPool


@dataclass(frozen=True, slots=True)
class Script:
    """One kind of script.

    Attributes:
        about: What it is, for the help.
        module: Where its renderer is; imported when it is asked for.
        function: The renderer: from pools to text.
        of_pools: Whether it depends on the pools; the renderer of one that does not takes no argument.
        executable: Whether its file can be run.
    """

    about: str
    module: str
    function: str
    of_pools: bool = True
    executable: bool = False


SCRIPTS = {
    "linux": Script("a shell script for Linux", "macbind.guest.linux", "render", executable=True),
    "linux-unit": Script(
        "the systemd unit that runs it at boot", "macbind.guest.linux", "unit", of_pools=False
    ),
    "linux-udev": Script(
        "the udev rule that runs it for a card that is plugged in later",
        "macbind.guest.linux",
        "udev_rule",
        of_pools=False,
    ),
    "windows": Script("a PowerShell script for Windows", "macbind.guest.windows", "powershell"),
    "windows-batch": Script("a batch file for old Windows", "macbind.guest.windows", "batch"),
}
"""What there is, by the word on the command line."""

KINDS = "; ".join(f"{kind}: {script.about}" for kind, script in SCRIPTS.items())


def guest_script(kind: str, settings: Callable[[], Settings], pools: Sequence[str]) -> tuple[str, Script]:
    """The text of a script for these pools, or all; ``settings`` is called if the script depends on them.

    Raises:
        InvalidRequest: There is no such kind of script.
        NotFound: There is no such pool.
        ConfigError: The configuration is faulty.
    """
    script = SCRIPTS.get(kind)
    if script is None:
        raise InvalidRequest(
            f"There is no guest script '{kind}'.", hint=f"There are: {', '.join(SCRIPTS)}.", kind=kind
        )
    renderer = getattr(import_module(script.module), script.function)
    text = renderer(chosen(settings(), pools)) if script.of_pools else renderer()
    return str(text), script


def chosen(settings: Settings, names: Sequence[str]) -> tuple[GuestPool, ...]:
    """What guests must know of the named pools, each once, in the configuration's order; of all without names."""
    from macbind.guest.facts import guest_pools

    there = settings.pools
    for name in names:
        if name not in there:
            raise NotFound(
                f"There is no pool '{name}' in the configuration.",
                hint=f"These are there: {', '.join(there) or 'none'}.",
                pool=name,
            )
    return guest_pools(pool for name, pool in there.items() if not names or name in names)


def write(path: Path, text: str, *, executable: bool) -> None:
    """Writes a script's file, whole or not at all.

    Raises:
        InvalidRequest: It cannot be written.
    """
    from macbind.dhcpd.key import staged

    try:
        with staged(path, text, 0o755 if executable else 0o644, None) as new:
            new.replace(path)
    except OSError as error:
        raise InvalidRequest(
            f"{path} cannot be written: {error.strerror}.", hint="Choose a place where you may write."
        ) from error
