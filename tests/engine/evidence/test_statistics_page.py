"""STATISTICS.md has every formula that the code cites."""

from __future__ import annotations

import re
from pathlib import Path

SERVICE = Path(__file__).parents[3] / "service"
PAGE = (SERVICE / "STATISTICS.md").read_text(encoding="utf-8")
CITED = re.compile(r"STATISTICS\.md#([\w-]+)")


def anchors() -> set[str]:
    titles = re.findall(r"^#+ (.+)$", PAGE, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles}


def cited() -> set[str]:
    files = SERVICE.glob("assay/**/*.py")
    return {name for file in files for name in CITED.findall(file.read_text(encoding="utf-8"))}


def test_every_cited_formula_is_on_the_page() -> None:
    assert cited()
    assert cited() <= anchors()


def test_links_within_the_page_resolve() -> None:
    assert set(re.findall(r"\]\(#([\w-]+)\)", PAGE)) <= anchors()
