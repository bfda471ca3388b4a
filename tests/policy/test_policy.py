"""The shipped rule files have cases that pass and show every rule holding and broken."""

from __future__ import annotations

import json
import re
import shutil
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from assay.cli.app import run
from assay.cli.policy import run_case
from assay.engine.cel.values import Outcome
from assay.engine.decide.plan import Moment, judge_models, plan
from assay.engine.policy.binding import PolicyRoute
from assay.engine.policy.evaluation import RuleProgram
from assay.engine.policy.policy import Policy
from assay.engine.policy.rule_set import PolicySource
from assay.engine.pool.judge import judge
from assay.engine.snapshot.parts import ModelView
from assay.engine.snapshot.snapshot import Snapshot
from assay.engine.world.request import ProviderPreferences, Request
from assay.rule_files.cases import Case, read_cases
from assay.rule_files.compile import compile_source
from assay.rule_files.directory import read_directory, read_tests
from assay.server.settings import policy_dir

DIRECTORY = policy_dir()
FIXTURES = Path(__file__).parent / "fixtures"
POLICY = compile_source(read_directory(DIRECTORY))
CASES = read_cases(read_tests(DIRECTORY))
BENCHMARKED = """\
  - name: exacto-benchmarked
    variant: exacto
    tenants: [benchmarked]
    ruleSet: exacto
    params:
      benchmark_series: livemcpbench@0 accuracy fraction by gpt-4.1
      benchmark_floor: 0.5
      benchmark_floor_stay: 0.4
"""
"""What an operator writes to have exacto ask for a benchmark: it ships without."""
CONFIGURED = compile_source(
    PolicySource(
        {**POLICY.source.files, "bindings.yaml": POLICY.source.files["bindings.yaml"] + BENCHMARKED}
    )
)
CONFIGURED_CASES = read_cases(
    {"benchmarked_test.yaml": (FIXTURES / "benchmarked_test.yaml").read_text("utf-8")}
)
RULE_FILES = sorted(name for name in POLICY.source.files)

Asked = tuple[str, str, str]
"""A rule by the rule set that defines it, its block, and its name."""


# -- the cases -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", RULE_FILES)
def test_every_rule_file_has_a_test_file(name: str) -> None:
    test_file = name.replace(".yaml", "_test.yaml")
    assert any(case.file == test_file and not case.skipped for case in CASES)


def test_policy_check_finds_no_fault(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["policy", "check", str(DIRECTORY), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["faults"] == []


def test_every_case_passes(capsys: pytest.CaptureFixture[str]) -> None:
    code = run(["policy", "test", str(DIRECTORY), "--json"])
    output = json.loads(capsys.readouterr().out)
    assert [(case["case"], case["mismatches"]) for case in output if not case["passed"]] == []
    assert len(output) == len(CASES)
    assert code == 0


def test_all_cases_but_two_state_the_complete_plan() -> None:
    # what follows in their order is another rule's business
    partial = {"an order leaves the sort aside", "an order leaves sort exacto aside"}
    assert {c.name.partition(": ")[2] for c in CASES if not c.expected.complete} == partial


@pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in CONFIGURED_CASES])
def test_a_named_series_is_required(case: Case) -> None:
    assert run_case(case, CONFIGURED) == ()


def test_the_benchmark_rule_reports_the_values_that_it_read() -> None:
    enter = CONFIGURED.bindings["exacto-benchmarked"].enter
    assert enter
    (rule,) = (rule for rule in enter.rules if rule.name == "benchmark")
    assert {path for path in rule.reads if path.startswith("endpoint.")} == {
        "endpoint.benchmarks.series",
        "endpoint.benchmarks.scores",
        "endpoint.benchmarks.age_days",
    }


# -- coverage of the cases -------------------------------------------------------------------------


def snapshot_of(case: Case, policy: Policy = POLICY) -> Snapshot:
    members = dict.fromkeys(policy.bindings, case.members)
    return judge(case.world_under(policy), policy, case.now, members).snapshot


def written() -> set[Asked]:
    """Every rule of every rule set that the cases have to show."""
    found: set[Asked] = set()
    for rule_set in POLICY.rule_sets.values():
        found |= {(r.rule.origin, "enter", r.name) for r in rule_set.enter or ()}
        found |= {(r.rule.origin, "stay", r.name) for r in rule_set.stay}
        found |= {(r.rule.origin, "request", r.name) for r in rule_set.request}
    return found


def outcomes() -> dict[str, set[Asked]]:
    """The rules with each outcome (`holds`, `false`, `absent`, `not_asked`) in some case."""
    seen: dict[str, set[Asked]] = defaultdict(set)
    for case, policy in (
        *((case, POLICY) for case in CASES),
        *((case, CONFIGURED) for case in CONFIGURED_CASES),
    ):
        snapshot = snapshot_of(case, policy)
        for entry in judge_models(
            case.request, snapshot, Moment(case.now, case.seeds()[0], case.health)
        ):
            for outcome, rule in pooled(entry.route, entry.view, snapshot, case.members):
                seen[outcome].add(rule)
            for program in entry.route.programs:
                for row in program.run(entry.rows, entry.shared):
                    for outcome, rule in judged(program, dict(row), "request"):
                        seen[outcome].add(rule)
    return seen


