"""Intake of outcomes: a batch is checked and journaled before it is acknowledged."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Final

from assay.engine.errors import EvidenceNotKept, SnapshotUnavailable
from assay.engine.snapshot.snapshot import Snapshot
from assay.journal.errors import JournalError
from assay.journal.sink import RecordKind
from assay.outcomes.bounded_map import BoundedMap
from assay.outcomes.checks import (
    AcceptedReport,
    Attempt,
    BatchResult,
    check_outcomes,
    require_batch,
)
from assay.outcomes.outcome import (
    OutcomeBatch,
    OutcomeGroup,
    OutcomeReport,
    RejectedCount,
    encode_outcomes,
    group_outcomes,
)

REMEMBERED: Final = 20_000
"""Attempts, at least, that a process remembers as reported."""

Append = Callable[[int, bytes], None]
"""Appends a record to the journal; raises JournalError if it is not stored."""


@dataclass(frozen=True, slots=True)
class OutcomeSubmission:
    """A batch as received; its outcomes are iterated once."""

    source: str
    batch_id: str
    size: int
    outcomes: Iterable[OutcomeReport]


class OutcomeIntake:
    """Checks outcomes, journals the accepted ones, and passes them to `update_health`.

    `snapshot` returns the active snapshot and raises SnapshotUnavailable before the first.
    `pseudonym_of` maps a tenant's name, at a time in microseconds, to its pseudonym in the log; its
    last argument holds the tenants with settings or preferences.
    `rejected` counts rejected outcomes by reason.
    """

    def __init__(
        self,
        snapshot: Callable[[], Snapshot],
        pseudonym_of: Callable[[str, int, Append, Container[str]], str],
        append: Append,
        update_health: Callable[[Sequence[OutcomeGroup], int], None],
        *,
        clock_us: Callable[[], int] = lambda: time.time_ns() // 1000,
    ) -> None:
        self.snapshot = snapshot
        self._pseudonym_of = pseudonym_of
        self._append = append
        self._update_health = update_health
        self._clock_us = clock_us
        self._providers: tuple[Snapshot, Mapping[str, str]] | None = None
        self._reported: BoundedMap[Attempt, AcceptedReport] = BoundedMap(REMEMBERED)
        self.rejected: Counter[str] = Counter()
        self._rejecting = Lock()

    def take(self, sent: OutcomeSubmission) -> BatchResult:
        """Check a batch and journal what is accepted.

        Raises InvalidField, SnapshotUnavailable and EvidenceNotKept.
        """
        require_batch(sent.source, sent.batch_id, sent.size)
        snapshot, now_us = self.snapshot(), self._clock_us()
        providers = self._providers_in(snapshot)
        if not providers:
            raise SnapshotUnavailable("its catalog is empty")
        result = check_outcomes(
            sent.outcomes,
            providers,
            now_us,
            batch=(sent.source, sent.batch_id),
            reported=self._reported.get,
        )
        if result.accepted or result.tallied:
            self._journal(sent, result, snapshot, now_us)
        if result.rejected:
            with self._rejecting:
                self.rejected.update(fault.reason for _, fault in result.rejected)
        return result

    def _providers_in(self, snapshot: Snapshot) -> Mapping[str, str]:
        """Return the provider of each endpoint in the catalog."""
        known = self._providers
        if known is None or known[0] is not snapshot:
            verdicts = [v for view in snapshot.models.values() for v in view.endpoints]
            known = self._providers = snapshot, {v.endpoint_id: v.provider for v in verdicts}
        return known[1]

    @property
    def remembered(self) -> int:
        """How many attempts are remembered as reported."""
        return len(self._reported)

    def _journal(
        self,
        sent: OutcomeSubmission,
        result: BatchResult,
        snapshot: Snapshot,
        now_us: int,
    ) -> None:
        """Store the accepted outcomes, and how many were rejected as late or reported before."""
        try:
            tenants = sorted({report.tenant for report in result.accepted})
            names = {
                name: self._pseudonym_of(name, now_us, self._append, snapshot.tenants)
                for name in tenants
            }
            groups = group_outcomes(result.accepted, self._providers_in(snapshot), names)
            rejected = tuple([RejectedCount(*key, n) for key, n in result.tallied.items()])
            batch = OutcomeBatch(sent.source, sent.batch_id, now_us, groups, rejected)
            self._append(RecordKind.OUTCOMES, encode_outcomes(batch))
        except JournalError as error:
            raise EvidenceNotKept(str(error)) from error
        # INVARIANT: an attempt is remembered only after its report is journaled.
        self._reported.update(result.attempts)
        self._update_health(groups, now_us)
