"""The comparison of arms at small scale: the bench runs, and its targets can be missed."""

from __future__ import annotations

import io
from dataclasses import replace

import orjson
import pytest
from rich.console import Console
from tests.bench.exacto.__main__ import measure
from tests.bench.exacto.chain import endpoints_of
from tests.bench.exacto.population import MEASURED, population
from tests.bench.exacto.report import WIDTH, Report, as_json, print_report

from assay.demo.comparison import ARMS, EXACTO, PLAIN, RateRatio
from assay.demo.traffic import MODELS

MODEL = "z-ai/glm-4.6"


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """Run the bench with one model and a few dozen requests."""
    return measure(tmp_path_factory.mktemp("bench"), [MODEL], requests=36, probes=300)


def served(found: Report, arm: object) -> set[str]:
    requests = next(sent for each, sent in found.requests.items() if each == arm)
    return {each.endpoint_id.partition("@")[2] for each in requests if each.endpoint_id}


@pytest.mark.slow
def test_every_arm_sends_the_same_tasks(found: Report) -> None:
    tasks = [{each.task.number for each in sent} for sent in found.requests.values()]

    assert list(found.figures) == list(ARMS)
    assert tasks == [set(range(6))] * len(ARMS)
    assert all(each.requests >= 18 for each in found.figures.values())


@pytest.mark.slow
def test_agents_count_exactly_the_errors_that_providers_made(found: Report) -> None:
    assert sum(each.errors.errored for each in found.figures.values()) == found.injected


@pytest.mark.slow
def test_the_pool_is_narrower_than_the_plain_arm(found: Report) -> None:
    assert "z-ai/fp4" in served(found, EXACTO)
    assert "deepinfra/fp4" not in served(found, EXACTO)
    assert len(served(found, PLAIN)) > 1


@pytest.mark.slow
def test_the_report_can_be_printed_and_read(found: Report) -> None:
    text = io.StringIO()
    print_report(found, Console(file=text, width=WIDTH))
    read = orjson.loads(orjson.dumps(as_json(found)))

    assert all(arm.name in text.getvalue() for arm in ARMS)
    assert MODEL in text.getvalue()
    assert set(read["arms"]) == {arm.name for arm in ARMS}
    assert read["injected_errors"] == found.injected


@pytest.mark.slow
def test_each_missed_target_is_named(found: Report) -> None:
    ratios = {arm: RateRatio(10.0, 4.0, 30.0) for arm in found.ratios}
    figures = {arm: replace(each, unanswered=0) for arm, each in found.figures.items()}
    good = replace(found, ratios=ratios, figures=figures)
    few = replace(good, ratios={**ratios, EXACTO: RateRatio(2.9, 1.2, 7.0)})
    unsure = replace(good, ratios={**ratios, EXACTO: RateRatio(5.0, 0.9, 30.0)})
    none = replace(good, ratios={**ratios, EXACTO: RateRatio(float("nan"), 0.0, float("inf"))})
    silent = {**figures, PLAIN: replace(figures[PLAIN], unanswered=5)}

    assert good.missed == []
    assert [line.partition(" is ")[0] for line in few.missed] == ["plain/:exacto"]
    assert [line.partition(" is ")[0] for line in unsure.missed] == [
        "the lower limit of plain/:exacto"
    ]
    assert len(none.missed) == 2
    assert any("not answered" in line for line in replace(good, figures=silent).missed)
    assert any("counted" in line for line in replace(good, injected=found.injected + 1).missed)


def test_measured_providers_keep_their_accuracy_and_others_get_a_measured_one() -> None:
    behaviors = population(endpoint.provider for endpoint in endpoints_of(MODELS))
    accuracies = {good / calls for calls, good in MEASURED.values()}

    assert behaviors["together"]["accuracy"] == 2513 / 3159
    assert {behavior["accuracy"] for behavior in behaviors.values()} <= accuracies
    assert len(behaviors) > 20
