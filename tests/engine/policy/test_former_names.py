"""Stored rule files and snapshots may use former fact names; new rule files may not."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.support.worlds import MODEL, OTHER, make_moment, make_request, mixed_snapshot, policy

from assay.engine.canonical import address, canonical
from assay.engine.decide.plan import plan
from assay.engine.policy.fact_schema import FACTS, FORMER_NAMES
from assay.engine.policy.faults import PolicyFaults
from assay.engine.policy.rule_set import PolicySource
from assay.engine.snapshot.snapshot import (
    Snapshot,
    read_manifest,
    read_policy_source,
    restore_snapshot,
)
from assay.rule_files.compile import compile_source, compile_stored

RULE = "pool:\n  enter:\n    - {{name: seen, reason: EVIDENCE_THIN, expression: '{}'}}"
EXPRESSIONS = ("{} > 1.0", "has({})", "[1.0, 2.0].exists(x, x > {})", "size(fixed({}, 1)) > 0")


def former_text(text: str) -> str:
    """Give facts the names they had, in a rule file or in a part of a snapshot."""
    for old, new in sorted(FORMER_NAMES.items(), key=lambda names: -len(names[1])):
        text = text.replace(new, old).replace(f'"{key(new)}"', f'"{key(old)}"')
    return text


def key(path: str) -> str:
    return path.partition(".")[2]


def former_snapshot() -> Snapshot:
    """Write a snapshot as the version before the renaming did: parts, manifest and all."""
    snapshot = mixed_snapshot()
    renamed: dict[str, str] = {}
    parts: dict[str, bytes] = {}
    for name, part in snapshot.parts.items():
        data = former_text(part.decode()).encode()
        renamed[name] = address(data)
        parts[address(data)] = data
    manifest = snapshot.manifest.decode()
    for name, former in renamed.items():
        manifest = manifest.replace(name, former)
    source, _ = read_policy_source(manifest.encode(), parts)
    return restore_snapshot(manifest.encode(), parts, compile_stored(source))


RENAMED = [(text, old, new) for text in EXPRESSIONS for old, new in FORMER_NAMES.items()]


@pytest.mark.parametrize(("expression", "old", "new"), RENAMED)
def test_a_rule_file_with_a_former_name_is_rejected_with_the_new_name(
    expression: str, old: str, new: str
) -> None:
    text = expression.format(old)
    with pytest.raises(PolicyFaults) as raised:
        policy(strict="extends: default\n" + RULE.format(text))
    (fault,) = raised.value.faults
    line = "    - {name: seen, reason: EVIDENCE_THIN, expression: '"
    assert str(fault) == (f"strict.yaml:8:{fault.place.column}: {old} was renamed: write {new}")
    assert fault.place.column == len(f"  {line}") + text.index(old) + 1


@pytest.mark.parametrize(("expression", "old", "new"), RENAMED)
def test_a_stored_rule_file_reads_a_fact_by_its_former_name(
    expression: str, old: str, new: str
) -> None:
    made = policy(strict="extends: default\n" + RULE.format(expression.format(new)))
    stored = PolicySource({name: former_text(text) for name, text in made.source.files.items()})
    enter = compile_stored(stored).rule_sets["strict"].enter
    assert enter is not None
    assert [rule.reads for rule in enter] == [frozenset({new})]
    with pytest.raises(PolicyFaults, match=old):
        compile_source(stored)


def test_facts_with_a_former_name_exist_under_the_new_name_only() -> None:
    paths = {fact.path for fact in FACTS}
    assert set(FORMER_NAMES.values()) <= paths
    assert not FORMER_NAMES.keys() & paths


def test_a_snapshot_with_former_names_plans_the_same_bytes() -> None:
    snapshot, former = mixed_snapshot(), former_snapshot()
    assert read_manifest(former.manifest).models != read_manifest(snapshot.manifest).models
    assert former.policy.digest != snapshot.policy.digest
    for request in (
        make_request(f"{MODEL}:exacto", tools=2),
        make_request(f"{MODEL}:exacto:nitro", OTHER, tools=2, partition="none"),
        make_request(MODEL, tools=1),
    ):
        answer, former_answer = (plan(request, each, make_moment()) for each in (snapshot, former))
        assert (
            replace(former_answer, snapshot_id=answer.snapshot_id).canonical() == answer.canonical()
        )


def test_a_snapshot_with_former_names_shows_facts_by_their_current_names() -> None:
    (stored,), (judged,) = (
        each.models[MODEL].rows.values() for each in (former_snapshot(), mixed_snapshot())
    )
    assert [canonical(row) for row in stored] == [canonical(row) for row in judged]
