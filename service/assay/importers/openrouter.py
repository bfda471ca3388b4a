"""OpenRouter catalog snapshots: `generated`, `models`, `endpoints` by model id, sometimes `providers`; JSON or gzip.

Which model an endpoint is of: the id its list stands under, for that is the name it was asked for. A body's own
`data.id` may differ where the id is an alias (`google/gemini-2.5-pro-preview` answers as `google/gemini-2.5-pro`); its
rows may state either. A list under an id that is no model row makes a model of its own if it holds endpoints, and says
nothing if it is empty: the 2026-07-04 snapshot asked for base ids where only the `:free` variant is listed, and got
empty lists. Nothing is ever moved between a base id and its variants, so a listed variant without a list of its own has
no endpoints.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import astuple, dataclass, replace
from datetime import datetime

import orjson

from assay.engine.errors import BadData, quoted
from assay.engine.world.catalog import Endpoint, Model, Percentiles, Provider
from assay.engine.world.identity import provisional_ids
from assay.importers import cells, json_fields
from assay.importers.cells import InvalidItemError
from assay.importers.documents import CatalogDocument, Rejection
from assay.importers.json_fields import Object
from assay.importers.openrouter_prices import read_pricing
from assay.importers.packing import digest, unpacked


def provider_slugs(listed: Mapping[str, str], offers: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Map display names to slugs, from the names listed and from pairs of display name and tag."""
    carried = Counter((name, tag.partition("/")[0]) for name, tag in offers)

    def claim(pair: tuple[str, str]) -> tuple[bool, bool, int, str]:
        name, prefix = pair
        return listed.get(name) == prefix, _hyphenated(name) == prefix, carried[pair], name

    owners: dict[str, tuple[str, str]] = {}
    for pair in carried:
        owners[pair[1]] = max(pair, owners.get(pair[1], pair), key=claim)
    weakest_first = sorted(owners.values(), key=lambda pair: (*claim(pair), pair[1]))
    return dict(weakest_first) | dict(listed)


def _hyphenated(name: str) -> str:
    return "-".join(name.lower().split())


POINTS = ("p50", "p75", "p90", "p99")
MS = 1000


def read_offer(
    item: Object, model: str, *, names: Container[object], slugs: Mapping[str, str]
) -> tuple[Endpoint, tuple[Rejection, ...]]:
    """Read an endpoint of `model`, which its row may call by any of `names`; price overrides are refused alone."""
    stated = item.get("model_id")
    if stated is not None and stated not in names:
        raise InvalidItemError(
            "model_id", json_fields.shown(stated), f"the model of this list, {model}"
        )
    provider, tag = read_seller(item)
    if provider not in slugs:
        raise InvalidItemError(
            "provider_name", provider, "listed in providers, and its tags are all of others"
        )
    pricing = item.get("pricing")
    prices, overrides, refused = read_pricing(
        {} if pricing is None else json_fields.an_object("pricing", pricing)
    )
    quantization = item.get("quantization")
    endpoint = Endpoint(
        endpoint_id="",
        model=model,
        provider=slugs[provider],
        tag=tag,
        quantization="unknown" if quantization is None else _word("quantization", quantization),
        context_length=json_fields.limit(item, "context_length"),
        max_completion_tokens=json_fields.limit(item, "max_completion_tokens"),
        max_prompt_tokens=json_fields.limit(item, "max_prompt_tokens"),
        supported_parameters=json_fields.words(item, "supported_parameters") or (),
        prices=prices,
        overrides=overrides,
        status=json_fields.code(item, "status"),
        uptime_30m_percent=json_fields.percent("uptime_last_30m", item.get("uptime_last_30m")),
        uptime_1d_percent=json_fields.percent("uptime_last_1d", item.get("uptime_last_1d")),
        latency_s=_percentiles(item, "latency_last_30m", rising=True, unit=MS),
        throughput_tps=_percentiles(item, "throughput_last_30m", rising=False),
        implicit_caching=json_fields.flag(item, "supports_implicit_caching"),
    )
    return endpoint, refused


def read_seller(item: Object) -> tuple[str, str]:
    """Read who offers: the provider's display name and the endpoint's tag."""
    name = cells.title(
        "provider_name", json_fields.text("provider_name", item.get("provider_name"))
    )
    if not name.strip():
        raise InvalidItemError("provider_name", name, "a name")
    return name, cells.named("tag", json_fields.text("tag", item.get("tag")), cells.TAG)


def _word(field: str, value: object) -> str:
    return cells.named(field, json_fields.text(field, value), cells.WORD)


def _percentiles(item: Object, field: str, *, rising: bool, unit: int = 1) -> Percentiles:
    """Read one number (the median) or the points of a distribution.

    Ours get worse with p: `p90` of a latency is met, of a throughput exceeded, by 90 %. OpenRouter documents the same,
    but real throughput points rise, so they are quantiles, of which only the median says what ours says: it is kept.
    """
    value = item.get(field)
    if not isinstance(value, dict):
        return Percentiles(p50=_scaled(json_fields.number(field, value), unit))
    points = Percentiles(
        *(_scaled(json_fields.number(f"{field}.{p}", value.get(p)), unit) for p in POINTS)
    )
    stated = [point for point in astuple(points) if point is not None]
    return points if stated == sorted(stated, reverse=not rising) else Percentiles(p50=points.p50)


