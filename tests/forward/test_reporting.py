"""Outcomes on disk: stored at the first write, sent once and in order, even if a process ends."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID

import grpc
import pytest
from tests.support.scripted_decider import ScriptedDecider, deciding
from tests.support.waiting import eventually

from assay.forward import reporting
from assay.forward.decider import open_channel
from assay.forward.reporting import RESPONSES, Consequence, OutcomeReporter
from assay.forward.spool import MAX_BATCH, Spool, SpoolUnavailable
from assay.journal.backoff import Backoff
from assay.v1 import evidence_pb2 as pb

FIXTURES = Path(__file__).parents[1] / "fixtures" / "spool"


def outcome(number: int) -> pb.Outcome:
    return pb.Outcome(endpoint_id=f"a/b@{number}", result=pb.RESULT_ANSWERED)


def numbers(batches: list[pb.ReportOutcomesRequest]) -> list[int]:
    outcomes = [each for batch in batches for each in batch.outcomes]
    return [int(each.endpoint_id.rpartition("@")[2]) for each in outcomes]


@asynccontextmanager
async def reporter_for(spool: Spool, address: str) -> AsyncIterator[OutcomeReporter]:
    async with open_channel(address) as channel:
        yield OutcomeReporter(spool, channel)


def send(spool: Spool, decider: ScriptedDecider, folder: Path) -> OutcomeReporter:
    """Send all that waits."""

    async def main(address: str) -> OutcomeReporter:
        async with reporter_for(spool, address) as reporter:
            await reporter.flush()
            return reporter

    with deciding(decider, f"unix:{folder}/d") as address:
        return asyncio.run(main(address))


@pytest.fixture
def decider() -> ScriptedDecider:
    return ScriptedDecider()  # type: ignore[abstract] # nothing calls the other methods


def test_outcomes_of_a_killed_process_are_sent_by_the_next_under_the_same_batch_id(
    tmp_path: Path, decider: ScriptedDecider
) -> None:
    spool = Spool(tmp_path / "spool")
    for number in range(3):
        spool.append(outcome(number))
    (left,) = (tmp_path / "spool").glob("*.outcomes")
    spool.close()  # closes the files as the end of a process does, and nothing else
    other = Spool(tmp_path / "spool")
    assert other.bytes == left.stat().st_size
    other.append(outcome(3))
    reporter = send(other, decider, tmp_path)
    first, second = decider.batches
    assert first.batch_id == left.stem
    assert (numbers([first, second]), first.source, reporter.sent) == ([0, 1, 2, 3], "forward", 4)
    assert UUID(second.batch_id).version == 7
    assert not list((tmp_path / "spool").glob("*.outcomes"))
    assert other.bytes == 0
    other.close()


def test_a_spool_of_the_released_version_is_sent(tmp_path: Path, decider: ScriptedDecider) -> None:
    """The fixture was written by the released forwarder: three outcomes, one with tools."""
    (file,) = FIXTURES.glob("*.outcomes")
    (tmp_path / "spool").mkdir()
    shutil.copy(file, tmp_path / "spool")
    spool = Spool(tmp_path / "spool")
    send(spool, decider, tmp_path)
    (batch,) = decider.batches
    assert (batch.batch_id, batch.source, numbers([batch])) == (file.stem, "forward", [0, 1, 2])
    first, limited, bad = batch.outcomes
    assert (first.tenant, first.attempt, first.completion_tokens) == ("acme", 1, 12)
    assert (limited.result, limited.retry_after_s) == (pb.RESULT_RATE_LIMITED, 2)
    assert (bad.tools.errored_requests, bad.tools.invalid_json, bad.at.seconds) == (
        1,
        1,
        1758600002,
    )
    spool.close()


def test_batches_hold_a_thousand_outcomes_and_keep_their_order(
    tmp_path: Path, decider: ScriptedDecider
) -> None:
    spool = Spool(tmp_path / "spool")
    full = [spool.append(outcome(number)) for number in range(2 * MAX_BATCH + 1)]
    places = [place for place, is_full in enumerate(full) if is_full]
    assert places == [MAX_BATCH - 1, 2 * MAX_BATCH - 1]
    send(spool, decider, tmp_path)
    assert [len(batch.outcomes) for batch in decider.batches] == [MAX_BATCH, MAX_BATCH, 1]
    assert numbers(decider.batches) == list(range(2 * MAX_BATCH + 1))
    spool.close()


@pytest.mark.parametrize(
    "code",
    [grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL],
)
def test_a_batch_is_sent_until_it_is_acknowledged(
    tmp_path: Path, decider: ScriptedDecider, code: grpc.StatusCode
) -> None:
    decider.refusing = code
    spool = Spool(tmp_path / "spool")

    async def main(address: str) -> None:
        async with reporter_for(spool, address) as reporter:
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
    assert sorted(numbers(decider.batches)) == [1, 2]
    spool.close()


@pytest.mark.parametrize("urgent", ["a failure that demotes", "a full batch"])
def test_an_urgent_report_does_not_wait_for_others(
    tmp_path: Path, decider: ScriptedDecider, urgent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reporting, "_LINGER_SECONDS", 3600.0)
    spool = Spool(tmp_path / "spool")
    count = MAX_BATCH if urgent == "a full batch" else 1

    async def main(address: str) -> None:
        async with reporter_for(spool, address) as reporter:
            running = asyncio.create_task(reporter.run())
            for number in range(count):
                reporter.report(outcome(number), at_once=urgent != "a full batch")
            await asyncio.to_thread(
                eventually, lambda: numbers(decider.batches), lambda seen: len(seen) == count
            )
            running.cancel()

    with deciding(decider, f"unix:{tmp_path}/d") as address:
        asyncio.run(asyncio.wait_for(main(address), 60))
    spool.close()


@pytest.mark.parametrize("code", [grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.OUT_OF_RANGE])
def test_a_batch_that_is_rejected_for_good_or_not_readable_is_set_aside(
    tmp_path: Path, decider: ScriptedDecider, code: grpc.StatusCode
) -> None:
    folder = tmp_path / "spool"
    folder.mkdir()
    (folder / f"{UUID(int=0)}.outcomes").write_bytes(b"\xff\xff\xff")
    spool = Spool(folder)
    spool.append(outcome(1))
    decider.refusing = code
    send(spool, decider, tmp_path)
    assert len(list(folder.glob("*.refused"))) == 2
    assert not list(folder.glob("*.outcomes"))
    assert (list(spool.waiting), spool.bytes) == ([], 0)
    assert spool.set_aside == {"undecodable": 1, code.name.lower(): 1}
    spool.close()


def test_one_process_uses_a_spool_at_a_time(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    with pytest.raises(SpoolUnavailable, match="another process"):
        Spool(tmp_path)
    spool.close()
    Spool(tmp_path).close()


def test_a_file_is_not_a_spool(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SpoolUnavailable):
        Spool(tmp_path / "file")


def test_outcomes_of_an_earlier_process_are_sent_without_a_new_one(
    tmp_path: Path, decider: ScriptedDecider
) -> None:
    earlier = Spool(tmp_path / "spool")
    earlier.append(outcome(1))
    earlier.close()
    spool = Spool(tmp_path / "spool")

    async def main(address: str) -> None:
        async with reporter_for(spool, address) as reporter:
            running = asyncio.create_task(reporter.run())
            await asyncio.to_thread(eventually, lambda: decider.batches)
            running.cancel()

    with deciding(decider, f"unix:{tmp_path}/d") as address:
        asyncio.run(asyncio.wait_for(main(address), 20))
    assert numbers(decider.batches) == [1]
    spool.close()


def test_every_status_has_a_response_with_a_reason() -> None:
    assert set(RESPONSES) == set(grpc.StatusCode)
    assert all(response.reason for response in RESPONSES.values())
    for_good = {
        code for code, each in RESPONSES.items() if each.consequence is Consequence.SET_ASIDE
    }
    assert for_good == {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.OUT_OF_RANGE}


@pytest.mark.parametrize(
    "code",
    [
        code
        for code, each in RESPONSES.items()
        if each.consequence is not Consequence.SET_ASIDE and code.value[0]
    ],
)
def test_a_batch_that_never_succeeds_does_not_stop_the_others(
    tmp_path: Path,
    decider: ScriptedDecider,
    code: grpc.StatusCode,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("_BACKOFF", "_BATCH_BACKOFF"):
        monkeypatch.setattr(reporting, name, Backoff(first=0.01, longest=0.1))
    spool = Spool(tmp_path / "spool")
    spool.append(outcome(0))
    spool.seal()
    spool.append(outcome(1))
    decider.poison, decider.refusing = "a/b@0", code

    async def main(address: str) -> None:
        async with reporter_for(spool, address) as reporter:
            running = asyncio.create_task(reporter.run())
            reporter.report(outcome(2), at_once=True)
            await asyncio.to_thread(
                eventually, lambda: numbers(decider.batches), lambda seen: len(seen) == 2
            )
            assert not list((tmp_path / "spool").glob("*.refused"))
            decider.poison = decider.refusing = None
            await asyncio.to_thread(
                eventually, lambda: numbers(decider.batches), lambda seen: len(seen) == 3
            )
            running.cancel()

    with deciding(decider, f"unix:{tmp_path}/d") as address:
        asyncio.run(asyncio.wait_for(main(address), 60))
    assert sorted(numbers(decider.batches)) == [0, 1, 2]
    assert decider.batches[-1].outcomes[0].endpoint_id == "a/b@0"
    spool.close()


def test_a_batch_of_unknown_endpoints_only_is_set_aside(
    tmp_path: Path, decider: ScriptedDecider
) -> None:
    decider.unknown = {"a/b@0", "a/b@1"}
    spool = Spool(tmp_path / "spool")
    for group in ((0, 1), (0, 2)):
        for number in group:
            spool.append(outcome(number))
        spool.seal()
    reporter = send(spool, decider, tmp_path)
    assert (reporter.rejected, reporter.sent) == ({"unknown-endpoint": 3}, 1)
    (aside,) = (tmp_path / "spool").glob("*.refused")
    assert numbers([pb.ReportOutcomesRequest.FromString(aside.read_bytes())]) == [0, 1]
    assert (spool.set_aside, list(spool.waiting)) == ({"unknown-endpoint": 1}, [])
    spool.close()


def test_the_reporter_shows_what_the_service_says_and_recovers(
    tmp_path: Path, decider: ScriptedDecider
) -> None:
    decider.refusing = grpc.StatusCode.UNAVAILABLE
    spool = Spool(tmp_path / "spool")
    spool.append(outcome(1))

    async def main(address: str) -> None:
        async with reporter_for(spool, address) as reporter:
            flushing = asyncio.create_task(reporter.flush())
            await asyncio.to_thread(eventually, lambda: str(reporter.troubles))
            assert "UNAVAILABLE: not now" in str(reporter.troubles)
            decider.refusing = None
            await flushing
            assert str(reporter.troubles) == ""

    with deciding(decider, f"unix:{tmp_path}/d") as address:
        asyncio.run(asyncio.wait_for(main(address), 20))
    spool.close()
