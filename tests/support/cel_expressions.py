"""Random typed expressions and data for the differential tests, with many edge cases."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from random import Random

from assay.engine.cel.schema import (
    BOOL,
    DOUBLE,
    INT,
    STRING,
    Fact,
    Function,
    Schema,
    Type,
    list_of,
    map_of,
    record,
)

INTS, DOUBLES, STRINGS = list_of(INT), list_of(DOUBLE), list_of(STRING)
SCORES = map_of(STRING, DOUBLE)

ENDPOINT: Mapping[str, Type] = {
    "accuracy": DOUBLE,
    "tools.tool_call_requests": DOUBLE,
    "tools.errored_requests": DOUBLE,
    "context": INT,
    "rank": INT,
    "provider": STRING,
    "from": STRING,
    "stable": BOOL,
    "tools.strict": BOOL,
    "features": STRINGS,
    "sizes": INTS,
    "prices": DOUBLES,
    "scores": SCORES,
}
REQUEST: Mapping[str, Type] = {
    "tools": INT,
    "budget": DOUBLE,
    "provider.ignore": STRINGS,
    "stream": BOOL,
    "user": STRING,
}


def _half(value: float) -> float:
    if value < 0:
        raise ValueError(f"half of a negative number: {value}")
    return value / 2


def _calls_exceed(endpoint: Mapping[str, float], floor: float) -> bool:
    return endpoint["tools.tool_call_requests"] > floor


FUNCTIONS = (
    Function("half", (DOUBLE,), DOUBLE, _half),
    Function("calls_exceed", (DOUBLE,), BOOL, _calls_exceed, receiver=record("endpoint")),
)
SCHEMA = Schema(
    roots={
        "endpoint": {key: Fact(type_, optional=True) for key, type_ in ENDPOINT.items()},
        "request": {key: Fact(type_, optional=True) for key, type_ in REQUEST.items()},
    },
    functions=FUNCTIONS,
)

_INTS = (0, 1, 1, 2, 2, 3, 3, 5, 7, -7, 10, 12, 40, 4096, -1, 2**63 - 1, -(2**63), 2**62)
_DOUBLES = (0.0, -0.0, 1.0, -1.0, 0.5, 0.95, 1e300, -2.5, 3.0, 1e-7, 123456.789, 9.3e18, 0.1 + 0.2)
_STRINGS = ("", "a", "b", "ab", "deepinfra", "é", "😀x", "a\nb", 'q"\\', "baseten")
_PATTERNS = ("^a", "b$", "[a-z]+", "a|b", "", "x*", "é", "^.{1,3}$")
_SCALARS = (BOOL, INT, DOUBLE, STRING)


def quote(value: str) -> str:
    """Write a string as CEL."""
    escapes = {"\n": "\\n", '"': '\\"', "\\": "\\\\"}
    return '"' + "".join(escapes.get(c, c) for c in value) + '"'


class Generator:
    """Generates expressions of a type; `portable` avoids errors of cel-python."""

    def __init__(self, random: Random, *, portable: bool = False, functions: bool = False) -> None:
        self.random, self.portable, self.functions = random, portable, functions
        self.scope: list[tuple[str, Type]] = []
        self.variables: dict[str, Type] = {}

    def expression(self, type_: Type, fuel: int = 4) -> str:
        """Give one expression."""
        if fuel <= 0 or self.random.random() < 0.12:
            return self._leaf(type_)
        makers: dict[Type, Callable[[int], str]] = {
            BOOL: self._bool,
            INT: self._int,
            DOUBLE: self._double,
            STRING: self._string,
        }
        maker = makers.get(type_)
        if self.random.random() < 0.08:
            parts = (self.expression(t, fuel - 1) for t in (BOOL, type_, type_))
            return "({} ? {} : {})".format(*parts)
        return maker(fuel - 1) if maker else self._container(type_, fuel - 1)

    def any_type(self) -> Type:
        """Pick what an expression is to come to, bools most of all."""
        return self.random.choice((BOOL, BOOL, BOOL, INT, DOUBLE, STRING, INTS, STRINGS, DOUBLES))

    def _leaf(self, type_: Type) -> str:
        facts = [
            f"{root}.{k}"
            for root, f in (("endpoint", ENDPOINT), ("request", REQUEST))
            for k in f
            if f[k] == type_
        ]
        names = [name for name, t in dict(self.scope).items() if t == type_] * 3
        names += [f"variables.{name}" for name, t in self.variables.items() if t == type_]
        if facts + names and self.random.random() < 0.7:
            return self.random.choice(facts + names)
        return self._literal(type_)

    def _literal(self, type_: Type) -> str:
        pick = self.random.choice
        if type_ == BOOL:
            return pick(("true", "false"))
        if type_ == INT:
            return str(pick(_INTS))
        if type_ == DOUBLE:
            return repr(pick(_DOUBLES))
        if type_ == STRING:
            return quote(pick(_STRINGS))
        count = self.random.randrange(
            1, 4
        )  # what is in an empty literal has no type of its own to calculate with
        if type_.name == "list":
            return f"[{', '.join(self._literal(type_.parameters[0]) for _ in range(count))}]"
        keys = self.random.sample(("x", "y", "z"), count)
        return "{" + ", ".join(f'"{k}": {self._literal(type_.parameters[1])}' for k in keys) + "}"

    def _bool(self, fuel: int) -> str:
        rules = [
            self._logic,
            self._logic,
            self._logic,
            self._compare,
            self._compare,
            self._compare,
            self._negation,
        ]
        rules += [self._in, self._has, self._macro, self._text_test, self._equal_containers]
        if self.functions:
            rules.append(lambda fuel: f"endpoint.calls_exceed({self.expression(DOUBLE, fuel)})")
        return self.random.choice(rules)(fuel)

    def _logic(self, fuel: int) -> str:
        symbol = self.random.choice(("&&", "||"))
        parts = [self.expression(BOOL, fuel) for _ in range(self.random.choice((2, 2, 3)))]
        return f"({f' {symbol} '.join(parts)})"

    def _negation(self, fuel: int) -> str:
        return f"!({self.expression(BOOL, fuel)})"

    def _compare(self, fuel: int) -> str:
        type_ = self.random.choice(_SCALARS)
        symbol = self.random.choice(("==", "!=", "<", "<=", ">", ">="))
        return f"({self.expression(type_, fuel)} {symbol} {self.expression(type_, fuel)})"

    def _equal_containers(self, fuel: int) -> str:
        type_ = self.random.choice((INTS, DOUBLES, STRINGS, SCORES))
        symbol = self.random.choice(("==", "!="))
        empty = "{}" if type_ == SCORES else "[]"
        right = empty if self.random.random() < 0.2 else self.expression(type_, fuel)
        return f"({self.expression(type_, fuel)} {symbol} {right})"

    def _in(self, fuel: int) -> str:
        container = self.random.choice((INTS, DOUBLES, STRINGS, SCORES))
        element = self.expression(container.parameters[0], fuel)
        return f"({element} in {self.expression(container, fuel)})"

    def _has(self, fuel: int) -> str:
        del fuel  # nothing grows below has
        root, facts = self.random.choice((("endpoint", ENDPOINT), ("request", REQUEST)))
        return f"has({root}.{self.random.choice(list(facts))})"

    def _text_test(self, fuel: int) -> str:
        text = (
            self._leaf(STRING) if self.portable else self.expression(STRING, fuel)
        )  # see test_differential
        if self.random.random() < 0.2:
            return f"{text}.matches({quote(self.random.choice(_PATTERNS))})"
        method = self.random.choice(("startsWith", "endsWith", "contains"))
        return f"{text}.{method}({self.expression(STRING, fuel)})"

    def _macro(self, fuel: int) -> str:
        kind = self.random.choice(("all", "exists", "exists_one"))
        container = self.random.choice((INTS, DOUBLES, STRINGS, SCORES))
        return self._over(kind, container, fuel, BOOL)

    def _over(self, kind: str, container: Type, fuel: int, *bodies: Type) -> str:
        if len(self.scope) == 2:
            return (
                self._leaf(bodies[-1])
                if bodies == (BOOL,) and kind not in {"filter", "map"}
                else self._leaf(container)
            )
        elements = self.expression(container, fuel)
        name = self.random.choice(("x", "y", "from", "e"))
        self.scope.append((name, container.parameters[0]))
        written = ", ".join(self.expression(body, fuel) for body in bodies)
        self.scope.pop()
        return f"{elements}.{kind}({name}, {written})"

    def _int(self, fuel: int) -> str:
        rule = self.random.randrange(8)
        if rule < 4:
            symbol = self.random.choice("+-*/%")
            return f"({self.expression(INT, fuel)} {symbol} {self.expression(INT, fuel)})"
        if rule == 4:
            return f"(-{self._leaf_of_sign(INT)})"
        if rule == 5 and not self.portable:
            return f"int({self.expression(DOUBLE, fuel)})"
        if rule == 6:
            index = self.random.choice(("0", "0", "1", "1" if self.portable else "request.tools"))
            return f"{self.expression(INTS, fuel)}[{index}]"
        return f"size({self.expression(self.random.choice((STRING, INTS, STRINGS, SCORES)), fuel)})"

    def _leaf_of_sign(self, type_: Type) -> str:
        return f"({self._leaf(type_)})"

    def _double(self, fuel: int) -> str:
        rule = self.random.randrange(9 if self.functions else 8)
        if rule < 4:
            symbol = self.random.choice("+-*" if self.portable else "+-*/")
            return f"({self.expression(DOUBLE, fuel)} {symbol} {self.expression(DOUBLE, fuel)})"
        if rule == 4:
            return f"(-{self._leaf_of_sign(DOUBLE)})"
        if rule == 5:
            return f"double({self.expression(INT, fuel)})"
        if rule == 6:
            return f"{self.expression(SCORES, fuel)}[{quote(self.random.choice('xyz'))}]"
        if rule == 7:
            return f"endpoint.scores.{self.random.choice('xyz')}"
        return f"half({self.expression(DOUBLE, fuel)})"

    def _string(self, fuel: int) -> str:
        rule = self.random.randrange(4)
        if rule == 0 and not self.portable:
            return self._converted(self.random.choice(_SCALARS), fuel)
        if rule == 1:
            return f"{self.expression(STRINGS, fuel)}[{self.random.choice((0, 0, 1))}]"
        return f"({self.expression(STRING, fuel)} + {self.expression(STRING, fuel)})"

    def _converted(self, type_: Type, fuel: int) -> str:
        if type_ != DOUBLE:
            return f"string({self.expression(type_, fuel)})"
        value = self._leaf(DOUBLE)
        # C++ prints nan or -nan, depending on the processor
        return f"string({value} == {value} ? {value} : 0.0)"

    def _container(self, type_: Type, fuel: int) -> str:
        if type_.name == "map":
            return self._leaf(type_)
        rule = self.random.randrange(5)
        if rule == 0:
            return f"({self.expression(type_, fuel)} + {self.expression(type_, fuel)})"
        if rule == 1:
            return self._over("filter", type_, fuel, BOOL)
        if rule == 2:
            return self._mapped(type_, fuel)
        items = (
            self.expression(type_.parameters[0], fuel - 1)
            for _ in range(self.random.randrange(1, 4))
        )
        return f"[{', '.join(items)}]"

    def _mapped(self, type_: Type, fuel: int) -> str:
        source = self.random.choice((INTS, STRINGS, DOUBLES))
        if len(self.scope) == 2:
            return self._leaf(type_)
        filtered = not self.portable and self.random.random() < 0.3
        bodies = (BOOL, type_.parameters[0]) if filtered else (type_.parameters[0],)
        return self._over("map", source, fuel, *bodies)


def value_of(random: Random, type_: Type) -> object:
    """Give a value of a type, as facts hold it."""
    if type_ == BOOL:
        return random.random() < 0.5
    if type_ == INT:
        return random.choice(_INTS)
    if type_ == DOUBLE:
        return random.choice((*_DOUBLES, math.nan, math.inf, -math.inf))
    if type_ == STRING:
        return random.choice(_STRINGS)
    if type_.name == "list":
        return tuple(value_of(random, type_.parameters[0]) for _ in range(random.randrange(4)))
    return {key: value_of(random, DOUBLE) for key in random.sample("xyz", random.randrange(4))}


def facts(random: Random, missing: float = 0.06) -> dict[str, dict[str, object]]:
    """Give both roots as flat mappings, each fact missing with the given probability."""
    roots = (("endpoint", ENDPOINT), ("request", REQUEST))
    return {
        root: {
            key: value_of(random, type_)
            for key, type_ in declared.items()
            if random.random() >= missing
        }
        for root, declared in roots
    }


def nested(roots: Mapping[str, Mapping[str, object]]) -> dict[str, dict[str, object]]:
    """Give the same facts as other engines want them: groups as maps, always there."""
    result: dict[str, dict[str, object]] = {"endpoint": {"tools": {}}, "request": {"provider": {}}}
    for root, flat in roots.items():
        for path, value in flat.items():
            *groups, key = path.split(".")
            place = result[root]
            for group in groups:
                inner = place[group]
                assert isinstance(inner, dict)
                place = inner
            place[key] = list(value) if isinstance(value, tuple) else value
    return result
