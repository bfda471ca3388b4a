"""Processes that stop at a named line: killed there, or stopped while another process works on.

How it works
------------
This module runs as a process of its own, without threads, and forks a child for each attempt, so
that an attempt costs no start of an interpreter. A child journals and ships with the real threads
under a tracer. The first child records which lines of the watched modules run, and how often. Each
later child sends itself a signal as it reaches one of them.

After a SIGKILL, a successor ships the rest and checks everything. During a SIGSTOP, another process
starts on the same journal and database, journals, ships and ends within a bound; then the stopped
one continues to its end, and everything is checked.

The results are lines of JSON on standard output.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from tests.support.faults.invariants import (
    Promises,
    Witnesses,
    count_violations,
    log_violations,
)
from tests.support.faults.lives import LogLife, ship_the_rest
from tests.support.faults.workload import (
    encode_decision,
    make_batch,
    make_decision_id,
    traffic_of_hour,
)

import assay
from assay.journal.errors import JournalError
from assay.journal.sink import RecordKind
from assay.outcomes.checks import HOUR_US
from assay.outcomes.outcome import encode_outcomes
from assay.store.database import end_waits, open_database

ROOT = Path(assay.__file__).parent
WATCHED = (
    "journal/", "decision_log/sink.py", "decision_log/outcome_matching.py", "store/database.py",
    "store/outcome_counters.py",
)  # fmt: skip
HOUR = 495_312
AT_US = HOUR * HOUR_US
RECORDS = 14
TICK = 0.002
LOCK_SECONDS = 0.3  # how long a child waits for the lock of the database
BOUND_SECONDS = 30.0  # some locks of the journal are waited for up to five seconds each
Step = tuple[str, int]


@dataclass(frozen=True)
class Target:
    """The n-th time that a line is reached, and the signal to send then."""

    step: Step
    hit: int
    signal: int

    def __str__(self) -> str:
        file, line = self.step
        return f"{signal.Signals(self.signal).name} at {file}:{line}, time {self.hit}"


class Tracer:
    """Counts the watched lines that run, in all threads, and sends the signal at the target."""

    def __init__(self, target: Target | None) -> None:
        self.hits: Counter[Step] = Counter()
        self._target = target
        self._names: dict[str, str | None] = {}

    def start(self) -> None:
        threading.settrace(self._on_call)
        sys.settrace(self._on_call)

    def _on_call(self, frame: FrameType, _event: str, _argument: object) -> Any:
        name = frame.f_code.co_filename
        if name not in self._names:
            own = name.removeprefix(f"{ROOT}/")
            self._names[name] = own if own.startswith(WATCHED) else None
        return None if self._names[name] is None else self._on_line

    def _on_line(self, frame: FrameType, event_: str, _argument: object) -> Any:
        if event_ == "line":
            step = (str(self._names[frame.f_code.co_filename]), frame.f_lineno)
            self.hits[step] += 1
            target = self._target
            if target and step == target.step and self.hits[step] == target.hit:
                os.kill(os.getpid(), target.signal)
        return self._on_line


@dataclass
class Place:
    """The files of one attempt."""

    directory: Path

    @property
    def url(self) -> str:
        return f"sqlite:///{self.directory / 'assay.db'}"

    def work(self, name: int, target: Target | None = None, *, ships: bool = True) -> None:
        """Journal and ship as a process does, under a tracer; note what was acknowledged.

        Without `ships`, it ships only as it ends.
        """
        tracer = Tracer(target)
        tracer.start()
        database = open_database(self.url)
        end_waits(database, LOCK_SECONDS)
        try:
            life = LogLife(self.directory / "journal", database, batch=3, tick=TICK)
        except (JournalError, TimeoutError):
            return  # the stopped process holds a lock: an error within the bound is allowed
        notes = os.open(self.directory / f"notes-{name}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for number in range(RECORDS):
            self._append(life, notes, name * 100 + number)
            if ships and number % 4 == 3:
                life.ship()
        life.close()
        sys.settrace(None)
        steps = [[*step, hits] for step, hits in tracer.hits.items()]
        (self.directory / f"steps-{name}").write_text(json.dumps(steps))

    def _append(self, life: LogLife, notes: int, number: int) -> None:
        decision_id = make_decision_id(number)
        os.write(notes, f"tried {number}\n".encode())
        if number % 5 == 4:
            life.append(RecordKind.OUTCOMES, encode_outcomes(_batch(number)))
        else:
            life.append(RecordKind.DECISION, encode_decision(decision_id, AT_US))
        os.write(notes, f"done {number}\n".encode())

    def promises(self) -> Promises:
        """Return what was acknowledged, from the notes of all processes."""
        found = Promises()
        for path in self.directory.glob("notes-*"):
            for line in path.read_text().splitlines():
                word, text = line.split()
                number = int(text)
                decision_id = make_decision_id(number)
                if number % 5 == 4:
                    name = found.send(_batch(number))
                    found.acknowledged |= {name} if word == "done" else set()
                elif word == "done":
                    found.answered.append(decision_id)
                else:
                    found.attempted.add(decision_id)
        return found

    def check(self) -> None:
        """Ship the rest and write down every violation."""
        database = open_database(self.url)
        life = ship_the_rest(self.directory / "journal", database)
        known = Witnesses({life.signer.key_id: life.signer.public_key}, life.heads.read())
        promises = self.promises()
        violations = [*log_violations(database, promises, known)]
        violations += count_violations(database, promises)
        (self.directory / "violations").write_text(json.dumps(violations))


def _batch(number: int) -> Any:
    decisions = [make_decision_id(number - 1)]
    return make_batch(f"batch-{number}", AT_US, traffic_of_hour(HOUR, 0, 60), decisions)


def fork(run: Callable[[], None]) -> int:
    """Run something in a child process; its exit status is 0 if it returned."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        run()
        status = 0
    except BaseException as error:  # noqa: BLE001 - the child must not return into the parent
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        sys.stderr.flush()
    finally:
        os._exit(status)


