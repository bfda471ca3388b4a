"""The facts that rules may read: name, type, stage, description and unit.

Fields that `engine.world` declares come from there; computed facts are declared here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from assay.engine.cel.schema import BOOL, DOUBLE, INT, STRING, Fact, Schema, Type, list_of
from assay.engine.policy.functions import DOUBLES, FUNCTIONS, STRINGS
from assay.engine.world.catalog import Endpoint, Model
from assay.engine.world.declarations import declared_fields
from assay.engine.world.request import Request

JUDGED = "judged"
REQUEST = "request"

_TYPES: Mapping[type, Type] = {bool: BOOL, int: INT, float: DOUBLE, str: STRING, tuple: STRINGS}


@dataclass(frozen=True, slots=True)
class DeclaredFact:
    """One fact; a fact of the stage `request` is known only together with a request."""

    path: str
    type: Type
    stage: str
    description: str
    unit: str = ""
    optional: bool = False

    @property
    def root(self) -> str:
        """The first part of the path."""
        return self.path.partition(".")[0]

    @property
    def name(self) -> str:
        """The path below its root."""
        return self.path.partition(".")[2]

    @property
    def meaning(self) -> str:
        """The description with the unit."""
        return f"{self.description}, in {self.unit}" if self.unit else self.description


def _stage(path: str) -> str:
    """Return the stage of a fact; prices depend on the request's time and length."""
    of_request = path.startswith(("request.", "tenant.", "endpoint.price.", "endpoint.demoted"))
    return REQUEST if of_request else JUDGED


def _declared(owner: type, root: str) -> Iterator[DeclaredFact]:
    """Yield the facts that are fields."""
    for item in declared_fields(owner):
        stated, path = item.spellings, f"{root}.{item.spellings.fact}"
        if stated.fact is not None:
            yield DeclaredFact(
                path, _TYPES[item.kind], _stage(path), stated.description, stated.unit,
                optional=item.is_optional,
            )  # fmt: skip


def _always(path: str, kind: Type, description: str) -> DeclaredFact:
    return DeclaredFact(path, kind, _stage(path), description)


def _maybe(path: str, kind: Type, description: str, unit: str = "") -> DeclaredFact:
    return DeclaredFact(path, kind, _stage(path), description, unit, optional=True)


