"""Outcomes on their way from the spool to EvidenceService: batch by batch, until acknowledged.

How it works
------------
`OutcomeReporter` seals the open batch and sends the oldest until the service acknowledges it. Then
the batch is deleted. The service counts a batch id once, so sending it again, also by the next
process, changes nothing.

`RESPONSES` says, for each gRPC code, who is at fault. If it is the service, all batches wait in
their order. If it may be the batch, it waits alone, longer each time, and those behind it go first,
so that a batch that never succeeds stops no other. Only a batch that can never be accepted is set
aside. One whose endpoints are all unknown is set aside as well: the service has answered from
another catalog, and its outcomes may still be of use.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from enum import Enum
from typing import Final, NamedTuple

import grpc
import structlog

from assay.forward.spool import Spool, SpooledBatch
from assay.forward.supervision import Troubles
from assay.journal.backoff import Backoff
from assay.v1 import evidence_pb2 as pb, evidence_pb2_grpc

_LINGER_SECONDS: Final = 0.2
_TIMEOUT_SECONDS: Final = 10.0
_BACKOFF: Final = Backoff(first=0.1, longest=5.0)
_BATCH_BACKOFF: Final = Backoff(first=1.0, longest=60.0)
_MAX_HINT_SECONDS: Final = 60.0
_PATIENCE: Final = 5
"""After so many failures a batch lets others go first anyway: perhaps it ends the service."""
RETRY_HINT: Final = "grpc-retry-pushback-ms"
_UNKNOWN_ENDPOINT: Final = "unknown-endpoint"
log = structlog.get_logger("assay.forward")


class Consequence(Enum):
    """What becomes of a batch that is not accepted."""

    ALL_WAIT = "the service is at fault: all batches wait, in their order"
    BATCH_WAITS = "the batch may be at fault: it waits, and others go first"
    SET_ASIDE = "the batch can never be accepted"


class Response(NamedTuple):
    """What to do after a status, and why."""

    consequence: Consequence
    reason: str


_Code = grpc.StatusCode
_WAIT, _DEFER, _ASIDE = Consequence
RESPONSES: Final[Mapping[grpc.StatusCode, Response]] = {
    _Code.UNAVAILABLE: Response(_WAIT, "it is away, or starts, or nothing is published"),
    _Code.CANCELLED: Response(_WAIT, "the connection ended, for example by a proxy"),
    _Code.UNAUTHENTICATED: Response(_WAIT, "an operator can mend the credentials"),
    _Code.PERMISSION_DENIED: Response(_WAIT, "an operator can mend the permissions"),
    _Code.UNIMPLEMENTED: Response(_WAIT, "another server has the address, for a while"),
    _Code.FAILED_PRECONDITION: Response(_WAIT, "an operator can mend it: migrations"),
    _Code.DEADLINE_EXCEEDED: Response(_DEFER, "it is slow, or slow with this batch"),
    _Code.RESOURCE_EXHAUSTED: Response(_DEFER, "its disk is full, or the batch is too large"),
    _Code.ABORTED: Response(_DEFER, "a conflict, which a repetition may resolve"),
    _Code.INTERNAL: Response(_DEFER, "a fault, perhaps only with this batch"),
    _Code.UNKNOWN: Response(_DEFER, "a fault that is not ours, perhaps a proxy's"),
    _Code.DATA_LOSS: Response(_DEFER, "a fault on the way"),
    _Code.NOT_FOUND: Response(_DEFER, "not a status of this method, perhaps a proxy's"),
    _Code.ALREADY_EXISTS: Response(_DEFER, "not a status of this method"),
    _Code.OK: Response(_DEFER, "an answer that cannot be decoded"),
    _Code.INVALID_ARGUMENT: Response(_ASIDE, "the batch as a whole breaks the contract"),
    _Code.OUT_OF_RANGE: Response(_ASIDE, "the batch as a whole breaks the contract"),
}
"""Every code, with the reason for what is done."""


class OutcomeReporter:
    """Stores outcomes in the spool, and sends its batches while `run` runs.

    `rejected` counts outcomes by reason.
    """

    def __init__(self, spool: Spool, channel: grpc.aio.Channel) -> None:
        self.spool = spool
        self.troubles = Troubles("outcomes")
        self.rejected: Counter[str] = Counter()
        self.sent = 0
        self._report = evidence_pb2_grpc.EvidenceServiceStub(channel).ReportOutcomes
        self._failures = 0
        self._has_outcomes = asyncio.Event()
        self._at_once = asyncio.Event()

    def report(self, outcome: pb.Outcome, *, at_once: bool) -> None:
        """Store an outcome; it survives the end of this process from now on."""
        if self.spool.append(outcome) or at_once:
            self._at_once.set()
        self._has_outcomes.set()

    async def run(self) -> None:
        """Send batches until cancelled, at the latest 0.2 seconds after an outcome."""
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._has_outcomes.wait(), self.spool.delay())
            if self._has_outcomes.is_set():
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._at_once.wait(), _LINGER_SECONDS)
            self._has_outcomes.clear()
            self._at_once.clear()
            await self._send_due()

    async def flush(self) -> None:
        """Send everything that waits; wait as long as that is not possible."""
        while self.spool.waiting:
            await self._send_due()
            await asyncio.sleep(self.spool.delay() or 0.0)

    async def _send_due(self) -> None:
        """Send the batches that are due, until one is not accepted."""
        self.spool.seal()
        self.spool.repeat_failed()
        while (batch := self.spool.next_batch()) is not None:
            request = self.spool.read(batch)
            if request is not None and not await self._send(batch, request):
                return

    async def _send(self, batch: SpooledBatch, request: pb.ReportOutcomesRequest) -> bool:
        """Send a batch; return whether the next one may follow at once."""
        try:
            answer = await self._report(request, timeout=_TIMEOUT_SECONDS)
        except grpc.aio.AioRpcError as error:
            await self._wait_after(batch, error)
            return False
        except Exception:
            self.spool.defer(batch, _BATCH_BACKOFF)
            raise
        self._failures = 0
        self.troubles.recover_all()
        self.sent += answer.accepted
        reasons = Counter(each.reason for each in answer.refused)
        self.rejected.update(reasons)
        if reasons:
            log.warning("outcomes rejected", batch=request.batch_id, reasons=dict(reasons))
        if reasons[_UNKNOWN_ENDPOINT] == len(request.outcomes):
            self.spool.put_aside(batch, _UNKNOWN_ENDPOINT)
        else:
            self.spool.remove(batch)
        return True

    async def _wait_after(self, batch: SpooledBatch, error: grpc.aio.AioRpcError) -> None:
        """Do what the table says about a status, and wait before the next batch."""
        code, details = error.code(), error.details() or ""
        response = RESPONSES[code]
        if response.consequence is Consequence.SET_ASIDE:
            self.spool.put_aside(batch, code.name.lower(), details)
            return
        why = f"the service does not accept outcomes: {code.name}: {details}"
        self.troubles.fail("send", why)
        if response.consequence is Consequence.BATCH_WAITS:
            self.spool.defer(batch, _BATCH_BACKOFF)
        elif batch.failures >= _PATIENCE:
            self.spool.defer(batch, _BACKOFF)
        else:
            batch.failures += 1
        self._failures += 1
        await asyncio.sleep(max(_BACKOFF.wait(self._failures), _hint_of(error)))


def _hint_of(error: grpc.aio.AioRpcError) -> float:
    """Return the seconds that the service asks to wait, at most a minute."""
    hint = str(dict(error.trailing_metadata() or ()).get(RETRY_HINT, ""))
    return min(int(hint) / 1000, _MAX_HINT_SECONDS) if hint.isdecimal() else 0.0
