"""Made-up decisions: skewed tenants, models and providers, repeated findings, rare events."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache

from assay.decision_log.decision_row import DerivedDecision
from assay.journal.sink import JournalRecord

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
SPAN = timedelta(days=180)
RECORD_BYTES = 2400  # a plan of 20 endpoints as OpenRouter's catalog has them
SETS = 3000
KEY = "0123456789abcdef"


def skewed(draw: random.Random, size: int) -> int:
    """Draw a number below `size`; small ones are frequent."""
    return int(size * draw.random() ** 3)


@cache
def finding_sets() -> Sequence[tuple[str, Mapping[str, tuple[str, ...]]]]:
    """Return sets of findings, frequent ones first; provider-59 is excluded in a few rare ones."""
    draw, made = random.Random(7), []
    for number in range(SETS):
        providers = draw.sample(range(58), 16)
        out = draw.randint(0, 8)
        left_out, attempted = sorted(providers[:out]), sorted(providers[out:])
        if number % 1000 == 999:
            left_out.append(59)
        demoted = [f"e-{number % 58}"] if number % 100 == 99 else []
        words = {
            "attempted_provider": tuple(f"provider-{p:02}" for p in attempted),
            "attempted_endpoint": tuple(f"acme/large@provider-{p:02}" for p in attempted),
            "excluded_provider": tuple(f"provider-{p:02}" for p in left_out),
            "excluded_endpoint": tuple(f"acme/large@provider-{p:02}" for p in left_out),
            "reason": tuple(
                sorted(draw.sample(("ACCURACY", "EVIDENCE", "PRICE", "STATUS"), min(out, 2)))
            ),
            "demoted_endpoint": tuple(demoted),
        }
        made.append((f"{number:032x}", words))
    return made


def rows(count: int, seed: int = 1) -> Iterator[DerivedDecision]:
    """Yield decisions in the order of time."""
    draw, sets = random.Random(seed), finding_sets()
    for number in range(count):
        at = BEGIN + SPAN * (number / count)
        name, words = sets[skewed(draw, SETS)]
        milliseconds = int(at.timestamp() * 1000)
        yield DerivedDecision(
            decision_id=f"{milliseconds:012x}7{draw.getrandbits(76):019x}",
            decided_at=at,
            tenant=f"tp_{skewed(draw, 400):020x}",
            request_id=f"req-{draw.getrandbits(64):016x}",
            model=f"acme/model-{skewed(draw, 120)}",
            variant=("", "", "", "exacto", "nitro", "floor", "exacto:nitro")[skewed(draw, 7)],
            tools=skewed(draw, 20),
            attempts=len(words["attempted_provider"]),
            excluded=len(words["excluded_provider"]),
            first_provider=words["attempted_provider"][0],
            first_endpoint=words["attempted_endpoint"][0],
            availability="",
            policy_revision=1 + 24 * number // count,
            snapshot_id=f"{4000 * number // count:064x}",
            engine_version="0.1.0",
            demoted=len(words["demoted_endpoint"]),
            plan_ns=draw.randint(40_000, 900_000),
            finding_set=name,
            words=words,
            tried=words["attempted_endpoint"],
        )


def journalled(first: int, count: int, draw: random.Random) -> list[JournalRecord]:
    """Records as they come from the journal."""
    return [
        JournalRecord(n, 1, draw.randbytes(RECORD_BYTES), draw.randbytes(32))
        for n in range(first, first + count)
    ]
