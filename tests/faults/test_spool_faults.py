"""No failing file operation of the forwarder's spool loses an outcome or sends it twice."""

from __future__ import annotations

import pytest
from tests.support.directories import fast_directory
from tests.support.faults.file_run import enumerate_faults
from tests.support.faults.spool_run import SpoolRun

PARTS = 2


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_no_failing_file_operation_loses_or_repeats_an_outcome(part: int) -> None:
    with fast_directory("assay-spool-faults-") as directory:
        calls = SpoolRun(directory / "undisturbed").live_and_check()
        assert set(calls) >= {"open", "write", "unlink", "read"}
        for number, fault in enumerate(list(enumerate_faults(calls))[part::PARTS]):
            SpoolRun(directory / str(number), fault).live_and_check()