def wait(child: int) -> str:
    """Wait for the end of a child; return what was wrong with it, or an empty string."""
    deadline = time.monotonic() + BOUND_SECONDS
    while True:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            code = os.waitstatus_to_exitcode(status)
            return "" if code in {0, -signal.SIGKILL} else f"ended with {code}"
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return f"still runs after {BOUND_SECONDS:.0f} s"
        time.sleep(0.001)


def attempt(source: Path, directory: Path, target: Target) -> list[str]:
    """Run one attempt in a copy of a prepared directory; return every violation."""
    shutil.copytree(source, directory)
    place = Place(directory)
    child = fork(lambda: place.work(1, target))
    found: list[str] = []
    if target.signal == signal.SIGSTOP:
        _, status = os.waitpid(child, os.WUNTRACED)
        if os.WIFSTOPPED(status):
            other = fork(lambda: place.work(2, ships=False))
            if wrong := wait(other):
                found.append(f"another process {wrong} while this one is stopped")
            os.kill(child, signal.SIGCONT)
            if wrong := wait(child):
                found.append(f"after SIGCONT, the process {wrong}")
        elif os.waitstatus_to_exitcode(status):
            found.append(f"the process ended with {status}")
    elif wrong := wait(child):
        found.append(f"the process {wrong}")
    if wrong := wait(fork(place.check)):
        found.append(f"the successor {wrong}")
    else:
        found += json.loads((directory / "violations").read_text())
    shutil.rmtree(directory)
    return found


def prepare(directory: Path, template: Path) -> Path:
    """Prepare a database, and a journal with the stream of a process that died."""
    directory.mkdir(parents=True)
    shutil.copyfile(template, directory / "assay.db")

    def leave_a_stream() -> None:
        place = Place(directory)
        life = LogLife(directory / "journal", open_database(place.url))
        notes = os.open(directory / "notes-0", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for number in range(RECORDS):
            place._append(life, notes, number)
        os.kill(os.getpid(), signal.SIGKILL)

    assert not wait(fork(leave_a_stream))
    return directory


def record_steps(source: Path, directory: Path) -> list[tuple[Step, int]]:
    """Return the watched lines that an undisturbed process runs, and how often."""
    shutil.copytree(source, directory)
    place = Place(directory)
    assert not wait(fork(lambda: place.work(1)))
    steps = json.loads((directory / "steps-1").read_text())
    shutil.rmtree(directory)
    return [((file, line), hits) for file, line, hits in steps]


def main() -> None:
    """Attempt every target, or a sample, and report each."""
    directory, template = Path(sys.argv[1]), Path(sys.argv[2])
    chosen, sample, seed = signal.Signals[sys.argv[3]], int(sys.argv[4]), int(sys.argv[5])
    encode_decision(make_decision_id(0), AT_US)  # children find the plan made
    source = prepare(directory / "source", template)
    steps = record_steps(source, directory / "recorded")
    targets = [Target(step, hit, chosen) for step, n in steps for hit in {1, n // 2 + 1}]
    if only := os.environ.get("ASSAY_TARGET"):
        file, line, hit = only.split(":")
        targets = [Target((file, int(line)), int(hit), chosen)]
    elif sample:
        targets = random.Random(seed).sample(targets, sample)
    for number, target in enumerate(targets):
        violations = attempt(source, directory / str(number), target)
        sys.stdout.write(json.dumps({"target": str(target), "violations": violations}) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
