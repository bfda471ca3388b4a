"""The simulated endpoints: how often each provider's tool calls are bad, and how fast it is.

Accuracies are those that MoonshotAI's K2 Vendor Verifier published on 2025-11-15 for kimi-k2-0905,
one of the five models, and kimi-k2-thinking (github.com/MoonshotAI/K2-Vendor-Verifier, README): of
the answers that ended in tool calls, how many fit the tools' schemas. Both tests of a provider are
added up here, because a simulated provider is as accurate for all its models. The 19 providers and
servers err in 0 to 28 % of such answers, eight of them in less than 5 %. Other vendors that serve
their own model are as accurate as MoonshotAI. Every other provider of the demo's catalog gets a row
of the table in turn, so that the population differs as widely as the measured one.

The ratio between the arms is a property of this population, not of the engine alone. With the table
of kimi-k2-thinking alone, whose providers err less, four trial runs gave 2.2, 3.0, 3.1 and 32 (with
one pool empty). The two tables together were chosen after those runs.

Its behavior alone makes a call bad: the simulated provider draws for each call whether it is bad,
and then sends invalid JSON, an unknown name, or arguments that do not fit the schema. Every offer
of tools is answered with calls. Neither speed nor rejections depend on accuracy.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import cycle
from typing import Any, Final

# provider: answers with tool calls, and those of them without an error
MEASURED: Final[Mapping[str, tuple[int, int]]] = {
    "moonshotai": (1274 + 1958, 1274 + 1958),
    "moonshotai/turbo": (1398 + 1984, 1398 + 1984),
    "deepinfra": (1365 + 2071, 1365 + 1800),
    "fireworks": (1453 + 1703, 1453 + 1703),
    "infinigence": (1257 + 1827, 1257 + 1825),
    "novita": (1299 + 1778, 1299 + 1715),
    "siliconflow": (1305 + 2119, 1302 + 2097),
    "chutes": (1271 + 3657, 1229 + 3037),
    "vllm": (1325 + 2128, 1007 + 1856),
    "sglang": (1269 + 1874, 928 + 1790),
    "volcengine": (1330, 969),
    "baseten": (1243, 901),
    "atlas-cloud": (1277 + 1878, 925 + 1798),
    "together": (1266 + 1893, 911 + 1602),
    "groq": (1042, 1042),
    "nebius": (644, 544),
    "gmicloud": (1850, 1775),
    "parasail": (2108, 1837),
    "google-vertex": (1945, 1668),
}
VENDORS: Final = ("alibaba", "z-ai")  # of Qwen and GLM
PARALLEL: Final = 0.1
LATENCIES: Final = (0.02, 0.05, 0.03, 0.08)  # seconds to the answer, in turn
JITTER: Final = 0.3
REJECTED: Final = (0.0, 0.01, 0.02)  # shares of requests that get a 503, in turn


def population(providers: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Return the behavior of each provider, for `assay simulate`."""
    names = sorted(set(providers))
    known = {**MEASURED, **dict.fromkeys(VENDORS, MEASURED["moonshotai"])}
    rows, latencies, rejected = cycle(MEASURED.values()), cycle(LATENCIES), cycle(REJECTED)
    found = {}
    for name in names:
        calls, good = known[name] if name in known else next(rows)
        found[name] = {
            "accuracy": good / calls,
            "parallel": PARALLEL,
            "latency_s": next(latencies),
            "jitter": JITTER,
            "faults": [{"kind": "status", "status": 503, "share": next(rejected)}],
        }
    return found
