"""Fused rules: guards, lazy variables, constants, and the outcome of each row."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from assay.engine.cel.check import CheckedExpression, check
from assay.engine.cel.fuse import Item, fuse_columns, fuse_rules
from assay.engine.cel.schema import BOOL, DOUBLE, INT, STRING, Fact, Function, Schema, list_of
from assay.engine.cel.values import NOT_ASKED, Absent, Failure


class Counting:
    """A function that counts how often it is asked."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, value: float) -> float:
        self.calls += 1
        return value


class Stage:
    """A schema with a counting function, growing by the variables that are added to it."""

    def __init__(self) -> None:
        self.counted = Counting()
        self.variables: list[tuple[str, CheckedExpression]] = []
        self.schema = Schema(
            roots={
                "endpoint": {
                    "accuracy": Fact(DOUBLE, optional=True),
                    "price": Fact(DOUBLE, optional=True),
                    "class": Fact(STRING),
                },
                "request": {
                    "tools": Fact(INT, optional=True),
                    "ignore": Fact(list_of(STRING)),
                    "budget": Fact(DOUBLE),
                },
                "params": {"floor": Fact(DOUBLE), "classes": Fact(list_of(STRING))},
            },
            functions=(Function("counted", (DOUBLE,), DOUBLE, self.counted),),
        )

    def check(self, text: str) -> CheckedExpression:
        return check(text, self.schema)

    def let(self, name: str, text: str) -> None:
        checked = self.check(text)
        self.variables.append((name, checked))
        declared = {**self.schema.roots.get("variables", {}), name: Fact(checked.type)}
        self.schema = Schema(
            roots={**self.schema.roots, "variables": declared}, functions=self.schema.functions
        )

    def item(self, text: str, when: str | None = None, message: str | None = None) -> Item:
        guard, words = (None if text is None else self.check(text) for text in (when, message))
        return Item("rule", self.check(text), guard, words)

    def run(
        self, *items: Item, rows: Sequence[dict[str, object]], request: dict[str, object]
    ) -> list[list[object]]:
        constants = {"params.floor": 0.9, "params.classes": ("yield", "lambda")}
        fused = fuse_rules(items, variables=self.variables, row="endpoint", constants=constants)
        return [list(findings) for findings in fused(rows, {"request": request})]


GOOD: dict[str, object] = {"accuracy": 0.95, "price": 1.0, "class": "yield"}
BAD: dict[str, object] = {"accuracy": 0.5, "price": 2.0, "class": "if"}
EMPTY: dict[str, object] = {}
REQUEST: dict[str, object] = {"tools": 2, "ignore": ["if"], "budget": 1.5}


def test_findings_list_the_rules_that_are_not_true_in_order() -> None:
    stage = Stage()
    found = stage.run(
        stage.item("endpoint.accuracy >= params.floor"),
        stage.item("endpoint.price <= request.budget"),
        stage.item("endpoint.class in params.classes && !(endpoint.class in request.ignore)"),
        rows=[GOOD, BAD, EMPTY],
        request=REQUEST,
    )
    assert found == [
        [],
        [(0, False), (1, False), (2, False)],
        [
            (0, Absent("endpoint.accuracy")),
            (1, Absent("endpoint.price")),
            (2, Absent("endpoint.class")),
        ],
    ]


def test_a_request_guard_is_evaluated_once_and_false_skips_the_rule() -> None:
    stage = Stage()
    guarded = stage.item("endpoint.accuracy > 1.0", when="counted(double(request.tools)) > 5.0")
    assert stage.run(guarded, rows=[GOOD, BAD, EMPTY], request=REQUEST) == [[], [], []]
    assert stage.counted.calls == 1
    assert stage.run(guarded, rows=[GOOD], request={**REQUEST, "tools": 9}) == [[(0, False)]]


@pytest.mark.parametrize(
    ("when", "outcome"),
    [
        pytest.param("request.tools > 0", Absent("request.tools"), id="absent"),
        pytest.param(
            "1 / size(request.ignore) > 0", Failure("division by zero", 1, 3), id="failed"
        ),
    ],
)
def test_a_guard_without_a_value_fails_the_rule_for_every_row(when: str, outcome: object) -> None:
    stage = Stage()
    found = stage.run(stage.item("true", when=when), rows=[GOOD, BAD], request={"ignore": []})
    assert found == [[(0, outcome)], [(0, outcome)]]


