"""Rule files to rule sets and bindings: all of them, or all their faults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Final

from assay.engine.policy.faults import Fault, PolicyFaults
from assay.engine.policy.rule_set import Binding, Place, RuleSet
from assay.rule_files.bindings import bindings
from assay.rule_files.links import check_links
from assay.rule_files.nodes import Table
from assay.rule_files.rules import rule_set
from assay.rule_files.schemas import check_form, check_kind
from assay.rule_files.source import read_source

BINDINGS: Final = "bindings.yaml"


@dataclass
class _Reading:
    """What has been read of the files so far."""

    faults: list[Fault] = field(default_factory=list)
    rule_sets: dict[str, tuple[RuleSet, Table]] = field(default_factory=dict)
    bindings: list[tuple[Binding, Table]] = field(default_factory=list)
    names: dict[str, str] = field(default_factory=dict)


def read_policy(files: Mapping[str, str]) -> tuple[tuple[RuleSet, ...], tuple[Binding, ...]]:
    """The rule sets by file name, the bindings in their order; raises PolicyFaults with every fault of every file."""
    reading = _Reading()
    for file in sorted(files):
        _read_file(file, files[file], reading)
    if BINDINGS not in files:
        message = "there is no bindings.yaml, which says what rule set applies when"
        reading.faults.append(Fault(Place(BINDINGS, 1, 1), message))
    reading.faults.extend(check_links(reading.rule_sets, reading.bindings, reading.names))
    if reading.faults:
        raise PolicyFaults(reading.faults)
    return tuple(read for read, _ in reading.rule_sets.values()), tuple(
        read for read, _ in reading.bindings
    )


def _read_file(file: str, text: str, reading: _Reading) -> None:
    """One file into the reading; a rule set's name is known even where its file cannot be read."""
    kind = "Bindings" if file == BINDINGS else "RuleSet"
    root = read_form(file, text, kind, reading.faults)
    if kind == "Bindings":
        if root:
            reading.bindings.extend(bindings(root, reading.faults))
        return
    name = PurePosixPath(file).stem
    if name in reading.names:
        message = f"the rule set `{name}` stands in {reading.names[name]} already"
        reading.faults.append(Fault(Place(file, 1, 1), message))
        return
    reading.names[name] = file
    if root:
        reading.rule_sets[name] = (rule_set(root, file, reading.faults), root)


def read_form(file: str, text: str, kind: str, faults: list[Fault]) -> Table | None:
    """A file's nodes, checked for form; `None` where it is not even of that kind."""
    root, found = read_source(file, text)
    faults.extend(found)
    if root is None:
        return None
    wrong = check_kind(root, [kind])
    if wrong is not None:
        faults.append(_misplaced(wrong, root, file))
        return None
    faults.extend(check_form(root, kind, found))
    return root if isinstance(root, Table) else None


def _misplaced(wrong: Fault, root: object, file: str) -> Fault:
    """Bindings under another name are told where they belong."""
    if isinstance(root, Table) and root.maybe_text("kind") == "Bindings":
        return Fault(
            wrong.place, f"bindings stand in one file, {BINDINGS} at the top, not in {file}"
        )
    return wrong
