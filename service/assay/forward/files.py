"""Files of the operator's: YAML by a shipped JSON Schema, every fault with its place and without its value."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema_rs
import yaml

from assay.engine.errors import BadData

Path_ = Sequence[str | int]


class BadFile(BadData):
    """A file that cannot be used; one line a fault. No value is shown: any could be a key in the wrong place."""

    def __init__(self, file: Path, faults: Sequence[tuple[int, int, str]]) -> None:
        super().__init__(
            "\n".join(f"{file}:{line}:{column}: {what}" for line, column, what in faults)
        )


class Document:
    """A file read and found to have the form of its kind."""

    def __init__(self, file: Path, kind: str) -> None:
        self.file = file
        try:
            text = file.read_text(encoding="utf-8")
            self._root = yaml.compose(text, Loader=yaml.SafeLoader)
            repeated = [
                (*place(key), f"{key.value}: stands here twice") for key in repeats(self._root)
            ]
            self._refuse_if(repeated)
            self.content: Any = yaml.safe_load(text)
        except OSError as error:
            raise BadFile(file, [(1, 1, f"cannot be read: {error.strerror}")]) from None
        except UnicodeDecodeError:
            raise BadFile(file, [(1, 1, "is not UTF-8 text")]) from None
        except (yaml.MarkedYAMLError, RecursionError) as error:
            mark = getattr(error, "problem_mark", None)
            at = (mark.line + 1, mark.column + 1) if mark else (1, 1)
            raise BadFile(file, [(*at, "is not YAML")]) from None
        schema = json.loads(
            resources.files(__package__)
            .joinpath("schema", f"{kind}.schema.json")
            .read_text("utf-8")
        )
        violations = jsonschema_rs.Draft202012Validator(schema).iter_errors(self.content)
        self._refuse_if([(*self.place(v.instance_path), worded(v)) for v in violations])

    def place(self, path: Path_) -> tuple[int, int]:
        """Line and column of a value."""
        node = self._root
        for step in path:
            if isinstance(node, yaml.MappingNode):
                node = next((value for key, value in node.value if key.value == step), node)
            elif isinstance(node, yaml.SequenceNode) and isinstance(step, int):
                node = node.value[step]
        return place(node)

    def refuse(self, faults: Sequence[tuple[Path_, str]]) -> None:
        """Raise BadFile for faults found in the content, if any."""
        self._refuse_if([(*self.place(path), f"{dotted(path)}: {what}") for path, what in faults])

    def _refuse_if(self, faults: Sequence[tuple[int, int, str]]) -> None:
        if faults:
            raise BadFile(self.file, faults)


def place(node: yaml.Node | None) -> tuple[int, int]:
    """Line and column, from 1."""
    return (node.start_mark.line + 1, node.start_mark.column + 1) if node else (1, 1)


def repeats(node: yaml.Node | None) -> Iterator[yaml.Node]:
    """Keys that occurred before in the same mapping."""
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if str(key.value) in seen:
                yield key
            seen.add(str(key.value))
            yield from repeats(value)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            yield from repeats(item)


def worded(violation: jsonschema_rs.ValidationError) -> str:
    """What a violation means, in words that hold nothing of the file but names."""
    facts = violation.kind.as_dict()
    match violation.kind.name:
        case "required":
            what = f"{facts['property']} is missing"
        case "additionalProperties":
            what = f"{', '.join(facts['unexpected'])} is not known here"
        case "type":
            what = f"is not of type {' or '.join(facts['types'])}"
        case "const":
            what = f"is not {facts['expected_value']}"
        case word:
            what = f"is not as the schema asks ({word}: {facts.get(word, facts.get('limit', 'see there'))})"
    return f"{dotted(violation.instance_path)}: {what}"


def dotted(path: Path_) -> str:
    """A path for people."""
    return ".".join(map(str, path)) or "the file"
