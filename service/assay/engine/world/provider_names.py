"""The names by which callers know providers: slugs, tags and display names, in any case."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import lru_cache
from typing import Final

from assay.engine.errors import quoted
from assay.engine.world.request import ProviderPreferences, Request

Offer = tuple[str, str, str | None]
"""Slug and tag of an endpoint, and the display name of its provider."""

_LISTS: Final = ("order", "only", "ignore")
_MAX_SUGGESTIONS: Final = 4
_MAX_REMEMBERED: Final = 1024
_MAX_WARNINGS: Final = 16  # a request may have 768 names: an answer stays small
_LONGEST_NAME: Final = 64  # suggestions for longer ones take long


@dataclass(frozen=True, slots=True)
class RequestWarning:
    """A value of a request that has no effect, or perhaps not the intended one."""

    field: str
    value: str
    reason: str
    message: str
    suggestion: str = ""


class ProviderNames:
    """What each name of a catalog means, without regard to case and surrounding space.

    A slug or tag means itself. A display name that is neither means every provider that bears it.
    """

    __slots__ = ("_exact", "_meanings", "_spelled", "_suggest", "offers")

    def __init__(self, offers: Iterable[Offer]) -> None:
        self.offers = tuple(sorted(set(offers), key=_by_name))
        self._exact = frozenset(name for slug, tag, _ in self.offers for name in (slug, tag))
        self._spelled: dict[str, str] = {}
        bearers: defaultdict[str, set[str]] = defaultdict(set)
        for slug, _, display in self.offers:
            if display and (folded := _folded(display)):
                bearers[folded].add(slug)
                self._spelled.setdefault(folded, display)
        own: defaultdict[str, set[str]] = defaultdict(set)
        for name in self._exact:
            own[_folded(name)].add(name)
        self._meanings = {name: tuple(sorted(meant)) for name, meant in {**bearers, **own}.items()}
        self._spelled |= {name: min(meant) for name, meant in own.items()}
        # A search takes about a millisecond, and callers repeat their mistakes in each request.
        self._suggest = lru_cache(_MAX_REMEMBERED)(self._search)

    def resolve(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """Return the slugs and tags that names mean; unknown names stay, and mean no endpoint."""
        if self._exact.issuperset(names):
            return names
        meant = (slug for name in names for slug in self._meaning(name) or (name,))
        return tuple(dict.fromkeys(meant))

    def resolve_request(self, request: Request) -> Request:
        """Return the request with the provider names of its lists resolved."""
        wants = request.provider
        order, only, ignore = map(self.resolve, (wants.order, wants.only, wants.ignore))
        if order is wants.order and only is wants.only and ignore is wants.ignore:
            return request
        resolved = replace(wants, order=order, only=only, ignore=ignore)
        return replace(request, provider=resolved)

    def warn(self, wants: ProviderPreferences) -> tuple[RequestWarning, ...]:
        """Return a warning for each name that means no provider.

        Only the first ones get a suggestion, and one warning counts those beyond a limit.
        """
        unknown: list[tuple[str, str]] = []
        for name in _LISTS:
            for index, value in enumerate(getattr(wants, name)):
                if not self._meaning(value):
                    unknown.append((f"provider.{name}[{index}]", value))
        found: list[RequestWarning] = []
        for field, value in unknown[:_MAX_WARNINGS]:
            suggestion = self._suggest(value) if len(found) < _MAX_SUGGESTIONS else ""
            found.append(_warning(field, value, suggestion))
        if more := len(unknown) - len(found):
            message = f"provider: {more} more names are not providers of the catalog"
            found.append(RequestWarning("provider", f"{more} more", "unknown-provider", message))
        return tuple(found)

    def _meaning(self, name: str) -> tuple[str, ...]:
        return (name,) if name in self._exact else self._meanings.get(_folded(name), ())

    def _search(self, name: str) -> str:
        if len(name) > _LONGEST_NAME:
            return ""
        return "".join(
            self._spelled[key] for key in get_close_matches(_folded(name), self._spelled, 1)
        )


def _by_name(offer: Offer) -> tuple[str, str, str]:
    slug, tag, display = offer
    return slug, tag, display or ""


def _folded(name: str) -> str:
    return " ".join(name.casefold().split())


def _warning(field: str, value: str, suggestion: str) -> RequestWarning:
    hint = f"; did you mean {suggestion}?" if suggestion else ""
    message = (
        f"{field}: {quoted(value)} is not a provider of the catalog and matches no endpoint{hint}"
    )
    return RequestWarning(field, value, "unknown-provider", message, suggestion)
