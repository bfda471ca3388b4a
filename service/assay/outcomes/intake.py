"""The reporter: takes batches of outcomes, each journalled before it is acknowledged."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from assay.decision_log.record import OUTCOMES, encode_outcomes
from assay.engine.errors import EvidenceNotKept
from assay.engine.snapshot.snapshot import Snapshot
from assay.journal.errors import JournalError
from assay.outcomes.checks import BatchResult, check_outcomes, require_batch
from assay.outcomes.outcome import OutcomeBatch, OutcomeGroup, OutcomeReport, group_outcomes


class Journals(Protocol):
    """What keeps records: `assay.journal.writer.Journal`."""

    def append(self, kind: int, payload: bytes) -> None:
        """Return once the record is kept; raise JournalError where it is not."""


class Knows(Protocol):
    """What knows endpoints and tenants: `assay.server.decider.Decider`."""

    def current(self) -> Snapshot:
        """The snapshot in force."""

    def pseudonym(self, journal: Journals, tenant: str, at_us: int) -> str:
        """What the log calls a tenant."""


@dataclass(frozen=True, slots=True)
class OutcomeSubmission:
    """A batch as it came in; its outcomes are read once."""

    source: str
    batch_id: str
    size: int
    outcomes: Iterable[OutcomeReport]


class OutcomeIntake:
    """Checks outcomes, keeps those that are taken in the journal, and tells `heed` of them."""

    def __init__(
        self,
        knows: Knows,
        journal: Journals,
        heed: Callable[[Sequence[OutcomeGroup], int], None],
        *,
        clock_us: Callable[[], int] = lambda: time.time_ns() // 1000,
    ) -> None:
        self._knows = knows
        self._journal = journal
        self._heed = heed
        self._clock_us = clock_us
        self._providers: tuple[Snapshot, Mapping[str, str]] | None = None

    def report(self, sent: OutcomeSubmission) -> BatchResult:
        """Take a batch apart and keep what is taken; raises InvalidField, SnapshotUnavailable and EvidenceNotKept."""
        require_batch(sent.source, sent.batch_id, sent.size)
        providers, now_us = self.providers(), self._clock_us()
        found = check_outcomes(sent.outcomes, providers, now_us)
        if found.accepted:
            try:
                tenants = {reported.tenant for reported in found.accepted}
                names = {
                    each: self._knows.pseudonym(self._journal, each, now_us)
                    for each in sorted(tenants)
                }
                groups = group_outcomes(found.accepted, providers, names)
                self._journal.append(
                    OUTCOMES,
                    encode_outcomes(OutcomeBatch(sent.source, sent.batch_id, now_us, groups)),
                )
            except JournalError as error:
                raise EvidenceNotKept(str(error)) from error
            self._heed(groups, now_us)
        return found

    def snapshot(self) -> Snapshot:
        """The snapshot in force; raises SnapshotUnavailable before the first."""
        return self._knows.current()

    def providers(self) -> Mapping[str, str]:
        """The provider of every endpoint in the snapshot in force."""
        snapshot, known = self.snapshot(), self._providers
        if known is None or known[0] is not snapshot:
            verdicts = (verdict for view in snapshot.models.values() for verdict in view.clean)
            known = self._providers = (
                snapshot,
                {each.endpoint_id: each.provider for each in verdicts},
            )
        return known[1]
