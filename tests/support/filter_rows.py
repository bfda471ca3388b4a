"""Random filters and decision rows: hostile names, extreme integers and times."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

from sqlalchemy import Engine, LargeBinary, insert

from assay.decision_log.decision_row import ROW_COLUMNS, WORD_KINDS, DerivedDecision
from assay.decision_log.filter import Filter
from assay.decision_log.filter_sql import FIELDS, ROOT, TENANT, TIME, WORD_LIST
from assay.decision_log.tables import decision, finding_set_word
from assay.engine.cel.exact_evaluator import evaluate
from assay.engine.cel.schema import BOOL, INT, STRING, Type
from assay.engine.world.clock import EPOCH
from assay.store.tables import tenant_pseudonym
from assay.store.types import MICROSECOND

TABLES = (decision, finding_set_word, tenant_pseudonym)
NAMES = (
    "",
    "",
    "a",
    "A",
    "b",
    "ab",
    "aB",
    "abc",
    "%",
    "_",
    "a%",
    "a_b",
    "a\\",
    "\\",
    "'",
    '"',
    "a'b",
    "--",
    "é",
    "e\u0301",
    "\ud7ff",
    "\ue000",
    "\uffff",
    "😀",
    "😀x",
    "a😀",
    "\U0010ffff",
    "a\U0010ffff",
    "a\U0010ffffb",
    "ß",
    "ss",
    "İ",
    "ÿ",
    "Z",
    "deepinfra",
    "DeepInfra",
    "a\nb",
    "x" * 300,
)
TENANTS = {
    "p1": "acme",
    "p2": "acme",
    "p3": "ACME",
    "p4": "a",
    "p5": "😀",
    "p6": "z'--",
    "p7": "p1",
}
PSEUDONYMS = ("", "erased", *TENANTS)
SMALL = (0, 1, 2, 3, 7, 2**31 - 1)
LARGE = (*SMALL, 2**31, 2**32, 10**15, 2**63 - 1)
EDGES = (*LARGE, -1, -(2**31) - 1, -(2**63))
INSTANTS = (
    datetime.min.replace(tzinfo=UTC),
    datetime.max.replace(tzinfo=UTC),
    EPOCH,
    EPOCH - MICROSECOND,
    datetime(2026, 7, 1, 12, 30, 15, 999_999, tzinfo=UTC),
    datetime(2026, 7, 1, 12, 30, 16, tzinfo=UTC),
)
EMPTY = {column.name: b"" for column in decision.c if isinstance(column.type, LargeBinary)}
KINDS = tuple(WORD_KINDS)


def decisions(random: Random, count: int) -> list[DerivedDecision]:
    """Give decisions; half of their ids are plain, half hostile."""
    sets = [{kind: words(random) for kind in KINDS} for _ in range(count // 4)]
    return [one_decision(random, number, random.choice(sets)) for number in range(count)]


def words(random: Random) -> tuple[str, ...]:
    chosen = (
        [] if random.random() < 0.3 else random.sample(sorted(set(NAMES)), random.randrange(1, 5))
    )
    return tuple(sorted(chosen))


def one_decision(random: Random, number: int, found: dict[str, tuple[str, ...]]) -> DerivedDecision:
    drawn: dict[str, Any] = {name: random.choice(NAMES) for name in TEXT_COLUMNS}
    drawn |= {name: random.choice(SMALL) for name in ("attempts", "excluded", "demoted")}
    drawn |= {name: random.choice(LARGE) for name in ("tools", "policy_revision", "plan_ns")}
    at = random.choice((*INSTANTS, EPOCH + timedelta(microseconds=random.randrange(2**51))))
    return DerivedDecision(
        decision_id=f"{random.choice(NAMES)}{number}",
        decided_at=at,
        tenant=random.choice(PSEUDONYMS),
        finding_set=hashlib.sha256(repr(found).encode()).hexdigest(),
        words=found,
        **drawn,
    )


TEXT_COLUMNS = (
    "request_id",
    "model",
    "variant",
    "first_provider",
    "first_endpoint",
    "availability",
    "snapshot_id",
    "engine_version",
)


def insert_all(database: Engine, rows: Sequence[DerivedDecision]) -> None:
    """Make the tables and fill them."""
    decision.metadata.create_all(database, tables=TABLES)
    sets = {row.finding_set: row.words for row in rows}
    with database.begin() as connection:
        connection.execute(
            insert(decision),
            [
                {name: getattr(row, name) for name in ROW_COLUMNS}
                | {"stream": "s", "seq": seq}
                | EMPTY
                for seq, row in enumerate(rows)
            ],
        )
        connection.execute(
            insert(finding_set_word),
            [
                {"finding_set": name, "kind": kind, "word": word}
                for name, found in sets.items()
                for kind, held in found.items()
                for word in held
            ],
        )
        connection.execute(
            insert(tenant_pseudonym),
            [
                {"pseudonym": pseudonym, "tenant": tenant, "created_at": EPOCH}
                for pseudonym, tenant in TENANTS.items()
            ],
        )


def quote(value: str) -> str:
    """Write a string as CEL."""
    return '"' + "".join({"\n": "\\n", '"': '\\"', "\\": "\\\\"}.get(c, c) for c in value) + '"'


class Generator:
    """Grows filters of the supported subset; half of the leaves are values that rows hold."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.scope: list[str] = []

    def filter(self) -> str:
        """Give one filter."""
        return self.bool(self.random.choice((1, 2, 2, 3, 3, 4)))

    def bool(self, fuel: int) -> str:
        """Give a condition."""
        if fuel <= 0:
            return self._leaf_test()
        rules = [
            self._logic,
            self._logic,
            self._not,
            self._compare,
            self._compare,
            self._in,
            self._in_words,
        ]
        rules += [
            self._in_words,
            self._text_test,
            self._text_test,
            self._macro,
            self._macro,
            self._choose_bool,
        ]
        rules += [self._same_bools, self._unrolled]
        return self.random.choice(rules)(fuel - 1)

    def _leaf_test(self) -> str:
        if self.random.random() < 0.06:
            return self.random.choice(("true", "false", "has(decision.model)"))
        return self.random.choice((self._compare, self._in_words, self._text_test, self._in))(0)

    def _logic(self, fuel: int) -> str:
        symbol = self.random.choice(("&&", "||"))
        return (
            f"({f' {symbol} '.join(self.bool(fuel) for _ in range(self.random.choice((2, 2, 3))))})"
        )

    def _not(self, fuel: int) -> str:
        return f"!({self.bool(fuel)})"

    def _compare(self, fuel: int) -> str:
        type_ = self.random.choice((INT, STRING))
        symbol = self.random.choice(("==", "!=", "<", "<=", ">", ">="))
        return f"({self.value(type_, fuel)} {symbol} {self.value(type_, fuel)})"

    def _same_bools(self, fuel: int) -> str:
        symbol = self.random.choice(("==", "==", "!=", "<", "<=", ">", ">="))
        return f"({self.bool(fuel)} {symbol} {self.bool(fuel)})"

    def _in(self, fuel: int) -> str:
        type_ = self.random.choice((INT, STRING, STRING, BOOL))
        items = ", ".join(self.value(type_, fuel - 1) for _ in range(self.random.randrange(5)))
        return f"({self.value(type_, fuel - 1)} in [{items}])"

    def _in_words(self, fuel: int) -> str:
        return f"({self.value(STRING, fuel - 1)} in {self._field(WORD_LIST)})"

    def _text_test(self, fuel: int) -> str:
        method = self.random.choice(("startsWith", "endsWith", "contains"))
        return f"{self.value(STRING, fuel)}.{method}({self.value(STRING, fuel - 1)})"

    def _macro(self, fuel: int) -> str:
        return self._over(
            self._field(WORD_LIST), ("exists", "all", "exists", "all", "exists_one"), fuel
        )

    def _unrolled(self, fuel: int) -> str:
        items = ", ".join(self.value(STRING, 0) for _ in range(self.random.randrange(1, 4)))
        return self._over(f"[{items}]", ("exists", "all"), fuel)

    def _over(self, elements: str, kinds: Sequence[str], fuel: int) -> str:
        if len(self.scope) == 2:
            return self._leaf_test()
        name = self.random.choice(("r", "s", "decision_"))
        self.scope.append(name)
        body = self.bool(fuel - 1)
        self.scope.pop()
        return f"{elements}.{self.random.choice(kinds)}({name}, {body})"

    def _choose_bool(self, fuel: int) -> str:
        return f"({self.bool(fuel)} ? {self.bool(fuel)} : {self.bool(fuel)})"

    def value(self, type_: Type, fuel: int) -> str:
        """Give a value of a type, a field more often than not."""
        pick = self.random.random()
        if type_ == BOOL:
            return self.bool(fuel) if pick < 0.8 else self.random.choice(("true", "false"))
        if fuel > 0 and pick < 0.12:
            condition = self.bool(fuel - 1)
            values = (self.value(type_, fuel - 1) for _ in range(2))
            return f"({condition} ? {' : '.join(values)})"
        if pick < 0.55:
            return self._name(type_)
        return self._int() if type_ == INT else self._text()

    def _name(self, type_: Type) -> str:
        if type_ == STRING and self.scope and self.random.random() < 0.6:
            return self.random.choice(self.scope)
        if type_ == INT and self.random.random() < 0.3:
            return f"size({self.random.choice((self._field(WORD_LIST), self._name(STRING)))})"
        return self._field(type_)

    def _field(self, type_: Type) -> str:
        return self.random.choice([field.path for field in FIELDS if field.type == type_])

    def _int(self) -> str:
        rule = self.random.randrange(6)
        if rule == 0:
            first, second = (self.random.choice((1, 2, 7, 1000)) for _ in range(2))
            return f"({first} {self.random.choice('+-*/%')} {second} * 1000)"
        if rule == 1:
            return str((self.random.choice(INSTANTS) - EPOCH) // MICROSECOND)
        if rule == 2:
            return f"size({quote(self.random.choice(NAMES))})"
        return str(self.random.choice(EDGES))

    def _text(self) -> str:
        rule = self.random.randrange(8)
        if rule == 0:
            return f"({quote(self.random.choice(NAMES))} + {quote(self.random.choice(NAMES))})"
        if rule == 1:
            return quote(self.random.choice((*TENANTS.values(), "p1", "erased")))
        return quote(self.random.choice(NAMES))


def filter_row(row: DerivedDecision, tenants: Mapping[str, str]) -> dict[str, object]:
    """Return a decision as filters see it; `tenants` maps pseudonyms to the names of tenants."""
    values: dict[str, object] = {}
    for field in FIELDS:
        is_words = field.stored_as in WORD_KINDS
        values[field.name] = (
            row.words.get(field.stored_as, ()) if is_words else getattr(row, field.stored_as)
        )
    values[TIME] = (row.decided_at - EPOCH) // MICROSECOND
    values[TENANT] = tenants.get(row.tenant, "")
    return values


def matches(filter_: Filter, row: Mapping[str, object]) -> bool:
    """Return whether a filter holds for a row of `filter_row`."""
    result = evaluate(filter_.checked, {ROOT: row})
    if not isinstance(result, bool):
        raise TypeError(f"expected a row with every field, got {result}")
    return result
