"""A process that is suspended, even inside a transaction, blocks the others for seconds only."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest
from sqlalchemy import Engine, insert
from tests.support.curated_pool import START
from tests.support.curator_processes import closed_hours, lease_holder
from tests.support.processes import environment, serving
from tests.support.waiting import eventually

from assay.store.database import writing
from assay.store.tables import provider

CURATE = ("--target", "curate", "--database")
IN_A_TRANSACTION = """
import sys, time
from sqlalchemy import text
from assay.store.database import open_database, writing
with writing(open_database(sys.argv[1])) as connection:
    connection.execute(text("UPDATE world_revision SET number = number + 1"))
    print("writing", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def backend() -> str:
    return "postgresql"


@pytest.mark.slow
def test_a_writer_that_is_suspended_loses_its_lock(database_url: str, store: Engine) -> None:
    command = [sys.executable, "-c", IN_A_TRANSACTION, database_url]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment(), text=True
    ) as writer:
        try:
            assert writer.stdout is not None
            assert writer.stdout.readline() == "writing\n"
            writer.send_signal(signal.SIGSTOP)
            with writing(store) as connection:
                connection.execute(insert(provider), {"provider": "other", "created_at": START})
        finally:
            writer.kill()


@pytest.mark.slow
def test_a_curator_that_is_suspended_is_replaced_and_continues_without_the_lease(
    database_url: str, store: Engine
) -> None:
    with serving(*CURATE, database_url) as one, serving(*CURATE, database_url) as other:
        pid = eventually(lambda: lease_holder(store))
        first, second = (one, other) if one.process.pid == pid else (other, one)
        eventually(lambda: closed_hours(store))
        first.process.send_signal(signal.SIGSTOP)
        eventually(lambda: lease_holder(store) == second.process.pid)
        first.process.send_signal(signal.SIGCONT)
        eventually(lambda: any(line["event"] == "lease lost" for line in list(first.log)))
        assert (first.stop(), second.stop()) == (0, 0)
