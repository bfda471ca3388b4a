"""Snapshots of OpenRouter's catalog: `generated`, `models`, `endpoints`, sometimes `providers`.

An endpoint belongs to the model whose id is the key of its list. The list's own `data.id` may
differ if the key is an alias (`google/gemini-2.5-pro-preview` answers as `google/gemini-2.5-pro`);
its rows may state either. A list whose key is not a listed model adds a model if it has endpoints.
An empty list is ignored: the snapshot of 2026-07-04 has empty lists for base ids of which only
`:free` is listed. Endpoints are never moved between a base id and its variants.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import astuple, dataclass, replace

import orjson

from assay.engine.errors import BadData, quoted
from assay.engine.world.catalog import Endpoint, Model, Percentiles, Provider
from assay.engine.world.identity import provisional_ids
from assay.importers import cells, json_fields
from assay.importers.cells import InvalidItemError
from assay.importers.documents import CatalogDocument, Rejection, Rejections
from assay.importers.json_fields import Object
from assay.importers.openrouter_prices import read_pricing
from assay.importers.packing import digest, unpacked


def provider_slugs(listed: Mapping[str, str], offers: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Map display names to slugs, by listed names and by pairs of display name and tag."""
    carried = Counter((name, tag.partition("/")[0]) for name, tag in offers)

    def claim(pair: tuple[str, str]) -> tuple[bool, bool, int, str]:
        name, prefix = pair
        is_hyphenated = "-".join(name.lower().split()) == prefix
        return listed.get(name) == prefix, is_hyphenated, carried[pair], name

    owners: dict[str, tuple[str, str]] = {}
    for pair in carried:
        owners[pair[1]] = max(pair, owners.get(pair[1], pair), key=claim)
    weakest_first = sorted(owners.values(), key=lambda pair: (*claim(pair), pair[1]))
    return dict(weakest_first) | dict(listed)


_POINTS = ("p50", "p75", "p90", "p99")
_MS = 1000


def _read_offer(
    item: Object, model: str, *, names: Container[object], slugs: Mapping[str, str]
) -> tuple[Endpoint, tuple[Rejection, ...]]:
    """Read an endpoint of `model`, and its rejected price overrides.

    The row may call the model by any of `names`.
    """
    stated = item.get("model_id")
    if stated is not None and stated not in names:
        raise InvalidItemError(
            "model_id", json_fields.shown(stated), f"the model of this list, {model}"
        )
    provider, tag = _read_seller(item)
    if provider not in slugs:
        raise InvalidItemError(
            "provider_name", provider, "listed in providers, and its tags belong to others"
        )
    prices, overrides, rejected = read_pricing(json_fields.part(item, "pricing"))
    quantization = item.get("quantization")
    if quantization is None:
        quantization = "unknown"
    endpoint = Endpoint(
        endpoint_id="",
        model=model,
        provider=slugs[provider],
        tag=tag,
        provider_name=provider,
        quantization=json_fields.name("quantization", quantization, cells.WORD),
        context_length=json_fields.limit(item, "context_length"),
        max_completion_tokens=json_fields.limit(item, "max_completion_tokens"),
        max_prompt_tokens=json_fields.limit(item, "max_prompt_tokens"),
        supported_parameters=json_fields.words(item, "supported_parameters") or (),
        tool_choices=_tool_choices(item),
        input_modalities=json_fields.words(item, "input_modalities") or None,
        prices=prices,
        overrides=overrides,
        status=json_fields.code(item, "status"),
        uptime_30m_percent=json_fields.percent("uptime_last_30m", item.get("uptime_last_30m")),
        uptime_1d_percent=json_fields.percent("uptime_last_1d", item.get("uptime_last_1d")),
        latency_s=_percentiles(item, "latency_last_30m", rising=True, unit=_MS),
        throughput_tps=_percentiles(item, "throughput_last_30m", rising=False),
        implicit_caching=json_fields.flag(item, "supports_implicit_caching"),
    )
    return endpoint, rejected


