"""``macbind guest-script``: makes what a machine runs to find its address without DHCP."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from macbind.core.errors import InvalidRequest, NotFound

if TYPE_CHECKING:
    from macbind.config import Settings
    from macbind.guest.facts import GuestPool


@dataclass(frozen=True, slots=True)
class Script:
    """One kind of script.

    Attributes:
        about: What it is, for the help.
        module: The module of its renderer, which is imported when it is needed.
        function: The renderer.
        of_pools: Whether the renderer takes pools; otherwise it takes no argument.
        extras: The options of the command line that the renderer takes.
        executable: Whether the file can be run.
    """

    about: str
    module: str
    function: str
    of_pools: bool = True
    extras: tuple[str, ...] = ()
    executable: bool = False


SCRIPTS = {
    "linux": Script(
        "a shell script for Linux",
        "macbind.guest.linux",
        "render",
        extras=("persist", "channels"),
        executable=True,
    ),
    "linux-unit": Script(
        "the systemd unit that runs it at boot", "macbind.guest.linux", "unit", of_pools=False
    ),
    "linux-udev": Script(
        "the udev rule that runs it for a NIC that is plugged in later",
        "macbind.guest.linux",
        "udev_rule",
        of_pools=False,
    ),
    "windows": Script(
        "a PowerShell script for Windows", "macbind.guest.windows", "powershell", extras=("channels",)
    ),
    "windows-batch": Script("a batch file for old Windows", "macbind.guest.windows", "batch"),
}
"""The scripts, by the word on the command line."""

KINDS = "; ".join(f"{kind}: {script.about}" for kind, script in SCRIPTS.items())


def guest_script(
    kind: str,
    settings: Callable[[], Settings],
    pools: Sequence[str],
    *,
    persist: Sequence[str] = (),
    channels: str = "",
) -> tuple[str, Script]:
    """The text of a script.

    Args:
        kind: One of `SCRIPTS`.
        settings: Called for the configuration if the script depends on it.
        pools: The names of the pools; all pools without names.
        persist: The values of ``--persist``.
        channels: The value of ``--channels``: names with commas between, or ``all``.

    Raises:
        InvalidRequest: There is no such kind of script, or it does not take these options.
        NotFound: There is no such pool.
        ConfigError: The configuration is faulty.
    """
    script = SCRIPTS.get(kind)
    if script is None:
        raise InvalidRequest(
            f"There is no guest script '{kind}'.", hint=f"There are: {', '.join(SCRIPTS)}.", kind=kind
        )
    module = import_module(script.module)
    extras = {"persist": list(persist), "channels": channels.split(",") if channels else []}
    if channels == "all" and "channels" in script.extras:
        extras["channels"] = list(module.CHANNELS)
    for name, values in extras.items():
        if values and name not in script.extras:
            raise InvalidRequest(
                f"The guest script '{kind}' takes no --{name}.", hint="Leave the option out.", kind=kind
            )
    renderer = getattr(module, script.function)
    if not script.of_pools:
        return str(renderer()), script
    given = {name: extras[name] for name in script.extras}
    return str(renderer(chosen(settings(), pools), **given)), script


def chosen(settings: Settings, names: Sequence[str]) -> tuple[GuestPool, ...]:
    """What guests must know of the named pools, in the configuration's order; of all pools without names."""
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
        InvalidRequest: The file cannot be written.
    """
    from macbind.dhcp.isc.key import staged

    try:
        with staged(path, text, 0o755 if executable else 0o644, None) as new:
            new.replace(path)
    except OSError as error:
        raise InvalidRequest(
            f"{path} cannot be written: {error.strerror}.", hint="Choose a place where you may write."
        ) from error
