"""Long-lived tasks of the forwarder: one that fails shows, is started again, and recovers."""

from __future__ import annotations

import asyncio

import grpc
import pytest
from structlog.testing import capture_logs
from tests.support.scripted_forwarding import ScriptedForwarder
from tests.support.waiting import eventually

from assay.forward.supervision import Supervisor, Troubles
from assay.journal.backoff import Backoff

pytestmark = pytest.mark.usefixtures("logging_of_every_level")
AT_ONCE = Backoff(first=0.0, longest=0.0)


class Work:
    """A task that fails so many times, and works then until it is cancelled."""

    def __init__(self, *failures: BaseException | None) -> None:
        self.troubles = Troubles("work")
        self.seen: list[str] = []
        self.works = asyncio.Event()
        self._failures = list(failures)

    async def run(self) -> None:
        self.seen.append(str(self.troubles))
        if self._failures:
            failure = self._failures.pop(0)
            if failure is not None:
                raise failure
            return
        self.troubles.recover_all()
        self.works.set()
        await asyncio.Event().wait()


def test_a_task_that_fails_returns_or_is_cancelled_is_started_again_and_shows_meanwhile() -> None:
    async def main() -> None:
        work = Work(ValueError("odd"), None, asyncio.CancelledError())
        supervisor = Supervisor(AT_ONCE)
        with capture_logs() as logs:
            async with supervisor.running(work):
                await asyncio.wait_for(work.works.wait(), 10)
        assert [seen.rpartition(": ")[2] for seen in work.seen] == [
            "", "odd", "it returned", "it was cancelled",
        ]  # fmt: skip
        assert str(work.troubles) == ""
        assert supervisor.restarts == {"work": 3}
        assert [each["event"] for each in logs] == ["task failed", "failing", "works again"]

    asyncio.run(main())


def test_a_trouble_is_logged_when_it_begins_and_when_it_ends() -> None:
    troubles = Troubles("part")
    with capture_logs() as logs:
        for number in range(3):
            troubles.fail("write", f"full {number}")
        troubles.fail("read", "broken")
        assert str(troubles) == "full 2; broken"
        troubles.recover("write")
        troubles.recover("write")
    assert [(each["event"], each["operation"]) for each in logs] == [
        ("failing", "write"), ("failing", "read"), ("works again", "write"),
    ]  # fmt: skip
    assert troubles.failures == {"write": 3, "read": 1}


def test_health_and_metrics_show_outcomes_that_the_service_does_not_take(
    world: ScriptedForwarder,
) -> None:
    world.decider.refusing = grpc.StatusCode.UNAVAILABLE
    try:
        world.ask("lab/s500.good")
        eventually(lambda: world.decider.refused)
        degraded = eventually(
            lambda: world.request("GET", "/healthz"), lambda got: got.json != {"status": "ok"}
        )
        assert (degraded.status, degraded.json["status"]) == (200, "degraded")
        assert "UNAVAILABLE" in degraded.json["causes"]["outcomes"]
        metrics = world.request("GET", "/metrics").body.decode()
        assert 'assay_forward_healthy{part="outcomes"} 0.0' in metrics
    finally:
        world.decider.refusing = None
    eventually(lambda: world.request("GET", "/healthz").json, lambda got: got == {"status": "ok"})