def test_a_row_guard_that_is_false_marks_the_rule_as_not_asked() -> None:
    stage = Stage()
    guarded = stage.item("endpoint.accuracy > params.floor", when="endpoint.price < 1.5")
    found = stage.run(guarded, rows=[GOOD, BAD, EMPTY], request=REQUEST)
    assert found == [[], [(0, NOT_ASKED)], [(0, Absent("endpoint.price"))]]


def test_a_guard_that_reads_the_row_by_a_variable_is_evaluated_per_row() -> None:
    stage = Stage()
    stage.let("cheap", "endpoint.price < 1.5")
    found = stage.run(
        stage.item("false", when="variables.cheap"), rows=[GOOD, BAD], request=REQUEST
    )
    assert found == [[(0, False)], [(0, NOT_ASKED)]]


def test_a_variable_is_computed_once_per_row_and_only_for_rows_that_read_it() -> None:
    stage = Stage()
    stage.let("once", "counted(endpoint.accuracy)")
    stage.let("twice", "variables.once * 2.0")
    rules = [
        stage.item("variables.once > params.floor", when="endpoint.price < 1.5"),
        stage.item("variables.twice > 1.8 && variables.once > 0.0", when="endpoint.price < 1.5"),
    ]
    found = stage.run(*rules, rows=[GOOD, BAD, GOOD], request=REQUEST)
    assert found == [[], [(0, NOT_ASKED), (1, NOT_ASKED)], []]
    assert stage.counted.calls == 2


def test_a_variable_that_does_not_read_the_row_is_computed_once_per_call() -> None:
    stage = Stage()
    stage.let("budget", "counted(request.budget)")
    stage.let("room", "variables.budget - endpoint.price")
    found = stage.run(
        stage.item("variables.budget > 1.0"),
        stage.item("variables.room > 0.0"),
        rows=[GOOD, BAD],
        request=REQUEST,
    )
    assert found == [[], [(1, False)]]
    assert stage.counted.calls == 1


def test_a_variable_without_an_active_reader_is_not_computed() -> None:
    stage = Stage()
    stage.let("dear", "counted(endpoint.accuracy)")
    stage.run(
        stage.item("variables.dear > 1.0", when="request.tools > 5"),
        stage.item("endpoint.price > 0.0 || variables.dear > 1.0"),
        rows=[GOOD, BAD],
        request=REQUEST,
    )
    assert stage.counted.calls == 0


def test_a_variable_without_a_value_passes_on_the_missing_fact() -> None:
    stage = Stage()
    stage.let("good", "counted(1.0) + endpoint.accuracy")
    stage.let("better", "variables.good * 2.0")
    found = stage.run(
        stage.item("variables.better > 1.0"),
        stage.item("variables.good > 1.0 || endpoint.price > 0.0"),
        stage.item("!(variables.good > 1.0)"),
        rows=[{"price": 1.0}],
        request=REQUEST,
    )
    assert found == [[(0, Absent("endpoint.accuracy")), (2, Absent("endpoint.accuracy"))]]
    assert stage.counted.calls == 2, (
        "once in generated code, once in the exact evaluator, then remembered"
    )


@pytest.mark.parametrize(
    ("rule", "missing"),
    [
        pytest.param(
            "variables.one.contains(variables.other)",
            "endpoint.accuracy",
            id="receiver and argument",
        ),
        pytest.param("variables.other + variables.one == ''", "endpoint.price", id="operands"),
        pytest.param(
            "[1].map(x, variables.other + variables.one) == []", "endpoint.price", id="a macro"
        ),
        pytest.param(
            "variables.one == '' && variables.other == ''", "endpoint.accuracy", id="absorbing"
        ),
        pytest.param(
            "(1 == 1 ? variables.other : variables.one) == ''", "endpoint.price", id="a choice"
        ),
    ],
)
def test_the_first_of_two_missing_variables_is_reported(rule: str, missing: str) -> None:
    stage = Stage()
    stage.let("one", "string(endpoint.accuracy)")
    stage.let("other", "string(endpoint.price)")
    assert stage.run(stage.item(rule), rows=[EMPTY], request=REQUEST) == [[(0, Absent(missing))]]