_TOOL_CHOICES = {
    "literal_none": "none", "literal_auto": "auto", "literal_required": "required",
    "type_function": "function",
}  # fmt: skip


def _tool_choices(item: Object) -> tuple[str, ...] | None:
    """Read the values of tool_choice that the endpoint supports, if all are stated."""
    stated = json_fields.part(item, "supports_tool_choice")
    flags = {word: json_fields.flag(stated, name) for name, word in _TOOL_CHOICES.items()}
    if None in flags.values():
        return None
    return tuple(word for word, is_supported in flags.items() if is_supported)


def _read_seller(item: Object) -> tuple[str, str]:
    """Read the provider's display name and the endpoint's tag."""
    name = cells.title(
        "provider_name", json_fields.text("provider_name", item.get("provider_name"))
    )
    if not name.strip():
        raise InvalidItemError("provider_name", name, "a name")
    return name, json_fields.name("tag", item.get("tag"), cells.TAG)


def _percentiles(item: Object, field: str, *, rising: bool, unit: int = 1) -> Percentiles:
    """Read one number (the median) or the points of a distribution.

    Our percentiles get worse with p: 90 % of requests have at most the `p90` latency, or at least
    the `p90` throughput. OpenRouter documents the same, but its throughput points rise, so they are
    quantiles. Only their median has the same meaning, so only the median is read.
    """
    value = item.get(field)
    if not isinstance(value, dict):
        return Percentiles(p50=_scaled(json_fields.number(field, value), unit))
    points = Percentiles(
        *(_scaled(json_fields.number(f"{field}.{p}", value.get(p)), unit) for p in _POINTS)
    )
    stated = [point for point in astuple(points) if point is not None]
    return points if stated == sorted(stated, reverse=not rising) else Percentiles(p50=points.p50)


def _scaled(value: float | None, unit: int) -> float | None:
    return None if value is None else value / unit


_MANY_ROWS = 100_000
_MANY_OFFERS = 512  # of one model; the most seen is 32


@dataclass(frozen=True, slots=True)
class _EndpointList:
    """The unread endpoint rows of one model; a row may call the model by any of `names`."""

    model: Model
    names: tuple[object, ...]
    rows: tuple[object, ...]


def read_openrouter(data: bytes, *, source: str = "openrouter") -> CatalogDocument:
    """Read a snapshot.

    Raises BadData if it is not valid, lists no model, or more than half of its items are not valid.
    """
    content = unpacked(data)
    try:
        root = json_fields.an_object("file", orjson.loads(content))
        generated_at = cells.moment(
            "generated", json_fields.text("generated", root.get("generated"))
        )
        listed_models = json_fields.a_list("models", _data(root.get("models")), _MANY_ROWS)
        bodies = json_fields.an_object("endpoints", root.get("endpoints"))
        listed = root.get("providers")
        listed_providers = json_fields.a_list(
            "providers", [] if listed is None else _data(listed), _MANY_ROWS
        )
    except orjson.JSONDecodeError as error:
        raise BadData(f"not JSON: {error}") from error
    except InvalidItemError as error:
        raise BadData(str(error)) from error
    providers, rejected_providers = _providers(listed_providers)
    models, rejected_models = _models(listed_models)
    lists, rejected_lists = _lists(bodies)
    slugs = provider_slugs({p.name: p.slug for p in providers if p.name}, _sellers(lists))
    endpoints, rejected_endpoints, rejected_overrides = _endpoints(lists, slugs)
    if not models:
        raise BadData("models: the list holds no valid model")
    _check_half("models", len(models), rejected_models)
    _check_half("endpoints", len(endpoints), [*rejected_lists, *rejected_endpoints])
    used = dict.fromkeys(endpoint.provider for endpoint in endpoints)
    names = {slug: name for name, slug in slugs.items()}
    known = {provider.slug: provider for provider in providers}
    served = {endpoint.model for endpoint in endpoints}
    offered = (each.model for each in lists)
    unlisted = (each for each in offered if each.model in served and each.model not in models)
    return CatalogDocument(
        source=source,
        digest=digest(content),
        generated_at=generated_at,
        providers=(
            *known.values(),
            *(Provider(slug, names[slug]) for slug in used if slug not in known),
        ),
        models=(*models.values(), *unlisted),
        endpoints=provisional_ids(endpoints),
        rejected=(
            *rejected_providers,
            *rejected_models,
            *rejected_lists,
            *rejected_endpoints,
            *rejected_overrides,
        ),
    )


