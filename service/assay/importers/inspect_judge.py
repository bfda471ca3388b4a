"""Who judged in an Inspect log: scores of one suite differ by tens of points from one judge to another."""

from __future__ import annotations

from assay.engine.benchmark import UNKNOWN
from assay.importers import cells
from assay.importers.json_fields import Object

JUDGES = ("grader_model", "judge_model", "grader", "judge")


def judge_of(score: Object, eval_: Object) -> str:
    """Name the model that judged a score: by the scorer's own settings, the task's, or the model's role; or unknown."""
    scorer = score.get("scorer")
    listed = eval_.get("scorers")
    own = [each.get("options") for each in listed if _is(each, scorer)] if isinstance(listed, list) else []
    roles = eval_.get("model_roles")
    places = (
        *((part, ("model", *JUDGES)) for part in (score.get("params"), *own)),
        *((eval_.get(name), JUDGES) for name in ("task_args", "task_args_passed")),
        (roles, JUDGES),
    )
    for part, names in places:
        if isinstance(part, dict):
            for name in names:
                if found := _named(part.get(name)):
                    return cells.title("judge", found)
    return UNKNOWN


def _is(item: object, scorer: object) -> bool:
    return isinstance(item, dict) and item.get("name") == scorer


def _named(value: object) -> str:
    """Spell a model, several of them, or a role that a model plays."""
    if isinstance(value, dict):
        value = value.get("model")
    if isinstance(value, list):
        return " + ".join(each for each in value if isinstance(each, str))
    return value.strip() if isinstance(value, str) else ""
