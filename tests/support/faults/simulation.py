"""A deterministic simulation: servers, a client and faults, all drawn from one seed.

How it works
------------
Time is simulated and moves only here. In each round a few actions of each server run in an order
drawn from the seed: renew the lease, curate, ship, follow. A client sends the workload of the hour
to servers that live, again until it is acknowledged. Faults are drawn between actions.

The workload of a day is the same for every seed, and `UndisturbedDay` runs it once without faults,
with a copy of the database after each hour. A seed starts from the copy of some hour, and must
arrive at the pools of the undisturbed day some hours later. Curating takes most of the time, so
that many seeds leave it out: they only ship and follow.

Before an hour is closed, all faults end and everything is shipped: evidence that arrives after its
hour was closed counts later, so pools would differ with good reason. Seeds with `late` skip that,
and are held to all other invariants.
"""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final, Literal

from sqlalchemy import Engine
from tests.support.curated_pool import FIRST, take_any_lease
from tests.support.curator_processes import Rows
from tests.support.faults.database_faults import DatabaseFault, ProcessDied
from tests.support.faults.file_faults import FileFault, Kind
from tests.support.faults.invariants import (
    Promises,
    Witnesses,
    count_violations,
    health_violations,
    log_violations,
    pool_violations,
)
from tests.support.faults.lives import LogLife, ship_until_done
from tests.support.faults.simulated_server import ACTIONS, GRACE_S, SimulatedServer, SimulatedTime
from tests.support.faults.workload import (
    SOURCE,
    encode_decision,
    make_batch,
    make_decision_id,
    traffic_of_hour,
)

from assay.journal.errors import JournalError
from assay.journal.sink import RecordKind
from assay.outcomes.outcome import encode_outcomes
from assay.store.database import open_database
from assay.store.lease import return_lease
from assay.store.snapshots import latest_published

HOUR_S: Final = 3600.0
PARTS: Final = 4
DECISIONS: Final = 2
"""Decisions of each part of an hour."""
QUIET_ROUNDS: Final = 40
MOST_AGE_S: Final = GRACE_S - 60.0
"""The age of a copy of the database that servers make up for."""
DATABASE_FAULTS: Final[tuple[DatabaseFault, ...]] = (
    "statement", "commit", "after commit", "die", "die after commit",
)  # fmt: skip
FILE_KINDS: Final[tuple[Kind, ...]] = ("refused", "short", "torn", "done", "die")


class Violation(BaseException):
    """An invariant does not hold; the code under test cannot catch this."""


@dataclass
class Event:
    """Something that the client wants acknowledged."""

    hour: int
    part: int
    number: int
    tries: int = 0

    @property
    def name(self) -> str:
        kind = "batch" if self.number == DECISIONS else f"decision {self.number}"
        return f"{kind} of {self.hour}.{self.part}"


