"""The identity of endpoints across imports: which imported endpoint is which known one.

How it works. Neither (model, provider) nor (model, tag) is a key, so an endpoint has a surrogate
id, `model@tag`, with `~2`, `~3` … where a tag repeats. An id stays with its offer across imports
and is never given to an offer of another tag. Offers are matched by tag. Where a tag repeats,
unchanged offers are matched first, then those with the fewest different fields: the terms of the
offer count before its readings (status, uptime, speed). Offers that are equal keep their ids in
file order, so that a second import of the same file changes nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import count, product
from operator import attrgetter, ne

from assay.engine.world.catalog import Endpoint
from assay.engine.world.declarations import declared_fields

Content = tuple[object, ...]


def assign_ids(existing: Sequence[Endpoint], incoming: Sequence[Endpoint]) -> tuple[Endpoint, ...]:
    """Return `incoming` in its order with lasting ids; all endpoints are of one model.

    `existing` holds every endpoint that the model ever had, those no longer listed included. An
    unmatched offer gets the lowest suffix that was never used.
    """
    known: dict[str, list[Endpoint]] = defaultdict(list)
    for endpoint in existing:
        known[endpoint.tag].append(endpoint)
    offers: dict[str, dict[int, Endpoint]] = defaultdict(dict)
    for place, endpoint in enumerate(incoming):
        offers[endpoint.tag][place] = endpoint
    matched: dict[int, str] = {}
    for tag, own in offers.items():
        matched |= _match(sorted(known[tag], key=_suffix), own)
    ids = _with_new(matched, {endpoint.endpoint_id for endpoint in existing}, incoming)
    return tuple(
        replace(endpoint, endpoint_id=endpoint_id)
        for endpoint, endpoint_id in zip(incoming, _in_file_order(ids, incoming), strict=True)
    )


def provisional_ids(endpoints: Iterable[Endpoint]) -> tuple[Endpoint, ...]:
    """Return endpoints of any models with ids in file order, as if this were the first import."""
    everything = tuple(endpoints)
    ids = _with_new({}, set(), everything)
    return tuple(
        replace(e, endpoint_id=endpoint_id) for e, endpoint_id in zip(everything, ids, strict=True)
    )


def _match(known: Sequence[Endpoint], offers: Mapping[int, Endpoint]) -> dict[int, str]:
    """Match offers of one tag, by their place, with known ids: unchanged first, then most alike."""
    found: dict[int, str] = {}
    unchanged: dict[Content, list[Endpoint]] = defaultdict(list)
    for endpoint in reversed(known):
        unchanged[_content(endpoint)].append(endpoint)
    for place, offer in offers.items():
        same = unchanged.get(_content(offer))
        if same:
            found[place] = same.pop().endpoint_id
    settled = set(found.values())
    rest = [endpoint for endpoint in known if endpoint.endpoint_id not in settled]
    left = [(place, offer) for place, offer in offers.items() if place not in found]
    pairs = sorted(
        (_differences(was, offer), place, order)
        for (place, offer), (order, was) in product(left, enumerate(rest))
    )
    taken: set[int] = set()
    for _, place, order in pairs:
        if place not in found and order not in taken:
            found[place] = rest[order].endpoint_id
            taken.add(order)
    return found


def _with_new(
    matched: Mapping[int, str], used: set[str], incoming: Sequence[Endpoint]
) -> list[str]:
    """Return all ids; an unmatched offer gets the lowest suffix not in `used`, which grows."""
    suffixes = defaultdict[tuple[str, str], "count[int]"](lambda: count(1))
    ids = []
    for place, endpoint in enumerate(incoming):
        endpoint_id = matched.get(place)
        while endpoint_id is None:
            candidate = _spelled(endpoint, next(suffixes[endpoint.model, endpoint.tag]))
            endpoint_id = None if candidate in used else candidate
        used.add(endpoint_id)
        ids.append(endpoint_id)
    return ids


def _in_file_order(ids: Sequence[str], incoming: Sequence[Endpoint]) -> list[str]:
    """Reorder the ids of equal offers to file order."""
    alike: dict[tuple[str, Content], list[int]] = defaultdict(list)
    for place, endpoint in enumerate(incoming):
        alike[endpoint.tag, _content(endpoint)].append(place)
    ordered = list(ids)
    for places in alike.values():
        named = (replace(incoming[place], endpoint_id=ids[place]) for place in places)
        for place, endpoint in zip(places, sorted(named, key=_suffix), strict=True):
            ordered[place] = endpoint.endpoint_id
    return ordered


_IDENTITY = ("endpoint_id", "model", "tag")
_DECLARED = [item for item in declared_fields(Endpoint) if item.path not in _IDENTITY]
_terms: Callable[[Endpoint], Content] = attrgetter(
    "overrides", *(item.path for item in _DECLARED if not item.spellings.is_reading)
)
_readings: Callable[[Endpoint], Content] = attrgetter(
    *dict.fromkeys(item.path.partition(".")[0] for item in _DECLARED if item.spellings.is_reading)
)


def _differences(known: Endpoint, offer: Endpoint) -> tuple[int, int]:
    """Return the number of terms and of readings that differ."""
    terms = sum(map(ne, _terms(known), _terms(offer)))
    return terms, sum(map(ne, _readings(known), _readings(offer)))


def _content(endpoint: Endpoint) -> Content:
    return _terms(endpoint) + _readings(endpoint)


def _spelled(endpoint: Endpoint, suffix: int) -> str:
    return f"{endpoint.model}@{endpoint.tag}" + (f"~{suffix}" if suffix > 1 else "")


def _suffix(endpoint: Endpoint) -> tuple[int, str]:
    """Return the sort key of an id among those of its tag: 1 for the bare one, then its number."""
    number = endpoint.endpoint_id.removeprefix(f"{endpoint.model}@{endpoint.tag}").removeprefix("~")
    return (int(number) if number.isdecimal() else 1), endpoint.endpoint_id
