"""Which endpoint served a session last, so that its next request can go there again."""

from __future__ import annotations

from typing import Final, NamedTuple

from cachetools import LRUCache

from assay.v1 import routing_pb2 as pb

_MAX_SESSIONS: Final = 65_536  # about 40 MB
_SUFFIX: Final = ":"


class _Served(NamedTuple):
    endpoint_id: str
    decision_id: str


class SessionMemory:
    """The sessions that were served last, each by tenant, session and model.

    The model is the one requested, without suffixes: a session that uses two models in turn stays
    with one endpoint of each. All methods run on the event loop, so there is no lock.
    """

    def __init__(self, max_sessions: int = _MAX_SESSIONS) -> None:
        self._served: LRUCache[tuple[str, str, str], _Served] = LRUCache(max_sessions)

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
