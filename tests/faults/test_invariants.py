"""The checker of the fault harness notices each kind of broken promise."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, text
from tests.support.curator_processes import pools_by_hour
from tests.support.faults.invariants import (
    Promises,
    Witnesses,
    count_violations,
    health_violations,
    log_violations,
    pool_violations,
)
from tests.support.faults.lives import LogLife, ship_until_done
from tests.support.faults.workload import (
    encode_decision,
    make_batch,
    make_decision_id,
    traffic_of_hour,
)

from assay.journal.sink import RecordKind
from assay.outcomes.checks import HOUR_US
from assay.outcomes.outcome import encode_outcomes
from assay.store.database import open_database, writing

HOUR = 495_312
AT_US = HOUR * HOUR_US


@pytest.fixture
def database(sqlite_template: Path, tmp_path: Path) -> Iterator[Engine]:
    path = tmp_path / "assay.db"
    path.write_bytes(sqlite_template.read_bytes())
    opened = open_database(f"sqlite:///{path}")
    yield opened
    opened.dispose()


@pytest.fixture
def kept(database: Engine, tmp_path: Path) -> tuple[Promises, Witnesses]:
    """Promises that a process made and kept, and what its log is verified with."""
    promises = Promises()
    life = LogLife(tmp_path / "journal", database)
    for number in range(4):
        decision_id = make_decision_id(number)
        life.append(RecordKind.DECISION, encode_decision(decision_id, AT_US))
        promises.attempted.add(decision_id)
        promises.answered.append(decision_id)
    batch = make_batch("batch", AT_US, traffic_of_hour(HOUR, 0, 4), promises.answered[:2])
    life.append(RecordKind.OUTCOMES, encode_outcomes(batch))
    promises.acknowledged.add(promises.send(batch))
    ship_until_done(life.ship, 50)
    life.close()
    witnesses = Witnesses({life.signer.key_id: life.signer.public_key}, life.heads.read())
    return promises, witnesses


def found(database: Engine, promises: Promises, witnesses: Witnesses) -> str:
    violations = [*log_violations(database, promises, witnesses)]
    return "\n".join([*violations, *count_violations(database, promises)])


def test_kept_promises_have_no_violation(
    database: Engine, kept: tuple[Promises, Witnesses]
) -> None:
    assert not found(database, *kept)


LAST = make_decision_id(3)
TAMPERING = {
    "DELETE FROM decision WHERE seq = 4": f"decision {LAST} was answered and is not logged",
    "DELETE FROM journal_record WHERE seq = 2": "missing at 2",
    "UPDATE journal_record SET chain = x'00' WHERE seq = 3": "altered at 3",
    "UPDATE evidence_counter SET requests = requests * 2": "evidence_counter: ",
    "UPDATE evidence_day SET errored_requests = 0": "evidence_day: ",
    "DELETE FROM service_counter": "service_counter: nothing instead of",
    "DELETE FROM evidence_batch": "batch batch was acknowledged and is not counted",
}


@pytest.mark.parametrize("statement", TAMPERING)
def test_a_broken_promise_is_a_violation(
    database: Engine, kept: tuple[Promises, Witnesses], statement: str
) -> None:
    with writing(database) as connection:
        assert connection.execute(text(statement)).rowcount
    assert TAMPERING[statement] in found(database, *kept)


def test_a_decision_that_was_never_made_is_a_violation(
    database: Engine, kept: tuple[Promises, Witnesses]
) -> None:
    kept[0].attempted.discard(LAST)
    assert f"decision {LAST} was never made" in found(database, *kept)


def test_other_pools_than_undisturbed_are_a_violation(database: Engine) -> None:
    undisturbed = pools_by_hour(database)
    assert not [*pool_violations(database, undisturbed)]
    undisturbed["states"] = [("exacto", "lab/pooled@steady")]
    assert [*pool_violations(database, undisturbed)]


@pytest.mark.parametrize(
    ("cause", "is_wrong", "violations"), [("x", True, 0), (None, True, 1), ("x", False, 1)]
)
def test_health_without_a_cause_or_with_a_needless_one_is_a_violation(
    cause: str | None, *, is_wrong: bool, violations: int
) -> None:
    assert len([*health_violations({"part": cause}, is_wrong=is_wrong)]) == violations
