"""A process may be killed or stopped at any line of the code that journals and ships."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.directories import fast_directory
from tests.support.faults.processes import attempt_targets

KILLS, STOPS = 40, 12


@pytest.mark.slow
@pytest.mark.parametrize(("signal", "sample"), [("SIGKILL", KILLS), ("SIGSTOP", STOPS)])
def test_a_process_that_ends_or_stops_at_any_line_breaks_no_promise(
    sqlite_template: Path, signal: str, sample: int
) -> None:
    with fast_directory("assay-kill-points-") as directory:
        results = attempt_targets(directory, sqlite_template, signal, sample=sample, seed=1)
    assert len(results) == sample
    assert [each for each in results if each["violations"]] == []
