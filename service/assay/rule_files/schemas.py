"""Check a file against its JSON schema, and describe every violation at its place."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from importlib import resources
from itertools import islice
from typing import Any, Final

import jsonschema_rs

from assay.engine.policy.faults import Fault
from assay.engine.policy.rule_set import Place
from assay.engine.world.catalog import Endpoint, Model
from assay.engine.world.declarations import declared_fields
from assay.rule_files.nodes import Listing, Node, Scalar, Table, find, plain

KINDS: Final = {"RuleSet": "ruleset", "Bindings": "bindings", "RuleSetTest": "ruleset_test"}
_MAX_VIOLATIONS: Final = 200
_LONGEST_WORD: Final = 60  # no known word is longer, and suggestions for long words take long
_TYPES: Final = {
    "boolean": "true or false", "integer": "a whole number", "number": "a number", "string": "text",
    "array": "a list", "object": "a mapping", "null": "nothing",
}  # fmt: skip

_SCHEMA_OF: Final[Mapping[type, dict[str, str]]] = {
    bool: {"type": "boolean"}, int: {"$ref": "#/$defs/count"}, float: {"$ref": "#/$defs/amount"},
    str: {"$ref": "#/$defs/text"}, tuple: {"$ref": "#/$defs/texts"},
}  # fmt: skip

Schema = dict[str, Any]  # a JSON document for the validator
Violation = jsonschema_rs.ValidationError


@cache
def load_schema(kind: str) -> Schema:
    """Return the shipped JSON Schema of a kind of file.

    A declared field that the shipped file does not describe gets the schema of its type.
    """
    name = f"{KINDS[kind]}.schema.json"
    text = resources.files(__package__).joinpath("schema", name).read_text(encoding="utf-8")
    loaded: Schema = json.loads(text)
    if kind == "RuleSetTest":
        _describe(Endpoint, loaded["$defs"]["endpoint"]["properties"])
        _describe(Model, loaded["$defs"]["model"]["properties"])
    return loaded


def _describe(owner: type, properties: dict[str, Any]) -> None:
    for item in declared_fields(owner):
        if "." not in item.path and item.path != "endpoint_id":
            stated = {**_SCHEMA_OF[item.kind], "description": item.spellings.description}
            properties.setdefault(item.path, stated)


@cache
def _validator(kind: str) -> jsonschema_rs.Draft202012Validator:
    return jsonschema_rs.Draft202012Validator(load_schema(kind))


def check_kind(root: Node, allowed: Sequence[str]) -> Fault | None:
    """Return the fault of a document that is not of an allowed kind."""
    if not isinstance(root, Table):
        expected = "expected a mapping with apiVersion, kind, metadata and spec"
        return Fault(root.place, f"{expected}, found {describe_node(root)}")
    kind = root.get("kind")
    if kind is None:
        return Fault(root.place, f"key `kind` is missing, one of {', '.join(allowed)}")
    if isinstance(kind, Scalar) and kind.value in allowed:
        return None
    if isinstance(kind, Scalar) and kind.value == "RuleSetTest":
        return Fault(kind.place, "a RuleSetTest belongs in a file whose name ends in _test.yaml")
    found = f"found {describe_node(kind)}{_suggest_word(kind, allowed)}"
    return Fault(kind.place, f"kind: expected {' or '.join(allowed)}, {found}")


def check_form(root: Node, kind: str, faults: Iterable[Fault] = ()) -> list[Fault]:
    """Return every violation of the kind's schema, except where a fault is known already."""
    known = {fault.place for fault in faults}
    violations = islice(_validator(kind).iter_errors(plain(root)), _MAX_VIOLATIONS)
    top = load_schema(kind)
    found = (fault for violation in violations for fault in _worded(violation, root, top))
    return [fault for fault in islice(found, _MAX_VIOLATIONS) if fault.place not in known]


