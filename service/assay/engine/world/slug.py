"""Model names with suffixes: `author/slug[:catalog variant][:routing variant]…`.

The grammar is that of OpenRouter's model variants: split on `:`, at most one catalog variant, any
number of routing variants in any order.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Container
from dataclasses import dataclass

from assay.engine.errors import InvalidField, UnknownModel, UnknownVariant

CATALOG_VARIANTS = ("free", "batch", "thinking", "extended")
MAX_SLUG = 256
NAME = re.compile(r"[A-Za-z0-9~][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Slug:
    """A model, catalog variant included, and the routing variants in the order given."""

    model: str
    variants: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Return the slug as a caller writes it."""
        return ":".join((self.model, *self.variants))


def parse_slug(text: str, *, models: Container[str], variants: Collection[str]) -> Slug:
    """Split a requested name, given the models and routing variants that exist.

    Raises `InvalidField` for malformed names, `UnknownModel` and `UnknownVariant`.
    """
    if len(text) > MAX_SLUG:
        raise InvalidField("model", text, f"a name of at most {MAX_SLUG} characters")
    base, *suffixes = text.split(":")
    if not NAME.fullmatch(base) or not all(suffixes):
        raise InvalidField("model", text, "a name such as author/slug or author/slug:variant")
    catalog = [s for s in suffixes if s in CATALOG_VARIANTS and s not in variants]
    if len(catalog) > 1:
        raise InvalidField(
            "model", text, f"a name with at most one of {', '.join(CATALOG_VARIANTS)}"
        )
    routing = tuple(s for s in suffixes if s not in catalog)
    for suffix in routing:
        if suffix not in variants:
            raise UnknownVariant(text, suffix, tuple(sorted(variants)))
    model = ":".join((base, *catalog))
    if model not in models:
        raise UnknownModel(model)
    return Slug(model, routing)


def provider_matches(name: str, provider: str, tag: str, service_tier: str) -> bool:
    """Return whether a name in a request or preference means an endpoint.

    As at OpenRouter, a provider's slug means all its endpoints except service tiers; any other name
    means exactly one tag.
    """
    if name == provider:
        return not service_tier or tag == name
    return tag == name
