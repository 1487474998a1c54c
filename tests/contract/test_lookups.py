"""How an address stands, as `why` asks for it, on both databases."""

from ipaddress import IPv4Address

from contract.book import Book, ip, make_pool
from macbind.core.allocation import State
from macbind.core.domain import Domain, DomainState, Phase
from macbind.registry import claims
from macbind.registry.lookups import Standing, addresses_of_domain, standing
from macbind.registry.renumber import begin_renumber

TWO = ("d1", "d2")
FIRST = ip("10.1.1.1")


def at(book: Book, address: IPv4Address = FIRST) -> Standing:
    """How it stands."""
    with book.read() as view:
        return standing(view, address)


def test_who_has_confirmed_and_who_has_not(book: Book) -> None:
    """For a binding, and for its end."""
    book.open(make_pool(dhcpds=TWO, cooldown_s=60), dhcpds=TWO)
    assert at(book) == Standing()
    book.one("a")
    assert (at(book).confirmed, at(book).missing) == ((), TWO)
    book.confirm("d2")
    assert (at(book).confirmed, at(book).missing) == (("d2",), ("d1",))
    book.confirm("d1")
    assert (at(book).confirmed, at(book).missing) == (TWO, ())
    book.release("a")
    book.confirm("d1")
    found = at(book)
    assert found.allocation is not None
    assert (found.allocation.state, found.missing) == (State.RELEASING, ("d2",))
    book.confirm("d2")
    found = at(book)
    assert found.allocation is not None
    assert (found.allocation.state, found.missing) == (State.COOLING, ())
    assert found.free_at is not None
    assert (found.free_at - book.now).total_seconds() == 60


def test_which_domain_uses_it(book: Book) -> None:
    """On which hypervisor, and how far it has come; it is found by the domain's name and UUID."""
    book.open(make_pool())
    made = book.one("a", domain="meant")
    with book.read() as view:
        assert addresses_of_domain(view, "meant") == [FIRST]
    macs = frozenset({made.mac})
    domain = Domain("6ee5", "web", "kvm1", DomainState.ACTIVE, macs, macs)
    with book.write() as txn:
        (claim,) = claims.of_macs(txn, [made.mac])
        assert claims.record(txn, claim, domain, Phase.RUNNING)
    assert (at(book).hypervisor, at(book).phase) == ("kvm1", "running")
    with book.read() as view:
        assert addresses_of_domain(view, "web") == addresses_of_domain(view, "6ee5") == [FIRST]
        assert addresses_of_domain(view, "other") == []


def test_where_it_is_renumbered_to(book: Book) -> None:
    """Both addresses know of each other."""
    book.open(make_pool())
    book.one("a")
    with book.write() as txn:
        begin_renumber(txn, "a", ip("10.1.1.9"), "our-token", 60.0)
    assert at(book).renumbers_to == ip("10.1.1.9")
    new = at(book, ip("10.1.1.9")).allocation
    assert new is not None
    assert new.renumbers_from == FIRST
