"""The generated tables of `policy/REFERENCE.md`: keys, facts, functions, reasons, CEL and limits.

Each table is between the markers `<!-- generated: NAME -->` and `<!-- end -->`. The other text
of that page is written by hand.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from assay.engine.cel.calls import OUTSIDE
from assay.engine.cel.check import check
from assay.engine.cel.faults import ExpressionFaults
from assay.engine.cel.operations import LARGEST
from assay.engine.cel.schema import DOUBLE, Function
from assay.engine.cel.tokens import LIMITS
from assay.engine.policy.fact_schema import FACTS, REQUEST, schema_for
from assay.engine.policy.functions import FUNCTIONS
from assay.engine.policy.verdict import POOL_REASONS, REQUEST_REASONS
from assay.rule_files.directory import MAX_FILES
from assay.rule_files.schemas import load_schema
from assay.rule_files.source import MAX_BYTES, MAX_DEPTH

_BLOCK: Final = re.compile(r"(<!-- generated: ([a-z ]+) -->\n).*?(<!-- end -->)", re.DOTALL)
_KEYS: Final = {
    "rule set": ("RuleSet", "properties/spec"),
    "evidence": ("RuleSet", "$defs/evidence"),
    "memory": ("RuleSet", "$defs/memory"),
    "pool": ("RuleSet", "properties/spec/properties/pool"),
    "rule": ("RuleSet", "$defs/rule"),
    "order key": ("RuleSet", "$defs/orderKey"),
    "binding": ("Bindings", "$defs/binding"),
    "test options": ("RuleSetTest", "properties/spec/properties/options"),
    "test fixtures": ("RuleSetTest", "properties/spec/properties/fixtures"),
    "test": ("RuleSetTest", "$defs/test"),
    "expected": ("RuleSetTest", "$defs/expected"),
}
_TYPES: Final = {"boolean": "bool", "integer": "int", "number": "double", "array": "list"}
_SCHEMA: Final = schema_for(REQUEST, {"limit": DOUBLE})
_ACCEPTED: Final = (
    "true && !false || has(endpoint.zdr)",
    "request.tools > 0 ? 1 : 2",
    "-1 + 2 * 3 / 4 % 5 - 0x1F",
    "endpoint.price.prompt * 2.0 / 1e3 - .5",
    """endpoint.tag + "/" + 'fp8' + r"\\d" + '''x'''""",
    "[1, 2] + [3]",
    '{"a": 1.0, "b": 2.0}',
    "[1, 2][0]",
    '{"a": 1}["a"] + {"b": 2}.b',
    'endpoint.quantization == "fp8"',
    'endpoint.price.prompt <= 1.0 && 1 < 2 && "a" < "b" && false < true',
    '[1] != [2] && {"a": 1} == {"a": 1} && null == null',
    '"tools" in endpoint.supported_parameters && "a" in {"a": 1}',
    'has(endpoint.zdr) && has({"a": 1}.a)',
    "request.parameters.all(p, p in endpoint.supported_parameters)",
    'request.parameters.exists(p, p == "seed")',
    'request.parameters.exists_one(p, p == "seed")',
    'request.parameters.filter(p, p != "seed")',
    "cohort.accuracies.map(a, 1.0 - a)",
    "cohort.accuracies.map(a, a > 0.5, 1.0 - a)",
    'size(request.parameters) + "abc".size() + size({"a": 1})',
    'endpoint.tag.startsWith("a") && endpoint.tag.endsWith("b") && endpoint.tag.contains("/")',
    'endpoint.tag.matches("^[a-z]+/fp[48]$")',
    "double(request.tools) + double(1.5)",
    "int(endpoint.price.prompt)",
    'string(1) + string(1.5) + string(true) + string("a")',
    "bool(true) // the rest of a line is a comment",
    "endpoint.matches_any(request.provider.order)",
    "greatest(endpoint.price.prompt, params.limit)",
)
_REJECTED: Final = (
    "endpoint.price.prompt > 1",
    "endpoint.price.prompt * request.tools",
    "1.5 % 1.0",
    '"a" + 1',
    "[1] < [2]",
    "request.tools ? 1 : 2",
    "1 && true",
    '[1, "a"]',
    "{1.5: 1}",
    '{"a": 1, "a": 2}',
    "endpoint.zdr == null",
    "endpoint.tools",
    "endpoint.pric.prompt",
    "endpoint.tools.calls > 0.0",
    'int("1")',
    "1u",
    'b"x"',
    "endpoint.?zdr",
    ".endpoint.id",
    "Thing{a: 1}",
    "endpoint.`id`",
    "endpoint.tag.matches(endpoint.provider)",
    'endpoint.tag.matches("(?=a)")',
    "[1].all(i, v, v > 0)",
    "cel.bind(x, 1, x)",
    "const",
    'timestamp("2026-01-01T00:00:00Z")',
)
_LIMITS: Final = {
    "bytes of an expression": LIMITS.bytes,
    "words and signs": LIMITS.tokens,
    "nodes": LIMITS.nodes,
    "brackets within brackets": LIMITS.brackets,
    "`!` or `-` before one operand": LIMITS.unary,
    "operators in a row, other than `&&` and `||`": LIMITS.chain,
    "depth": LIMITS.depth,
    "macros within macros": LIMITS.macros,
    "elements of a list or map that is written out": LIMITS.elements,
    "characters of a joined string, elements of a joined list": LARGEST,
    "KiB of a file": MAX_BYTES // 1024,
    "levels of YAML": MAX_DEPTH,
    "rule files in a directory": MAX_FILES,
}


def reference_data() -> dict[str, Any]:
    """Return facts, functions, reasons and limits as plain data."""
    return {
        "facts": [
            {
                "path": fact.path,
                "type": str(fact.type),
                "optional": fact.optional,
                "stage": fact.stage,
                "meaning": fact.meaning,
            }
            for fact in FACTS
        ],
        "functions": [
            {
                "signature": _signature(function),
                "judging_only": function.judging,
                "meaning": _first_sentence(function.implementation),
            }
            for function in FUNCTIONS
        ],
        "pool_reasons": dict(POOL_REASONS),
        "request_reasons": dict(REQUEST_REASONS),
        "limits": dict(_LIMITS),
    }


def reference_tables() -> dict[str, str]:
    """Return every generated table in Markdown, by its name."""
    data = reference_data()
    tables = {f"keys of {name}": _keys_table(*at) for name, at in _KEYS.items()}
    for root in dict.fromkeys(fact.root for fact in FACTS):
        facts = [
            (_code(fact.path), _code(str(fact.type)), fact.optional, fact.stage, fact.meaning)
            for fact in FACTS
            if fact.root == root
        ]
        header = ("fact", "type", "optional", "stage", "meaning")
        tables[f"facts of {root}"] = _table(header, facts)
    tables["functions"] = _table(
        ("function", "judging only", "meaning"),
        [
            (_code(row["signature"]), row["judging_only"], row["meaning"])
            for row in data["functions"]
        ],
    )
    for stage in ("pool", "request"):
        reasons = data[f"{stage}_reasons"].items()
        rows = [(_code(reason), meaning) for reason, meaning in reasons]
        tables[f"{stage} reasons"] = _table(("reason", "meaning"), rows)
    accepted = [(_code(text), _code(str(check(text, _SCHEMA).type))) for text in _ACCEPTED]
    tables["accepted expressions"] = _table(("example", "type"), accepted)
    rejected = [(_code(text), _code(_fault_of(text))) for text in _REJECTED]
    tables["rejected expressions"] = _table(("example", "fault"), rejected)
    tables["excluded functions"] = ", ".join(map(_code, sorted(OUTSIDE))) + "\n"
    limits = [(what, f"{most:,}".replace(",", " ")) for what, most in _LIMITS.items()]
    tables["limits"] = _table(("of", "at most"), limits)
    return tables


def update_reference(page: str) -> str:
    """Return the page with every generated table replaced by the current one.

    Raises ValueError if a table has no place on the page, or a marker names no table.
    """
    tables = reference_tables()
    marked = [match[2] for match in _BLOCK.finditer(page)]
    if sorted(marked) != sorted(tables):
        different = sorted(set(marked) ^ set(tables)) or sorted(marked)
        raise ValueError(f"tables and markers differ: {', '.join(different)}")
    return _BLOCK.sub(lambda match: f"{match[1]}{tables[match[2]]}{match[3]}", page)


def _keys_table(kind: str, path: str) -> str:
    top = load_schema(kind)
    part: Any = top
    for step in path.split("/"):
        part = part[step]
    required = part.get("required", ())
    rows = []
    for key, value in part["properties"].items():
        target = top["$defs"].get(value.get("$ref", "").rpartition("/")[2], {})
        facts = {**target, **value}
        name = _code(key) + (" (required)" if key in required else "")
        default = _code(str(facts["default"]).lower()) if "default" in facts else ""
        rows.append((name, _values(value, top), default, facts.get("description", "")))
    return _table(("key", "value", "default", "meaning"), rows)


def _values(part: Mapping[str, Any], top: Mapping[str, Any]) -> str:
    """Return the values that a part of a schema allows, in a word or two."""
    if "enum" in part:
        return ", ".join(_code(str(value)) for value in part["enum"])
    if "$ref" in part:
        name = part["$ref"].rpartition("/")[2]
        target = top["$defs"][name]
        is_named = name in {"expression", "duration", "name", "key", "time"}
        return name if is_named else _values(target, top)
    types = part.get("type", "object")
    if not isinstance(types, str):
        return "expression" if "pattern" in part else " or ".join(_TYPES.get(t, t) for t in types)
    if types == "array":
        return f"list of {_values(part['items'], top)}"
    return "mapping" if types == "object" else _TYPES.get(types, types)


def _signature(function: Function) -> str:
    names = list(inspect.signature(function.implementation).parameters)
    receiver = f"{names.pop(0)}." if function.receiver else ""
    pairs = zip(names, function.parameters, strict=True)
    parameters = ", ".join(f"{name}: {kind}" for name, kind in pairs)
    return f"{receiver}{function.name}({parameters}) -> {function.result}"


def _first_sentence(implementation: Callable[..., object]) -> str:
    return (inspect.getdoc(implementation) or "").split("\n\n")[0].replace("\n", " ")


def _fault_of(text: str) -> str:
    try:
        check(text, _SCHEMA)
    except ExpressionFaults as error:
        return error.faults[0].message
    raise ValueError(f"{text} is accepted, but is an example of what is rejected")


def _code(text: str) -> str:
    return f"`` {text} ``" if "`" in text else f"`{text}`"


def _table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = []
    for row in [header, ["---"] * len(header), *rows]:
        texts = ("yes" if cell is True else str(cell or "") for cell in row)
        cells = (text.replace("|", "\\|") for text in texts)
        lines.append(f"| {' | '.join(cells)} |\n")
    return "".join(lines)
