"""``macbind init``: looks at a site, asks what it cannot see or takes it from flags, and writes the configuration."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from ipaddress import IPv4Network
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from macbind.cli.findings import print_finding
from macbind.cli.interfaces import Interface, candidates, interfaces, server_everywhere
from macbind.cli.output import say
from macbind.cli.own_dhcpd import OwnDhcpd, own_dhcpd
from macbind.cli.resolver import resolver
from macbind.cli.site import Created, Site, create, document, parse
from macbind.cli.way import check_beside, check_instead, consequences
from macbind.core.address_range import parse_network
from macbind.core.errors import InvalidRequest
from macbind.doctor import Site as Place
from macbind.doctor import before_start

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

    def one(self, given: str | None, question: str, proposal: str | None) -> str:
        """What was given, or the answer; without a proposal only a user can answer."""
        if given is not None:
            return given
        if self.interactive or proposal is None:
            return str(typer.prompt(question, default=proposal, err=True))
        return proposal

    def several(
        self, given: Sequence[str] | None, question: str, proposal: Sequence[str] = (), empty: str = "none"
    ) -> list[str]:
        """The same for a list; ``empty`` is the word for an empty one."""
        answer = ",".join(given) if given else self.one(None, question, ", ".join(proposal) or empty)
        return [one for one in answer.replace(",", " ").split() if one != empty]

    def show(self, lines: Sequence[str]) -> None:
        """Shows what was found, or what will happen."""
        for line in lines:
            say(line, err=True)

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
    beside: bool | None = None,
) -> None:
    """Asks for what was not given, writes the site's files and says what to do next.

    Raises:
        InvalidRequest: An answer is impossible, or --yes would have to guess; nothing was written.
        Conflict, ConfigError: See :func:`macbind.cli.site.create`.
    """
    found, own, names = interfaces(), own_dhcpd(), resolver()
    seen = list(_seen(found, own, [str(one) for one in names.servers]))
    if everywhere := server_everywhere():
        seen.append(
            f"Found {everywhere} on the DHCP port of all interfaces: it must not serve the machines' one."
        )
    if asker.interactive:
        asker.show(seen)
    there = _interface(found, interface or _choose(asker, found))
    text = asker.one(subnet, "Their subnet", str(there.addresses[0].network))
    network = _subnet(there, text)
    company = _company(asker, own, beside)
    if company is None:
        check_instead(own, there)
    else:
        check_beside(company, there, network)
    is_theirs = company is not None and network in company.subnets
    addresses = [one.ip for one in there.addresses if one.ip in network]
    gateway = addresses[0] if there.gateway is None or there.gateway not in network else there.gateway
    # Machines on a subnet that the site itself declares are told what the site tells.
    site = Site(
        interface=there.name,
        subnet=str(network),
        own=addresses,
        gateways=asker.several(gateways, "Their default gateway", [] if is_theirs else [str(gateway)]),
        name_servers=asker.several(
            dns, "Their DNS servers", [] if is_theirs else [str(one) for one in names.servers]
        ),
        domain_name=_domain(asker, domain_name, None if is_theirs else names.domain),
        pool=asker.one(pool, "Name of the pool", "farm"),
        ranges=asker.several(ranges, "Addresses to allocate from", empty="all"),
        hypervisors=_hypervisors(asker, hypervisors),
        beside=company,
    )
    parse(site)  # what is wrong should be said before the question, not after it
    asker.show([*([] if asker.interactive else seen), *consequences(own, company, site)])
    asker.confirm(document(site))
    _tell(output, create(site, config, group))
    for finding in before_start(Place.at(config, ask=False), "keys", "secrets", "bridges"):
        print_finding(finding, err=True)


def _seen(found: Sequence[Interface], own: OwnDhcpd | None, servers: Sequence[str]) -> Iterator[str]:
    """What this machine has, a line each."""
    could = candidates(found)
    yield from (f"Found the interface {one}." for one in could)
    yield from (f"Found the interface {one}; it is not proposed." for one in found if one not in could)
    if own is not None and own.subnets:
        yield f"Found {own.path}, which serves {', '.join(map(str, own.subnets))}."
    if servers:
        yield f"Found the DNS servers {', '.join(servers)}."
    else:
        yield "Found no DNS server that other machines can use: name one, or they get none."


def _choose(asker: Asker, found: Sequence[Interface]) -> str:
    """The only interface that could be the machines'; of several only a user can say."""
    if not found:
        raise InvalidRequest(
            "No interface of this machine has an IPv4 address, so dhcpd could serve none.",
            hint="Give the machines' interface, often a bridge, its address first.",
        )
    could = candidates(found)
    if not asker.interactive and len(could) != 1:
        others = [one for one in found if one not in could]
        what = (
            f"{len(could)} bridges could be the machines'" if could else "There is no bridge for the machines"
        )
        names = f": {', '.join(map(str, could or others))}"
        passed = f" Not proposed: {', '.join(map(str, others))}." if could and others else ""
        raise InvalidRequest(f"{what}{names}.", hint=f"Say which with --interface.{passed}")
    proposal = could[0].name if len(could) == 1 else None
    return asker.one(None, "Interface the machines are behind", proposal)


def _interface(found: Sequence[Interface], name: str) -> Interface:
    for one in found:
        if one.name == name:
            if one.server:
                raise InvalidRequest(
                    f"{one.server} already serves DHCP on {name}, and two servers on one wire answer each other's "
                    "machines.",
                    hint="Stop that server there first, or choose another interface.",
                )
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


def _company(asker: Asker, own: OwnDhcpd | None, beside: bool | None) -> OwnDhcpd | None:
    """The site's own dhcpd if macbind's part is to be included there; None if it is to run macbind's alone."""
    if own is None or not own.subnets or beside is False:
        return None
    if beside or not asker.interactive:
        return own
    while True:
        answer = asker.one(None, f"Beside what {own.path} serves, or instead of it", "beside")
        if answer in ("beside", "instead"):
            return own if answer == "beside" else None
        asker.show(["Say beside or instead."])


def _domain(asker: Asker, given: str | None, proposal: str | None) -> str | None:
    answer = asker.one(given, "Their DNS domain", proposal or "none")
    return None if answer == "none" else answer


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
        say(f"{path}: written")
    typer.echo("Now run:")
    for command in created.next:
        typer.echo(f"  {command}")
