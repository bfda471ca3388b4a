"""In which order the attempts of a decision are made: each endpoint once, and what a failure rules out left out."""

from __future__ import annotations

from collections.abc import Iterable

from assay.forward.taxonomy import Failed, Then
from assay.v1 import routing_pb2 as pb


class Route:
    """The attempts that are left."""

    def __init__(self, attempts: Iterable[pb.Attempt]) -> None:
        once: dict[str, pb.Attempt] = {}
        for each in attempts:
            once.setdefault(each.endpoint_id, each)
        self._left = list(once.values())
        self._lone = len(self._left) == 1

    def __len__(self) -> int:
        return len(self._left)

    def take(self) -> pb.Attempt:
        """The next attempt, which is made with that."""
        return self._left.pop(0)

    def after(self, attempt: pb.Attempt, failed: Failed) -> None:
        """Leave out what a failure rules out; the lone endpoint of a plan may have another try."""
        match failed.row.then:
            case Then.STOP:
                self._left.clear()
            case Then.MODEL:
                self._left = [each for each in self._left if each.model != attempt.model]
            case Then.ENDPOINT if self._lone and failed.row.again:
                self._left.append(attempt)
                self._lone = False
