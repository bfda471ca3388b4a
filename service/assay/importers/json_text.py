"""JSON whose figures count: no key twice, no depth that breaks the reader; NaN is left for its field to refuse."""

from __future__ import annotations

import json

from assay.engine.errors import BadData, quoted
from assay.importers.json_fields import Object


def read_object(content: bytes) -> Object:
    """Read a JSON object in UTF-8; raises BadData."""
    try:
        found = json.loads(content.decode("utf-8-sig"), object_pairs_hook=_without_repetition)
    except RecursionError as error:
        raise BadData("not JSON: too deeply nested") from error
    except ValueError as error:  # also where it is not UTF-8, or a number has thousands of digits
        raise BadData(f"not JSON: {' '.join(str(error).split())[:200]}") from error
    if not isinstance(found, dict):
        raise BadData("not a JSON object")
    return found


def _without_repetition(pairs: list[tuple[str, object]]) -> Object:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise BadData(f"key {quoted(twice)} stands twice in one object")
    return found
