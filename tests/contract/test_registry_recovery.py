"""What is recovered: whoever is seen with the MAC of an address has that address, and the rest is left alone."""

from __future__ import annotations

from uuid import uuid4

from contract.book import Book, addresses, ip, make_pool
from contract.domain_site import DEADLINE_S, Bench
from labkit.wait import until
from macbind.core.allocation import Allocation
from macbind.core.evidence import Source
from macbind.core.import_plan import ImportPlan
from macbind.core.origin import Origin
from macbind.registry import claims
from macbind.registry.recovery import recover
from macbind.registry.transaction import Transaction

STRANGE = "aa:bb:cc:00:00:01"


def own(address: str) -> str:
    """The MAC that the pool makes of an address."""
    return str(make_pool().plan.scheme.encode(ip(address)))


def shown(plan: ImportPlan) -> list[tuple[str | None, str, str]]:
    """Address, name and verdict of each row."""
    return [(one.address, one.name, str(one.verdict)) for one in plan.rows]


def recovered(book: Book, actor: str | Origin = "tester", **how: bool) -> tuple[ImportPlan, list[Allocation]]:
    """Recovers in a transaction of its own."""
    with book.write(actor) as txn:
        return recover(txn, **how)


def show_domain(book: Book, address: str, name: str, origin: str = "local") -> None:
    """A domain with the MAC of an address."""
    found = book.seen(address, name, own(address), source=Source.DOMAIN, origin=origin)
    book.show(found, source=Source.DOMAIN, origin=origin)


def test_what_has_the_mac_of_its_address_is_allocated_again(book: Book) -> None:
    """A binding by its address, a domain by its name; what has another MAC stays with whoever has it."""
    book.open(make_pool())
    book.one("held")
    book.show(
        book.seen("10.1.1.1", "macbind-10.1.1.1-g7", own("10.1.1.1")),
        book.seen("10.1.1.3", "macbind-10.1.1.3-g8", own("10.1.1.3")),
        book.seen("10.1.1.4", "macbind-10.1.1.4-g9", own("10.1.1.4")),
        book.seen("10.1.1.5", "scanner", STRANGE),
    )
    show_domain(book, "10.1.1.4", "build-7")
    plan, made = recovered(book)
    expected = [("10.1.1.3", "host-10-1-1-3", "new"), ("10.1.1.4", "build-7", "new")]
    assert (shown(plan), plan.applied, made) == (expected, False, [])
    assert addresses(book.find()) == ["10.1.1.1"]
    why = "Seen: a domain of the hypervisor 'local' that has its MAC; the binding '{}' of dhcpd 'd1'."
    assert plan.rows[1].why == why.format("macbind-10.1.1.4-g9")
    plan, made = recovered(book, apply=True)
    assert (shown(plan), plan.applied) == (expected, True)
    assert [(one.name, str(one.mac), one.domain, one.pinned) for one in made] == [
        ("host-10-1-1-3", own("10.1.1.3"), None, False),
        ("build-7", own("10.1.1.4"), "build-7", False),
    ]
    assert recovered(book, apply=True)[0].rows == ()
    assert str(book.one("next").address) == "10.1.1.2"


def test_it_is_as_old_as_what_shows_it_and_waits_from_now_on(book: Book) -> None:
    """So a domain that ran before may be its user, and one that never comes is waited for as long as any other."""
    book.open(make_pool())
    show_domain(book, "10.1.1.3", "vm")
    since = book.now
    book.later(3600)
    _, (one,) = recovered(book, apply=True)
    assert one.created_at == since
    with book.read() as view:
        (claim,) = claims.of_macs(view, [one.mac])
    assert (claim.waits_since, claim.domain) == (book.now, "vm")


def test_a_name_that_is_taken_or_no_name_is_made_of_the_address(book: Book) -> None:
    """Two domains of one name, one whose name is held, and one whose name nobody may have."""
    book.open(make_pool())
    book.one("held")
    names = ("twin", "twin", "held", "-- strange --")
    found = [
        book.seen(f"10.1.1.{number}", name, own(f"10.1.1.{number}"), source=Source.DOMAIN, origin="local")
        for number, name in enumerate(names, 2)
    ]
    book.show(*found, source=Source.DOMAIN, origin="local")
    plan, made = recovered(book, apply=True)
    assert [one.name for one in plan.rows] == [f"host-10-1-1-{number}" for number in range(2, 6)]
    assert [one.domain for one in made] == list(names)


def test_a_mac_of_two_domains_and_an_address_of_two_machines_are_left(book: Book) -> None:
    """Each says who is in the way. All others are recovered if that is meant."""
    book.open(make_pool())
    show_domain(book, "10.1.1.2", "one")
    show_domain(book, "10.1.1.2", "other", origin="second")
    book.show(
        book.seen("10.1.1.3", "mine", own("10.1.1.3")),
        book.seen("10.1.1.4", "mine", own("10.1.1.4")),
    )
    answer = book.seen("10.1.1.4", "printer", STRANGE, source=Source.ANSWER, origin="br0")
    book.show(answer, source=Source.ANSWER, origin="br0")
    plan, made = recovered(book, apply=True)
    assert (plan.applied, made) == (False, [])
    two, new, contested = plan.rows
    assert (two.verdict, two.why) == ("impossible", "The domains 'one', 'other' have its MAC.")
    assert new.verdict == "new"
    assert (contested.verdict, contested.holder) == ("conflict", "printer")
    plan, made = recovered(book, apply=True, skip_conflicts=True)
    assert (plan.applied, addresses(made)) == (True, ["10.1.1.3"])


def test_a_caller_with_pools_recovers_in_these_only(book: Book) -> None:
    """Who may not use a pool hears nothing of it."""
    book.open(make_pool(), make_pool("other", subnet="10.1.2.0/28"))
    mine, theirs = (
        own("10.1.1.3"),
        str(make_pool("other", subnet="10.1.2.0/28").plan.scheme.encode(ip("10.1.2.3"))),
    )
    book.show(book.seen("10.1.1.3", "a", mine), book.seen("10.1.2.3", "b", theirs))
    plan, _ = recovered(book, Origin("token", pools=frozenset({"farm"})))
    assert [one.address for one in plan.rows] == ["10.1.1.3"]
    assert [one.address for one in recovered(book)[0].rows] == ["10.1.1.3", "10.1.2.3"]


def test_a_domain_that_runs_is_the_user_of_what_is_recovered(bench: Bench) -> None:
    """It had the MAC before the allocation was made again; when it is destroyed, the address is free."""
    vm, uuid = bench.allocate("vm"), str(uuid4())
    bench.release("vm")
    machine = bench.driver.createXML(bench.xml("build-7", vm.mac, uuid=uuid), 0)
    bench.until_in_use(vm.mac)

    def again(txn: Transaction) -> list[Allocation]:
        return recover(txn, apply=True)[1]

    (one,) = bench.committer.submit("test", again).result()
    bench.warden.look_again({one.mac})
    assert (one.name, one.mac, one.domain) == ("build-7", vm.mac, "build-7")
    until(lambda: bench.user("build-7") == uuid, DEADLINE_S, "the domain to be its user")
    assert bench.warden.findings() == []
    machine.destroy()
    bench.until_free("build-7")
