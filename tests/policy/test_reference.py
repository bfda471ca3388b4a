"""The tables of `policy/REFERENCE.md` match those that the code generates."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.support.commands import assay

from assay.engine.cel.calls import OUTSIDE
from assay.engine.evidence.decay import EvidenceSpec
from assay.engine.policy.fact_schema import FACTS
from assay.engine.policy.functions import FUNCTIONS
from assay.engine.policy.rule_set import MemorySpec
from assay.engine.policy.verdict import POOL_REASONS, REQUEST_REASONS
from assay.rule_files.compile import compile_source
from assay.rule_files.directory import read_directory
from assay.rule_files.reference import reference_tables, update_reference
from assay.rule_files.schemas import load_schema
from assay.server.settings import policy_dir

PAGE = policy_dir() / "REFERENCE.md"
TEXT = PAGE.read_text(encoding="utf-8")
UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def test_the_page_is_up_to_date() -> None:
    assert update_reference(TEXT) == TEXT, "run `make reference`"


def test_every_fact_function_and_reason_is_on_the_page() -> None:
    names = [*(fact.path for fact in FACTS), *POOL_REASONS, *REQUEST_REASONS, *OUTSIDE]
    assert [name for name in names if f"`{name}`" not in TEXT] == []
    assert [f.name for f in FUNCTIONS if not re.search(rf"`\S*\b{f.name}\(", TEXT)] == []


def test_every_key_has_a_description() -> None:
    tables = [t for name, t in reference_tables().items() if name.startswith("keys of ")]
    assert [row for table in tables for row in table.splitlines() if row.endswith("|  |")] == []


def test_every_shipped_reason_belongs_to_its_stage() -> None:
    for rule_set in compile_source(read_directory(policy_dir())).rule_sets.values():
        pool = (*(rule_set.enter or ()), *rule_set.stay)
        assert {rule.rule.reason for rule in pool} <= POOL_REASONS.keys()
        assert {rule.rule.reason for rule in rule_set.request} <= REQUEST_REASONS.keys()


@pytest.mark.parametrize(
    ("block", "spec"), [("evidence", EvidenceSpec()), ("memory", MemorySpec())]
)
def test_the_documented_defaults_apply(block: str, spec: EvidenceSpec | MemorySpec) -> None:
    for key, value in load_schema("RuleSet")["$defs"][block]["properties"].items():
        name = re.sub(r"([A-Z])", lambda match: f"_{match[1].lower()}", key)
        assert parsed(value.get("default")) == getattr(spec, name)


def parsed(default: Any) -> Any:
    if not isinstance(default, str):
        return default
    return timedelta(**{UNITS[default[-1]]: int(default[:-1])})


def test_a_table_without_markers_is_reported() -> None:
    with pytest.raises(ValueError, match="tables and markers differ: limits"):
        update_reference(TEXT.replace("<!-- generated: limits -->", ""))
    with pytest.raises(ValueError, match="tables and markers differ: jokes"):
        update_reference(f"{TEXT}<!-- generated: jokes -->\n<!-- end -->\n")


def test_the_command_prints_the_tables_and_updates_a_page(tmp_path: Path) -> None:
    shown = assay("policy", "reference")
    assert shown.code == 0
    assert reference_tables()["functions"] in shown.out
    data = assay("policy", "reference", "--json").json
    assert [fact["path"] for fact in data["facts"]] == [fact.path for fact in FACTS]
    page = tmp_path / "REFERENCE.md"
    page.write_text(re.sub(r"^\| .*\n", "", TEXT, flags=re.MULTILINE), encoding="utf-8")
    assert assay("policy", "reference", "--update", page).code == 0
    assert update_reference(page.read_text(encoding="utf-8")) == page.read_text(encoding="utf-8")
