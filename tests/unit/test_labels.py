"""Labels: what may be one, how they are read, and what they match."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from macbind.core.errors import InvalidLabel
from macbind.core.labels import (
    changed,
    check_key,
    check_labels,
    check_wanted,
    match,
    read_change,
    read_labels,
    read_wanted,
    written,
)
from macbind.core.origin import Origin, request_id

KEYS = st.from_regex(r"[a-z0-9]([a-z0-9._/-]{0,61}[a-z0-9])?", fullmatch=True)
VALUES = st.text(st.characters(exclude_categories=("C", "Z")), max_size=256)


@pytest.mark.parametrize("key", ["a", "7", "job", "a.b/c-d_e", "x" * 63])
def test_keys(key: str) -> None:
    """Small letters and digits, with some signs between them."""
    assert check_key(key) == key


@pytest.mark.parametrize("key", ["", "-a", "a-", "A", "a b", "x" * 64, "é", "a\n", "a=b", "٣"])
def test_what_is_no_key(key: str) -> None:
    """Anything else is refused, and the error steers no terminal."""
    with pytest.raises(InvalidLabel, match="cannot be the key of a label") as caught:
        check_key(key)
    assert caught.value.message.isprintable()


def test_values_and_numbers_are_bounded() -> None:
    """256 printable characters, sixteen labels."""
    assert check_labels({"b": "x" * 256, "a": ""}) == {"a": "", "b": "x" * 256}
    for bad in ("x" * 257, "a\tb", "a\x1b[2J"):
        with pytest.raises(InvalidLabel, match="cannot have the value"):
            check_labels({"a": bad})
    with pytest.raises(InvalidLabel, match="at most 16"):
        check_labels({f"k{number}": "" for number in range(17)})


def test_how_they_are_read() -> None:
    """Set, asked for, and changed; each key once."""
    assert read_labels(["a=1", "b=x=y", "c="]) == {"a": "1", "b": "x=y", "c": ""}
    assert read_wanted(["a=1", "b"]) == {"a": "1", "b": None}
    assert read_change(["a=1", "b-", "c=d-"]) == ({"a": "1", "c": "d-"}, ["b"])
    assert changed({"a": "1", "b": "2"}, {"c": "3"}, ["a"]) == {"b": "2", "c": "3"}
    assert check_wanted({"a": "1", "b": None}) == {"a": "1", "b": None}
    for wanted in ({"A": "1"}, {"a": "\0"}, {"": None}):
        with pytest.raises(InvalidLabel):
            check_wanted(wanted)
    for texts in (["a"], ["=1"], ["a=1", "a=2"]):
        with pytest.raises(InvalidLabel):
            read_labels(texts)
    for texts in (["a", "a"], ["a", "a=1"], [""]):
        with pytest.raises(InvalidLabel):
            read_wanted(texts)
    for texts in (["a"], ["a-", "a=1"], ["a-", "a-"], ["-"]):
        with pytest.raises(InvalidLabel):
            read_change(texts)


@given(st.dictionaries(KEYS, VALUES, max_size=16), st.data())
def test_what_is_asked_for_matches_exactly_what_has_it(labels: dict[str, str], data: st.DataObject) -> None:
    """Any part of its labels finds an allocation; one value that differs, or one key more, does not."""
    some = data.draw(st.lists(st.sampled_from(sorted(labels)), unique=True)) if labels else []
    wanted = {key: data.draw(st.sampled_from([None, labels[key]])) for key in some}
    assert read_wanted(written(wanted)) == wanted
    assert match(labels, wanted)
    for key in some:
        assert not match(labels, wanted | {key: labels[key] + "x"})
        assert not match({other: value for other, value in labels.items() if other != key}, wanted)


def test_the_origin_of_a_change_is_its_actor() -> None:
    """With the request and the reason beside it."""
    origin = Origin("root", "req-1", "because")
    assert (origin, origin.request, origin.reason) == ("root", "req-1", "because")
    assert request_id("build-17/3") == "build-17/3"
    made = {request_id(), request_id(""), request_id("two words"), request_id("x" * 65), request_id("é")}
    assert len(made) == 5
    assert all(len(one) == 16 for one in made)
