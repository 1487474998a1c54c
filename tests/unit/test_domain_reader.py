"""What is read of any domain's XML, whatever its owner has written into the metadata."""

from __future__ import annotations

import time

import pytest

from macbind.core.errors import InvalidRequest
from macbind.core.mac_address import MacAddress
from macbind.virt.domain_reader import MARK_NAMESPACE, MAX_LENGTH, RECORD_NAMESPACE, read_domain
from macbind.virt.domain_xml import mark_in
from macbind.virt.nic_xml import macs_on_record

MAC = MacAddress.parse("00:16:3e:01:01:03")
_MARK = f"<m:machine xmlns:m='{MARK_NAMESPACE}' name='a' pool='p' launched='2026-01-01T00:00:00+00:00'/>"


def domain(metadata: str) -> str:
    """A domain with one NIC and this metadata."""
    return (
        f"<domain type='kvm'><name>vm</name><metadata>{metadata}</metadata><devices><interface type='bridge'>"
        f"<mac address='{MAC}'/></interface></devices></domain>"
    )


@pytest.mark.parametrize(
    "metadata",
    [
        "<e:x xmlns:e='urn:evil'>" + "<e:x>" * 5_000 + "</e:x>" * 5_000 + "</e:x>",
        "<e:x xmlns:e='urn:evil'><zz:y/></e:x>",
        "<zz:y/>",
        "<e:x xmlns:e='urn:evil'><metadata/></e:x>",
        "<e:x xmlns:e='urn:evil'><devices><interface><mac address='00:16:3e:01:01:04'/></interface></devices></e:x>",
        "<e:x><![CDATA[</metadata><devices>]]><!-- </metadata> --></e:x>",
        f"<m:machine xmlns:m='{MARK_NAMESPACE}'>" + "<m:x>" * 500 + "</m:x>" * 500 + "</m:machine>",
        f"<m:machine xmlns:m='{MARK_NAMESPACE}'>" + "<m:x/>" * 5_000 + "</m:machine>",
        f"<m:machine xmlns:m='{MARK_NAMESPACE}'><zz:y/></m:machine>",
    ],
    ids=range(9),
)
def test_metadata_of_others_changes_nothing(metadata: str) -> None:
    """Whatever depth, prefixes and elements it has: the NICs are read, and our mark beside it, if it is the first."""
    assert read_domain(domain(metadata)).macs == {MAC}
    after = mark_in(domain(metadata + _MARK))
    assert after is not None
    assert after.name == "a"


def test_large_metadata_takes_little_time() -> None:
    """Two megabytes of it are passed over in less than the time of a turn."""
    xml = domain("<e:x xmlns:e='urn:evil'>" + "<e:y a='b'>text</e:y>" * 100_000 + "</e:x>")
    began_at = time.process_time()
    assert read_domain(xml).macs == {MAC}
    assert time.process_time() - began_at < 1.0


def test_an_enormous_definition_is_refused() -> None:
    """What libvirt itself would never send is not read."""
    with pytest.raises(InvalidRequest, match="more than 8 million characters"):
        read_domain(domain("x" * MAX_LENGTH))


def test_our_own_is_found_wherever_its_namespace_is_bound() -> None:
    """On the element, on the metadata, on the domain, or as the default."""
    nic = f"<interface><mac address='{MAC}'/></interface>"
    for xml in (
        domain(f"<renumber xmlns='{RECORD_NAMESPACE}'>{nic}</renumber>"),
        domain(f"<r:renumber xmlns:r='{RECORD_NAMESPACE}'>{nic}</r:renumber>"),
        domain(f"<r:renumber>{nic}</r:renumber>").replace(
            "<metadata", f"<metadata xmlns:r='{RECORD_NAMESPACE}'"
        ),
        domain(f"<r:renumber>{nic}</r:renumber>").replace("<domain", f"<domain xmlns:r='{RECORD_NAMESPACE}'"),
    ):
        assert macs_on_record(read_domain(xml)) == {MAC}
    assert macs_on_record(read_domain(domain(f"<r:renumber>{nic}</r:renumber>"))) == frozenset()
