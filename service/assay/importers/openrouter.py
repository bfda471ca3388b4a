"""OpenRouter catalog snapshots: `generated`, `models`, `endpoints` by model id, sometimes `providers`; JSON or gzip.

Which model an endpoint is of: the id its list stands under, for that is the name it was asked for. A body's own
`data.id` may differ where the id is an alias (`google/gemini-2.5-pro-preview` answers as `google/gemini-2.5-pro`); its
rows may state either. A list under an id that is no model row makes a model of its own if it holds endpoints, and says
nothing if it is empty: the 2026-07-04 snapshot asked for base ids where only the `:free` variant is listed, and got
empty lists. Nothing is ever moved between a base id and its variants, so a listed variant without a list of its own has
no endpoints.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import orjson

from assay.engine.catalog import Model, Provider
from assay.engine.document import CatalogDocument, Refusal
from assay.engine.errors import BadData, quoted
from assay.engine.identity import provisional
from assay.importers import cells, json_fields
from assay.importers.cells import RefusedError
from assay.importers.openrouter_offer import read_offer, read_seller
from assay.importers.openrouter_providers import provider_slugs
from assay.importers.packing import digest, unpacked

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from assay.engine.catalog import Endpoint
    from assay.importers.json_fields import Object

MANY_ROWS = 100_000
MANY_OFFERS = 512  # of one model; the most seen is 32


@dataclass(frozen=True, slots=True)
class Offers:
    """The endpoint rows under one id, still as they came; a row may call its model by any of `names`."""

    model: Model
    names: tuple[object, ...]
    rows: tuple[object, ...]

    def where(self, place: int) -> str:
        """Name a row in refusals."""
        return f"endpoints.{self.model.model}[{place}]"


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of a snapshot, of the right kinds, nothing of theirs looked at yet."""

    generated_at: datetime
    models: list[object]
    endpoints: Object
    providers: list[object]


def read_openrouter(data: bytes, *, source: str = "openrouter") -> CatalogDocument:
    """Read a whole snapshot; raise `BadData` when it is none, lists no model, or more than half would be refused."""
    content = unpacked(data)
    parts = _parts(content)
    providers, refused_providers = _providers(parts.providers)
    models, refused_models = _models(parts.models)
    lists, refused_lists = _lists(parts.endpoints)
    slugs = provider_slugs({p.name: p.slug for p in providers if p.name}, _sellers(lists))
    endpoints, refused_endpoints, refused_overrides = _endpoints(lists, slugs)
    if not models:
        raise BadData("models: the list holds no model that can be taken")
    _check_half("models", len(models), refused_models)
    _check_half("endpoints", len(endpoints), [*refused_lists, *refused_endpoints])
    used = {endpoint.provider: None for endpoint in endpoints}
    names = {slug: name for name, slug in slugs.items()}
    known = {provider.slug: provider for provider in providers}
    return CatalogDocument(
        source=source,
        digest=digest(content),
        generated_at=parts.generated_at,
        providers=(*known.values(), *(Provider(slug, names[slug]) for slug in used if slug not in known)),
        models=(*models.values(), *_unlisted(lists, models, {endpoint.model for endpoint in endpoints})),
        endpoints=provisional(endpoints),
        refused=(*refused_providers, *refused_models, *refused_lists, *refused_endpoints, *refused_overrides),
    )


def _parts(content: bytes) -> Parts:
    try:
        root = json_fields.an_object("file", orjson.loads(content))
        providers = root.get("providers")
        return Parts(
            generated_at=cells.moment("generated", json_fields.text("generated", root.get("generated"))),
            models=json_fields.a_list("models", _data(root.get("models")), MANY_ROWS),
            endpoints=json_fields.an_object("endpoints", root.get("endpoints")),
            providers=[] if providers is None else json_fields.a_list("providers", _data(providers), MANY_ROWS),
        )
    except orjson.JSONDecodeError as error:
        raise BadData(f"not JSON: {error}") from error
    except RefusedError as error:
        raise BadData(str(error)) from error