def pooled(
    route: PolicyRoute, view: ModelView, snapshot: Snapshot, members: frozenset[str]
) -> Iterator[tuple[str, Asked]]:
    """Yield the outcomes of pool rules; a verdict lists all rules that do not hold."""
    for bound in route.pools:
        for verdict in snapshot.pools[bound.name, view.model].verdicts:
            block, program = (
                ("stay", bound.stay) if verdict.endpoint_id in members else ("enter", bound.enter)
            )
            assert program
            output = {f.rule: f.outcome for f in (*verdict.broken, *verdict.abstained)}
            for checked in program.rules:
                yield output.get(checked.name, "holds"), (checked.rule.origin, block, checked.name)


def judged(
    program: RuleProgram, row: dict[int, Outcome], block: str
) -> Iterator[tuple[str, Asked]]:
    """Yield outcomes of request rules for one endpoint; a rule that is not listed holds."""
    for index, checked in enumerate(program.rules):
        output = program.finding(index, row[index], {}).outcome if index in row else "holds"
        yield output, (checked.rule.origin, block, checked.name)


@pytest.fixture(scope="module")
def seen() -> dict[str, set[Asked]]:
    return outcomes()


def test_every_rule_holds_in_some_case(seen: dict[str, set[Asked]]) -> None:
    assert written() - seen["holds"] == set()


def test_every_rule_is_broken_in_some_case(seen: dict[str, set[Asked]]) -> None:
    assert written() - seen["false"] == set()


def test_every_pool_rule_lacks_its_facts_in_some_case(seen: dict[str, set[Asked]]) -> None:
    asks_for_them = {("exacto", "enter", "enough_tenants")}  # holds if no tenants are named
    pool_rules = {rule for rule in written() if rule[1] != "request"}
    assert pool_rules - seen["absent"] == asks_for_them


def test_every_binding_applies_in_some_case() -> None:
    taken = {
        bound.name
        for case in CASES
        for entry in judge_models(
            case.request, snapshot_of(case), Moment(case.now, case.seeds()[0])
        )
        for bound in entry.route.bindings
    }
    assert taken == set(POLICY.bindings)


def fused(policy: Policy) -> int:
    """How many functions planning has compiled."""
    orders: list[Any] = [
        order.fused for bound in policy.bindings.values() for order in (bound.across, bound.within)
    ]
    keys: list[int] = [each.cache_info().currsize for each in orders]
    return len(policy.routes.programs) + sum(keys)


@pytest.mark.parametrize(
    "request_",
    [
        pytest.param({}, id="plain"),
        pytest.param({"tools": 2}, id="tools"),
        pytest.param({"suffix": ":exacto", "tools": 2}, id="exacto"),
        pytest.param({"suffix": ":nitro"}, id="nitro"),
        pytest.param(
            {"suffix": ":exacto", "provider": ProviderPreferences(sort="price")},
            id="exacto by price",
        ),
        pytest.param({"provider": ProviderPreferences(order=("a",))}, id="an order"),
    ],
)
def test_a_common_request_compiles_nothing(request_: dict[str, Any]) -> None:
    case = next(case for case in CASES if case.world.endpoints)
    policy = compile_source(POLICY.source)
    policy.warm()
    snapshot = snapshot_of(case, policy)
    before, suffix = fused(policy), request_.pop("suffix", "")
    plan(
        Request(f"{case.request.model.partition(':')[0]}{suffix}", **request_),
        snapshot,
        Moment(case.now, b"seed"),
    )
    assert fused(policy) == before


def keys() -> Iterator[tuple[str, str]]:
    for name, text in POLICY.source.files.items():
        _, found, order = text.partition("\n  order:\n")
        if found:
            yield from (
                (name, key) for key in re.findall(r"^    - name: (\w+)$", order, re.MULTILINE)
            )


@pytest.mark.slow
@pytest.mark.parametrize(("file", "key"), list(keys()))
def test_every_order_key_decides_a_case(file: str, key: str) -> None:
    text = POLICY.source.files[file]
    head, _, order = text.partition("\n  order:\n")
    written_key = rf"^    - name: {key}\n(      .*\n?)*"
    idle = re.sub(written_key, f"    - {{name: {key}, expression: 0}}\n", order, flags=re.MULTILINE)
    changed = compile_source(
        PolicySource({**POLICY.source.files, file: f"{head}\n  order:\n{idle}"})
    )
    own = [case for case in CASES if case.file == file.replace(".yaml", "_test.yaml")]
    assert any(run_case(replace(case, draws=min(case.draws, 5)), changed) for case in own)


# -- failures --------------------------------------------------------------------------------------


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(DIRECTORY, tmp_path / "policy"))


