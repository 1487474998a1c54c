"""Labels: a few ``key=value`` pairs on an allocation, chosen by whoever made it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType

from macbind.core.errors import InvalidLabel
from macbind.core.printable import visible

MAX_LABELS = 16
"""Labels of one allocation."""
MAX_VALUE = 256
"""Characters of a value."""
_KEY = re.compile(r"[a-z0-9]([a-z0-9._/-]{0,61}[a-z0-9])?", re.ASCII)
_SHOWN = 64

Labels = Mapping[str, str]
"""Values by their keys."""
Wanted = Mapping[str, str | None]
"""What labels must be: a value by its key, or None where any value will do."""
NO_LABELS: Mapping[str, str] = MappingProxyType({})


def check_key(key: str) -> str:
    """Returns ``key`` if it may be the key of a label.

    Raises:
        InvalidLabel: It is empty, too long or has other characters.
    """
    if not _KEY.fullmatch(key):
        raise InvalidLabel(
            f"'{visible(key[:_SHOWN])}' cannot be the key of a label.",
            hint="Use 1 to 63 small letters, digits and . _ / -, a letter or digit at both ends.",
        )
    return key


def check_value(key: str, value: str) -> str:
    """Returns ``value`` if it may be the value of a label.

    Raises:
        InvalidLabel: It is too long, or not printable.
    """
    if len(value) > MAX_VALUE or not value.isprintable():
        raise InvalidLabel(
            f"The label '{key}' cannot have the value '{visible(value[:_SHOWN])}'.",
            hint=f"Use at most {MAX_VALUE} printable characters.",
            key=key,
        )
    return value


def check_labels(labels: Labels) -> dict[str, str]:
    """Returns the labels in the order of their keys, if one allocation may have all of them.

    Raises:
        InvalidLabel: One of them is no label, or there are too many.
    """
    if len(labels) > MAX_LABELS:
        raise InvalidLabel(
            f"An allocation has at most {MAX_LABELS} labels, not {len(labels)}.",
            hint="Leave some out: labels find machines, and are no place for data.",
        )
    return {check_key(key): check_value(key, labels[key]) for key in sorted(labels)}


def read_labels(texts: Iterable[str]) -> dict[str, str]:
    """Reads ``key=value``, each key once.

    Raises:
        InvalidLabel: One has no ``=``, is no label, or its key stands there twice.
    """
    found: dict[str, str] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals:
            raise InvalidLabel(
                f"The label '{visible(text[:_SHOWN])}' has no '='.", hint="Write it as KEY=VALUE."
            )
        if key in found:
            raise InvalidLabel(
                f"The label '{visible(key[:_SHOWN])}' is given twice.", hint="Leave one of them out."
            )
        found[key] = value
    return check_labels(found)


def read_wanted(texts: Iterable[str]) -> dict[str, str | None]:
    """Reads what labels must be: ``key=value``, or ``key`` for any value.

    Raises:
        InvalidLabel: One is none of these, or its key stands there twice.
    """
    given = list(texts)
    known = {key: None for text in given for key, equals, _ in [text.partition("=")] if not equals}
    valued = read_labels(text for text in given if "=" in text)
    if len(known) + len(valued) != len(given) or known.keys() & valued.keys():
        raise InvalidLabel("A key of a label is asked for twice.", hint="Ask for each key once.")
    found: dict[str, str | None] = {check_key(key): None for key in known}
    found |= valued
    if len(found) > MAX_LABELS:
        raise InvalidLabel(f"At most {MAX_LABELS} labels can be asked for.", hint="Ask for fewer.")
    return found


def check_wanted(wanted: Wanted) -> dict[str, str | None]:
    """Returns what labels must be, if there can be such labels.

    Raises:
        InvalidLabel: There cannot.
    """
    return {
        check_key(key): None if value is None else check_value(key, value) for key, value in wanted.items()
    }


def written(wanted: Wanted) -> list[str]:
    """What :func:`read_wanted` reads."""
    return [key if value is None else f"{key}={value}" for key, value in wanted.items()]


def read_change(texts: Iterable[str]) -> tuple[dict[str, str], list[str]]:
    """Reads a change of labels: ``key=value`` sets one, ``key-`` removes one.

    Raises:
        InvalidLabel: One is neither, or a key stands there twice.
    """
    given = list(texts)
    removed = [check_key(text[:-1]) for text in given if "=" not in text and text.endswith("-")]
    labels = read_labels(text for text in given if "=" in text or not text.endswith("-"))
    for key in removed:
        if key in labels or removed.count(key) > 1:
            raise InvalidLabel(f"The label '{key}' is given twice.", hint="Set it or remove it, once.")
    return labels, removed


def changed(labels: Labels, added: Labels, removed: Iterable[str]) -> dict[str, str]:
    """The labels after a change.

    Raises:
        InvalidLabel: They would be too many.
    """
    gone = set(removed)
    return check_labels({key: value for key, value in labels.items() if key not in gone} | dict(added))


def match(labels: Labels, wanted: Wanted) -> bool:
    """Whether labels are as they must be."""
    return all(key in labels and value in (None, labels[key]) for key, value in wanted.items())
