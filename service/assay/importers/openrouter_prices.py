"""OpenRouter's `pricing`: USD per token, read exactly as prices per million tokens.

- Listed prices are charged as they are: `discount` is already included. In both captured snapshots
  price / (1 - discount) is the rounder number (0.3705 at 35 % off is 0.57).
- "-1" marks a router that prices by the model it picks: the price is unknown. Other negative prices
  are rejected.
- Without the key `request` there is no fee per request, if the prompt price is known.
- `image` equals `prompt` on every captured endpoint: it is a price per image *token*, from which
  the price of an image does not follow. It is ignored unless it is zero; another value is USD per
  image.
- An override with an unknown condition or price is rejected. Ignoring it could understate the
  price, so the prices that it names become unknown on that endpoint: it fails price limits and
  sorts last.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace

from assay.engine.world.catalog import PriceOverride, Prices
from assay.importers import cells, json_fields
from assay.importers.cells import InvalidItemError
from assay.importers.documents import Rejection
from assay.importers.json_fields import Object

_PER_TOKEN = {
    "prompt": "prompt",
    "completion": "completion",
    "input_cache_read": "cache_read",
    "input_cache_write": "cache_write",
    "audio": "audio",
}
_PER_PIECE = {"request": "request_usd", "image": "image_usd"}
_NAMES = _PER_TOKEN | _PER_PIECE
_IGNORED = frozenset({
    "input_cache_write_1h", "image_output", "image_token", "audio_output", "input_audio_cache",
    "web_search", "internal_reasoning", "discount",
})  # fmt: skip
_CONDITIONS = frozenset(("min_prompt_tokens", "utc_start", "utc_end", "utc_days"))
_MANY_OVERRIDES = 32
_DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_DAY_MINUTES = 24 * 60


def read_pricing(
    pricing: Object,
) -> tuple[Prices, tuple[PriceOverride, ...], tuple[Rejection, ...]]:
    """Read prices and overrides, and reject each override that is not understood."""
    base = _prices(pricing)
    if base.prompt is not None and "request" not in pricing:
        base = replace(base, request_usd=0.0)
    found: list[PriceOverride] = []
    rejected: list[Rejection] = []
    unknown: set[str] = set()
    listed = pricing.get("overrides")
    for place, item in enumerate(
        json_fields.a_list("overrides", [] if listed is None else listed, _MANY_OVERRIDES)
    ):
        try:
            found.append(_override(json_fields.an_object("override", item)))
        except InvalidItemError as error:
            named = _NAMES.keys() & item.keys() if isinstance(item, dict) else ()
            touched = {_NAMES[key] for key in named} or {field.name for field in fields(Prices)}
            unknown |= touched  # all prices, if it names none
            names = ", ".join(sorted(touched)) or "none"
            rejected.append(
                Rejection(f".pricing.overrides[{place}]", f"{error}; prices now unknown: {names}")
            )
    nothing = dict.fromkeys(unknown)
    kept = (replace(each, prices=replace(each.prices, **nothing)) for each in found)
    known = tuple(override for override in kept if override.prices != Prices())
    return replace(base, **nothing), known, tuple(rejected)


def _prices(item: Mapping[str, object]) -> Prices:
    prices = Prices(**{_NAMES[key]: _price(key, item.get(key)) for key in _NAMES})
    per_token = prices.image_usd and prices.prompt == _price("prompt", item.get("image"))
    return replace(prices, image_usd=None) if per_token else prices


def _price(key: str, value: object) -> float | None:
    if value is None:
        return None
    text = json_fields.number_text(key, value)
    if text.removesuffix(".0") == "-1":
        return None
    per_token = cells.decimal(key, text)
    amount = per_token * cells.MTOK if key in _PER_TOKEN else per_token
    if amount > cells.DEAREST_USD:
        raise InvalidItemError(key, value, "a price in USD per token: is the unit right?")
    return float(amount)


def _override(item: Object) -> PriceOverride:
    strange = item.keys() - _NAMES.keys() - _IGNORED - _CONDITIONS
    if strange:
        raise InvalidItemError("override", min(strange), "a known key")
    prices = _prices(item)
    if any(item.get(key) is not None and _price(key, item.get(key)) is None for key in _NAMES):
        raise InvalidItemError("override", "-1", "a price")
    start, end = _minute(item, "utc_start"), _minute(item, "utc_end")
    if (start is None) != (end is None) or (start is not None and start == end):
        raise InvalidItemError("utc_start", item.get("utc_start"), "a window with utc_end")
    override = PriceOverride(
        prices, json_fields.whole(item, "min_prompt_tokens"), start, end, _days(item)
    )
    if override == PriceOverride(prices):
        raise InvalidItemError("override", "it", "bound to any condition")
    return override


def _minute(item: Object, key: str) -> int | None:
    """Read a time HHMM, a number or text, with or without a colon."""
    value = item.get(key)
    if value is None:
        return None
    digits = json_fields.number_text(key, value).replace(":", "").zfill(4)
    if len(digits) != len("HHMM") or not cells.WHOLE.fullmatch(digits):
        raise InvalidItemError(key, value, "a time HHMM")
    hours, minutes = int(digits[:2]), int(digits[2:])
    minute = hours * 60 + minutes
    latest = _DAY_MINUTES if key == "utc_end" else _DAY_MINUTES - 1
    if minutes > 59 or minute > latest:  # noqa: PLR2004 - as on a clock
        raise InvalidItemError(key, value, "a time HHMM")
    return minute


def _days(item: Object) -> tuple[int, ...]:
    """Read weekdays by English name or number: 1 is Monday, 0 and 7 are Sunday."""
    value = item.get("utc_days")
    if value is None:
        return ()
    days = {_day(day) for day in json_fields.a_list("utc_days", value, len(_DAYS))}
    if not days:
        raise InvalidItemError("utc_days", "[]", "a list with weekdays")
    return tuple(sorted(days))


def _day(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= len(_DAYS):
        return value or len(_DAYS)
    name = value.lower() if isinstance(value, str) else ""
    for number, day in enumerate(_DAYS, start=1):
        if name in (day, day[:3]):
            return number
    raise InvalidItemError("utc_days", json_fields.shown(value), "a weekday")
