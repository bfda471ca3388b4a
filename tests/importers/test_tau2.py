"""The importer of tau2-bench: pass^k of complete runs in both forms, and submissions."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st

from assay.engine.world.measurements import BenchmarkRun, Series
from assay.importers.documents import BenchmarkDocument, EndpointMention, Rejection
from assay.importers.tau2 import Simulation, passes, read_tau2

TAU2 = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "tau2"
SHARED = pytest.mark.skipif(not TAU2.is_dir(), reason="the shared data set is missing")
SIX = "results_telecom_gpt-4o_first6sims_trimmed.json"


def simulation(task: str, trial: int, reward: float | None, **more: object) -> dict[str, Any]:
    info = None if reward is None else {"reward": reward}
    return {"id": f"{task}-{trial}", "task_id": task, "trial": trial, "reward_info": info, **more}


RESULTS: dict[str, Any] = {
    "timestamp": "2026-07-01T10:00:00.5",
    "info": {
        "git_commit": "0123456789abcdef",
        "num_trials": 2,
        "user_info": {"implementation": "user_simulator", "llm": "gpt-4.1"},
        "agent_info": {"implementation": "llm_agent", "llm": "openrouter/lab/one"},
        "environment_info": {"domain_name": "telecom"},
    },
    "tasks": [{"id": "a"}, {"id": "b"}],
    "simulations": [
        simulation("a", 0, 1.0),
        simulation("a", 1, 1),
        simulation("b", 0, 0.0),
        simulation("b", 1, 1.0),
    ],
}
SERIES = Series("tau2/telecom", "0123456789ab+tasks=2", "gpt-4.1", "pass^1", "fraction")


def changed(path: str, value: object, base: Mapping[str, Any] = RESULTS) -> dict[str, Any]:
    """Return the valid file with another value at a dotted path; `...` removes the key."""
    item = copy.deepcopy(dict(base))
    part: Any = item
    *parents, last = path.split(".")
    for name in parents:
        part = part[int(name) if name.isdigit() else name]
    if value is ...:
        del part[last]
    else:
        part[int(last) if last.isdigit() else last] = value
    return item


def read(item: object, files: Mapping[str, object] | None = None) -> BenchmarkDocument:
    packed = (
        None if files is None else [(name, json.dumps(row).encode()) for name, row in files.items()]
    )
    return read_tau2(json.dumps(item).encode(), packed)


def scores(document: BenchmarkDocument) -> dict[str, float]:
    return {row.run.series.metric: row.run.score for row in document.rows}


def test_the_scores_of_a_run_are_read() -> None:
    document = read(RESULTS)
    assert document.rejected == ()
    first, second = document.rows
    assert first.subject == EndpointMention("info.agent_info", "lab/one")
    assert first.run == BenchmarkRun(
        endpoint_id="",
        source="tau2",
        series=SERIES,
        score=0.75,
        run_at=datetime(2026, 7, 1, 10, 0, 0, 500_000, tzinfo=UTC),
        run="2026-07-01T10:00:00.5",
        tasks_total=4,
        tasks_completed=4,
        trials=2,
        source_revision="0123456789abcdef",
    )
    assert (second.run.series.metric, second.run.score) == ("pass^2", 0.5)


# --- pass^k ---


@pytest.mark.parametrize(
    ("rewards", "expected"),
    [
        pytest.param(
            [[1, 1, 0, 0]], {1: 1 / 2, 2: 1 / 6, 3: 0.0, 4: 0.0}, id="half of one task's trials"
        ),
        pytest.param([[1, 1], [0, 0]], {1: 0.5, 2: 0.5}, id="all of one task, none of the other"),
        pytest.param([[1, 0], [1]], {1: 0.75}, id="as many k as every task has trials"),
        pytest.param([[1 - 5e-7]], {1: 1.0}, id="close enough to 1"),
        pytest.param([[1 - 2e-6]], {1: 0.0}, id="not close enough to 1"),
        pytest.param(
            [[1, None], [0, 1]], {1: 0.75}, id="simulations without a reward are left out"
        ),
        pytest.param([[None]], {}, id="no simulation has a reward"),
    ],
)
def test_pass_k_is_the_mean_over_tasks(
    rewards: Sequence[Sequence[float | None]], expected: Mapping[int, float]
) -> None:
    runs = [
        Simulation("", str(task), trial, r)
        for task, of in enumerate(rewards)
        for trial, r in enumerate(of)
    ]
    assert passes(runs) == expected


@given(st.lists(st.lists(st.booleans(), min_size=1, max_size=5), min_size=1, max_size=4))
def test_pass_k_is_the_probability_that_k_drawn_trials_all_succeed(tasks: list[list[bool]]) -> None:
    runs = [
        Simulation("", str(n), trial, float(ok))
        for n, of in enumerate(tasks)
        for trial, ok in enumerate(of)
    ]
    found = passes(runs)
    for k, score in found.items():
        drawn = [[all(some) for some in combinations(of, k)] for of in tasks]
        assert score == pytest.approx(sum(sum(of) / len(of) for of in drawn) / len(tasks))
    assert sorted(found.values(), reverse=True) == list(found.values())


# --- rejected results ---


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        pytest.param(
            "simulations.3",
            simulation("b", 1, None),
            "3 is not at least 95 % of 4 tasks",
            id="unjudged",
        ),
        pytest.param(
            "simulations.3",
            simulation("b", 1, 0.0, termination_reason="infrastructure_error"),
            "simulations: 3 is not at least 95 % of 4 tasks: the run is incomplete",
            id="an infrastructure error is left out, not failed",
        ),
        pytest.param("simulations", [], "0 is not at least 95 % of 4 tasks", id="nothing was run"),
        pytest.param(
            "tasks",
            [{"id": "a"}, {"id": "b"}, {"id": "c"}],
            "4 is not at least 95 % of 6",
            id="an unfinished task",
        ),
        pytest.param("tasks", [], "0 is not at least 95 % of 0 tasks", id="no tasks"),
        pytest.param(
            "tasks", [{"id": "a"}, {"id": "a"}], "an id that occurs twice", id="a task twice"
        ),
        pytest.param(
            "simulations.3",
            simulation("b", 0, 1.0),
            "task 'b' has its trial 0 twice",
            id="a trial twice",
        ),
        pytest.param("info.num_trials", 0, "info.num_trials: 0 is not from 1", id="no trials"),
        pytest.param(
            "info.num_trials", 2.5, "num_trials: 2.5 is not a whole number", id="half a trial"
        ),
        pytest.param(
            "info.environment_info",
            ...,
            "info.environment_info: 'null' is not an object",
            id="no domain",
        ),
        pytest.param(
            "info.environment_info.domain_name",
            "x@y",
            "domain_name: 'tau2/x@y' is not",
            id="an odd domain",
        ),
        pytest.param(
            "timestamp", "yesterday", "timestamp: 'yesterday' is not an ISO time", id="no time"
        ),
        pytest.param("simulations", ..., "simulations: 'null' is not a list", id="no simulations"),
        pytest.param("tasks", ..., "not tau2 results", id="something else"),
    ],
)
def test_an_incomplete_or_invalid_run_is_rejected(path: str, value: object, reason: str) -> None:
    document = read(changed(path, value))
    assert document.rows == ()
    assert reason in document.rejected[-1].reason
    assert document.rejected[-1].where == "file"


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        pytest.param(simulation("b", 1, float("nan")), "reward: nan is not a number", id="NaN"),
        pytest.param(
            simulation("b", 1, float("inf")), "reward: inf is not a number", id="infinite"
        ),
        pytest.param(
            simulation("b", 1, reward=True), "reward: 'true' is not a number", id="a boolean"
        ),
        pytest.param(
            simulation("c", 0, 1.0),
            "task_id: 'c' is not one of the run's tasks",
            id="an unknown task",
        ),
        pytest.param(
            simulation("b", 2, 1.0), "trial: 2 is not below num_trials, 2", id="one trial too many"
        ),
        pytest.param(
            simulation("b", -1, 1.0), "trial: '-1' is not a whole number", id="a negative trial"
        ),
        pytest.param("b", "simulation: 'b' is not an object", id="not an object"),
    ],
)
def test_an_invalid_simulation_is_rejected_and_counts_as_missing(row: object, reason: str) -> None:
    document = read(changed("simulations.3", row))
    assert [rejection.where for rejection in document.rejected] == ["simulations[3]", "file"]
    assert reason in document.rejected[0].reason
    assert document.rows == ()


def test_one_invalid_simulation_among_many_does_not_reject_the_run() -> None:
    tasks = [f"t{n}" for n in range(20)]
    rows = [simulation(task, 0, 1.0) for task in tasks[1:]] + [
        simulation(tasks[0], 0, float("nan"))
    ]
    item = RESULTS | {"tasks": [{"id": task} for task in tasks], "simulations": rows}
    item["info"] = item["info"] | {"num_trials": 1}
    document = read(item)
    assert scores(document) == {"pass^1": 1.0}
    assert [rejection.where for rejection in document.rejected] == ["simulations[19]"]
    assert (document.rows[0].run.tasks_completed, document.rows[0].run.tasks_total) == (19, 20)


@pytest.mark.parametrize(
    ("path", "value", "series"),
    [
        pytest.param("info.git_commit", None, {"version": "unknown+tasks=2"}, id="no commit"),
        pytest.param("info.user_info.llm", None, {"judge": "unknown"}, id="no user simulator"),
        pytest.param(
            "info.agent_info.implementation",
            "gt",
            {"version": f"{SERIES.version}+agent=gt"},
            id="agent",
        ),
        pytest.param(
            "info.retrieval_config",
            "bm25",
            {"version": f"{SERIES.version}+retrieval=bm25"},
            id="retrieval",
        ),
    ],
)
def test_settings_of_the_run_determine_the_series(
    path: str, value: object, series: dict[str, str]
) -> None:
    found = read(changed(path, value)).rows[0].run.series
    assert {name: getattr(found, name) for name in series} == series


# --- the directory form ---

FILES = {f"{row['id']}.json": row for row in RESULTS["simulations"]}
INDEX = [
    {
        **{name: row[name] for name in ("id", "task_id", "trial")},
        "reward": row["reward_info"]["reward"],
    }
    for row in RESULTS["simulations"]
]
DIRECTORY = {name: value for name, value in RESULTS.items() if name != "simulations"} | {
    "simulation_index": INDEX
}


def test_both_file_forms_give_the_same_document() -> None:
    assert read(DIRECTORY, FILES).rows == read(RESULTS).rows
    assert read(DIRECTORY | {"simulation_index": None}, FILES).rows == read(RESULTS).rows


@pytest.mark.parametrize(
    ("files", "index", "reason"),
    [
        pytest.param(None, INDEX, "the simulations themselves are missing", id="the index alone"),
        pytest.param(
            dict(list(FILES.items())[:3]), INDEX, "no valid file of 'b-1'", id="a file too few"
        ),
        pytest.param(
            FILES,
            INDEX[:3],
            "simulation_index: 'b-1' is not listed",
            id="a simulation that is not listed",
        ),
        pytest.param(
            FILES,
            [*INDEX[:3], INDEX[3] | {"reward": 0.0}],
            "the reward of 'b-1' differs",
            id="reward",
        ),
        pytest.param(
            {"x.json": FILES["a-0.json"]},
            INDEX,
            "holds the simulation 'a-0'",
            id="the file of another simulation",
        ),
        pytest.param(
            {**FILES, "b-1.json": []},
            INDEX,
            "simulations/b-1.json: not a JSON object",
            id="no simulation",
        ),
        pytest.param(
            FILES, [{"id": "../a-0"}], "no valid file of '../a-0'", id="a path in the index"
        ),
        pytest.param(FILES, "all", "simulation_index: 'all' is not a list", id="no index"),
    ],
)
def test_a_directory_that_contradicts_its_index_is_rejected(
    files: Mapping[str, object] | None, index: object, reason: str
) -> None:
    document = read(DIRECTORY | {"simulation_index": index}, files)
    assert document.rows == ()
    assert reason in document.rejected[-1].reason


# --- submissions ---

SUBMISSION: dict[str, Any] = {
    "model_name": "One",
    "model_organization": "Lab",
    "submission_date": "2026-03-02",
    "submission_type": "standard",
    "results": {
        "retail": {"pass_1": 73.5, "pass_2": None, "pass_3": None, "pass_4": None, "cost": 1.5},
        "telecom": None,
        "banking_knowledge": {"pass_1": 9, "retrieval_config": "alltools"},
    },
    "methodology": {
        "evaluation_date": "2026-02-27",
        "tau2_bench_version": "v1.0.1",
        "user_simulator": "gpt-5.2",
        "verification": {"modified_prompts": False, "omitted_questions": False},
    },
}
RETAIL = Series("tau2/retail", "1.0.1", "gpt-5.2", "pass^1", "percent")


def test_every_stated_score_of_a_submission_is_read() -> None:
    document = read(SUBMISSION)
    assert document.rejected == ()
    retail, banking = document.rows
    assert retail.subject == EndpointMention("submission")
    assert retail.run == BenchmarkRun("", "tau2", RETAIL, 73.5, datetime(2026, 2, 27, tzinfo=UTC))
    assert banking.run.series == Series(
        "tau2/banking_knowledge", "1.0.1+retrieval=alltools", "gpt-5.2", "pass^1", "percent"
    )


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        pytest.param(
            "results", {"retail": None}, "results: 'null everywhere' is not", id="only nulls"
        ),
        pytest.param("results", [], "results: 'a list' is not an object", id="no results"),
        pytest.param(
            "methodology.verification.omitted_questions",
            True,
            "the run is incomplete",
            id="questions omitted",
        ),
        pytest.param(
            "methodology.evaluation_date",
            "27 Feb",
            "evaluation_date: '27 Feb' is not a day",
            id="no day",
        ),
        pytest.param(
            "methodology.tau2_bench_version",
            1,
            "tau2_bench_version: 1 is not text",
            id="a version as number",
        ),
    ],
)
def test_an_incomplete_or_invalid_submission_is_rejected(
    path: str, value: object, reason: str
) -> None:
    document = read(changed(path, value, SUBMISSION))
    assert document.rows == ()
    assert reason in document.rejected[0].reason


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        pytest.param(
            101, "pass^1: '101' is not a percent from 0 to 100", id="more than 100 percent"
        ),
        pytest.param(-1, "pass^1: '-1' is not a percent", id="negative"),
        pytest.param(float("nan"), "pass^1: 'nan' is not a percent", id="NaN"),
        pytest.param("73.5 %", "pass^1: '73.5 %' is not a percent", id="with a percent sign"),
        pytest.param([], "pass^1: 'a list' is not a number", id="a list"),
    ],
)
def test_a_score_out_of_range_is_rejected_alone(value: object, reason: str) -> None:
    document = read(changed("results.retail.pass_1", value, SUBMISSION))
    assert [row.where for row in document.rows] == ["results.banking_knowledge.pass_1"]
    assert document.rejected[0].where == "results.retail.pass_1"
    assert reason in document.rejected[0].reason


@pytest.mark.parametrize(
    ("path", "value", "series"),
    [
        pytest.param(
            "methodology.user_simulator", None, {"judge": "unknown"}, id="no user simulator"
        ),
        pytest.param(
            "methodology.tau2_bench_version", None, {"version": "unknown"}, id="no version"
        ),
        pytest.param(
            "submission_type", "custom", {"version": "1.0.1+custom"}, id="another scaffold"
        ),
        pytest.param(
            "methodology.verification.modified_prompts",
            True,
            {"version": "1.0.1+modified_prompts"},
            id="other prompts",
        ),
    ],
)
def test_settings_of_a_submission_determine_the_series(
    path: str, value: object, series: dict[str, str]
) -> None:
    found = read(changed(path, value, SUBMISSION)).rows[0].run.series
    assert {name: getattr(found, name) for name in series} == series


# --- the real files ---


@SHARED
def test_three_of_the_six_real_simulations_succeed() -> None:
    document = read_tau2((TAU2 / SIX).read_bytes())
    (row,) = document.rows
    assert document.rejected == ()
    assert (row.run.score, row.run.tasks_completed, row.run.tasks_total) == (3 / 6, 6, 6)
    assert row.run.series == Series(
        "tau2/telecom", "40f46d3540dc+tasks=6", "gpt-4o", "pass^1", "fraction"
    )
    assert row.subject == EndpointMention("info.agent_info")


@SHARED
@pytest.mark.parametrize(
    ("name", "figures", "first"),
    [
        ("A_EXAMPLE_new-model_example-org_2025-01-15.json", 16, 78.5),
        ("claude-3-7-sonnet_anthropic_2024-06-20.json", 12, None),
        ("deepseek-v3.2_deepseek_2025-12-01.json", 3, 81.1),
        ("glm-5-think_sierra_2026-03-02.json", 16, 82.5),
        ("gpt-5-2_sierra_2026-02-26.json", 16, 83.0),
        ("kimi-k2_moonshot-ai_2025-07-11.json", 3, 70.6),
        ("kimi-k3_sierra_2026-08-04.json", 4, 37.11340206185567),
        ("qwen3-max_qwen_2025-10-30.json", 12, 75.44),
    ],
)
def test_the_scores_of_real_submissions_are_read(
    name: str, figures: int, first: float | None
) -> None:
    document = read_tau2((TAU2 / "submissions" / name).read_bytes())
    assert (len(document.rows), document.rejected) == (figures, ())
    assert first is None or document.rows[0].run.score == first
    assert {row.subject for row in document.rows} == {EndpointMention("submission")}


@SHARED
def test_the_schema_of_submissions_is_rejected() -> None:
    (rejection,) = read_tau2((TAU2 / "submission_schema.json").read_bytes()).rejected
    assert rejection == Rejection(
        "file",
        "not tau2 results (keys info and tasks) nor a submission (key model_organization)",
    )
