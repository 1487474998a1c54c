"""The configuration reader against any file: settings come out, or one sentence with file and line."""

import re
import tempfile
from datetime import date, datetime, time
from pathlib import Path
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from macbind.config import Settings, load
from macbind.config.tables import TABLES
from macbind.core.errors import ConfigError

SAMPLE = Path(__file__).parents[2] / "dhcpd" / "macbind.toml"


def read(raw: bytes) -> Settings | ConfigError:
    """What becomes of a file with these bytes; a refusal is checked to name the file and one of its lines."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "macbind.toml")
        path.write_bytes(raw)
        try:
            return load(path)
        except ConfigError as error:
            refusal = error
    told = re.match(rf"{re.escape(str(path))} line (\d+): (.+)", refusal.message, re.DOTALL)
    assert told, refusal.message
    assert 1 <= int(told[1]) <= raw.replace(b"\r\n", b"\n").count(b"\n") + 1
    assert refusal.details["line"] == int(told[1])
    return refusal


words = st.sampled_from(
    [
        *TABLES,
        *(key for table in TABLES.values() for key in table.model_fields),
        "10.1.0.0/16",
        "farm",
        "main",
    ]
)
texts = (
    words
    | st.text(max_size=12)
    | st.sampled_from(["10.1.0.1", "10.1.1.1-10.1.1.9", "*", "@x", "00:16:3e", "/x"])
)


def quoted(text: str) -> str:
    """A text as a TOML string."""
    return '"' + "".join(c if c.isprintable() and c not in '"\\' else f"\\U{ord(c):08x}" for c in text) + '"'


def written(value: Any) -> str:
    """A value as TOML."""
    match value:
        case bool():
            return str(value).lower()
        case str():
            return quoted(value)
        case list():
            return f"[{', '.join(map(written, value))}]"
        case dict():
            return "{" + ", ".join(f"{quoted(key)} = {written(one)}" for key, one in value.items()) + "}"
        case datetime() | date() | time():
            return value.isoformat()
    return str(value)


plain = (
    texts.filter(lambda text: text.isascii() or text.encode("utf-8", "ignore").decode() == text)
    | st.booleans()
    | st.integers()
    | st.sampled_from([10**400, -1, 0, 65_536])
    | st.floats()
    | st.dates()
    | st.datetimes()
    | st.times()
)
values = st.recursive(
    plain, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3), max_leaves=6
)


@st.composite
def documents(draw: st.DrawFn) -> str:
    """Tables of ours and of others, with keys of ours and of others, and any values."""
    lines = []
    for path in draw(st.lists(st.lists(words | texts, min_size=1, max_size=3), max_size=5)):
        header = ".".join(map(quoted, path))
        lines.append(draw(st.sampled_from([f"[{header}]", f"[[{header}]]", ""])))
        for key, value in draw(st.dictionaries(words | texts, values, max_size=4)).items():
            lines.append(f"{quoted(key)} = {written(value)}")
    return draw(st.sampled_from(["\n", "\r\n"])).join(lines)


@given(documents())
@settings(max_examples=150)
def test_any_document_is_settings_or_a_sentence(document: str) -> None:
    """Whatever tables, keys and values it has."""
    read(document.encode("utf-8", "surrogatepass"))


SIGNS = list("[]{}=,.\"'\\#\n\r \t-+:aT1e_é\0\x7f")
fragments = st.sampled_from(
    [*SIGNS, "[[", '"""', "'''", "[pool.farm]", "[dhcpd.main]", "subnet", "pool", "inf", "nan"]
)


@given(st.binary(max_size=80) | st.lists(fragments, max_size=40).map(lambda parts: "".join(parts).encode()))
@settings(max_examples=300)
@example(b"a = " + b"[" * 5000)
@example(b"a = " + b"{b = " * 5000)
@example(b"a." * 5000 + b"b = 1")
@example(b"[" + b"a." * 5000 + b"b]")
@example(b"a = 1" + b"0" * 5000)
@example(b"a = 1979-13-99")
@example(b"\xef\xbb\xbf[dhcpd.main]")
def test_any_bytes_are_settings_or_a_sentence(raw: bytes) -> None:
    """Whether TOML or not."""
    read(raw)


@st.composite
def changed_samples(draw: st.DrawFn) -> bytes:
    """The sample configuration with some lines lost, doubled, swapped or changed."""
    lines = SAMPLE.read_text().split("\n")
    for _ in range(draw(st.integers(1, 3))):
        at, other = (draw(st.integers(0, len(lines) - 1)) for _ in range(2))
        key = lines[at].split("=")[0]
        match draw(st.integers(0, 5)):
            case 0:
                del lines[at]
            case 1:
                lines.insert(other, lines[at])
            case 2:
                lines[at], lines[other] = lines[other], lines[at]
            case 3:
                lines[at] = f"{key} = {written(draw(values))}"
            case 4:
                position = draw(st.integers(0, len(lines[at])))
                lines[at] = lines[at][:position] + draw(fragments) + lines[at][position:]
            case 5:
                lines[at] = f"{key} ={lines[other].partition('=')[2]}"
    return "\n".join(lines).encode("utf-8", "surrogatepass")


@given(changed_samples())
@settings(max_examples=300)
def test_changed_sample_is_settings_or_a_sentence(raw: bytes) -> None:
    """Mistakes as people make them, in a file that was right."""
    read(raw)


def test_the_sample_itself_is_right() -> None:
    """What is changed above is read as it stands."""
    assert isinstance(read(SAMPLE.read_bytes()), Settings)