@dataclass
class Simulation:
    """One run from one seed; `faults_per_round` is a probability."""

    place: Path
    seed: int
    promises: Promises
    hour: int
    servers: int = 2
    faults_per_round: float = 0.3
    rounds: int = 2
    late: bool = False
    curates: bool = True
    restores: bool = True
    story: list[str] = field(default_factory=list)
    faults: int = 0

    def __post_init__(self) -> None:
        self.draw = random.Random(self.seed)
        self.actions = ACTIONS if self.curates else ("ship", "follow")
        self.time = SimulatedTime(self.hour * HOUR_S + 60.0)
        self.pending: list[Event] = []
        self.answered: dict[tuple[int, int], list[str]] = {}
        self.down: dict[str, float] = {f"server-{n}": 0.0 for n in range(self.servers)}
        self.live: dict[str, SimulatedServer] = {}
        self.overtaken: set[str] = set()  # stand still in the middle of an action
        self.away_until = 0.0
        self.copy: sqlite3.Connection | None = None
        self.copied_at = 0.0

    # --- the run ---

    def run(self, hours: int) -> None:
        """Simulate so many hours."""
        for _ in range(hours):
            for part in range(PARTS):
                events = [Event(self.hour, part, number) for number in range(DECISIONS + 1)]
                self.pending += events
                for n in range(self.rounds):
                    begin = self.hour + (part + n / self.rounds) / PARTS
                    self._move(begin * HOUR_S + self.draw.uniform(1.0, 55.0))
                    self.round()
            self.hour += 1
            self._move(self.hour * HOUR_S)
            if not self.late:
                self.settle()
            self._move(self.hour * HOUR_S + self.draw.uniform(31.0, 60.0))
            for _ in range(self.rounds):
                self.round()
                self._move(self.time.seconds + self.draw.uniform(0.5, 12.0))

    def _move(self, seconds: float) -> None:
        self.time.seconds = max(self.time.seconds, seconds)

    def round(self) -> None:
        """Start what is down, perhaps inject a fault, and let every server act."""
        self._start_servers()
        if self.draw.random() < self.faults_per_round:
            self.inject()
        self._deliver()
        steps = [(name, action) for name in self.live for action in self.actions]
        for name, action in self.draw.sample(steps, self.draw.randrange(len(steps) + 1)):
            self.step(name, action)

    def step(self, name: str, action: str) -> None:
        """Let one server do one thing."""
        server = self.live.get(name)
        if server is None or name in self.overtaken or server.stalled_until > self.time.seconds:
            return
        server.faults.is_away = self.away_until > self.time.seconds
        struck = server.faults.struck
        if self._attempt(server, action, server.actions[action]) is None:
            return
        if server.faults.struck > struck:
            self._require(health_violations(server.causes, is_wrong=True))

    def _attempt(
        self, server: SimulatedServer, words: str, act: Callable[[], object]
    ) -> SimulatedServer | None:
        """Act; return the server if it lives on."""
        try:
            result = act()
        except ProcessDied:
            self.kill(server, words)
            return None
        if words not in {"lease", "curate"} or server.loop.trouble:
            self.note(f"{server.name} {words}: {result} {server.loop.trouble or ''}")
        return server

    def kill(self, server: SimulatedServer, during: str) -> None:
        """End a process as it is."""
        self.note(f"{server.name} dies: {during}")
        del self.live[server.name]
        server.drop()
        self.down[server.name] = self.time.seconds + self.draw.uniform(0.0, 900.0)

    def _start_servers(self) -> None:
        for name, until in list(self.down.items()):
            if until <= self.time.seconds and self.away_until <= self.time.seconds:
                del self.down[name]
                mode: Literal["write", "sync"] = "sync" if self.draw.random() < 0.3 else "write"
                self.live[name] = SimulatedServer(name, self.place, self.time, mode)
                self.note(f"{name} starts")

    # --- the client ---

    def _deliver(self) -> None:
        """Send what is not acknowledged yet, each to some server; sometimes to two."""
        for event in list(self.pending):
            able = [s for s in self.live.values() if s.stalled_until <= self.time.seconds]
            if not able:
                return
            targets = self.draw.sample(able, self.draw.choice((1, 1, 1, len(able))))
            if event.number < DECISIONS:
                targets = targets[:1]
            elif self._waits_for_decisions(event):
                continue
            if [server for server in targets if self._send(event, server)]:
                self.pending.remove(event)

    def _waits_for_decisions(self, event: Event) -> bool:
        same = [each for each in self.pending if (each.hour, each.part) == (event.hour, event.part)]
        return len(same) > 1

    def _send(self, event: Event, server: SimulatedServer) -> bool:
        """Send one event to one server; return whether it was acknowledged."""
        if self.live.get(server.name) is not server:
            return False
        is_done = False

        def append() -> str:
            nonlocal is_done
            try:
                self._append(event, server)
            except JournalError as error:
                return str(error)
            is_done = True
            return "acknowledged"

        self._attempt(server, event.name, append)
        return is_done

    def _append(self, event: Event, server: SimulatedServer) -> None:
        hour = FIRST + event.hour
        traffic = traffic_of_hour(hour, event.part, PARTS)
        at_us, made = traffic[0].at_us, self.answered.setdefault((event.hour, event.part), [])
        event.tries += 1
        if event.number < DECISIONS:
            number = (event.hour * PARTS + event.part) * DECISIONS + event.number
            decision_id = make_decision_id(number, event.tries)
            self.promises.attempted.add(decision_id)
            server.log.append(RecordKind.DECISION, encode_decision(decision_id, at_us))
            self.promises.answered.append(decision_id)
            made.append(decision_id)
            return
        name = (SOURCE, f"{event.hour}.{event.part}")
        batch = self.promises.sent.get(name) or make_batch(name[1], at_us, traffic, tuple(made))
        name = self.promises.send(batch)
        server.log.append(RecordKind.OUTCOMES, encode_outcomes(batch))
        self.promises.acknowledged.add(name)

    # --- faults ---

    def inject(self) -> None:
        """Draw a fault."""
        self.faults += 1
        draw, now = self.draw, self.time.seconds
        server = draw.choice(list(self.live.values())) if self.live else None
        kinds = ["away", "steal lease"]
        if server is not None:
            kinds += ["database"] * 4 + ["file"] * 3 + ["die", "stall", "clock"]
            kinds += ["overtake"] * 2 * self.curates
        if self.restores:
            kinds += ["restore"] * 4 if self._has_copy else ["copy"]
        kind = draw.choice(kinds)
        words = kind
        if kind == "away":
            self.away_until = now + draw.uniform(1.0, 300.0)
        elif kind == "steal lease":
            self._steal_lease()
        elif kind == "copy":
            self._copy_database()
        elif kind == "restore":
            self._restore_database()
        elif server is not None:
            words = f"{server.name} {self._inject_into(server, kind)}"
        self.note(f"fault: {words}")

    def _inject_into(self, server: SimulatedServer, kind: str) -> str:
        draw, now = self.draw, self.time.seconds
        if kind == "database":
            fault, calls = draw.choice(DATABASE_FAULTS), draw.randrange(14)
            server.faults.arm(fault, calls // 5 if "commit" in fault else calls)
            return f"{fault} after {calls}"
        if kind == "file":
            fault_kind = draw.choice(FILE_KINDS)
            file_fault = FileFault(
                draw.randrange(8), fault_kind, draw.choice((28, 5, 24)), draw.choice((1, 1, 5))
            )
            server.files.arm(file_fault)
            return str(file_fault)
        if kind == "overtake":
            calls = draw.randrange(25)
            server.faults.pause(calls, lambda: self._overtake(server))
            return f"overtaken after {calls}"
        if kind == "die":
            self.kill(server, "at rest")
        elif kind == "stall":
            server.stalled_until = now + draw.uniform(1.0, 1200.0)
        elif kind == "clock":
            server.offset = draw.uniform(-300.0, 20.0)
            return f"clock {server.offset:+.0f} s"
        return kind

    def _steal_lease(self) -> None:
        """Let another process take the lease, and perhaps return it."""
        database = self._open()
        lease = take_any_lease(database, "thief")
        if self.draw.random() < 0.8:
            return_lease(database, lease)
        database.dispose()

    def _overtake(self, slow: SimulatedServer) -> None:
        """Let the others take the lease and curate while one stands still in the middle of it."""
        self.note(f"{slow.name} stands still")
        database = self._open()
        return_lease(database, take_any_lease(database, "thief"))
        database.dispose()
        self.overtaken.add(slow.name)
        for name in list(self.live):
            self.step(name, "lease")
            self.step(name, "curate")
        self.overtaken.remove(slow.name)

    def _open(self) -> Engine:
        return open_database(f"sqlite:///{self.place / 'assay.db'}")

    @property
    def _has_copy(self) -> bool:
        return self.copy is not None and self.time.seconds - self.copied_at <= MOST_AGE_S

    def _copy_database(self) -> None:
        self.copy, self.copied_at = sqlite3.connect(":memory:"), self.time.seconds
        with sqlite3.connect(self.place / "assay.db") as source:
            source.backup(self.copy)
        source.close()

    def _restore_database(self) -> None:
        """Put a copy in the place of the database, as a failover does, within the grace period."""
        assert self.copy is not None
        target = sqlite3.connect(self.place / "assay.db")
        self.copy.backup(target)
        target.close()
        self.copy = None
        if not self.late:
            self._move(self.time.seconds + 6.0)  # an idle shipper notices within five seconds
            self.settle()

    # --- rest ---

    def settle(self) -> None:
        """End all faults, deliver and ship everything; nothing is curated meanwhile."""
        self._end_faults()
        for _ in range(QUIET_ROUNDS):
            self._start_servers()
            self._deliver()
            if not self.pending:
                break
        self._require(f"{each.name} is never acknowledged" for each in self.pending)
        for server in list(self.live.values()):
            ship_until_done(partial(self._ship_later, server.log), 200)
        self.note("settled")

    def _ship_later(self, log: LogLife) -> bool:
        """Ship a round half a second later: a stored stream is looked at again only after five."""
        is_done = log.ship()
        if not is_done:
            self._move(self.time.seconds + 0.5)
        return is_done

    def _end_faults(self) -> None:
        self.away_until = 0.0
        self.copy = None
        self.down = dict.fromkeys(self.down, 0.0)
        for server in self.live.values():
            server.stalled_until = server.offset = 0.0
            server.faults.disarm()
            server.files.arm(None)

    def finish(self) -> None:
        """End all faults and let everything come to rest; health must be green then."""
        self.settle()
        for _ in range(4):
            self._move(self.time.seconds + 60.0)
            for action in self.actions:
                for name in list(self.live):
                    self.step(name, action)
        for server in self.live.values():
            self._require(health_violations(server.causes, is_wrong=False))
            if server.log.shipper.behind:
                self._require([f"{server.name} is {server.log.shipper.behind} bytes behind"])

    def check(self, undisturbed: dict[str, Rows]) -> None:
        """Check every invariant at the end, and close the servers."""
        self.finish()
        (first, *_) = self.live.values()
        signer, heads = first.log.signer, first.log.heads.read()
        newest = latest_published(first.database)
        for server in self.live.values():
            active = server.follower.snapshot
            if newest is None or active is None or active.snapshot_id != newest.snapshot_id:
                self._require([f"{server.name} does not follow {newest}"])
            server.close()
        database = self._open()
        known = Witnesses({signer.key_id: signer.public_key}, heads)
        self._require(log_violations(database, self.promises, known))
        self._require(count_violations(database, self.promises))
        if self.curates and not self.late:
            self._require(pool_violations(database, undisturbed))
        database.dispose()

    def note(self, words: str) -> None:
        """Note a step, for the report of a failure."""
        self.story.append(f"{self.time.seconds:9.1f}  {words}")

    def _require(self, violations: Iterator[str] | list[str]) -> None:
        found = list(violations)
        if found:
            raise Violation("\n".join(found))
