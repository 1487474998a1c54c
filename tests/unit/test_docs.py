"""The documentation is true: its tables are the code's, its links lead somewhere, its words are the glossary's."""

import ast
import re
from pathlib import Path

import pytest

from docs.picture import svg
from docs.tables import PAGES, ROOT, keys, pages, sample_keys, with_tables
from macbind.core import errors
from macbind.core.findings import CODES

PACKAGE = ROOT / "controller" / "macbind"
REMAINING = frozenset(("_card", "_without_card", "has_card", "moved", "problems_told"))
"""Names that are older than the glossary; the list may only become shorter."""
_LINK = re.compile(r"\[[^\]]*\]\((?!https?:)([^)#\s]*)(#[^)\s]+)?\)")


def name(page: Path) -> str:
    """A page, as the name of a test."""
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", pages(), ids=name)
def test_tables_are_those_of_the_code(page: Path) -> None:
    """`make docs` would change nothing."""
    text = page.read_text(encoding="utf-8")
    assert with_tables(text) == text, "run `make docs`"


def test_the_picture_is_the_one_its_script_draws() -> None:
    """`make docs` would change nothing."""
    assert (PAGES / "picture.svg").read_text(encoding="utf-8") == svg()


def anchors(page: Path) -> set[str]:
    """The headings of a page, as links name them."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", [*pages(), ROOT / "dhcpd" / "README.md"], ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    """Every link to a file of ours, and to a heading in it, has its target."""
    for target, anchor in _LINK.findall(page.read_text(encoding="utf-8")):
        there = (page.parent / target).resolve() if target else page
        assert there.exists(), f"{target} is not there"
        if anchor:
            assert anchor[1:] in anchors(there), f"{target}{anchor} is not there"


def test_the_index_names_every_page() -> None:
    """No page is hidden from whoever starts at the index."""
    index = PAGES / "index.md"
    linked = {(PAGES / target).resolve() for target, _ in _LINK.findall(index.read_text(encoding="utf-8"))}
    decisions = PAGES / "inside" / "decisions"
    assert decisions.resolve() in linked
    missing = {page for page in PAGES.rglob("*.md") if page.parent != decisions} - linked - {index}
    assert not missing


def test_decisions_are_numbered_in_order() -> None:
    """The number in the name of a decision is the one in its title, and none is missing or double."""
    for number, page in enumerate(sorted((PAGES / "inside" / "decisions").glob("[0-9]*.md")), 1):
        assert page.name.startswith(f"{number:04}-")
        assert page.read_text(encoding="utf-8").startswith(f"# {number}. ")


def test_every_invariant_has_tests() -> None:
    """The numbers of the architecture are those that tests carry."""
    text = (PAGES / "inside" / "architecture.md").read_text(encoding="utf-8").partition("## Invariants")[2]
    written = [int(number) for number in re.findall(r"^(\d+)\. \*\*", text, re.MULTILINE)]
    shown = [int(number) for number in re.findall(r"^\| (\d+) \|", text, re.MULTILINE)]
    assert written == shown == list(range(1, 11))


def test_the_readme_is_a_page() -> None:
    """At most 120 lines and 1,100 words."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 120
    assert len(text.split()) <= 1100


def test_the_sample_shows_every_key() -> None:
    """Whoever reads the sample has seen all of the configuration."""
    assert sample_keys() == keys()


def test_every_code_of_a_finding_has_its_meaning() -> None:
    """Codes that the package uses are those of the table, and the other way round.

    A finding that says an error has the code of the error, so those codes need no finding of their own.
    """
    used = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("Finding", "_Sign"):
                first = node.args[0]
                if isinstance(first, ast.Constant):
                    used.add(first.value)
    of_errors = {
        one.code
        for one in vars(errors).values()
        if isinstance(one, type) and issubclass(one, errors.PeerError)
    }
    assert used <= set(CODES)
    assert set(CODES) <= used | of_errors


def glossary() -> list[tuple[str, list[str]]]:
    """Each word of the glossary, and the words that are not used for it."""
    text = (PAGES / "glossary.md").read_text(encoding="utf-8")
    rows = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("| ")][2:]
    return [(row[0].strip(), [one.strip() for one in row[2].split(",") if one.strip()]) for row in rows]


def identifiers() -> set[str]:
    """Every name that the package gives to something."""
    found: set[str] = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                found.add(node.name)
            elif isinstance(node, ast.arg):
                found.add(node.arg)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                found.add(node.id)
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                found.add(node.attr)
    return found


def test_the_glossary_is_in_order() -> None:
    """Words stand in the order of the alphabet, each once."""
    words = [word for word, _ in glossary()]
    assert words == sorted(set(words), key=str.lower)


def test_the_package_has_the_words_of_the_glossary() -> None:
    """A word that the glossary gives up is in no name of the package but those that are listed here."""
    given_up = {word.replace(" ", "_") for _, others in glossary() for word in others}
    parts = re.compile(r"[A-Z]?[a-z0-9]+|[A-Z]+(?![a-z])")
    wrong = {
        name
        for name in identifiers()
        if {part.lower() for part in parts.findall(name)} & given_up or name.lower() in given_up
    }
    assert wrong == REMAINING