@pytest.mark.parametrize(
    ("file", "before", "after", "output"),
    [
        pytest.param(
            "nitro_test.yaml",
            "attempts: [fast, fast_and_dear, slow, fastest_and_shaky]",
            "attempts: [slow, fast, fast_and_dear, fastest_and_shaky]",
            "expected attempts [slow, fast, fast_and_dear, fastest_and_shaky], "
            "got [fast, fast_and_dear, slow, fastest_and_shaky]",
            id="an expectation is broken",
        ),
        pytest.param(
            "nitro.yaml",
            "direction: descending",
            "direction: ascending",
            "got [slow, fast, fast_and_dear, fastest_and_shaky]",
            id="a rule is broken",
        ),
    ],
)
def test_a_broken_case_fails(
    copy: Path, capsys: pytest.CaptureFixture[str], file: str, before: str, after: str, output: str
) -> None:
    text = (copy / file).read_text(encoding="utf-8")
    assert before in text
    (copy / file).write_text(text.replace(before, after), encoding="utf-8")
    assert run(["policy", "test", str(copy), "--only", "nitro_test.yaml", "--json"]) == 1
    failed = [case for case in json.loads(capsys.readouterr().out) if not case["passed"]]
    assert any(output in line for case in failed for line in case["mismatches"])


def test_running_no_case_is_a_failure(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["policy", "test", str(DIRECTORY), "--only", "no such case"]) == 1
    assert "0 passed" in capsys.readouterr().out


TEN_FAULTS = """\
apiVersion: assay/v1
kind: RuleSet
metadata: {name: faulty}
spec:
  extends: default
  params:
    floor: 1
  variables:
    - name: cheap
      expression: endpoint.price.prompt <= params.floor
    - name: known
      expression: has(endpoint.pric.prompt)
  pool:
    enter:
      - name: within
        expression: request.tools > 0
        reason: ACCURACY
      - name: counted
        expression: endpoint.tools.tool_call_requests
        reason: EVIDENCE_THIN
  request:
    - name: judged_here
      expression: probability_at_least(1.0, 1.0, 0.5) > .5
      reason: policy
    - name: guarded
      when: endpoint.zdr
      expression: "true"
      reason: policy
    - name: dated
      expression: |
        has(endpoint.zdr)
          && timestamp("2026-01-01") == null
      reason: policy
    - name: matched
      expression: endpoint.tag.matches(endpoint.provider)
      reason: policy
  order:
    - name: named
      expression: endpoint.tag
    - name: inherited_from_nowhere
"""


def places(*marked: tuple[int, str, str]) -> list[tuple[int, int, str]]:
    """Line, column and message, the column being that of a text on the line."""
    lines = TEN_FAULTS.splitlines()
    return [(line, lines[line - 1].index(text) + 1, message) for line, text, message in marked]


def test_all_ten_faults_of_a_file_are_reported(
    copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (copy / "faulty.yaml").write_text(TEN_FAULTS, encoding="utf-8")
    expected = places(
        (10, "<=", "<= cannot take double and int: convert with double(…)"),
        (
            12,
            "endpoint",
            "endpoint.pric.prompt is not declared, did you mean endpoint.price.prompt?",
        ),
        (
            16,
            "request",
            "a pool rule may not read request.tools, which is known only with a request",
        ),
        (19, "endpoint", "this is double, expected bool"),
        (
            23,
            "probability",
            "probability_at_least may only be used where no fact of the request is read",
        ),
        (26, "endpoint", "this `when` is evaluated once per request and may not read endpoint.zdr"),
        (32, "timestamp", "timestamp is not in the portable subset"),
        (35, "endpoint.provider", "the pattern of matches must be a string literal"),
        (39, "endpoint", "this is string, expected int or double"),
        (
            40,
            "- name",
            "order key inherited_from_nowhere has no expression, and no inherited key has its name",
        ),
    )
    expected[-1] = (40, 7, expected[-1][2])
    assert run(["policy", "check", str(copy), "--json"]) == 3
    faults = json.loads(capsys.readouterr().out)["faults"]
    assert [(f["line"], f["column"], f["message"]) for f in faults] == expected
    assert {f["file"] for f in faults} == {"faulty.yaml"}

    assert run(["policy", "check", str(copy)]) == 3
    output = capsys.readouterr().err.splitlines()
    assert output[-1] == "10 faults"
    lines = TEN_FAULTS.splitlines()
    for line, column, _ in expected:
        start = next(
            n for n, text in enumerate(output) if text.startswith(f"faulty.yaml:{line}:{column}: ")
        )
        excerpt = next(n for n in range(start, len(output)) if output[n].startswith(f" {line} | "))
        assert output[excerpt] == f" {line} | {lines[line - 1]}"
        assert output[excerpt + 1] == f"    | {' ' * (column - 1)}^"


def test_a_faulty_test_file_is_a_policy_error(
    copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (copy / "floor_test.yaml").read_text(encoding="utf-8")
    (copy / "floor_test.yaml").write_text(
        text.replace("provider: e,", "provder: e,"), encoding="utf-8"
    )
    for command in ("check", "test"):
        assert run(["policy", command, str(copy)]) == 3
        assert "did you mean `provider`?" in " ".join(capsys.readouterr().err.split())
