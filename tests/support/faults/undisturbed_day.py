"""A day of simulated servers without faults, and seeds that start in it and must end like it."""

from __future__ import annotations

import random
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tests.support.curated_pool import import_observations
from tests.support.curator_processes import Rows, pools_by_hour
from tests.support.faults.invariants import Promises
from tests.support.faults.simulation import Simulation

from assay.decision_log.streams import streams
from assay.store.database import open_database


@dataclass(frozen=True)
class DayHour:
    """The state after an hour of the undisturbed day."""

    place: Path
    promises: Promises
    pools: dict[str, Rows]


class UndisturbedDay:
    """A day without faults: what servers, pools and counters are after each hour."""

    def __init__(self, template: Path, place: Path, hours: int) -> None:
        self.hours: list[DayHour] = []
        live, promises = place / "live", Promises()
        live.mkdir(parents=True)
        shutil.copyfile(template, live / "assay.db")
        url = f"sqlite:///{live / 'assay.db'}"
        database = open_database(url)
        import_observations(database, hours=hours + 1)
        database.dispose()
        for hour in range(hours):
            simulation = Simulation(live, 0, promises, hour, servers=1, faults_per_round=0.0)
            simulation.run(1)
            simulation.finish()
            for server in simulation.live.values():
                server.close()
            kept = place / str(hour + 1)
            shutil.copytree(live, kept)
            database = open_database(url)
            known = promises.copy()
            known.earlier_streams = frozenset(each.stream for each in streams(database))
            self.hours.append(DayHour(kept, known, pools_by_hour(database)))
            database.dispose()

    def after(self, hour: int) -> DayHour:
        """Return the state after so many hours, at least one."""
        return self.hours[hour - 1]


def run_seed(day: UndisturbedDay, place: Path, seed: int, **options: Any) -> Simulation:
    """Run one seed in a new directory; a failure names the seed and its steps."""
    draw = random.Random(f"{seed} setting")
    hours = int(options.pop("hours", 0)) or draw.choice((1, 1, 1, 1, 2, 3))
    begin = int(options.pop("begin", 0)) or draw.randrange(1, len(day.hours) - hours + 1)
    state = day.after(begin)
    shutil.copytree(state.place, place)
    simulation = Simulation(
        place,
        seed,
        replace(state.promises.copy(), earlier_streams=state.promises.earlier_streams),
        begin,
        **{"late": draw.random() < 0.2, "curates": draw.random() < 0.4, **options},
    )
    try:
        simulation.run(hours)
        simulation.check(day.after(begin + hours).pools)
    except BaseException as error:
        error.add_note("\n".join([f"seed {seed}:", *simulation.story]))
        raise
    finally:
        for server in simulation.live.values():
            server.database.dispose()
    shutil.rmtree(place)
    return simulation
