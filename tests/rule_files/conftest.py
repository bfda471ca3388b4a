"""Fixtures shared by the tests of rule files: policies and test suites."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import pytest

from assay.engine.policy.faults import PolicyFaults
from assay.rule_files.cases import Case, read_cases
from assay.rule_files.read import read_policy

HEAD = "apiVersion: assay/v1\nkind: {}\nmetadata: {{name: {}}}\nspec:\n"
DEFAULT = "  - {name: default, ruleSet: strict}\n"


class Policy(Protocol):
    """Texts of a policy of two or more files, each given by its `spec`."""

    def __call__(
        self, strict: str = "", bindings: str = DEFAULT, **more: str
    ) -> dict[str, str]: ...


@pytest.fixture(scope="session")
def policy() -> Policy:
    """Make the texts of a policy."""

    def make(strict: str = "", bindings: str = DEFAULT, **more: str) -> dict[str, str]:
        sets = {"strict": strict or "  {}\n", **more}
        files = {f"{name}.yaml": HEAD.format("RuleSet", name) + text for name, text in sets.items()}
        return {**files, "bindings.yaml": HEAD.format("Bindings", "bindings") + bindings}

    return make


@pytest.fixture(scope="session")
def faults() -> Callable[[dict[str, str]], list[str]]:
    """Read a policy and list its faults."""

    def read(files: dict[str, str]) -> list[str]:
        try:
            read_policy(files)
        except PolicyFaults as error:
            return [str(fault) for fault in error.faults]
        return []

    return read


@pytest.fixture(scope="session")
def suite() -> str:
    """The text of a suite that uses every part of the form."""
    return (Path(__file__).parent / "fixtures" / "pool_test.yaml").read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def cases(suite: str) -> dict[str, Case]:
    """The cases of the suite."""
    return {case.name: case for case in read_cases({"pool_test.yaml": suite})}
