"""Which provider a display name is: OpenRouter's endpoints name their provider only for people, and by tag prefix.

A prefix is not always a slug: `sambanova-turbo` is SambaNova's; `anthropic/claude-on-aws` is served by Amazon Bedrock.
So a name's slug is what the `providers` part says, else the prefix most of its endpoints carry, of those that are no
other provider's own. A name left without one is refused rather than attributed to somebody else.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


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
