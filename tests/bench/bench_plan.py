"""Planning one request for twenty endpoints, against the same plan in plain Python."""

from __future__ import annotations

import pytest
from tests.bench.ledger import Ledger
from tests.bench.measure import compared
from tests.bench.plan_by_hand import plan_by_hand
from tests.support.population import AS_OF, MODEL, snapshot

from assay.engine.decide.plan import Moment, plan
from assay.engine.world.catalog import Percentiles
from assay.engine.world.request import MaxPrice, ProviderPreferences, Request

PREFERENCES = ProviderPreferences(
    ignore=("provider-03",),
    max_price=MaxPrice(prompt=1.0),
    data_collection="deny",
    require_parameters=True,
)
ORDER = ProviderPreferences(
    order=("provider-07", "provider-02"), preferred_min_throughput=Percentiles(p50=60.0)
)
CHEAPEST = ProviderPreferences(sort="price")


@pytest.mark.parametrize(
    ("name", "request_"),
    [
        pytest.param("plain", Request(MODEL), id="plain"),
        pytest.param(
            "tools", Request(MODEL, tools=2, parameters=("tools", "tool_choice")), id="tools"
        ),
        pytest.param(":exacto, tools", Request(f"{MODEL}:exacto", tools=2), id="exacto"),
        pytest.param(
            "tools and preferences",
            Request(
                MODEL,
                tools=2,
                parameters=("tools",),
                prompt_tokens=1000,
                max_tokens=4000,
                provider=PREFERENCES,
            ),
            id="preferences",
        ),
        pytest.param(
            ":exacto by price",
            Request(f"{MODEL}:exacto", tools=2, provider=CHEAPEST),
            id="exacto by price",
        ),
        pytest.param(
            "tenant, order, speed", Request(MODEL, tenant="tenant-1", provider=ORDER), id="order"
        ),
    ],
)
def test_planning_takes_at_most_twice_as_long_as_by_hand(
    name: str, request_: Request, ledger: Ledger
) -> None:
    world, moment = snapshot(), Moment(AS_OF, b"\x07" * 32)
    ours, theirs = plan(request_, world, moment), plan_by_hand(request_, world, moment)
    assert ours.canonical() == theirs.canonical()
    assert ours == theirs
    found = compared(
        lambda: plan(request_, world, moment),
        lambda: plan_by_hand(request_, world, moment),
        calls=40,
    )
    ledger.slower(f"plan, 20 endpoints, {name}", found, at_most=2.0)
