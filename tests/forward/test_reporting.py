"""Outcomes on disk: kept from the first write on, sent once in order, whoever ends in between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID

import grpc
import pytest
from tests.support.scripted_decider import ScriptedDecider, deciding
from tests.support.waiting import eventually

from assay.forward.decider import open_channel
from assay.forward.reporting import (
    MAX_BATCH,
    OutcomeReporter,
    Spool,
    SpoolUnavailable,
    new_batch_id,
)
from assay.v1 import evidence_pb2 as pb


def outcome(number: int) -> pb.Outcome:
    return pb.Outcome(endpoint_id=f"a/b@{number}", result=pb.RESULT_ANSWERED)


def numbers(batches: list[pb.ReportOutcomesRequest]) -> list[int]:
    return [
        int(each.endpoint_id.rpartition("@")[2]) for batch in batches for each in batch.outcomes
    ]


@asynccontextmanager
async def reporting(spool: Spool, address: str) -> AsyncIterator[OutcomeReporter]:
    async with open_channel(address) as channel:
        yield OutcomeReporter(spool, channel)


def send(spool: Spool, decider: ScriptedDecider, folder: Path) -> OutcomeReporter:
    """Send all that waits."""

    async def main(address: str) -> OutcomeReporter:
        async with reporting(spool, address) as reporter:
            await reporter.flush()
            return reporter

    with deciding(decider, f"unix:{folder}/d") as address:
        return asyncio.run(main(address))


@pytest.fixture
def decider() -> ScriptedDecider:
    return ScriptedDecider()  # type: ignore[abstract] # what else there is, nobody asks for


def test_what_a_killed_process_left_is_sent_by_the_next_under_the_same_id(
    tmp_path: Path, decider: ScriptedDecider
) -> None:
    spool = Spool(tmp_path / "spool")
    for number in range(3):
        spool.append(outcome(number))
    (left,) = (tmp_path / "spool").glob("*.outcomes")
    spool.close()  # as the end of a process closes its files; nothing else was done
    other = Spool(tmp_path / "spool")
    other.append(outcome(3))
    reporter = send(other, decider, tmp_path)
    first, second = decider.batches
    assert first.batch_id == left.stem
    assert (numbers([first, second]), first.source, reporter.sent) == ([0, 1, 2, 3], "forward", 4)
    assert UUID(second.batch_id).version == 7
    assert not list((tmp_path / "spool").glob("*.outcomes"))
    assert other.bytes == 0
    other.close()


def test_batches_hold_a_thousand_and_keep_their_order(
    tmp_path: Path, decider: ScriptedDecider
) -> None:
    spool = Spool(tmp_path / "spool")
    full = [spool.append(outcome(number)) for number in range(2 * MAX_BATCH + 1)]
    assert [place for place, each in enumerate(full) if each] == [MAX_BATCH - 1, 2 * MAX_BATCH - 1]
    send(spool, decider, tmp_path)
    assert [len(batch.outcomes) for batch in decider.batches] == [MAX_BATCH, MAX_BATCH, 1]
    assert numbers(decider.batches) == list(range(2 * MAX_BATCH + 1))
    spool.close()


def test_a_batch_is_sent_until_it_is_acknowledged(tmp_path: Path, decider: ScriptedDecider) -> None:
    decider.refusing = grpc.StatusCode.RESOURCE_EXHAUSTED
    spool = Spool(tmp_path / "spool")

    async def main(address: str) -> None:
        async with reporting(spool, address) as reporter:
            running = asyncio.create_task(reporter.run())
            reporter.report(outcome(1), at_once=True)
            await asyncio.to_thread(eventually, lambda: decider.refused)
            reporter.report(outcome(2), at_once=False)
            decider.refusing = None
            await asyncio.to_thread(
                eventually, lambda: numbers(decider.batches), lambda seen: len(seen) == 2
            )
            running.cancel()

    with deciding(decider, f"unix:{tmp_path}/d") as address:
        asyncio.run(asyncio.wait_for(main(address), 20))
    assert numbers(decider.batches) == [1, 2]
    spool.close()


def test_what_is_refused_for_good_or_cannot_be_read_is_put_aside(
    tmp_path: Path, decider: ScriptedDecider
) -> None:
    folder = tmp_path / "spool"
    folder.mkdir()
    (folder / f"{new_batch_id()}.outcomes").write_bytes(b"\xff\xff\xff")
    spool = Spool(folder)
    spool.append(outcome(1))
    decider.refusing = grpc.StatusCode.INVALID_ARGUMENT
    send(spool, decider, tmp_path)
    assert len(list(folder.glob("*.refused"))) == 2
    assert not spool.waiting
    spool.close()


def test_a_spool_is_of_one_process_at_a_time(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    with pytest.raises(SpoolUnavailable, match="another process"):
        Spool(tmp_path)
    spool.close()
    Spool(tmp_path).close()


def test_a_spool_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SpoolUnavailable):
        Spool(tmp_path / "file")


def test_what_finds_no_room_is_counted_and_what_was_kept_stays_whole(
    tmp_path: Path, decider: ScriptedDecider
) -> None:
    spool = Spool(tmp_path / "spool", max_bytes=200)
    for number in range(50):
        spool.append(outcome(number))
    kept = 50 - spool.lost
    assert 0 < kept < 50
    send(spool, decider, tmp_path)
    assert numbers(decider.batches) == list(range(kept))
    assert not spool.append(outcome(99))
    assert spool.lost == 50 - kept
    spool.close()
