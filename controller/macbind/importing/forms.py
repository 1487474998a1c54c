"""Which form a list has, and the reader of each form."""

from __future__ import annotations

import codecs
import re
from enum import StrEnum
from pathlib import Path

from macbind.importing import kea, own
from macbind.importing.columns import read_columns
from macbind.importing.dhcpd_conf import read_dhcpd_conf
from macbind.importing.libvirt import read_libvirt
from macbind.importing.machine_list import MachineList

MAX_BYTES = 16 << 20
_COMMENTS = re.compile(r"(?:\s+|#[^\n]*|//[^\n]*|/\*.*?(?:\*/|\Z))*", re.DOTALL)
_BLOCK = re.compile(
    r"^[ \t]*(?:host\s+[^\s{;,]+\s*\{|include\s+\"[^\"\n]*\"\s*;"
    r"|(?:group|subnet|shared-network|pool|class)\b[^;{]{0,200}\{)",
    re.MULTILINE | re.IGNORECASE,
)
_OWN = re.compile(r'\{\s*"format"\s*:\s*"macbind-')
_KEA = re.compile(r'"(?:reservations|hw-address|Dhcp[46])"\s*:')


class ListForm(StrEnum):
    """Where a list comes from."""

    DHCPD = "dhcpd"
    CSV = "csv"
    LIBVIRT = "libvirt"
    KEA = "kea"
    MACBIND = "macbind"


def recognised(text: str) -> ListForm:
    """The form of a list, as far as its first signs and words say it."""
    start = _COMMENTS.match(text)
    body = text[start.end() if start else 0 :]
    if body.startswith("<"):
        return ListForm.LIBVIRT
    if body.startswith("{") or re.match(r"\[\s*[{\]#/]", body):
        is_kea = _OWN.match(body) is None and _KEA.search(body) is not None
        return ListForm.KEA if is_kea else ListForm.MACBIND
    return ListForm.DHCPD if _BLOCK.search(text) else ListForm.CSV


def read_list(data: bytes, path: Path, form: ListForm | None = None) -> tuple[ListForm, MachineList]:
    """The machines of a list, and its form.

    Args:
        data: The list.
        path: Where it was, for what it includes.
        form: Its form; None to recognise it.

    Raises:
        InvalidRequest: It cannot be read.
    """
    text = text_of(data)
    form = form or recognised(text)
    is_json = text.lstrip()[:1] in ("{", "[") or recognised(text) in (ListForm.KEA, ListForm.MACBIND)
    match form:
        case ListForm.DHCPD:
            return form, read_dhcpd_conf(data.removeprefix(codecs.BOM_UTF8), path)
        case ListForm.LIBVIRT:
            return form, read_libvirt(data)
        case ListForm.KEA if is_json:
            return form, kea.read_kea(text)
        case ListForm.MACBIND if is_json:
            return form, own.read_own(text)
        case _:
            return form, read_columns(text)


def text_of(data: bytes) -> str:
    """The text of a list, without a byte order mark; what is no text stands there as a sign for that."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16", "replace")
    return data.decode("utf-8-sig", "replace")
