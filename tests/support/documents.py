"""The code blocks and commands of our Markdown pages."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tests.support.catalogs import ROOT


@dataclass(frozen=True)
class Page:
    """A Markdown page of the repository."""

    path: Path

    @cached_property
    def text(self) -> str:
        return self.path.read_text(encoding="utf-8")

    def blocks(self, language: str) -> list[str]:
        """Return the fenced blocks of a language, in order."""
        return re.findall(rf"^```{language}\n(.*?)^```", self.text, re.DOTALL | re.MULTILINE)

    def commands(self) -> list[str]:
        """Return the commands of all console blocks, in order."""
        lines = "".join(self.blocks("console")).splitlines()
        return [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]

    def links(self) -> list[str]:
        """Return the targets of links to files, without anchors."""
        return re.findall(r"\]\((?!https?:|#)([^)#]+)", self.text)


def page(name: str) -> Page:
    """Return the page at a path below the repository's top."""
    return Page(ROOT / name)
