"""What becomes of the entries of an import, compared with what their names hold already. Pure decisions.

:func:`wishes` reads the entries. :func:`planned` compares each wish with the name's holder. The registry itself says
whether a new one is possible: see :mod:`macbind.registry.imports`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address

from macbind.core.address_range import parse_address
from macbind.core.allocation import Allocation, check_name
from macbind.core.dhcp_options import NO_OPTIONS, DhcpOptions
from macbind.core.errors import InvalidAddress, InvalidRequest, RequestError
from macbind.core.import_plan import ImportEntry, ImportRow, ImportVerdict
from macbind.core.labels import check_labels
from macbind.core.mac_address import MacAddress


@dataclass(frozen=True, slots=True)
class Wish:
    """An entry as the registry takes it.

    Attributes:
        entry: The entry.
        row: What becomes of it.
        address: Its address; None if it has none that can be read.
        mac: Its MAC; None for the scheme's own.
        held: The allocation that its name has already.
        options: What the name has afterwards.
    """

    entry: ImportEntry
    row: ImportRow
    address: IPv4Address | None = None
    mac: MacAddress | None = None
    held: Allocation | None = None
    options: DhcpOptions = NO_OPTIONS

    @property
    def verdict(self) -> ImportVerdict:
        """What becomes of it."""
        return self.row.verdict

    @property
    def has_gateways(self) -> bool:
        """Whether it names routers of its own, which others of the list may be."""
        return bool(self.entry.options.routers or self.entry.options.static_routes)

    def judged(
        self, verdict: ImportVerdict, why: str = "", mend: str = "", holder: str | None = None
    ) -> Wish:
        """The same with another verdict."""
        return replace(self, row=replace(self.row, verdict=verdict, why=why, mend=mend, holder=holder))

    def refused(self, error: RequestError) -> Wish:
        """The same, where the registry refuses it: a conflict if the error knows with whom."""
        holder = error.details.get("holder")
        verdict = ImportVerdict.IMPOSSIBLE if holder is None else ImportVerdict.CONFLICT
        return self.judged(verdict, error.message, error.hint, holder)


# -- reading -------------------------------------------------------------------------------------------------


def wishes(entries: Iterable[ImportEntry], subnets: Iterable[IPv4Network]) -> list[Wish]:
    """What the entries ask for; those that cannot be, or stand there twice, are judged already."""
    known = sorted(set(subnets))
    return _without_doubles([_wish(one, known) for one in entries])


def _wish(entry: ImportEntry, subnets: Sequence[IPv4Network]) -> Wish:
    first = entry.addresses[0] if entry.addresses else None
    row = ImportRow(
        entry.line, entry.file, entry.name, first, entry.mac, ImportVerdict.NEW, left_out=entry.left_out
    )
    wish = Wish(entry, row, options=entry.options)
    try:
        if entry.problem:
            raise InvalidRequest(entry.problem, hint=entry.mend)
        _check_words(entry)
        address, others = _address_of(entry, subnets)
        mac = None if entry.mac is None else MacAddress.parse(entry.mac)
    except RequestError as error:
        return wish.refused(error)
    row = replace(
        row,
        address=str(address),
        mac=None if mac is None else str(mac),
        left_out=(*entry.left_out, *_not_had(entry, others)),
    )
    return replace(wish, row=row, address=address, mac=mac)


def _not_had(entry: ImportEntry, others: Sequence[IPv4Address]) -> Iterator[str]:
    """What of an entry no reservation can have: a second address, and a group."""
    yield from (f"address {one}" for one in others)
    if entry.pinned and entry.group is not None:
        yield f"group {entry.group}"


def _check_words(entry: ImportEntry) -> None:
    """Refuses words that macbind cannot have.

    Raises:
        RequestError: One of them is such.
    """
    if not entry.name:
        raise InvalidRequest("It has no name.", hint="Add one.")
    check_name(entry.name)
    if entry.group is not None:
        check_name(entry.group, "group")
    check_labels(entry.labels)


def _address_of(entry: ImportEntry, subnets: Sequence[IPv4Network]) -> tuple[IPv4Address, list[IPv4Address]]:
    """The address of an entry, and those that macbind has nothing to do with.

    Raises:
        RequestError: It has none, or several.
    """
    if not entry.addresses:
        raise InvalidRequest("It has no address.", hint="Add its IPv4 address.")
    found = list(dict.fromkeys(_parsed(text) for text in entry.addresses))
    within = [one for one in found if any(one in subnet for subnet in subnets)]
    if len(within) > 1:
        raise InvalidRequest(
            f"It has {len(within)} addresses in the subnets of pools: {', '.join(map(str, within[:4]))}.",
            hint="One MAC has one address here: leave one of them in.",
        )
    chosen = within[0] if within else found[0]
    return chosen, [one for one in found if one != chosen]


def _parsed(text: str) -> IPv4Address:
    try:
        return parse_address(text)
    except InvalidAddress as error:
        if not _is_ipv6(text):
            raise
        raise InvalidRequest(
            f"{text} is an IPv6 address, and macbind reserves IPv4 addresses only.",
            hint="Leave it out: an IPv6 address follows from the MAC.",
        ) from error


def _is_ipv6(text: str) -> bool:
    try:
        IPv6Address(text.strip().partition("/")[0])
    except ValueError:
        return False
    return True


def _without_doubles(found: list[Wish]) -> list[Wish]:
    """Refuses those whose name, address or MAC stands in the list more than once, each with the other line."""
    keys: list[tuple[str, Callable[[Wish], object]]] = [
        ("name", lambda one: one.entry.name),
        ("address", lambda one: one.address),
        ("MAC", lambda one: one.mac),
    ]
    for what, key in keys:
        places: dict[object, list[int]] = defaultdict(list)
        for number, one in enumerate(found):
            if one.address is not None and key(one) is not None:
                places[key(one)].append(number)
        for value, numbers in places.items():
            if len(numbers) < 2:
                continue
            first, second = found[numbers[0]].row, found[numbers[1]].row
            for number in numbers:
                other = second if number == numbers[0] else first
                if found[number].verdict is ImportVerdict.NEW:
                    found[number] = found[number].judged(
                        ImportVerdict.CONFLICT,
                        f"The {what} {value} stands twice in the list: {found[number].row.place} and {other.place}.",
                        "Leave one of them out.",
                        other.name,
                    )
    return found


# -- comparing -----------------------------------------------------------------------------------------------


def planned(found: Iterable[Wish], held: Mapping[str, Allocation]) -> list[Wish]:
    """The wishes, each compared with the allocation that has its name, if there is one."""
    return [
        _compared(one, held[one.entry.name])
        if one.verdict is ImportVerdict.NEW and one.entry.name in held
        else one
        for one in found
    ]


def _compared(wish: Wish, one: Allocation) -> Wish:
    entry, end = wish.entry, f"macbind {'unreserve' if one.pinned else 'release'} {one.name}"
    kind = "a reservation" if one.pinned else "an allocation"
    difference = None
    if one.address != wish.address:
        difference = f"'{one.name}' already names {one.address}, {kind}"
    elif wish.mac not in (None, one.mac):
        difference = f"'{one.name}' ({one.address}) is bound to {one.mac}, not {wish.mac}"
    elif one.pinned != entry.pinned:
        difference = f"'{one.name}' ({one.address}) is {kind}"
    elif not entry.pinned and entry.group not in (None, one.group):
        difference = f"'{one.name}' ({one.address}) is in another group than '{entry.group}'"
    if difference is not None:
        mend = f"Use another name or leave it out, or end it with `{end}` and import again."
        return wish.judged(ImportVerdict.CONFLICT, f"{difference}.", mend, one.name)
    asked = entry.options.named(entry.name)
    options = DhcpOptions.parse(one.options.to_dict() | asked.to_dict())
    news = [] if options == one.options else ["options"]
    news += [] if {**one.labels, **entry.labels} == one.labels else ["labels"]
    wish = replace(wish, held=one, options=options)
    if not news:
        return wish.judged(ImportVerdict.SAME)
    return wish.judged(ImportVerdict.CHANGED, f"Other {' and '.join(news)}.")
