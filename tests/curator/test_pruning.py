"""What keeps outcomes from counting twice is bounded: the curator prunes it when hours close."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from sqlalchemy import Engine, insert, select
from tests.support.curated_pool import START, CuratorBench, import_observations
from tests.support.outcomes import SOUND, make_batch, report_outcome

from assay.decision_log.outcome_matching import waiting_limit
from assay.engine.world.clock import EPOCH
from assay.outcomes.outcome import Uncounted
from assay.store.database import reading, writing
from assay.store.evidence_tables import evidence_batch, uncounted_outcome, waiting_outcome
from assay.store.types import MICROSECOND

DAY = timedelta(days=1)


@pytest.fixture
def bench(store: Engine) -> CuratorBench:
    import_observations(store, hours=2)
    return CuratorBench(store)


def claim(database: Engine, *received: datetime) -> None:
    """Record batches as counted at these times."""
    rows = [
        {"source": "gw", "batch_id": f"b-{number}", "stream": "s", "received_at": at}
        for number, at in enumerate(received)
    ]
    with writing(database) as connection:
        connection.execute(insert(evidence_batch), rows)


def wait_for_decisions(database: Engine, *received: datetime) -> None:
    """Let outcomes wait since these times."""
    (group,) = make_batch([report_outcome(SOUND)], "b").groups
    rows = [
        {
            "decision_id": f"d-{number}", "attempt": 1, "fingerprint": number, "received_at": at,
            "source": "gw", "tenant": "", "endpoint_id": group.endpoint_id,
            "provider": group.provider, "outcome": '[0,"answered"]',
        }
        for number, at in enumerate(received)
    ]  # fmt: skip
    with writing(database) as connection:
        connection.execute(insert(waiting_outcome), rows)


def test_batches_and_counts_without_effect_are_deleted_when_they_are_old(
    bench: CuratorBench, store: Engine
) -> None:
    claim(store, START - 31 * DAY, START - 29 * DAY, START)
    today = (START - EPOCH).days
    with writing(store) as connection:
        for day in (today - 61, today - 59):
            cells = (day, Uncounted.LATE.value, "gw", "e", 1)
            connection.execute(insert(uncounted_outcome).values(cells))
    bench.work_until(1)
    with reading(store) as connection:
        left = connection.execute(select(evidence_batch.c.batch_id)).scalars().all()
        days = connection.execute(select(uncounted_outcome.c.day)).scalars().all()
    assert (sorted(left), days) == (["b-1", "b-2"], [today - 59])
    assert bench.curator.sizes == {
        "evidence_batch": 2, "uncounted_outcome": 1, "waiting_outcome": 0,
    }  # fmt: skip


def test_the_oldest_of_too_many_waiting_outcomes_are_given_up(store: Engine) -> None:
    received = [START + number * MICROSECOND for number in range(5)]
    wait_for_decisions(store, *received)
    assert waiting_limit(store, START - DAY, most=5) == START - DAY
    assert waiting_limit(store, START - DAY, most=3) == received[1] + MICROSECOND
    assert waiting_limit(store, START + DAY, most=3) == START + DAY
