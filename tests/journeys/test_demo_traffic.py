"""The second act of the demo: pools form on simulated traffic, and bad endpoints leave."""

from __future__ import annotations

from datetime import timedelta

import pytest

from assay.demo.traffic import HOURS, MODELS, TrafficSimulation, simulate_traffic


@pytest.fixture(scope="module")
def seen() -> TrafficSimulation:
    return simulate_traffic()


def test_every_model_earns_a_pool(seen: TrafficSimulation) -> None:
    for model in MODELS:
        own = [name for name in seen.accuracies if name.startswith(f"{model}@")]
        assert any(seen.states[HOURS][name] == "member" for name in own), model


def test_accurate_endpoints_are_members_and_inaccurate_ones_never_were(
    seen: TrafficSimulation,
) -> None:
    settled = {name: state for name, state in seen.states[HOURS].items() if name != seen.worsening}
    assert all(
        settled[name] == "member"
        for name, true in seen.accuracies.items()
        if true >= 0.98 and name != seen.worsening
    )
    admitted = {change.endpoint_id for change in seen.changes if change.after == "member"}
    assert not [name for name, true in seen.accuracies.items() if true <= 0.94 and name in admitted]


def test_an_endpoint_that_turns_bad_is_evicted_within_three_hours_and_stays_out(
    seen: TrafficSimulation,
) -> None:
    assert seen.eviction is not None
    assert timedelta(0) < seen.eviction.at - seen.worse_at <= timedelta(hours=3)
    assert seen.states[HOURS][seen.worsening] == "evicted"


def test_no_other_endpoint_loses_its_place(seen: TrafficSimulation) -> None:
    assert {change.endpoint_id for change in seen.changes if change.after == "evicted"} == {
        seen.worsening
    }