def _scaled(value: float | None, unit: int) -> float | None:
    return None if value is None else value / unit


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
        providers=(
            *known.values(),
            *(Provider(slug, names[slug]) for slug in used if slug not in known),
        ),
        models=(
            *models.values(),
            *_unlisted(lists, models, {endpoint.model for endpoint in endpoints}),
        ),
        endpoints=provisional_ids(endpoints),
        rejected=(
            *refused_providers,
            *refused_models,
            *refused_lists,
            *refused_endpoints,
            *refused_overrides,
        ),
    )


def _parts(content: bytes) -> Parts:
    try:
        root = json_fields.an_object("file", orjson.loads(content))
        providers = root.get("providers")
        return Parts(
            generated_at=cells.moment(
                "generated", json_fields.text("generated", root.get("generated"))
            ),
            models=json_fields.a_list("models", _data(root.get("models")), MANY_ROWS),
            endpoints=json_fields.an_object("endpoints", root.get("endpoints")),
            providers=[]
            if providers is None
            else json_fields.a_list("providers", _data(providers), MANY_ROWS),
        )
    except orjson.JSONDecodeError as error:
        raise BadData(f"not JSON: {error}") from error
    except InvalidItemError as error:
        raise BadData(str(error)) from error


def _data(body: object) -> object:
    """Unwrap an API answer; snapshots also hold the bare value."""
    return body["data"] if isinstance(body, dict) and "data" in body else body


def _providers(rows: list[object]) -> tuple[list[Provider], list[Rejection]]:
    taken: list[Provider] = []
    refused: list[Rejection] = []
    for place, row in enumerate(rows):
        try:
            item = json_fields.an_object("provider", row)
            slug = cells.named("slug", json_fields.text("slug", item.get("slug")), cells.PROVIDER)
            taken.append(Provider(slug, json_fields.title(item, "name")))
        except InvalidItemError as error:
            refused.append(Rejection(f"providers[{place}]", str(error)))
    return taken, refused


def _models(rows: list[object]) -> tuple[dict[str, Model], list[Rejection]]:
    taken: dict[str, Model] = {}
    refused: list[Rejection] = []
    for place, row in enumerate(rows):
        try:
            item = json_fields.an_object("model", row)
            model = _model(item, _new_id(item, taken))
            taken[model.model] = model
        except InvalidItemError as error:
            refused.append(Rejection(f"models[{place}]", str(error)))
    return taken, refused


def _new_id(item: Object, taken: dict[str, Model]) -> str:
    model = cells.named("id", json_fields.text("id", item.get("id")), cells.MODEL)
    if model in taken:
        raise InvalidItemError("id", model, "new: the model stands above already")
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


def _lists(bodies: Object) -> tuple[list[Offers], list[Rejection]]:
    taken: list[Offers] = []
    refused: list[Rejection] = []
    for key, body in bodies.items():
        try:
            model = cells.named("model", key, cells.MODEL)
            item = json_fields.an_object("body", _data(body))
            rows = json_fields.a_list("endpoints", item.get("endpoints"), MANY_OFFERS)
            taken.append(Offers(_model(item, model), (key, item.get("id")), tuple(rows)))
        except InvalidItemError as error:
            refused.append(Rejection(f"endpoints.{quoted(key)[1:-1]}", str(error)))
    return taken, refused


def _sellers(lists: list[Offers]) -> Iterator[tuple[str, str]]:
    for row in (row for offers in lists for row in offers.rows if isinstance(row, dict)):
        with suppress(InvalidItemError):  # the row will be refused by its own name
            yield read_seller(row)


def _endpoints(
    lists: list[Offers], slugs: dict[str, str]
) -> tuple[list[Endpoint], list[Rejection], list[Rejection]]:
    taken: list[Endpoint] = []
    refused: list[Rejection] = []
    overrides: list[Rejection] = []
    for offers in lists:
        for place, row in enumerate(offers.rows):
            where = offers.where(place)
            try:
                item = json_fields.an_object("endpoint", row)
                endpoint, parts = read_offer(
                    item, offers.model.model, names=offers.names, slugs=slugs
                )
            except InvalidItemError as error:
                refused.append(Rejection(where, str(error)))
            else:
                taken.append(endpoint)
                overrides.extend(replace(part, where=where + part.where) for part in parts)
    return taken, refused, overrides


def _unlisted(lists: list[Offers], models: dict[str, Model], served: set[str]) -> list[Model]:
    """Models of their own: not listed, but with endpoints."""
    named = (offers.model for offers in lists)
    return [model for model in named if model.model in served and model.model not in models]


def _check_half(kind: str, taken: int, refused: list[Rejection]) -> None:
    """Refuse the whole file when more than half would be left out, for all that would look like departure."""
    if len(refused) > taken:
        raise BadData(
            f"{kind}: {len(refused)} of {len(refused) + taken} cannot be taken, "
            f"first {refused[0].where}: {refused[0].reason}"
        )
