"""The health of each part of a service, with its cause.

Nothing here touches the database or a file: a check must not wait for what it checks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import structlog

from assay.curator.supervised_loop import LoopLate, SupervisedLoop
from assay.engine.errors import StoreUnavailable
from assay.rpc.catalog import NAME as CATALOG
from assay.rpc.evidence import NAME as EVIDENCE
from assay.rpc.routing import NAME as ROUTING
from assay.server.service import Service

STORE: Final = "assay.store"
JOURNAL: Final = "assay.journal"
SNAPSHOT: Final = "assay.snapshot"
POLICY: Final = "assay.policy"
CURATOR: Final = "assay.curator"
Causes = Mapping[str, str]
"""Why each part cannot serve; empty for a part that can."""

_LOGGED: Final = frozenset({ROUTING, EVIDENCE})
_NEED_SNAPSHOT: Final = _LOGGED | {CATALOG}
_NO_SNAPSHOT: Final = "there is no snapshot yet"
log = structlog.get_logger("assay.health")


def causes_of(service: Service, refreshing: SupervisedLoop) -> dict[str, str]:
    """Return the cause of each part that the service has.

    Decisions and outcomes need a snapshot and a log that accepts records. A database that can be
    read but takes no records counts as unavailable.
    """
    has_snapshot, writer = service.view is not None, service.log_writer
    troubles = {} if writer is None else writer.troubles
    rejecting = "" if writer is None or writer.accepting else "the journal accepts no records"
    found: dict[str, str] = {}
    for name in _NEED_SNAPSHOT & {each.name for each in service.services}:
        found[name] = "" if has_snapshot else _NO_SNAPSHOT
        if name in _LOGGED:
            found[name] = found[name] or rejecting
    if found:
        found[""] = ("" if has_snapshot else _NO_SNAPSHOT) or rejecting
    refresh = refreshing.trouble or service.refresh_error
    curating = service.curator_loop.trouble if service.curator_loop else None
    concerned = next(filter(_concerns_store, (refresh, curating)), None)
    found[STORE] = _cause(troubles.get("shipping", concerned))
    if writer is not None:
        found[JOURNAL] = _cause(troubles.get("journal", rejecting))
    if {"judge", "curate"} & service.roles:
        found[POLICY] = _cause(service.rule_files.error)
    if service.follower is not None or service.judging is not None:
        found[SNAPSHOT] = _cause(refresh) or ("" if has_snapshot else _NO_SNAPSHOT)
    if service.curator_loop is not None:
        found[CURATOR] = _cause(curating)
    return found


def _cause(error: BaseException | str | None) -> str:
    """Return the message of an error, or its name if it has none; empty without an error."""
    if error is None or isinstance(error, str):
        return error or ""
    return str(error) or type(error).__name__


def _concerns_store(error: BaseException | None) -> bool:
    """Whether the database may be the cause; a loop that hangs most likely waits for it."""
    return isinstance(error, (StoreUnavailable, LoopLate))


class HealthReporter:
    """Passes each part's health to `set_serving`, and logs each change with its cause."""

    def __init__(
        self, causes: Callable[[], Mapping[str, str]], set_serving: Callable[[str, bool], None]
    ) -> None:
        self.current: Causes = {}
        self._causes = causes
        self._set_serving = set_serving

    def report(self) -> None:
        """Report the health of now."""
        found = dict(self._causes())
        for name, cause in found.items():
            before = self.current.get(name)
            if before is None or bool(before) != bool(cause):
                self._set_serving(name, not cause)
                self._log(name or "all", cause, before or "")
        self.current = found

    @staticmethod
    def _log(service: str, cause: str, before: str) -> None:
        if cause:
            log.warning("not serving", service=service, cause=cause)
        elif before:
            log.info("serving again", service=service, cause_before=before)
