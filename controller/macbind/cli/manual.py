"""Manual pages, made from the command tree and from the sample of the configuration file.

The walk asks commands and parameters only for what every version of Typer has.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from itertools import groupby
from typing import Any

from macbind import __version__
from macbind.cli.explained import keys
from macbind.cli.roff import bold, escaped, italic, prose, wrap
from macbind.client.places import (
    CA_VARIABLE,
    CERTIFICATE_VARIABLE,
    KEY_VARIABLE,
    SERVICE_VARIABLE,
    TOKEN_VARIABLE,
)

SECTION_OF = {"macbind.toml": 5}
"""Pages that are not of section 1."""
ENVIRONMENT = {
    "MACBIND_SOCKET": "The service's socket, or its URLs on other hosts, unless `--socket` names it.",
    SERVICE_VARIABLE: "The same, where `MACBIND_SOCKET` is not set: `https://farm-a:8443,https://farm-b:8443`.",
    TOKEN_VARIABLE: "The token for services on other hosts.",
    CA_VARIABLE: "The file of the CA that has signed their certificates.",
    CERTIFICATE_VARIABLE: "The file of a client certificate, instead of a token.",
    KEY_VARIABLE: "The file of its key, if that is another one.",
    "MACBIND_CONFIG": "The configuration file, unless `--config` names it.",
    "LIBVIRT_DEFAULT_URI": "The hypervisor of `macbind vm` and `macbind renumber`, unless `--uri` names it.",
    "NO_COLOR": "If it is set and not empty, no colours are printed. Colours are printed on terminals only.",
}
"""The environment variables that count."""
FILES = {
    "/etc/macbind/macbind.toml": "The configuration.",
    "/etc/dhcp/macbind.conf": "dhcpd's configuration, written by `macbind render`.",
    "/etc/dhcp/macbind.key": "The OMAPI key.",
    "/run/macbind/macbind.sock": "The service's socket.",
    "/var/lib/macbind/registry.db": "The registry.",
}
"""The files that count."""


def pages(root: Any, exit_codes: Iterable[tuple[int, str]]) -> dict[str, str]:
    """Every page by the name of its file, as ``macbind.1``.

    Args:
        root: The command tree.
        exit_codes: Each exit status with its meaning.
    """
    codes = list(exit_codes)
    found = {
        f"{'-'.join(path)}.1": "\n".join(_page(path, group, codes)) + "\n"
        for path, group in _groups(root, ("macbind",))
    }
    found["macbind.toml.5"] = "\n".join(_configuration()) + "\n"
    return found


def _groups(command: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield path, command
    for name, child in command.commands.items():
        if hasattr(child, "commands"):
            yield from _groups(child, (*path, name))


def _title(name: str, section: int) -> str:
    stamp = os.environ.get("SOURCE_DATE_EPOCH")
    day = datetime.fromtimestamp(int(stamp), UTC) if stamp else datetime.now(UTC)
    return f'.TH {name.upper()} {section} "{day:%Y-%m-%d}" "macbind {__version__}" "macbind"'


def _page(path: tuple[str, ...], group: Any, codes: list[tuple[int, str]]) -> Iterator[str]:
    name = "-".join(path)
    about = _help(group)
    yield _title(name, 1)
    yield ".SH NAME"
    short = about[0].lower() + about[1:].rstrip(".")
    yield from wrap(rf"{escaped(name)} \- {escaped(short)}")
    yield ".SH SYNOPSIS"
    yield f"{bold(' '.join(path))} {italic('COMMAND')} [{italic('OPTION')} ...] [{italic('ARGUMENT')} ...]"
    yield ".SH DESCRIPTION"
    yield prose(about)
    yield ".PP"
    yield f"Every command takes {bold('--help')}."
    options = [one for one in group.params if _is_option(one) and not getattr(one, "hidden", False)]
    if options:
        yield ".SH OPTIONS"
        for one in options:
            yield from _option(one)
    yield ".SH COMMANDS"
    for child in group.commands.values():
        if not hasattr(child, "commands") and not getattr(child, "hidden", False):
            yield from _command(" ".join(path), child)
    yield from _ends(path, group, codes)


def _ends(path: tuple[str, ...], group: Any, codes: list[tuple[int, str]]) -> Iterator[str]:
    yield ".SH EXIT STATUS"
    yield from _list((str(code), meaning) for code, meaning in codes)
    yield ".SH ENVIRONMENT"
    yield from _list(ENVIRONMENT.items())
    yield ".SH FILES"
    yield from _list(FILES.items(), italic)
    yield ".SH SEE ALSO"
    inner = ["-".join((*path, name)) for name, one in group.commands.items() if hasattr(one, "commands")]
    outer = ["-".join(path[:-1])] if path[:-1] else []
    others = [*((one, 1) for one in [*outer, *inner]), ("macbind.toml", 5), ("dhcpd", 8), ("virsh", 1)]
    yield ",\n".join(f"{bold(one)}({section})" for one, section in others)


def _list(items: Iterable[tuple[str, str]], face: Any = bold) -> Iterator[str]:
    for word, meaning in items:
        yield ".TP"
        yield face(word)
        yield prose(_sentence(meaning))


def _sentence(text: str) -> str:
    return text if text.endswith(".") else f"{text}."


def _command(path: str, command: Any) -> Iterator[str]:
    arguments = [one for one in command.params if not _is_option(one)]
    yield f".SS {bold(f'{path} {command.name}')} {' '.join(_argument(one) for one in arguments)}".rstrip()
    yield prose(_help(command))
    for one in arguments:
        yield ".TP"
        yield _argument(one)
        yield prose(_meaning(one))
    for one in command.params:
        if _is_option(one) and not getattr(one, "hidden", False):
            yield from _option(one)


def _is_option(parameter: Any) -> bool:
    return bool(parameter.param_type_name == "option")


def _argument(parameter: Any) -> str:
    word = italic((parameter.metavar or parameter.name).upper())
    return word if parameter.required else f"[{word}]"


def _option(parameter: Any) -> Iterator[str]:
    spellings = ", ".join(bold(one) for one in [*parameter.opts, *parameter.secondary_opts])
    word = "" if _is_flag(parameter) else f" {italic((parameter.metavar or _word(parameter)).upper())}"
    yield ".TP"
    yield spellings + word
    yield prose(_meaning(parameter))


def _is_flag(parameter: Any) -> bool:
    return bool(getattr(parameter, "is_flag", False)) or parameter.name in ("help", "version")


def _word(parameter: Any) -> str:
    """The last word of an option's longest spelling stands for its value."""
    return str(max(parameter.opts, key=len).rpartition("-")[2])


