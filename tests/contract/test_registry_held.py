"""What names are made of: every allocation that is held, with its host name, and whether it is bound."""

from __future__ import annotations

from contract.book import EPOCH, Book, ip, make_pool
from macbind.core.dhcp_options import DhcpOptions
from macbind.core.host_names import Held, host_names
from macbind.core.pool import PoolMode
from macbind.registry.held import held
from macbind.registry.renumber import begin_renumber, finish_renumber


def names_of(book: Book) -> dict[str, str]:
    """The address of each name."""
    with book.read() as view:
        return {name: str(address) for name, address in host_names(held(view)).held.items()}


def found(book: Book) -> list[Held]:
    """All that is held, by name."""
    with book.read() as view:
        return sorted(held(view))


def test_an_allocation_is_held_until_it_is_released(book: Book) -> None:
    """It is bound when every dhcpd has confirmed, and its own host name counts more than its pool's."""
    pool = make_pool(options=DhcpOptions(hostname="vm-{name}"), dhcpds=("d1", "d2"))
    book.open(pool, dhcpds=("d1", "d2"))
    book.one("a")
    book.later(5)
    book.one("b", options=DhcpOptions(hostname="web"))
    at = EPOCH.timestamp()
    a, b = Held("a", ip("10.1.1.1"), "vm-{name}", at, False), Held("b", ip("10.1.1.2"), "web", at + 5, False)
    assert found(book) == [a, b]
    book.confirm("d1")
    assert found(book) == [a, b]
    book.confirm("d2")
    assert found(book) == [a._replace(is_bound=True), b._replace(is_bound=True)]
    assert names_of(book) == {"vm-a": "10.1.1.1", "web": "10.1.1.2"}
    book.release(name="a")
    assert names_of(book) == {"web": "10.1.1.2"}


def test_a_static_address_needs_no_confirmation(book: Book) -> None:
    """dhcpd's configuration file has it."""
    book.open(make_pool(mode=PoolMode.STATIC))
    book.one("a")
    assert [one.is_bound for one in found(book)] == [True]


def test_a_name_goes_to_its_new_address_when_a_renumbering_is_finished(book: Book) -> None:
    """Until then the machine has the old one."""
    book.open(make_pool())
    book.one("a")
    with book.write() as txn:
        begin_renumber(txn, "a", ip("10.1.1.9"), "token", 60)
    book.confirm("d1")
    assert names_of(book) == {"a": "10.1.1.1"}
    with book.write() as txn:
        finish_renumber(txn, "a", "token")
    assert names_of(book) == {"a": "10.1.1.9"}
