"""Packages, modules and class names are as `service/README.md` describes them."""

from __future__ import annotations

import ast
import re
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.support.catalogs import ROOT
from tests.support.documents import page

ASSAY = ROOT / "service" / "assay"
PAGES = ("README.md", "service/AUDIT.md", "service/OPERATIONS.md", "service/README.md")
MAP = page("service/README.md")
MODULE = re.compile(r"`((?:[a-z_0-9]+/)+[a-z_0-9]+\.(?:py|yaml|proto|md|json))`")


def modules() -> Iterator[Path]:
    """Yield the modules of the service, without generated code."""
    return (path for path in ASSAY.rglob("*.py") if path.relative_to(ASSAY).parts[0] != "v1")


def contracts() -> list[dict[str, Any]]:
    """Return import-linter's contracts."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    found: list[dict[str, Any]] = settings["tool"]["importlinter"]["contracts"]
    return found


def layers_of(container: str) -> dict[str, int]:
    """Return the layer of each package, from 1 at the top."""
    (contract,) = [found for found in contracts() if found.get("containers") == [container]]
    return {
        package.strip(" ()"): number
        for number, layer in enumerate(contract["layers"], 1)
        for package in layer.split("|")
    }


def forbidden_to(package: str) -> set[str]:
    """Return the packages of lower layers that a contract forbids to a package."""
    layers = layers_of("assay")
    forbidden = {
        module.removeprefix("assay.")
        for contract in contracts()
        if f"assay.{package}" in contract.get("source_modules", [])
        for module in contract["forbidden_modules"]
    }
    return {name for name in forbidden & layers.keys() if layers[name] > layers[package]}


def tables() -> list[list[list[str]]]:
    """Return the tables of the map: rows of cells, without the header."""
    blocks = re.findall(r"(?:^\|.*\n)+", MAP.text, re.MULTILINE)
    return [
        [[cell.strip() for cell in row.strip("|").split("|")] for row in block.splitlines()[2:]]
        for block in blocks
    ]


def test_the_package_table_shows_the_layers_that_are_checked() -> None:
    packages, parts, *_ = tables()

    assert {row[1].strip("`"): int(row[0]) for row in packages} == layers_of("assay")
    assert {row[1].strip("`"): int(row[0]) for row in parts} == layers_of("assay.engine")


def test_the_package_table_shows_what_is_forbidden() -> None:
    packages, *_ = tables()
    layers = layers_of("assay")

    for number, name, _, cell in packages:
        package = name.strip("`")
        below = {other for other, layer in layers.items() if layer > int(number)}
        shown = below if cell == "all" else set(re.findall(r"`(\w+)`", cell))
        assert shown == forbidden_to(package), package


def test_every_module_that_a_page_names_exists() -> None:
    places = (ROOT, ROOT / "service", ASSAY)
    missing = [
        f"{name}: {path}"
        for name in PAGES
        for path in MODULE.findall(page(name).text)
        if not any((place / path).exists() for place in places)
    ]

    assert missing == []


def test_every_package_is_a_subject_of_its_own() -> None:
    loose = [path.name for path in ASSAY.glob("*.py") if path.name != "__init__.py"]

    assert loose == []


def test_public_class_names_are_unique() -> None:
    places: defaultdict[str, list[str]] = defaultdict(list)
    for path in modules():
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(str(path.relative_to(ASSAY)))

    assert {name: found for name, found in places.items() if len(found) > 1} == {}