def _meaning(parameter: Any) -> str:
    more = f" Environment: {parameter.envvar}." if isinstance(parameter.envvar, str) else ""
    return f"{_sentence(parameter.help or '')}{more}"


def _help(command: Any) -> str:
    return str(command.help or "").partition("\f")[0]


def _configuration() -> Iterator[str]:
    yield _title("macbind.toml", 5)
    yield ".SH NAME"
    yield r"macbind.toml \- the configuration of macbind"
    yield ".SH DESCRIPTION"
    yield "The file is TOML. A key that is marked"
    yield f"{italic('default')} may be left out and has that value then. Other values are examples."
    yield "A misspelt key or an impossible value is refused with its line."
    yield bold("macbind check")
    yield "says what is wrong with a file, or what it would change."
    for head, found in groupby(keys(), key=lambda pair: pair[0]):
        table = head.replace(".farm", ".NAME").replace(".main", ".NAME").replace(".local", ".NAME")
        yield f".SH {escaped(table)}"
        for _, one in found:
            yield ".TP"
            yield f"{bold(one.name.partition('.')[2])} = {escaped(one.example or '')}"
            yield prose(one.meaning or "See above.")
    yield ".SH FILES"
    yield from _list([("/etc/macbind/macbind.toml", "The configuration.")], italic)
    yield ".SH ENVIRONMENT"
    yield from _list([("MACBIND_CONFIG", ENVIRONMENT["MACBIND_CONFIG"])])
    yield ".SH SEE ALSO"
    yield f"{bold('macbind')}(1),\n{bold('dhcpd.conf')}(5)"
