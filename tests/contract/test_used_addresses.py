"""What the status says of addresses that others use."""

from __future__ import annotations

from contract.book import Book, ip, make_pool
from macbind.core.evidence import Evidence, Source
from macbind.core.findings import DhcpdState, DhcpdStatus, Finding
from macbind.registry import evidence
from macbind.service.peers import Peers
from macbind.service.status import StatusReport
from macbind.service.used_addresses import completed, used_addresses

LIAR = "02:aa:00:00:00:01"


def _findings(book: Book) -> list[tuple[str, str]]:
    """Codes and sentences, of all origins."""
    with book.read() as view:
        found = used_addresses(view)
    return [(finding.code, finding.message) for told in found.values() for finding in told]


def _answers(book: Book, *seen: Evidence) -> None:
    with book.write() as txn:
        evidence.add(txn, seen)


def test_what_is_passed_over_is_told_once_for_each_kind(book: Book) -> None:
    """The lowest address is named with its holder and pool, and how many there are."""
    book.open(make_pool())
    assert _findings(book) == []
    book.show(book.seen("10.1.1.5", "scanner"), book.seen("10.1.1.3"))
    book.show(
        book.seen("10.1.1.9", "the range 10.1.1.9-10.1.1.10", None, source=Source.RANGE), source=Source.RANGE
    )
    book.show(book.seen("10.1.1.11", LIAR, LIAR, source=Source.LEASE), source=Source.LEASE)
    codes, sentences = zip(*_findings(book), strict=True)
    assert codes == ("foreign_host", "leased_address", "foreign_range")
    assert sentences[0].startswith(
        "The host 'printer' of dhcpd 'd1', not made by macbind, takes 10.1.1.3 of the pool"
    )
    assert sentences[0].endswith("it is passed over. There are 2 of these.")
    assert f"leased 10.1.1.11 of the pool 'farm' to {LIAR}: it is passed over" in sentences[1]
    assert "10.1.1.9 of the pool 'farm' by itself, by the range 10.1.1.9-10.1.1.10: it is" in sentences[2]


def test_a_machine_that_answers_for_many_addresses_is_named(book: Book) -> None:
    """One MAC for several is a liar or a proxy; machines with one address each share a finding."""
    book.open(make_pool())
    seen = [(last, LIAR) for last in (2, 3, 4)] + [(7, "02:aa:00:00:00:02"), (6, "02:aa:00:00:00:03")]
    _answers(
        book,
        *(book.seen(f"10.1.1.{last}", mac, mac, source=Source.ANSWER, origin="br0") for last, mac in seen),
    )
    many, few = _findings(book)
    assert many[1].startswith(f"{LIAR} answers for 3 addresses on br0, which nobody has allocated.")
    assert few[1].startswith("02:aa:00:00:00:03 answers for 10.1.1.6 of the pool 'farm' on br0")
    assert few[1].endswith("There are 2 of these.")


def test_evidence_against_an_allocation_is_a_danger(book: Book) -> None:
    """Holder and stranger are named; what the allocation's own MAC shows is none, nor what a domain does."""
    book.open(make_pool(), hypervisors=["local"])
    vm = book.one("vm")
    book.show(book.seen("10.1.1.1", "vm's own", str(vm.mac)))
    assert _findings(book) == []
    book.show(book.seen("10.1.1.1"))
    _answers(book, book.seen("10.1.1.1", "other", source=Source.DOMAIN, origin="local"))
    ((code, sentence),) = _findings(book)
    assert code == "address_contested"
    assert sentence.startswith(f"10.1.1.1 is allocated to 'vm' with {vm.mac}, and 'printer' uses it, too")
    book.release("vm")
    ((code, _),) = _findings(book)
    assert code == "foreign_host"


def test_the_registry_tells_what_the_last_audit_did_not(book: Book) -> None:
    """An audit says where a host stands, so its finding stays; it does not know what is allocated."""
    book.open(make_pool())
    book.one("vm")
    book.show(book.seen("10.1.1.1"), book.seen("10.1.1.3"))
    audit = (Finding("foreign_host", "as the audit has it"), Finding("host_masked", "something else"))
    status = DhcpdStatus("d1", DhcpdState.SERVING, book.now, 0, "", findings=audit)
    with book.read() as view:
        found = completed(status, used_addresses(view)["d1"]).findings
    assert [one.code for one in found] == ["foreign_host", "host_masked", "address_contested"]
    assert found[0].message == "as the audit has it"
    assert "'printer' uses it, too" in found[2].message


def test_an_exhausted_pool_says_how_many_others_use(book: Book) -> None:
    """The finding, and the numbers of the pool."""
    book.open(make_pool(ranges=["10.1.1.1-10.1.1.2"]))
    book.show(book.seen("10.1.1.2"))
    book.one("vm")
    status = StatusReport(book.registry, Peers).status()
    (exhausted,) = [one for one in status.findings if one.code == "pool_exhausted"]
    assert "1 are passed over, because others use them." in exhausted.message
    assert status.pools[0].used_by_others == 1
    assert [one.code for one in status.findings] == ["pool_exhausted", "foreign_host"]
    assert book.find(addresses=[ip("10.1.1.2")]) == []
