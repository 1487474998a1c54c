"""Whatever the template, a machine has one MAC of ours and none of the template's, and all the rest of it."""

import re
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import IPv4Address
from uuid import UUID
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

import pytest
from hypothesis import given
from hypothesis import strategies as st

from macbind.core.allocation import MAX_NAME
from macbind.core.errors import InvalidRequest, MacbindError
from macbind.core.mac_address import MacAddress
from macbind.virt.domain_xml import Mark, domain_name, macs_in, mark_in, nvram_in, parse_domain
from macbind.virt.machine_xml import MachineIdentity
from macbind.virt.template import Template

OLD_UUID = "0d0d0d0d-1111-4222-8333-444444444444"
_TEXT = st.text("ab <>&'\"=é☃ \n", max_size=6)
_WORD = st.sampled_from(["a", "bc", "state", "br0", "eth1", "model0"])
_NAMES = st.from_regex(rf"[A-Za-z0-9][A-Za-z0-9._:@/+-]{{0,{MAX_NAME - 1}}}", fullmatch=True)
_MACS = st.integers(0, (1 << 46) - 1).map(lambda value: MacAddress(0x02 << 40 | value))


@dataclass(frozen=True)
class Copy:
    """Where a copy of a disk is."""

    pool: str
    volume: str
    path: str
    format: str


@st.composite
def _elements(draw: st.DrawFn, depth: int = 1) -> Element:
    """Any element that means nothing to us."""
    element = Element("x-" + draw(_WORD), draw(st.dictionaries(_WORD, _TEXT, max_size=3)))
    if depth and draw(st.booleans()):
        element.extend(draw(st.lists(_elements(depth=depth - 1), max_size=2)))
    else:
        element.text = draw(_TEXT)
    return element


@st.composite
def _interfaces(draw: st.DrawFn, mac: MacAddress | None) -> Element:
    card = Element("interface", type="bridge")
    children = [Element("source", bridge=draw(_WORD)), *draw(st.lists(_elements(), max_size=2))]
    if mac is not None:
        spelling = draw(st.sampled_from([str(mac), str(mac).upper(), str(mac).replace(":", "-")]))
        children.append(Element("mac", address=spelling))
    if draw(st.booleans()):
        children.append(Element("model", type="virtio"))
    card.extend(draw(st.permutations(children)))
    if mac is not None and draw(st.booleans()):
        SubElement(SubElement(card, "filterref", filter="f"), "parameter", name="MAC", value=str(mac))
    return card


@st.composite
def _templates(draw: st.DrawFn) -> tuple[Element, list[MacAddress], int]:
    """A domain, the MACs in it, and how many interfaces it has."""
    macs = draw(st.lists(_MACS, min_size=1, max_size=5, unique=True))
    with_mac = [draw(st.booleans()) for _ in macs]
    cards = [draw(_interfaces(mac if has else None)) for mac, has in zip(macs, with_mac, strict=True)]
    root = Element("domain", type="kvm")
    devices = Element("devices")
    devices.extend(draw(st.permutations([*cards, *draw(st.lists(_elements(), max_size=4))])))
    parts = [devices, *draw(st.lists(_elements(), max_size=3))]
    if draw(st.booleans()):
        parts.append(Element("name"))
        parts[-1].text = "template"
    if draw(st.booleans()):
        parts.append(Element("uuid"))
        parts[-1].text = OLD_UUID
    if draw(st.booleans()):
        parts.append(Element("metadata"))
        SubElement(parts[-1], "{urn:other}note").text = draw(_TEXT)
    root.extend(draw(st.permutations(parts)))
    return root, [mac for mac, has in zip(macs, with_mac, strict=True) if has], len(cards)


_IDENTITIES = st.builds(
    MachineIdentity,
    uuid=st.uuids(version=4),
    mac=st.integers(1, (1 << 24) - 1).map(lambda low: MacAddress(0x00163E << 24 | low)),
    address=st.integers(0x0A000001, 0x0AFFFFFE).map(IPv4Address),
    mark=st.builds(
        Mark,
        st.sampled_from(["build-7", "a/b", "x"]),
        st.sampled_from(["farm", "other"]),
        st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
        st.sampled_from([None, "speck"]),
    ),
)


def _rest(root: Element) -> str:
    """What is neither identity nor an interface's MAC, in canonical form."""
    root = deepcopy(root)
    for parent in list(root.iter()):
        for child in list(parent):
            is_mac = child.tag == "parameter" and child.get("name") == "MAC"
            ours = child.tag in ("mac", "{urn:macbind:machine:1}machine") or is_mac
            if ours or (parent is root and child.tag in ("name", "uuid")):
                parent.remove(child)
    for metadata in [one for one in root.findall("metadata") if not len(one)]:
        root.remove(metadata)
    return ElementTree.canonicalize(ElementTree.tostring(root, encoding="unicode"), rewrite_prefixes=True)


def _template(root: Element) -> Template:
    """A template, with the network of its first NIC for the pool's."""
    first = next(root.iterfind("./devices/interface"))
    names = [one.get(key) for one in first.iterfind("source") for key in ("bridge", "network", "dev")]
    network = next((name for name in names if name), first.get("type"))
    return Template(ElementTree.tostring(root, encoding="unicode"), network)


