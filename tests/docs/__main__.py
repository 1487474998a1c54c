"""``make docs``: writes what the documentation has from the code."""

from docs.picture import svg
from docs.tables import PAGES, pages, with_tables

(PAGES / "picture.svg").write_text(svg(), encoding="utf-8")
for page in pages():
    text = page.read_text(encoding="utf-8")
    if (new := with_tables(text)) != text:
        page.write_text(new, encoding="utf-8")
        print(f"{page}: written")