# fmt: off
FACTS: tuple[DeclaredFact, ...] = (
    *_declared(Endpoint, "endpoint"),
    _always("endpoint.service_tier", STRING,
            "`flex` or `priority` if the tag ends so, otherwise empty"),
    _maybe("endpoint.refused_parameters", STRINGS,
           "names of the request parameters with which it refuses requests, learned from outcomes"),
    _maybe("endpoint.capabilities.yes", STRINGS,
           "what it is known to support: `structured_outputs`, `tool_choice.VALUE`,"
           " `input_modalities.NAME`"),
    _maybe("endpoint.capabilities.no", STRINGS,
           "what it is known not to support, by the catalog or learned from outcomes; anything else"
           " is unknown. `structured_outputs` only if requests with it are refused"),
    _maybe("endpoint.completion_limit", INT,
           "longest completion: the stated limit, otherwise the context length", "tokens"),
    _maybe("endpoint.uptime_percent", DOUBLE,
           "requests answered, 0 to 100, in the last 30 minutes, otherwise in the last day",
           "percent"),
    _maybe("endpoint.price.blended", DOUBLE,
           "0.75 × prompt price + 0.25 × completion price", "USD per million tokens"),
    _always("endpoint.demoted", BOOL,
            "whether outcomes of the last seconds show it failing or rate limited"),
    _maybe("endpoint.tools.requests", DOUBLE,
           "requests that offered tools and were answered, discounted by age"),
    _maybe("endpoint.tools.tool_call_requests", DOUBLE,
           "those of them that ended in tool calls, discounted by age"),
    _maybe("endpoint.tools.errored_requests", DOUBLE,
           "those of them with a bad call, discounted by age"),
    _maybe("endpoint.tools.errored_requests_lenient", DOUBLE,
           "a lower count of errors; only snapshots of earlier versions have it"),
    _maybe("endpoint.tools.tenants", INT,
           "tenants behind these counts; unknown if a source does not name tenants"),
    _maybe("endpoint.tools.pool_tenants", INT, "tenants that used any endpoint of the model"),
    _maybe("endpoint.tools.use_share", DOUBLE,
           "share that the tenants behind these counts have of the use of the model, which counts"
           " as that of three weeks at least; 0 to 1"),
    _maybe("endpoint.tools.design_effect", DOUBLE,
           "number of clustered requests that carry as much information as one independent"
           " request"),
    _always("endpoint.observed.stale", BOOL,
            "whether all observations are older than the age limit"),
    _maybe("endpoint.observed.requests", INT, "requests that offered tools, not discounted"),
    _maybe("endpoint.observed.tool_call_requests", INT,
           "those of them that ended in tool calls, not discounted"),
    _maybe("endpoint.observed.errored_requests", INT,
           "those of them with a bad call, not discounted"),
    _maybe("endpoint.observed.age_hours", DOUBLE, "time since the newest window ended", "hours"),
    _maybe("endpoint.observed.tool_call_requests_per_hour", DOUBLE,
           "tool-call requests from the start of the first window to the end of the last",
           "requests per hour"),
    _maybe("endpoint.observed.sources", STRINGS, "sources of its observations"),
    _maybe("endpoint.propensity.source", STRING, "source that observed most of its requests"),
    _maybe("endpoint.propensity.share", DOUBLE,
           "share of requests with tools that ended in tool calls, by that source: (calls + 0.5) /"
           " (requests + 1)"),
    _maybe("endpoint.propensity.error", DOUBLE,
           "sampling error of that share: a standard deviation on the logit scale"),
    _maybe("endpoint.propensity.peers", DOUBLES,
           "the same share of other providers that this source observed, one each, by at least 200"
           " effective requests"),
    _maybe("endpoint.propensity.peers_error", DOUBLE, "median sampling error of these"),
    _maybe("endpoint.propensity.reference", DOUBLE,
           "the same share of the model vendor's own endpoint"),
    _maybe("endpoint.propensity.reference_error", DOUBLE, "sampling error of that"),
    _maybe("endpoint.usable.share", DOUBLE,
           "share of attempts with tools that ended in sound tool calls, by the same source"),
    _maybe("endpoint.usable.error", DOUBLE,
           "sampling error of that share: a standard deviation on the logit scale"),
    _maybe("endpoint.usable.peers", DOUBLES, "the same share of the peers"),
    _maybe("endpoint.usable.peers_error", DOUBLE, "median sampling error of these"),
    _maybe("endpoint.usable.reference", DOUBLE,
           "the same share of the model vendor's own endpoint"),
    _maybe("endpoint.ignores.tenants", INT,
           "eligible tenants that requested tools of the model in the last 28 days, and made 20"
           " tool-call requests at the provider in the last 56"),
    _maybe("endpoint.ignores.ignoring", INT,
           "those of them that ignore the endpoint, by preference or in such a request"),
    _maybe("endpoint.ignores.others", DOUBLE,
           "share of such tenants that ignores the median other provider of the model"),
    _maybe("endpoint.benchmarks.series", STRINGS,
           "benchmark series with a score, as `SUITE@VERSION METRIC UNIT by JUDGE`; only scores of"
           " one series are comparable"),
    _maybe("endpoint.benchmarks.scores", DOUBLES,
           "latest score in each series, in the series' unit"),
    _maybe("endpoint.benchmarks.age_days", list_of(INT), "age of each score", "whole days"),
    *_declared(Model, "model"),
    _always("model.author", STRING, "the part before `/`"),
    _always("cohort.size", INT, "endpoints that serve the model"),
    _always("cohort.supported_parameters", STRINGS,
            "names that at least one endpoint of the model supports"),
    _always("cohort.service_tiers", STRINGS, "service tiers of the model's endpoints"),
    _always("cohort.accuracies", DOUBLES,
            "1 - errored_requests / tool_call_requests of each endpoint of the model with tool"
            " calls"),
    _maybe("cohort.tenants_aside", STRINGS,
           "tenants, by pseudonym, whose reports are set aside because they fail at three providers"
           " or more"),
    _always("request.model", STRING, "the requested model, without routing variants"),
    _always("request.variants", STRINGS, "routing variants in the order given"),
    *_declared(Request, "request"),
    _always("request.capabilities", STRINGS,
            "what it needs besides parameters, as in `endpoint.capabilities`; `tool_choice` counts"
            " with tools, `structured_outputs` if it is among the parameters"),
    _always("request.draw", DOUBLE,
            "a number from 0 to 1 that is drawn for each request, or session, from its seed"),
    _always("request.explicit_order", BOOL, "whether provider.order or provider.sort is given"),
    _always("request.prefers_speed", BOOL,
            "whether any preferred throughput or latency is given"),
    _always("tenant.name", STRING, "the tenant, empty if none is given"),
    _always("tenant.only", STRINGS, "providers that the operator allows the tenant; empty: all"),
    _always("tenant.ignore", STRINGS,
            "providers that the operator or the tenant's preferences ignore"),
    _always("tenant.pins", STRINGS, "providers that the tenant's preferences pin"),
    _always("tenant.zdr", BOOL, "whether the operator requires zero data retention"),
    _always("tenant.deny_data_collection", BOOL, "whether the operator denies data collection"),
)
# fmt: on

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

    Planning may also name the facts of judging. With `accept_former`, a former name is accepted for
    the current fact.
    """
    roots: dict[str, dict[str, Fact]] = {
        "params": {n: Fact(t) for n, t in (params or {}).items()},
        "variables": {},
    }
    for fact in FACTS:
        if stage == REQUEST or fact.stage == JUDGED:
            roots.setdefault(fact.root, {})[fact.name] = Fact(fact.type, fact.optional)
    return Schema(roots, functions=FUNCTIONS, former=FORMER_NAMES, accept_former=accept_former)
