"""The attempts of a decision that are left, and what a failure does to them."""

from __future__ import annotations

from collections.abc import Sequence

from assay.forward.taxonomy import AttemptError, NextStep
from assay.v1 import routing_pb2 as pb


class AttemptQueue:
    """Attempts in the order of the decision; it is false once none is left.

    An endpoint that rejects a request as the caller's fault may be wrong. So one more endpoint of
    the model is asked, and the model is given up when that one agrees.
    """

    def __init__(self, attempts: Sequence[pb.Attempt]) -> None:
        self._left = list(attempts)
        self._may_repeat = len(attempts) == 1
        self._rejected_once: set[str] = set()

    def __len__(self) -> int:
        return len(self._left)

    def take(self) -> pb.Attempt:
        """Remove and return the next attempt."""
        return self._left.pop(0)

    def apply(self, failed: pb.Attempt, error: AttemptError) -> None:
        """Remove what the failure of an attempt rules out, or repeat it if it was the only one."""
        match error.kind.next_step:
            case NextStep.STOP:
                self._left = []
            case NextStep.CONFIRM if failed.model in self._rejected_once:
                self._left = [each for each in self._left if each.model != failed.model]
            case NextStep.CONFIRM:
                self._rejected_once.add(failed.model)
            case NextStep.ENDPOINT if self._may_repeat and error.kind.retries_alone:
                self._left.append(failed)
                self._may_repeat = False