def _data(body: object) -> object:
    """Unwrap an API answer; snapshots also hold the bare value."""
    return body["data"] if isinstance(body, dict) and "data" in body else body


def _providers(rows: list[object]) -> tuple[list[Provider], list[Refusal]]:
    taken: list[Provider] = []
    refused: list[Refusal] = []
    for place, row in enumerate(rows):
        try:
            item = json_fields.an_object("provider", row)
            slug = cells.named("slug", json_fields.text("slug", item.get("slug")), cells.PROVIDER)
            taken.append(Provider(slug, json_fields.title(item, "name")))
        except RefusedError as error:
            refused.append(Refusal(f"providers[{place}]", str(error)))
    return taken, refused


def _models(rows: list[object]) -> tuple[dict[str, Model], list[Refusal]]:
    taken: dict[str, Model] = {}
    refused: list[Refusal] = []
    for place, row in enumerate(rows):
        try:
            item = json_fields.an_object("model", row)
            model = _model(item, _new_id(item, taken))
            taken[model.model] = model
        except RefusedError as error:
            refused.append(Refusal(f"models[{place}]", str(error)))
    return taken, refused


def _new_id(item: Object, taken: dict[str, Model]) -> str:
    model = cells.named("id", json_fields.text("id", item.get("id")), cells.MODEL)
    if model in taken:
        raise RefusedError("id", model, "new: the model stands above already")
    return model


def _model(item: Object, model: str) -> Model:
    stated = item.get("architecture")
    architecture = {} if stated is None else json_fields.an_object("architecture", stated)
    return Model(
        model=model,
        name=json_fields.title(item, "name"),
        context_length=json_fields.limit(item, "context_length"),
        input_modalities=json_fields.words(architecture, "input_modalities"),
        output_modalities=json_fields.words(architecture, "output_modalities"),
    )


def _lists(bodies: Object) -> tuple[list[Offers], list[Refusal]]:
    taken: list[Offers] = []
    refused: list[Refusal] = []
    for key, body in bodies.items():
        try:
            model = cells.named("model", key, cells.MODEL)
            item = json_fields.an_object("body", _data(body))
            rows = json_fields.a_list("endpoints", item.get("endpoints"), MANY_OFFERS)
            taken.append(Offers(_model(item, model), (key, item.get("id")), tuple(rows)))
        except RefusedError as error:
            refused.append(Refusal(f"endpoints.{quoted(key)[1:-1]}", str(error)))
    return taken, refused


def _sellers(lists: list[Offers]) -> Iterator[tuple[str, str]]:
    for row in (row for offers in lists for row in offers.rows if isinstance(row, dict)):
        with suppress(RefusedError):  # the row will be refused by its own name
            yield read_seller(row)


def _endpoints(lists: list[Offers], slugs: dict[str, str]) -> tuple[list[Endpoint], list[Refusal], list[Refusal]]:
    taken: list[Endpoint] = []
    refused: list[Refusal] = []
    overrides: list[Refusal] = []
    for offers in lists:
        for place, row in enumerate(offers.rows):
            where = offers.where(place)
            try:
                item = json_fields.an_object("endpoint", row)
                endpoint, parts = read_offer(item, offers.model.model, names=offers.names, slugs=slugs)
            except RefusedError as error:
                refused.append(Refusal(where, str(error)))
            else:
                taken.append(endpoint)
                overrides.extend(replace(part, where=where + part.where) for part in parts)
    return taken, refused, overrides


def _unlisted(lists: list[Offers], models: dict[str, Model], served: set[str]) -> list[Model]:
    """Models of their own: not listed, but with endpoints."""
    named = (offers.model for offers in lists)
    return [model for model in named if model.model in served and model.model not in models]


def _check_half(kind: str, taken: int, refused: list[Refusal]) -> None:
    """Refuse the whole file when more than half would be left out, for all that would look like departure."""
    if len(refused) > taken:
        raise BadData(
            f"{kind}: {len(refused)} of {len(refused) + taken} cannot be taken, "
            f"first {refused[0].where}: {refused[0].reason}"
        )