def test_a_variable_without_a_value_is_absorbed_by_its_reader() -> None:
    stage = Stage()
    stage.let("good", "endpoint.accuracy > 0.9")
    stage.let("fine", "variables.good || endpoint.price < 1.5")
    found = stage.run(
        stage.item("variables.fine"), rows=[{"price": 1.0}, {"price": 2.0}], request=REQUEST
    )
    assert found == [[], [(0, Absent("endpoint.accuracy"))]]


def test_a_missing_shared_root_is_absent_not_an_error() -> None:
    stage = Stage()
    fused = fuse_rules(
        [stage.item("request.tools > 0"), stage.item("!has(request.tools)")], row="endpoint"
    )
    assert fused([GOOD], {}) == [[(0, Absent("request.tools"))]]


def test_without_rows_or_rules_there_are_no_findings() -> None:
    stage = Stage()
    assert stage.run(rows=[GOOD, BAD], request=REQUEST) == [[], []]
    assert fuse_columns([], row="endpoint")([GOOD], {}) == []
    assert stage.run(stage.item("endpoint.price > 0.0"), rows=[], request=REQUEST) == []


def test_a_false_rule_has_a_message_from_the_row_and_computed_variables() -> None:
    stage = Stage()
    stage.let("known", "counted(endpoint.price)")
    rule = stage.item("variables.known < 1.5", message='string(variables.known) + " is too dear"')
    assert stage.run(rule, rows=[GOOD, BAD, EMPTY], request=REQUEST) == [
        [],
        [(0, "2 is too dear")],
        [(0, Absent("endpoint.price"))],
    ]
    assert stage.counted.calls == 2


def test_a_rule_that_the_exact_evaluator_finds_false_has_its_message() -> None:
    stage = Stage()
    rule = stage.item(
        "endpoint.accuracy > 0.9 && endpoint.price > 5.0", message="string(endpoint.price)"
    )
    assert stage.run(rule, rows=[{"price": 2.0}], request=REQUEST) == [[(0, "2")]]


def test_a_message_without_a_value_is_omitted() -> None:
    stage = Stage()
    rule = stage.item("endpoint.price > 5.0", message='endpoint.class + " is dear"')
    assert stage.run(rule, rows=[{"price": 2.0}], request=REQUEST) == [[(0, False)]]


def test_rules_evaluated_once_per_call_keep_their_position() -> None:
    stage = Stage()
    rules = [
        stage.item("false"),
        stage.item("false", when="request.tools > 1"),
        stage.item("false", when="request.tools > 5"),
        stage.item("false", when="endpoint.price < 1.5"),
    ]
    assert stage.run(*rules, rows=[GOOD, BAD], request=REQUEST) == [
        [(0, False), (1, False), (3, False)],
        [(0, False), (1, False), (3, NOT_ASKED)],
    ]


def test_columns_hold_a_value_or_the_reason_why_it_is_missing() -> None:
    stage = Stage()
    stage.let("double_price", "endpoint.price * 2.0")
    fused = fuse_columns(
        [
            stage.item("variables.double_price"),
            stage.item("endpoint.class"),
            stage.item("params.floor"),
        ],
        variables=stage.variables,
        row="endpoint",
        constants={"params.floor": 0.9},
    )
    assert fused([GOOD, {"class": "def"}], {}) == [
        [2.0, Absent("endpoint.price")],
        ["yield", "def"],
        [0.9, 0.9],
    ]


def test_a_rule_whose_value_is_not_a_bool_fails_closed() -> None:
    schema = Schema(roots={"endpoint": {"ok": Fact(BOOL)}})
    fused = fuse_rules([Item("rule", check("endpoint.ok", schema))], row="endpoint")
    assert fused([{"ok": "yes"}, {"ok": True}], {}) == [
        [(0, Failure("the value is not a bool", 1, 1))],
        [],
    ]


def test_reserved_words_of_python_are_ordinary_names() -> None:
    roots = {"lambda": {"def": Fact(INT), "__class__": Fact(INT)}, "class": {"import": Fact(INT)}}
    checked = check("lambda.def + lambda.__class__ + class.import == 6", Schema(roots=roots))
    fused = fuse_rules([Item("rule", checked)], row="lambda")
    assert fused([{"def": 1, "__class__": 2}], {"class": {"import": 3}}) == [[]]


def test_a_duplicate_variable_is_rejected() -> None:
    stage = Stage()
    stage.let("same", "1.0")
    with pytest.raises(ValueError, match="variable same is given twice"):
        fuse_rules([], variables=stage.variables * 2, row="endpoint")