def _worded(violation: Violation, root: Node, top: Schema) -> Iterator[Fault]:
    """Yield the faults of a violation: unknown keys at the key, others at the value."""
    node = find(root, violation.instance_path)
    part: Any = top
    for step in violation.schema_path[:-1]:
        part = part[step]
    rule: Schema = part if isinstance(part, dict) else {}
    word, facts = violation.kind.name, violation.kind.as_dict()
    pattern = rule.get("patternErrorMessage")
    if word == "additionalProperties" and isinstance(node, Table):
        for key in facts["unexpected"]:
            unknown = unknown_word_message("key", key, rule.get("properties", {}))
            message = f"{pattern}, found `{key[:60]}`" if pattern else unknown
            yield Fault(node.place_of_key(key), message)
        return
    found = describe_node(node)
    if word == "pattern" and pattern:
        message = f"{pattern}, found {found}"
    elif word == "not" and "errorMessage" in rule:
        message = f"{rule['errorMessage']}, found {found}"
    elif word in MESSAGES:
        message = MESSAGES[word](facts, node)
    else:
        message = f"{found} is not allowed here ({word})"
    yield Fault(node.place, message)


def _wrong_type(facts: Mapping[str, Any], node: Node) -> str:
    expected = " or ".join(_TYPES[name] for name in facts["types"])
    hint = ""
    if facts["types"] == ["string"] and isinstance(node, Scalar) and node.text:
        hint = f'; in quotes it is text: "{node.text[:40]}"'
    return f"expected {expected}, found {describe_node(node)}{hint}"


def _not_listed(facts: Mapping[str, Any], node: Node) -> str:
    words = [str(option) for option in facts["options"]]
    choices = _list_choices(words)
    return f"expected {choices}, found {describe_node(node)}{_suggest_word(node, words)}"


def _bounded(words: str) -> Callable[[Mapping[str, Any], Node], str]:
    return lambda facts, node: f"must be {words} {facts['limit']}, found {describe_node(node)}"


MESSAGES: Final[dict[str, Callable[[Mapping[str, Any], Node], str]]] = {
    "type": _wrong_type,
    "enum": _not_listed,
    "const": lambda facts, node: f"expected {facts['expected_value']}, found {describe_node(node)}",
    "required": lambda facts, _: f"key `{facts['property']}` is missing",
    "minimum": _bounded("at least"),
    "exclusiveMinimum": _bounded("above"),
    "maximum": _bounded("at most"),
    "minItems": lambda *_: "the list must not be empty",
    "maxItems": lambda facts, _: f"the list must have at most {facts['limit']} items",
    "uniqueItems": lambda *_: "the list names something twice",
    "minLength": lambda *_: "the text must not be empty",
    "maxLength": lambda facts, _: f"the text must have at most {facts['limit']} characters",
    "minProperties": lambda *_: "the mapping must not be empty",
}


def describe_node(node: Node) -> str:
    """Return a value as messages show it."""
    match node:
        case Table():
            return "a mapping"
        case Listing():
            return "a list"
        case Scalar(value=None):
            return "nothing"
        case Scalar(value=str(text)):
            cut = text if len(text) <= 60 else f"{text[:59]}…"  # noqa: PLR2004 - a line
            return f"`{cut}`".replace("\n", "⏎")
        case Scalar(text=text, value=bool()):
            return text
    return f"the number {node.text[:40]}"


def unknown_word_message(what: str, word: str, known: Iterable[str]) -> str:
    """Return the message for an unknown word."""
    words = list(known)
    close = _suggest_word(Scalar(Place("", 0, 0), word, word, None), words)
    expected = f", expected {_list_choices(words)}"
    return f"unknown {what} `{word[:60]}`{close or expected}"


def _list_choices(words: Sequence[str]) -> str:
    """Return a choice of words as text."""
    return words[0] if len(words) == 1 else f"one of {', '.join(words)}" if words else "none here"


def _suggest_word(node: Node, words: Iterable[str]) -> str:
    """Return a suggestion for a misspelt word, or nothing."""
    value = node.value if isinstance(node, Scalar) else None
    if not isinstance(value, str) or len(value) > _LONGEST_WORD:
        return ""
    by_small = {word.lower(): word for word in words}
    close = difflib.get_close_matches(value.lower(), by_small, n=1)
    return f", did you mean `{by_small[close[0]]}`?" if close else ""
