"""The simulations of a tau2 run: listed in its one file, or each in a file of its own beside an index."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from assay.engine.document import Refusal
from assay.engine.errors import BadData, quoted
from assay.importers import json_fields
from assay.importers.cells import RefusedError
from assay.importers.json_text import read_object

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from assay.importers.json_fields import Object

MANY_SIMULATIONS = 1_000_000
LEFT_OUT = "infrastructure_error"


@dataclass(frozen=True, slots=True)
class Simulation:
    """One trial of one task; without a reward where nobody could say how it went."""

    id: str
    task: str
    trial: int
    reward: float | None


def gathered(
    item: Object, files: Iterable[tuple[str, bytes]] | None, tasks: Sequence[str], trials: int
) -> tuple[list[Simulation], list[Refusal]]:
    """Read every simulation; those that cannot be read are refused one by one, a trial told twice refuses them all."""
    if files is None and "simulations" not in item and "simulation_index" in item:
        raise BadData("simulation_index: the simulations themselves are missing, import their directory")
    rows = _listed(item, "simulations") if files is None else _files(files)
    found: dict[tuple[str, int], Simulation] = {}
    refused: list[Refusal] = []
    known = frozenset(tasks)
    for where, row in rows:
        try:
            simulation = _simulation(row, known, trials)
        except RefusedError as error:
            refused.append(Refusal(where, str(error)))
            continue
        first = found.setdefault((simulation.task, simulation.trial), simulation)
        if first is not simulation:
            raise BadData(f"{where}: task {quoted(simulation.task)} has its trial {simulation.trial} twice")
    if files is not None and item.get("simulation_index") is not None:
        _check_index(_listed(item, "simulation_index"), {each.id: each for each in found.values()})
    return list(found.values()), refused


def _files(files: Iterable[tuple[str, bytes]]) -> Iterator[tuple[str, object]]:
    """Read one file after the other: each may be large, and little of it is needed."""
    for name, content in files:
        try:
            row = read_object(content)
        except BadData as error:
            raise BadData(f"simulations/{name}: {error}") from error
        if row.get("id") != name.removesuffix(".json"):
            raise BadData(f"simulations/{name}: holds the simulation {quoted(row.get('id'))}")
        yield f"simulations/{name}", row


def _listed(item: Object, name: str) -> Iterator[tuple[str, object]]:
    rows = json_fields.a_list(name, item.get(name), MANY_SIMULATIONS)
    return ((f"{name}[{place}]", row) for place, row in enumerate(rows))


def _simulation(value: object, tasks: frozenset[str], trials: int) -> Simulation:
    row = json_fields.an_object("simulation", value)
    task = json_fields.number_text("task_id", row.get("task_id"))
    if task not in tasks:
        raise RefusedError("task_id", task, "one of the run's tasks")
    trial = json_fields.whole(row, "trial") or 0
    if trial >= trials:
        raise RefusedError("trial", trial, f"below num_trials, {trials}")
    return Simulation(json_fields.text("id", row.get("id", "")), task, trial, _reward(row))


def _reward(row: Object) -> float | None:
    if row.get("termination_reason") == LEFT_OUT:
        return None
    stated = row.get("reward_info")
    reward = row.get("reward") if stated is None else json_fields.an_object("reward_info", stated).get("reward")
    if reward is None:
        return None
    if isinstance(reward, bool) or not isinstance(reward, int | float) or not math.isfinite(reward):
        raise RefusedError("reward", json_fields.shown(reward), "a number")
    return float(reward)


def _check_index(index: Iterable[tuple[str, object]], found: dict[str, Simulation]) -> None:
    """Refuse a directory whose index names other simulations than lie there, or another reward."""
    names = []
    for where, value in index:
        row = json_fields.an_object(where, value)
        names.append(name := json_fields.text("id", row.get("id")))
        simulation = found.get(name)
        if simulation is None:
            raise BadData(f"{where}: simulations/ has no sound file of {quoted(name)}")
        if row.get("reward") is not None and _reward(row) != simulation.reward:
            raise BadData(f"{where}: the reward of {quoted(name)} is another one in its own file")
    if extra := found.keys() - set(names):
        raise BadData(f"simulation_index: {quoted(min(extra))} is not listed")
