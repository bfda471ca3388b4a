"""The curator's clock refuses jumps, and says which clock to set right."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import pytest
from sqlalchemy import Engine
from tests.support.curated_pool import (
    FIRST,
    START,
    FixedRules,
    import_observations,
    read_state,
)

from assay.curator.clock import ClockUntrusted, CuratorClock, seconds_since_boot
from assay.curator.curator import Curator
from assay.curator.lease import RowLeaseClient
from assay.curator.loop import CuratorLoop
from assay.server.settings import wall_clock
from assay.store.clock import DatabaseTime, database_time
from assay.store.pools import last_hour

HOURS = timedelta(hours=2)
SECOND = timedelta(seconds=1)


@dataclass
class Clocks:
    """Three clocks that a test sets."""

    now: datetime = START
    seconds: float = 0.0
    other: DatabaseTime | None = None

    def trusted(self) -> CuratorClock:
        return CuratorClock(lambda: self.now, lambda: self.other, lambda: self.seconds)

    def pass_(self, span: timedelta) -> None:
        self.now += span
        self.seconds += span.total_seconds()


def remote(now: datetime) -> DatabaseTime:
    return DatabaseTime(now, is_remote=True)


@pytest.mark.parametrize("span", [SECOND, HOURS, timedelta(days=95)])
def test_time_that_passes_is_no_jump(span: timedelta) -> None:
    clocks = Clocks()
    trusted = clocks.trusted()
    for _ in range(3):
        clocks.pass_(span)
        assert trusted() == clocks.now


@pytest.mark.parametrize("database", [None, "local"])
def test_a_jump_ahead_is_refused_until_the_clock_is_set_back(database: str | None) -> None:
    clocks = Clocks()
    trusted = clocks.trusted()
    clocks.now += timedelta(days=95)
    clocks.other = DatabaseTime(clocks.now, is_remote=False) if database else None
    for _ in range(3):
        with pytest.raises(ClockUntrusted, match="jumped ahead by 95 days"):
            trusted()
    clocks.now -= timedelta(days=95)
    clocks.other = None
    clocks.pass_(HOURS)
    assert trusted() == START + HOURS


def test_a_process_that_starts_after_an_outage_trusts_its_clock() -> None:
    clocks = Clocks(now=START + timedelta(days=5))
    assert clocks.trusted()() == clocks.now


def test_a_clock_that_is_set_back_is_trusted_and_read_from_then_on() -> None:
    clocks = Clocks()
    trusted = clocks.trusted()
    clocks.now -= HOURS
    assert trusted() == START - HOURS
    clocks.now += HOURS
    with pytest.raises(ClockUntrusted):
        trusted()


@pytest.mark.parametrize("wrong", [HOURS, -HOURS, timedelta(minutes=2)])
def test_a_clock_that_differs_from_the_database_is_refused(wrong: timedelta) -> None:
    clocks = Clocks(now=START + wrong, other=remote(START))
    with pytest.raises(ClockUntrusted, match="the database's 2026-07-04 00:00 UTC: set the wrong"):
        clocks.trusted()()


def test_a_correction_that_the_database_of_another_host_confirms_is_no_jump() -> None:
    clocks = Clocks(other=remote(START))
    trusted = clocks.trusted()
    clocks.now += HOURS
    clocks.other = remote(clocks.now)
    assert trusted() == clocks.now


def test_the_database_of_this_host_is_no_second_clock(store: Engine, backend: str) -> None:
    found = database_time(store)
    if backend == "sqlite":
        assert found is None
    else:
        assert found is not None
        assert not found.is_remote
        assert abs(found.now - wall_clock()) < timedelta(minutes=1)
    assert seconds_since_boot() > 0


def test_a_jump_ahead_closes_no_hour_and_curating_goes_on_afterwards(store: Engine) -> None:
    import_observations(store)
    clocks = Clocks(now=START + timedelta(hours=3, minutes=5))
    curator = Curator(store, FixedRules(), clocks.trusted(), lambda _: None)
    client = RowLeaseClient(store, "one", lambda: START)
    loop = CuratorLoop(curator, client, 0.01, steady=lambda: clocks.seconds)
    loop.holder.refresh()
    loop.work()
    before = read_state(store)
    for _ in range(3):
        clocks.now += timedelta(days=95)
        clocks.pass_(timedelta(minutes=1))
        loop.work()
        assert "jumped ahead" in str(loop.trouble)
        clocks.now -= timedelta(days=95)
    assert read_state(store) == before
    clocks.pass_(HOURS)
    loop.work()
    assert loop.trouble is None
    assert last_hour(store) == FIRST + 5