@given(_templates(), _IDENTITIES)
def test_no_mac_of_the_template_survives(
    template: tuple[Element, list[MacAddress], int], who: MachineIdentity
) -> None:
    """Exactly one interface has a MAC, ours; no other MAC is anywhere, in any spelling."""
    root, macs, count = template
    made = _template(root).machine(who, {})
    assert macs_in(made) == {who.mac}
    assert len(parse_domain(made).findall("./devices/interface")) == count
    assert len(parse_domain(made).findall(".//mac")) == 1
    found = re.findall(r"(?:[0-9a-f]{2}[:-]){5}[0-9a-f]{2}", made.lower())
    assert not {MacAddress.parse(one) for one in found} & set(macs)


@given(_templates(), _IDENTITIES)
def test_all_the_rest_stays(template: tuple[Element, list[MacAddress], int], who: MachineIdentity) -> None:
    """Name, UUID and mark are the machine's; everything else means what it meant."""
    root, _, _ = template
    made = parse_domain(_template(root).machine(who, {}))
    assert made.findtext("name") == domain_name(who.mark.name)
    assert UUID(made.findtext("uuid") or "") == who.uuid
    assert mark_in(ElementTree.tostring(made, encoding="unicode")) == who.mark
    assert _rest(made) == _rest(root)


@given(_templates(), _IDENTITIES, _IDENTITIES)
def test_a_machine_is_a_template(
    template: tuple[Element, list[MacAddress], int], first: MachineIdentity, second: MachineIdentity
) -> None:
    """A machine of a machine is as one made of the template itself."""
    through = _template(parse_domain(_template(template[0]).machine(first, {}))).machine(second, {})
    direct = _template(template[0]).machine(second, {})
    assert _rest(parse_domain(through)) == _rest(parse_domain(direct))
    assert macs_in(through) == macs_in(direct) == {second.mac}
    assert mark_in(through) == mark_in(direct) == second.mark


@given(_IDENTITIES, st.lists(st.sampled_from(["vda", "vdb", "sda", "hdc"]), unique=True), _TEXT)
def test_each_disk_has_its_own_copy(who: MachineIdentity, targets: list[str], folder: str) -> None:
    """No path of an original survives."""
    root = Element("domain")
    devices = SubElement(root, "devices")
    SubElement(devices, "interface", type="user")
    for target in targets:
        disk = SubElement(devices, "disk", type="file")
        SubElement(disk, "source", file=f"/original/{folder}/{target}")
        SubElement(disk, "target", dev=target)
    found = Template(ElementTree.tostring(root, encoding="unicode"))
    copies = {one.target: Copy("p", one.target, f"/copy/{one.target}", "qcow2") for one in found.disks}
    made = found.machine(who, copies)
    assert [one.get("file") for one in parse_domain(made).iter("source")] == [
        f"/copy/{target}" for target in targets
    ]
    assert "/original/" not in made


@given(_NAMES, _NAMES)
def test_domain_names_are_safe_and_different(one: str, other: str) -> None:
    """They are file names, and two machines never share one."""
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,150}", domain_name(one))
    assert (domain_name(one) == domain_name(other)) == (one == other)


@given(
    st.text(max_size=200)
    | st.text(st.sampled_from("<>/domaineucs!&;'= [CDATA]?x"), max_size=60).map("<domain".__add__)
)
def test_any_text_is_read_or_refused(text: str) -> None:
    """Never anything but a typed error."""
    try:
        assert parse_domain(text).tag == "domain"
        Template(text)
    except MacbindError:
        return


BOMB = (
    "<!DOCTYPE domain [<!ENTITY a 'aaaaaaaaaa'><!ENTITY b '&a;&a;&a;&a;'>]><domain><name>&b;</name></domain>"
)
OUTSIDE = "<!DOCTYPE domain [<!ENTITY x SYSTEM 'file:///etc/hostname'>]><domain><name>&x;</name></domain>"
_DOMAIN = (
    "<domain><name>vm</name><metadata/><devices><disk type='file'><source file='/x'/><target dev='vda'/></disk>"
    "<interface type='bridge'><mac address='00:16:3e:01:01:03'/></interface></devices></domain>"
)
_PARTS = st.sampled_from(
    [BOMB, OUTSIDE, "<!DOCTYPE domain>", "&amp;", "&x;", "&#0;", "&#xD800;", "]]>", "<!--", "<?x?>"]
)
_PARTS |= st.sampled_from(
    ["<a>" * 101, "<a>" * 50_000, "</domain>", "<domain>", "\0", "\ud800", "\ufeff", "x" * 100_000]
)
_PARTS |= st.sampled_from([" a='b'" * 1000, "<mac address='x'/>", "<x:y xmlns:x='urn:z'/>", "<![CDATA["])


@given(st.integers(0, len(_DOMAIN)), st.integers(0, 40), _PARTS)
def test_spoilt_domain_is_read_or_refused(at: int, lost: int, part: str) -> None:
    """Entities, depth, size, and characters XML cannot have: read or refused, by everything that reads XML."""
    xml = _DOMAIN[:at] + part + _DOMAIN[at + lost :]
    for reads in (parse_domain, macs_in, mark_in, nvram_in, Template):
        with suppress(MacbindError):
            reads(xml)


@pytest.mark.parametrize("xml", [BOMB, OUTSIDE], ids=["bomb", "file"])
def test_entities_are_never_followed(xml: str) -> None:
    """Neither is text multiplied, nor a file read."""
    with pytest.raises(InvalidRequest, match="document type declaration"):
        parse_domain(xml)