def _data(body: object) -> object:
    """Return the `data` of an API answer; snapshots may hold the bare value."""
    return body["data"] if isinstance(body, dict) and "data" in body else body


def _providers(rows: list[object]) -> tuple[list[Provider], Rejections]:
    found: list[Provider] = []
    rejected = Rejections()
    for place, row in enumerate(rows):
        with rejected.at(f"providers[{place}]"):
            item = json_fields.an_object("provider", row)
            slug = json_fields.name("slug", item.get("slug"), cells.PROVIDER)
            found.append(Provider(slug, json_fields.title(item, "name")))
    return found, rejected


def _models(rows: list[object]) -> tuple[dict[str, Model], Rejections]:
    found: dict[str, Model] = {}
    rejected = Rejections()
    for place, row in enumerate(rows):
        with rejected.at(f"models[{place}]"):
            item = json_fields.an_object("model", row)
            model = json_fields.name("id", item.get("id"), cells.MODEL)
            if model in found:
                raise InvalidItemError("id", model, "new: the model is listed above")
            found[model] = _model(item, model)
    return found, rejected


def _model(item: Object, model: str) -> Model:
    architecture = json_fields.part(item, "architecture")
    return Model(
        model=model,
        name=json_fields.title(item, "name"),
        context_length=json_fields.limit(item, "context_length"),
        input_modalities=json_fields.words(architecture, "input_modalities"),
        output_modalities=json_fields.words(architecture, "output_modalities"),
    )


def _lists(bodies: Object) -> tuple[list[_EndpointList], Rejections]:
    found: list[_EndpointList] = []
    rejected = Rejections()
    for key, body in bodies.items():
        with rejected.at(f"endpoints.{quoted(key)[1:-1]}"):
            model = cells.MODEL("model", key)
            item = json_fields.an_object("body", _data(body))
            rows = json_fields.a_list("endpoints", item.get("endpoints"), _MANY_OFFERS)
            found.append(_EndpointList(_model(item, model), (key, item.get("id")), tuple(rows)))
    return found, rejected


def _sellers(lists: list[_EndpointList]) -> Iterator[tuple[str, str]]:
    for row in (row for offers in lists for row in offers.rows if isinstance(row, dict)):
        with suppress(InvalidItemError):  # rejected later, by its own name
            yield _read_seller(row)


def _endpoints(
    lists: list[_EndpointList], slugs: dict[str, str]
) -> tuple[list[Endpoint], Rejections, Rejections]:
    found: list[Endpoint] = []
    rejected, overrides = Rejections(), Rejections()
    for offers in lists:
        model = offers.model.model
        for place, row in enumerate(offers.rows):
            where = f"endpoints.{model}[{place}]"
            with rejected.at(where):
                item = json_fields.an_object("endpoint", row)
                endpoint, parts = _read_offer(item, model, names=offers.names, slugs=slugs)
                found.append(endpoint)
                overrides.extend(replace(part, where=where + part.where) for part in parts)
    return found, rejected, overrides


def _check_half(kind: str, found: int, rejected: Sequence[Rejection]) -> None:
    """Reject the file if more than half of its items are not valid.

    The store would otherwise mark all of these items as gone.
    """
    if len(rejected) > found:
        raise BadData(
            f"{kind}: {len(rejected)} of {len(rejected) + found} are not valid, "
            f"first {rejected[0].where}: {rejected[0].reason}"
        )
