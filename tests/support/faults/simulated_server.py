"""One simulated server process: journal, shipper, curator and follower, stepped by a scheduler."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Literal

from sqlalchemy import Engine, event
from tests.support.curated_pool import START, FixedRules, shipped_policy
from tests.support.faults.database_faults import DatabaseFaults
from tests.support.faults.file_faults import FaultyFiles
from tests.support.faults.lives import LogLife

from assay.curator.curator import Curator, JudgedSnapshot
from assay.curator.lease import RowLeaseClient
from assay.curator.loop import CuratorLoop
from assay.engine.policy.policy import Policy
from assay.engine.policy.rule_set import PolicySource
from assay.engine.world.world import World
from assay.journal.backoff import Backoff
from assay.rule_files.compile import compile_source
from assay.server.snapshot_follower import SnapshotFollower
from assay.store.database import open_database

BACKOFF = Backoff(first=1.0, longest=30.0, draw=lambda: 1.0)
BINDINGS = (
    "  - {name: exacto, variant: exacto, ruleSet: exacto}",
    "  - {name: default, ruleSet: default}",
)
SHORT_MEMORY = "  evidence: {maxAge: 10d}"
GRACE_S = 600.0
ACTIONS = ("lease", "curate", "ship", "follow")


@dataclass
class SimulatedTime:
    """Seconds since START, moved by the scheduler alone."""

    seconds: float = 0.0

    def steady(self) -> float:
        return self.seconds

    def wall(self, offset: float = 0.0) -> datetime:
        return START + timedelta(seconds=self.seconds + offset)


class SimulatedServer:
    """One life of a server; `offset` is how far its wall clock is ahead, in seconds."""

    def __init__(
        self, name: str, place: Path, time: SimulatedTime, mode: Literal["write", "sync"]
    ) -> None:
        self.name = name
        self.offset = 0.0
        self.stalled_until = 0.0
        self.database = open_database(f"sqlite:///{place / 'assay.db'}")
        _share_statements(self.database)
        event.listen(self.database, "connect", _forget_durability)
        self.database.dispose()  # the next connection has the setting
        self.faults = DatabaseFaults(self.database)
        self.files = FaultyFiles(place)
        self.log = LogLife(
            place / "journal",
            self.database,
            self.files.operations,
            mode=mode,
            steady=time.steady,
            grace=GRACE_S,
        )
        clock: Callable[[], datetime] = lambda: time.wall(self.offset)  # noqa: E731 - two users
        self.curator = Curator(
            self.database, FixedRules(simulated_policy()), clock, self._take, time.steady
        )
        client = RowLeaseClient(self.database, name, clock, time.steady)
        self.loop = CuratorLoop(self.curator, client, 1.0, BACKOFF, time.steady)
        self.follower = SnapshotFollower(
            self.database, _compile, World, lambda *_: None, steady=time.steady
        )
        self.actions: Mapping[str, Callable[[], object]] = {
            "lease": self.loop.holder.refresh,
            "curate": self.loop.work,
            "ship": self.log.ship,
            "follow": self.follower.follow,
        }

    def _take(self, judged: JudgedSnapshot) -> None:
        assert judged.publication is not None
        self.follower.take(judged.publication, judged.world, judged.snapshot)

    @property
    def causes(self) -> Mapping[str, object]:
        """Why parts of this server are not healthy; `None` where they are."""
        return {
            "curator": self.loop.trouble,
            "shipper": self.log.shipper.trouble,
            "follower": self.follower.trouble,
        }

    def close(self) -> None:
        """End in good order."""
        self.loop.holder.end()
        self.log.close()
        self.database.dispose()

    def drop(self) -> None:
        """Die."""
        self.files.arm(None)
        self.faults.disarm()
        self.log.drop()
        self.database.dispose()


def _forget_durability(connection: object, _record: object) -> None:
    """Turn off syncs: a simulated process dies, not the machine."""
    connection.execute("PRAGMA synchronous = OFF")  # type: ignore[attr-defined] # DBAPI connection


@cache
def simulated_policy() -> Policy:
    """Return a part of the shipped rules that takes a tenth of the time to judge by."""
    shipped = shipped_policy().source.files
    head, _ = shipped["bindings.yaml"].split("spec:")
    files = {
        "default.yaml": shipped["default.yaml"].replace("spec:", f"spec:\n{SHORT_MEMORY}", 1),
        "exacto.yaml": shipped["exacto.yaml"].replace("maxAge: 90d", "maxAge: 10d"),
        "bindings.yaml": "\n".join([f"{head}spec:", *BINDINGS, ""]),
    }
    return compile_source(PolicySource(files))


_first: list[Engine] = []


def _share_statements(database: Engine) -> None:
    """Let all engines share compiled statements: servers start often, and compiling is slow."""
    _first.append(database)
    if len(_first) > 1:
        _first.pop()
    database.dialect = database.pool._dialect = _first[0].dialect
    database._compiled_cache = _first[0]._compiled_cache


def _compile(source: PolicySource) -> Policy:
    """Compile the shipped policy once for all servers."""
    known = simulated_policy()
    return known if known.source.digest == source.digest else compile_source(source)
