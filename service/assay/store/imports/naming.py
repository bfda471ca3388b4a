"""Which endpoint an observed row means: exactly one, or the row is refused; nothing is guessed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from assay.engine.document import ObservedRow, Refusal


class Names:
    """All endpoints there ever were, by the names that rows use."""

    def __init__(self, endpoints: Iterable[tuple[str, str, str]]) -> None:
        self._by_tag: dict[tuple[str, str], list[str]] = defaultdict(list)
        self._models: dict[str, str] = {}
        for endpoint_id, model, tag in endpoints:
            self.add(endpoint_id, model, tag)

    def add(self, endpoint_id: str, model: str, tag: str) -> None:
        """Know one endpoint more."""
        self._by_tag[model, tag].append(endpoint_id)
        self._models[endpoint_id] = model

    def meant_by(self, row: ObservedRow) -> str | Refusal | None:
        """Return the id of the endpoint meant, `None` if there is none, a refusal if there are several.

        The tag column may hold a full id (`model@tag~2`), or its part after the `@`, where a tag repeats.
        """
        shared = self._by_tag.get((row.model, row.tag), [])
        if len(shared) > 1:
            ids = ", ".join(sorted(shared))
            return Refusal(row.where, f"tag {row.tag} of {row.model} is ambiguous, write one of {ids} as the tag")
        if shared:
            return shared[0]
        full = (row.tag, f"{row.model}@{row.tag}")
        return next((each for each in full if self._models.get(each) == row.model), None)


def unknown(row: ObservedRow) -> Refusal:
    """Refuse a row whose endpoint no catalog has named."""
    name = f"{row.model}@{row.tag}"
    return Refusal(row.where, f"endpoint {name} is unknown; import the catalog first or use --create-endpoints")


def can_be_made(row: ObservedRow) -> bool:
    """Whether the tag is one that an endpoint can have: `@` and `~` are how ids are put together."""
    return not set("@~") & set(row.tag)
