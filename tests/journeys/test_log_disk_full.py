"""A full disk: decisions are rejected in one clear line, and resume once there is space."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import grpc
import pytest
from tests.support.decide_load import (
    Answers,
    assert_complete,
    import_small_catalog,
    note_result,
    ship_and_read_log,
)
from tests.support.processes import serving_journal
from tests.support.server_calls import decide, health_status, scrape_metrics
from tests.support.waiting import eventually

from assay.v1 import routing_pb2 as pb, routing_pb2_grpc as pb_grpc

ROUTING = "assay.v1.RoutingService"
MEGABYTES = 160
TAKEN = 60 << 20  # leaves room for one segment of 64 MiB and no second one
LONG = pb.DecideRequest(
    model="lab/mixed",
    provider=pb.ProviderPreferences(ignore=[f"{number:0200}" for number in range(250)]),
)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, of a few megabytes."""
    mount = shutil.which("mount")
    folder = tmp_path / "disk"
    folder.mkdir()
    command = [str(mount), "-t", "tmpfs", "-o", f"size={MEGABYTES}m", "tmpfs", str(folder)]
    if mount is None or subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("mounting a tmpfs is not permitted here")
    yield folder
    subprocess.run([str(shutil.which("umount")), "--lazy", str(folder)], check=True)


def fill(ballast: Path) -> None:
    """Take every byte that is left."""
    with ballast.open("ab", buffering=0) as file:
        for size in (1 << 20, 1 << 12):
            with suppress(OSError):
                while file.write(bytes(size)) == size:
                    pass


@pytest.mark.slow
def test_a_full_disk_rejects_decisions_until_there_is_space(
    sqlite_template: Path, tmp_path: Path, small_disk: Path
) -> None:
    path, journal = tmp_path / "assay.db", small_disk / "journal"
    shutil.copyfile(sqlite_template, path)
    url = f"sqlite:///{path}"
    import_small_catalog(url, tmp_path)
    answered = Answers()
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(TAKEN))
    with (
        serving_journal(url, journal, "--metrics", "127.0.0.1:0") as server,
        server.channel() as channel,
    ):
        answered.ids.append(decide(channel, "lab/mixed").decision_id)
        fill(ballast)
        assert shutil.disk_usage(small_disk).free < 1 << 12
        answered.ids.append(
            decide(channel, "lab/mixed").decision_id
        )  # space for some time is reserved
        assert health_status(channel, ROUTING) == "SERVING"

        batch = pb.BatchDecideRequest(requests=[LONG] * 60)
        stub = pb_grpc.RoutingServiceStub(channel)
        while not answered.failures:
            for result in stub.BatchDecide(batch).results:
                note_result(answered, result)
        full = (
            "the decision cannot be logged, so it is not answered: "
            f"the journal in '{journal}' is full: free some disk space"
        )
        assert set(answered.failures) == {f"decision-not-logged: {full}"}
        with pytest.raises(grpc.RpcError) as refused:
            decide(channel, "lab/mixed")
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert refused.value.details() == full
        eventually(lambda: health_status(channel, ROUTING) == "NOT_SERVING")
        assert health_status(channel, "assay.policy") == "SERVING"
        scraped = scrape_metrics(server.ready["metrics"])
        assert scraped["assay_journal_refused_records_total"] >= 2
        assert scraped["assay_journal_accepting"] == 0

        ballast.unlink()
        eventually(lambda: health_status(channel, ROUTING) == "SERVING")
        answered.ids.append(decide(channel, "lab/mixed").decision_id)
        assert server.stop() == 0
    assert_complete(ship_and_read_log(url, journal), answered)
