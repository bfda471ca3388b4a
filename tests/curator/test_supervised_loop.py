"""A supervised loop survives every error, retries with backoff, and knows if it is late."""

from __future__ import annotations

import threading
from dataclasses import dataclass

import pytest
from tests.support.waiting import eventually

from assay.curator.supervised_loop import SupervisedLoop
from assay.journal.backoff import Backoff

QUICK = Backoff(first=0.001, longest=0.01)
WITHOUT_JITTER = Backoff(first=1.0, longest=4.0, draw=lambda: 1.0)


@dataclass
class Seconds:
    """A monotonic clock that the test sets."""

    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize("error", [ValueError("a fault of ours"), SystemExit(1), MemoryError()])
def test_no_error_ends_the_thread(error: BaseException) -> None:
    rounds, is_failing = 0, True

    def work() -> None:
        nonlocal rounds
        rounds += 1
        if is_failing:
            raise error

    loop = SupervisedLoop("test", work, 0.001, late=60, backoff=QUICK)
    loop.start()
    eventually(lambda: rounds >= 3)
    assert loop.trouble is error
    is_failing = False
    eventually(lambda: loop.trouble is None)
    loop.end()
    loop.join(60)
    assert not any(thread.name == "assay-test" for thread in threading.enumerate())


def test_failures_are_retried_with_backoff() -> None:
    failing = [True, True, True, True, False, True]

    def work() -> None:
        if failing.pop(0):
            raise ValueError

    loop = SupervisedLoop("test", work, 0.1, late=60, backoff=WITHOUT_JITTER)
    assert [loop.run_round() for _ in range(6)] == [1, 2, 4, 4, 0.1, 1]


def trouble(loop: SupervisedLoop) -> str:
    return str(loop.trouble or "")


def test_a_round_that_hangs_is_late_until_it_shows_progress() -> None:
    clock, hanging, started = Seconds(), threading.Event(), threading.Event()

    def work() -> None:
        started.set()
        hanging.wait()

    loop = SupervisedLoop("test", work, 1.0, late=10.0, steady=clock)
    loop.start()
    started.wait()
    clock.now = 11.0
    assert trouble(loop) == ""
    clock.now = 12.0
    assert trouble(loop) == "test: no progress for 12 s"
    loop.show_progress()
    assert trouble(loop) == ""
    clock.now = 24.0
    assert trouble(loop) == "test: no progress for 12 s"
    hanging.set()
    eventually(lambda: loop.trouble is None)
    loop.end()
    loop.join(60)
