"""Health reads what loops last did, and logs each change with its cause."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from tests.support.catalogs import POLICY

from assay.curator.supervised_loop import SupervisedLoop
from assay.server.health import CURATOR, SNAPSHOT, STORE, HealthReporter, causes_of
from assay.server.service import Service, ServiceSettings
from assay.store.database import open_database

pytestmark = pytest.mark.usefixtures("logging_of_every_level")


@pytest.fixture
def service(sqlite_template: Path, tmp_path: Path) -> Iterator[Service]:
    path = shutil.copyfile(sqlite_template, tmp_path / "assay.db")
    database = open_database(f"sqlite:///{path}")
    settings = ServiceSettings(database=database, policy=POLICY, journal=tmp_path / "journal")
    with Service(settings) as service:
        yield service
    database.dispose()


class NoMessage(Exception):
    """An error that has nothing to add to its name."""


def test_an_error_without_a_message_is_a_cause_as_well(service: Service) -> None:
    def fail() -> None:
        raise NoMessage

    refreshing = SupervisedLoop("refresh", fail, 1.0, late=10.0)
    refreshing.run_round()
    assert causes_of(service, refreshing)[SNAPSHOT] == "NoMessage"


def test_a_refresh_that_hangs_is_in_the_health_of_store_and_snapshot(service: Service) -> None:
    seconds = 0.0
    refreshing = SupervisedLoop("refresh", service.refresh, 1.0, late=10.0, steady=lambda: seconds)
    refreshing.run_round()
    causes = causes_of(service, refreshing)
    assert (causes[STORE], causes[SNAPSHOT], causes[CURATOR]) == ("", "", "")
    seconds = 20.0
    causes = causes_of(service, refreshing)
    assert causes[STORE] == causes[SNAPSHOT] == "refresh: no progress for 20 s"
    assert causes["assay.v1.RoutingService"] == ""


def test_each_change_is_reported_and_logged_once() -> None:
    causes, reported = {"assay.store": ""}, []
    reporter = HealthReporter(lambda: causes, lambda *change: reported.append(change))
    with structlog.testing.capture_logs() as logged:
        for cause in ("", "away", "away", "still away", "", ""):
            causes["assay.store"] = cause
            reporter.report()
    assert reported == [("assay.store", True), ("assay.store", False), ("assay.store", True)]
    assert [(line["event"], line.get("cause")) for line in logged] == [
        ("not serving", "away"),
        ("serving again", None),
    ]
    assert reporter.current == {"assay.store": ""}
