"""What rules may read: every fact by name, type, stage and meaning. `policy/README.md` shows this table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from assay.engine.cel.schema import BOOL, DOUBLE, INT, STRING, Fact, Schema, Type, list_of
from assay.engine.policy.functions import DOUBLES, FUNCTIONS, STRINGS

JUDGED = "judged"
REQUEST = "request"


@dataclass(frozen=True, slots=True)
class DeclaredFact:
    """One fact: `judged` facts are known when pools are judged, `request` facts only when a request is planned."""

    path: str
    type: Type
    stage: str
    meaning: str
    optional: bool = False

    @property
    def root(self) -> str:
        """The first part of the path."""
        return self.path.partition(".")[0]

    @property
    def name(self) -> str:
        """The path below its root."""
        return self.path.partition(".")[2]


def judged(path: str, kind: Type, meaning: str, *, optional: bool = False) -> DeclaredFact:
    """Declare a fact of the judging stage."""
    return DeclaredFact(path, kind, JUDGED, meaning, optional)


def requested(path: str, kind: Type, meaning: str, *, optional: bool = False) -> DeclaredFact:
    """Declare a fact of the planning stage."""
    return DeclaredFact(path, kind, REQUEST, meaning, optional)


def percentiles(prefix: str, suffix: str, what: str) -> tuple[DeclaredFact, ...]:
    """Four facts, one per percentile."""
    make = requested if prefix.startswith("request.") else judged
    return tuple(
        make(f"{prefix}.{p}{suffix}", DOUBLE, f"{what}, {p}", optional=True)
        for p in ("p50", "p75", "p90", "p99")
    )


FACTS: tuple[DeclaredFact, ...] = (
    judged("endpoint.id", STRING, "`model@tag`, with `~2` … where a tag repeats"),
    judged("endpoint.provider", STRING, "the provider's slug"),
    judged("endpoint.tag", STRING, "the provider's slug, and what tells its endpoints apart: `deepinfra/fp8`"),
    judged("endpoint.service_tier", STRING, "`flex` or `priority` where the tag ends so, else empty"),
    judged("endpoint.quantization", STRING, "`fp8`, `bf16` …, `unknown` where not stated"),
    judged("endpoint.supported_parameters", STRINGS, "names of request parameters it supports"),
    judged("endpoint.context_length", INT, "tokens of prompt and completion together", optional=True),
    judged("endpoint.max_prompt_tokens", INT, "tokens it accepts as a prompt", optional=True),
    judged(
        "endpoint.completion_limit", INT,
        "tokens it can complete: its stated limit, else the context length", optional=True,
    ),
    judged("endpoint.status", INT, "status in the catalog: 0 is sound, below 0 is trouble", optional=True),
    judged(
        "endpoint.uptime_percent", DOUBLE, "share of requests answered, 0 to 100: last 30 minutes, else last day",
        optional=True,
    ),
    judged("endpoint.zdr", BOOL, "keeps no data (zero data retention)", optional=True),
    judged("endpoint.collects_data", BOOL, "may keep or train on prompts", optional=True),
    judged("endpoint.implicit_caching", BOOL, "caches prompts without being asked", optional=True),
    *percentiles("endpoint.latency", "_s", "seconds to the first token; met by that share of requests"),
    *percentiles("endpoint.throughput", "_tps", "tokens per second; exceeded by that share of requests"),
    judged(
        "endpoint.tools.requests", DOUBLE, "requests that offered tools and were answered, discounted by age",
        optional=True,
    ),
    judged("endpoint.tools.tool_call_requests", DOUBLE, "those of them that ended in tool calls, discounted by age", optional=True),
    judged(
        "endpoint.tools.errored_requests", DOUBLE,
        "those of them with a bad call, discounted by age; where tenants are many, the higher of two robust counts",
        optional=True,
    ),
    judged("endpoint.tools.errored_requests_lenient", DOUBLE, "the lower of the two, where there are two", optional=True),
    judged(
        "endpoint.tools.design_effect", DOUBLE, "by how much clustered requests count less than independent ones",
        optional=True,
    ),
    judged("endpoint.observed.stale", BOOL, "whether all that was observed is older than the evidence limit"),
    judged("endpoint.observed.requests", INT, "requests that offered tools, as observed", optional=True),
    judged("endpoint.observed.tool_call_requests", INT, "those that ended in tool calls, as observed", optional=True),
    judged("endpoint.observed.errored_requests", INT, "those with a bad call, as observed", optional=True),
    judged("endpoint.observed.age_hours", DOUBLE, "hours since the newest window ended", optional=True),
    judged(
        "endpoint.observed.tool_call_requests_per_hour", DOUBLE, "tool-call requests an hour, from the first window to the last",
        optional=True,
    ),
    judged("endpoint.observed.sources", STRINGS, "who observed it", optional=True),
    judged("endpoint.propensity.source", STRING, "the source that saw most of its requests", optional=True),
    judged(
        "endpoint.propensity.share", DOUBLE,
        "share of requests with tools that ended in tool calls, by that source; (calls + 0.5) / (requests + 1)",
        optional=True,
    ),
    judged(
        "endpoint.propensity.peers", DOUBLES, "the same share of every other endpoint that this source observed",
        optional=True,
    ),
    judged(
        "endpoint.propensity.reference", DOUBLE, "the same share of the model vendor's own endpoint", optional=True
    ),
    judged(
        "endpoint.ignores.tenants", INT, "eligible tenants that asked for tools of the model in the last 28 days",
        optional=True,
    ),
    judged(
        "endpoint.ignores.ignoring", INT, "those of them that ignore the endpoint, in general or in such a request",
        optional=True,
    ),
    judged(
        "endpoint.benchmarks.series", STRINGS,
        "what it was benchmarked by: `SUITE@VERSION METRIC UNIT by JUDGE`; scores are compared within one of them only",
        optional=True,
    ),
    judged("endpoint.benchmarks.scores", DOUBLES, "its latest score in each series, in its unit", optional=True),
    judged("endpoint.benchmarks.age_days", list_of(INT), "whole days since that run", optional=True),
    requested("endpoint.price.prompt", DOUBLE, "USD per million prompt tokens, for this request", optional=True),
    requested("endpoint.price.completion", DOUBLE, "USD per million completion tokens", optional=True),
    requested("endpoint.price.blended", DOUBLE, "0.75 × prompt + 0.25 × completion price", optional=True),
    requested("endpoint.price.audio", DOUBLE, "USD per million audio tokens", optional=True),
    requested("endpoint.price.request", DOUBLE, "USD per request", optional=True),
    requested("endpoint.price.image", DOUBLE, "USD per image", optional=True),
    requested("endpoint.demoted", BOOL, "failing or limited at this moment, as outcomes of the last seconds say"),
    judged("model.id", STRING, "`author/slug`, with the catalog variant"),
    judged("model.author", STRING, "the part before `/`"),
    judged("model.context_length", INT, "tokens", optional=True),
    judged("model.input_modalities", STRINGS, "`text`, `image` …", optional=True),
    judged("model.output_modalities", STRINGS, "`text`, `image` …", optional=True),
    judged("model.distillable", BOOL, "its author allows distillation", optional=True),
    judged("cohort.size", INT, "endpoints of the model that are not gone"),
    judged("cohort.supported_parameters", STRINGS, "names that at least one endpoint of the model supports"),
    judged("cohort.service_tiers", STRINGS, "service tiers among the model's endpoints"),
    judged("cohort.accuracies", DOUBLES, "1 - errored / calls of each endpoint of the model with tool calls"),
    requested("request.model", STRING, "the model asked for, without routing variants"),
    requested("request.variants", STRINGS, "routing variants in the order given"),
    requested("request.tools", INT, "number of tools offered"),
    requested("request.tool_choice", STRING, "`none`, `auto`, `required` or `function`", optional=True),
    requested("request.parameters", STRINGS, "names of the parameters sent"),
    requested("request.max_tokens", INT, "tokens the answer may have", optional=True),
    requested("request.prompt_tokens", INT, "tokens of the prompt, as the gateway counts them", optional=True),
    requested("request.input_modalities", STRINGS, "kinds of input in the prompt"),
    requested("request.service_tier", STRING, "`default`, `flex`, `priority`; `auto` counts as absent", optional=True),
    requested("request.explicit_order", BOOL, "whether provider.order or provider.sort is given"),
    requested("request.prefers_speed", BOOL, "whether any preferred throughput or latency is given"),
    requested("request.provider.order", STRINGS, "providers or tags to try first"),
    requested("request.provider.only", STRINGS, "providers or tags to use, empty for all"),
    requested("request.provider.ignore", STRINGS, "providers or tags not to use"),
    requested("request.provider.allow_fallbacks", BOOL, "whether more than the first choice may be tried"),
    requested("request.provider.require_parameters", BOOL, "whether every parameter sent must be supported"),
    requested("request.provider.data_collection", STRING, "`allow` or `deny`"),
    requested("request.provider.zdr", BOOL, "whether zero data retention is asked for"),
    requested("request.provider.enforce_distillable_text", BOOL, "whether distillation must be allowed"),
    requested("request.provider.quantizations", STRINGS, "quantizations to use, empty for all"),
    requested("request.provider.sort", STRING, "`price`, `throughput`, `latency` or `exacto`", optional=True),
    *(
        requested(f"request.provider.max_price.{part}", DOUBLE, f"upper limit, {unit}", optional=True)
        for part, unit in (
            ("prompt", "USD per million tokens"), ("completion", "USD per million tokens"),
            ("audio", "USD per million tokens"), ("request", "USD per request"), ("image", "USD per image"),
        )
    ),
    *percentiles("request.provider.preferred_min_throughput", "", "tokens per second that are wanted"),
    *percentiles("request.provider.preferred_max_latency", "", "seconds to the first token that are wanted"),
    requested("tenant.name", STRING, "the tenant, empty where none is given"),
    requested("tenant.only", STRINGS, "providers the operator allows the tenant, empty for all"),
    requested("tenant.ignore", STRINGS, "providers the operator or the tenant's preferences ignore"),
    requested("tenant.pins", STRINGS, "providers the tenant's preferences pin"),
    requested("tenant.zdr", BOOL, "whether the operator requires zero data retention"),
    requested("tenant.deny_data_collection", BOOL, "whether the operator denies data collection"),
)  # fmt: skip

STAGE_OF = {fact.path: fact.stage for fact in FACTS}

FORMER_NAMES: Mapping[str, str] = {
    "endpoint.tools.calls": "endpoint.tools.tool_call_requests",
    "endpoint.tools.errored": "endpoint.tools.errored_requests",
    "endpoint.tools.errored_lenient": "endpoint.tools.errored_requests_lenient",
    "endpoint.observed.calls_per_hour": "endpoint.observed.tool_call_requests_per_hour",
}
"""Names of facts in rule files and snapshots that earlier versions stored, and their names now."""

_FORMER_KEYS = {old.partition(".")[2]: new.partition(".")[2] for old, new in FORMER_NAMES.items()}


def with_current_names(row: Mapping[str, object]) -> Mapping[str, object]:
    """Return a stored row of endpoint facts with every fact under its current name."""
    if row.keys().isdisjoint(_FORMER_KEYS):
        return row
    return {_FORMER_KEYS.get(name, name): value for name, value in row.items()}


def schema_for(
    stage: str, params: dict[str, Type] | None = None, *, accept_former: bool = False
) -> Schema:
    """Return the facts and functions that expressions of a stage may name.

    Planning may also name the facts of judging. With `accept_former`, a former name reads the fact of today.
    """
    roots: dict[str, dict[str, Fact]] = {
        "params": {n: Fact(t) for n, t in (params or {}).items()},
        "variables": {},
    }
    for fact in FACTS:
        if stage == REQUEST or fact.stage == JUDGED:
            roots.setdefault(fact.root, {})[fact.name] = Fact(fact.type, fact.optional)
    return Schema(roots, functions=FUNCTIONS, former=FORMER_NAMES, accept_former=accept_former)
