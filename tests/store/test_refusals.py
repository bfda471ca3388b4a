"""Refusals that outcomes report become what judging knows of an endpoint."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import replace
from sqlalchemy import Engine, delete, insert
from tests.support.decision_streams import Stream, empty_log, make_sink
from tests.support.outcomes import ALONE, NOW_US, SOUND_TOOLS, make_batch, report_outcome

from assay.journal.sink import RecordKind
from assay.outcomes.outcome import Outcome, encode_outcomes
from assay.store.database import reading, writing
from assay.store.evidence_tables import capability_counter, evidence_batch, evidence_day
from assay.store.tables import tenant_pseudonym
from assay.store.traffic import load_refusals

NOW = datetime.fromtimestamp(NOW_US / 1_000_000, UTC)
ENDPOINT = "lab/m0@one"


@pytest.fixture
def log(store: Engine) -> Any:
    yield store
    empty_log(store)
    with writing(store) as connection:
        for table in (capability_counter, evidence_batch, evidence_day, tenant_pseudonym):
            connection.execute(delete(table))


def refusal(unsupported: str) -> Outcome:
    return replace(ALONE, result="provider_error", tools=None, unsupported=unsupported)


def report(database: Engine, *by: tuple[str, Outcome], stream: Stream) -> None:
    reports = [report_outcome(outcome, ENDPOINT, tenant) for tenant, outcome in by]
    data = encode_outcomes(make_batch(reports, f"b-{stream.name}"))
    stream.into(make_sink(database), [stream.unchained(RecordKind.OUTCOMES, data)])


def name_tenants(database: Engine, *tenants: str) -> None:
    rows = [{"pseudonym": f"p-{t}", "tenant": t, "created_at": NOW} for t in tenants]
    with writing(database) as connection:
        connection.execute(insert(tenant_pseudonym), rows)


def learned(database: Engine, days: int = 0) -> dict[str, tuple[str, ...]]:
    with reading(database) as connection:
        return dict(load_refusals(connection, NOW + timedelta(days=days)))


def test_refusals_of_two_tenants_are_learned_and_fade(log: Engine) -> None:
    name_tenants(log, "acme", "beta")
    seed = refusal("parameters.seed")
    report(log, ("acme", seed), ("beta", seed), stream=Stream())
    assert learned(log) == {ENDPOINT: ("parameters.seed",)}
    assert learned(log, days=7) == {ENDPOINT: ("parameters.seed",)}
    assert learned(log, days=8) == {}


def test_refusals_of_one_tenant_among_several_are_not_learned(log: Engine) -> None:
    name_tenants(log, "acme", "beta")
    report(log, *[("acme", refusal("parameters.seed"))] * 50, stream=Stream())
    assert learned(log) == {}


def test_the_pseudonyms_of_one_tenant_are_one_tenant(log: Engine) -> None:
    name_tenants(log, "acme", "beta", "gamma")
    with writing(log) as connection:
        connection.execute(tenant_pseudonym.update().values(tenant="acme"))
    seed = refusal("parameters.seed")
    report(log, ("acme", seed), ("beta", seed), stream=Stream())
    assert learned(log) == {}  # two refusals of the only tenant


def test_an_installation_without_tenants_learns_from_three_refusals(log: Engine) -> None:
    report(log, *[("", refusal("tool_choice.required"))] * 3, stream=Stream())
    assert learned(log) == {ENDPOINT: ("tool_choice.required",)}


def test_an_answer_to_the_same_tool_choice_clears_it(log: Engine) -> None:
    answered = replace(ALONE, tools=replace(SOUND_TOOLS, tool_choice="required"))
    refused = [("", refusal("tool_choice.required"))] * 3
    report(log, *refused, ("", answered), stream=Stream())
    assert learned(log) == {}
