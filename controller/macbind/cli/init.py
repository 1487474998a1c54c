"""``macbind init``: asks for a site, or takes it from flags, and writes its configuration."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.util import find_spec
from ipaddress import IPv4Network
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from macbind.addressing import parse_network
from macbind.cli.interfaces import Interface, interfaces, name_servers
from macbind.cli.site import Created, Site, create, document, parse
from macbind.errors import InvalidRequest

if TYPE_CHECKING:
    from macbind.cli.output import Output

LOCAL_LIBVIRT = "qemu:///system"
_LIBVIRT_SOCKETS = ("/run/libvirt/libvirt-sock-ro", "/run/libvirt/virtqemud-sock-ro")


class Asker:
    """Asks for what was not given; without a terminal, or when told to, it takes the proposals."""

    def __init__(self, *, yes: bool) -> None:
        self.interactive = not yes
        if self.interactive and not sys.stdin.isatty():
            raise InvalidRequest(
                "init asks questions, and there is no terminal to ask them on.",
                hint="Give --yes to take the proposals for everything that no option says.",
            )

    def one(self, given: str | None, question: str, proposal: str) -> str:
        """What was given, or the answer."""
        if given is not None:
            return given
        return str(typer.prompt(question, default=proposal, err=True)) if self.interactive else proposal

    def several(
        self, given: Sequence[str] | None, question: str, proposal: Sequence[str] = (), empty: str = "none"
    ) -> list[str]:
        """The same for a list; ``empty`` is the word for an empty one."""
        answer = ",".join(given) if given else self.one(None, question, ", ".join(proposal) or empty)
        return [one for one in answer.replace(",", " ").split() if one != empty]

    def confirm(self, text: str) -> None:
        """Shows what will be written; ends the command unless the user agrees."""
        if self.interactive:
            typer.echo(f"\n{text}", err=True)
            typer.confirm("Write this?", default=True, abort=True, err=True)


def init(
    output: Output,
    asker: Asker,
    config: Path,
    group: int,
    *,
    interface: str | None,
    subnet: str | None,
    pool: str | None,
    ranges: Sequence[str] | None,
    gateways: Sequence[str] | None,
    dns: Sequence[str] | None,
    domain_name: str | None,
    hypervisors: Sequence[str] | None,
) -> None:
    """Asks for what was not given, writes the site's files and says what to do next.

    Raises:
        InvalidRequest: An answer is impossible; nothing was written.
        Conflict, ConfigError: See :func:`macbind.cli.site.create`.
    """
    found = interfaces()
    there = _interface(found, asker.one(interface, "Interface the machines are behind", _proposal(found)))
    text = asker.one(subnet, "Their subnet", str(there.addresses[0].network))
    network = _subnet(there, text)
    own = [one.ip for one in there.addresses if one.ip in network]
    gateway = own[0] if there.gateway is None or there.gateway not in network else there.gateway
    site = Site(
        interface=there.name,
        subnet=str(network),
        own=own,
        gateways=asker.several(gateways, "Their default gateway", [str(gateway)]),
        name_servers=asker.several(dns, "Their DNS servers", [str(one) for one in name_servers()]),
        domain_name=domain_name,
        pool=asker.one(pool, "Name of the pool", "farm"),
        ranges=asker.several(ranges, "Addresses to allocate from", empty="all"),
        hypervisors=_hypervisors(asker, hypervisors),
    )
    parse(site)  # what is wrong should be said before the question, not after it
    asker.confirm(document(site))
    _tell(output, create(site, config, group))


def _proposal(found: Sequence[Interface]) -> str:
    if not found:
        raise InvalidRequest(
            "No interface of this machine has an IPv4 address, so dhcpd could serve none.",
            hint="Give the machines' interface, often a bridge, its address first.",
        )
    return found[0].name


def _interface(found: Sequence[Interface], name: str) -> Interface:
    for one in found:
        if one.name == name:
            return one
    raise InvalidRequest(
        f"There is no interface '{name}' with an IPv4 address.",
        hint=f"These have one: {', '.join(one.name for one in found) or 'none'}.",
    )


def _subnet(there: Interface, text: str) -> IPv4Network:
    """The subnet: dhcpd serves an interface only on a network the interface has an address on."""
    network = parse_network(text)
    if not any(one.ip in network for one in there.addresses):
        raise InvalidRequest(
            f"The interface '{there.name}' has no address on {network}, so dhcpd cannot serve that subnet there.",
            hint=f"It has {', '.join(map(str, there.addresses))}.",
        )
    return network


def _hypervisors(asker: Asker, given: Sequence[str] | None) -> list[str]:
    installed = find_spec("libvirt") is not None
    here = installed and any(Path(path).exists() for path in _LIBVIRT_SOCKETS)
    uris = asker.several(given, "Hypervisors to watch (libvirt URIs)", [LOCAL_LIBVIRT] if here else [])
    if uris and not installed:
        raise InvalidRequest(
            f"{uris[0]} cannot be watched: libvirt's Python module is not installed for macbind.",
            hint="Install python3-libvirt, and macbind again with `make install EXTRAS=postgresql,libvirt`.",
        )
    return uris


def _tell(output: Output, created: Created) -> None:
    if output.json:
        output.value(created)
        return
    for path in created.files:
        typer.echo(f"{path}: written")
    typer.echo("Now run:")
    for command in created.next:
        typer.echo(f"  {command}")
