"""The key file reader against any file: a key comes out, or one sentence that does not show the secret."""

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from macbind.core.errors import ConfigError
from macbind.dhcp.isc.key import DIGEST_BYTES, MAX_KEY_FILE, OmapiKey, read_key

keys = st.builds(
    OmapiKey,
    st.from_regex(r"[A-Za-z][A-Za-z0-9.-]{0,20}", fullmatch=True),
    st.sampled_from(list(DIGEST_BYTES)),
    st.binary(min_size=8, max_size=64),
)


def read(raw: bytes, name: str) -> OmapiKey | ConfigError:
    """What becomes of a key file with these bytes."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "macbind.key")
        path.write_bytes(raw)
        path.chmod(0o640)
        try:
            return read_key(path, name)
        except ConfigError as error:
            refusal = error
    assert refusal.message.startswith(f"The key file {path} "), refusal.message
    assert refusal.hint
    return refusal


@given(st.lists(keys, min_size=1, max_size=3, unique_by=lambda key: key.name), st.data())
def test_every_key_of_a_file_is_found_by_its_name(several: list[OmapiKey], data: st.DataObject) -> None:
    """Whatever stands around it: other keys, comments, white space."""
    rest = st.sampled_from(["", "\n", "# key\n", "   ", '# key "x" { secret "eA=="; };\n'])
    text = "".join(data.draw(rest) + key.stanza for key in several)
    for key in several:
        assert read(text.encode(), key.name) == key


fragments = st.sampled_from(
    ["key", " ", "{", "}", ";", '"', "#", "\n", "algorithm", "hmac-md5", "secret", "eA==", "x"]
)


@given(
    st.binary(max_size=200)
    | st.lists(fragments, max_size=40).map(lambda parts: "".join(parts).encode())
    | st.tuples(fragments, st.integers(0, MAX_KEY_FILE)).map(
        lambda what: (what[0] * what[1]).encode()[: what[1]]
    )
)
@settings(max_examples=300)
def test_any_bytes_are_a_key_or_a_sentence(raw: bytes) -> None:
    """Never anything else, and never for long."""
    read(raw, "x")


@given(keys, st.data())
def test_changed_key_is_read_or_refused_without_being_shown(key: OmapiKey, data: st.DataObject) -> None:
    """A character lost, added or replaced: no error repeats the secret."""
    text = key.stanza
    at = data.draw(st.integers(0, len(text) - 1))
    text = text[:at] + data.draw(fragments | st.just("")) + text[at + data.draw(st.integers(0, 1)) :]
    found = read(text.encode(), key.name)
    if isinstance(found, ConfigError):
        secret = key.stanza.split('"')[3]
        assert secret not in f"{found}{found.details}"
