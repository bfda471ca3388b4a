"""Which endpoint served a session last, so that its next request can go there again."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, NamedTuple

from cachetools import TTLCache

from assay.v1 import routing_pb2 as pb

_MAX_SESSIONS: Final = 65_536  # about 40 MB
_MAX_SECONDS: Final = 24 * 3600.0
_SUFFIX: Final = ":"


class _Served(NamedTuple):
    endpoint_id: str
    decision_id: str


class SessionMemory:
    """The sessions that were served last, each by tenant, session and model.

    The model is the one requested, without suffixes: a session that uses two models in turn stays
    with one endpoint of each. A session that is not served for a day is forgotten. All methods run
    on the event loop, so there is no lock.
    """

    def __init__(
        self,
        max_sessions: int = _MAX_SESSIONS,
        max_seconds: float = _MAX_SECONDS,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self._served: TTLCache[tuple[str, str, str], _Served] = TTLCache(
            max_sessions, max_seconds, steady
        )

    @property
    def size(self) -> int:
        """How many sessions are remembered."""
        return len(self._served)

    def recall(self, question: pb.DecideRequest) -> None:
        """Add to a question the endpoint and the decision that served its session last."""
        served = self._served.get(_key(question)) if question.session_id else None
        if served is not None:
            question.previous_endpoint_id = served.endpoint_id
            question.previous_decision_id = served.decision_id

    def remember(self, question: pb.DecideRequest, endpoint_id: str, decision_id: str) -> None:
        """Store which endpoint has served the session of a question."""
        if question.session_id:
            self._served[_key(question)] = _Served(endpoint_id, decision_id)


def _key(question: pb.DecideRequest) -> tuple[str, str, str]:
    return question.tenant, question.session_id, question.model.partition(_SUFFIX)[0]
