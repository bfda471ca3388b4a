"""Small worlds, policies, snapshots and plans; everything is the real thing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from textwrap import dedent, indent
from typing import Any

from assay.engine.decide.plan import Moment, Plan, plan
from assay.engine.policy.fact_values import request_facts, tenant_facts
from assay.engine.policy.faults import PolicyFaults
from assay.engine.policy.policy import Policy, compile_policy
from assay.engine.policy.rule_set import PolicySource
from assay.engine.policy.verdict import RuleFinding, Verdict
from assay.engine.pool.judge import NO_MEMBERS, Members, judge
from assay.engine.snapshot.snapshot import Snapshot
from assay.engine.world.catalog import Endpoint, Model, Percentiles, Prices
from assay.engine.world.measurements import Observation
from assay.engine.world.request import ProviderPreferences, Request
from assay.engine.world.world import Preference, TenantSettings, World
from assay.rule_files.directory import read_directory
from assay.rule_files.read import read_policy
from assay.server.settings import policy_dir

AS_OF = datetime(2025, 9, 23, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
SEED = bytes(range(32))
MODEL = "lab/one"
OTHER = "lab/two"

# --- worlds ---


def endpoint(
    tag: str, model: str = MODEL, *, number: int = 1, price: float | None = 1.0, **more: Any
) -> Endpoint:
    """Return an endpoint with tools and one price; `number` distinguishes repeated tags."""
    suffix = "" if number == 1 else f"~{number}"
    more = {
        "supported_parameters": ("tools",),
        "prices": Prices(prompt=price, completion=price),
        **more,
    }
    return Endpoint(f"{model}@{tag}{suffix}", model, tag.partition("/")[0], tag, **more)


def throughput(p50: float, **more: float) -> dict[str, Any]:
    """Return the throughput of an endpoint, as keyword arguments."""
    return {"throughput_tps": Percentiles(p50=p50, **more)}


def make_observation(
    tag: str,
    errored: int = 0,
    calls: int = 2000,
    requests: int = 3000,
    *,
    model: str = MODEL,
    source: str = "monitor",
    age: timedelta = HOUR,
    length: timedelta = 24 * HOUR,
    reference: bool = False,
) -> Observation:
    """Return a window that ended `age` before AS_OF; by default one with many good calls."""
    ended = AS_OF - age
    return Observation(
        f"{model}@{tag}", source, ended - length, ended, requests, calls, errored, reference
    )


def world(
    *endpoints: Endpoint,
    observations: Iterable[Observation] = (),
    preferences: Iterable[Preference] = (),
    tenants: Iterable[TenantSettings] = (),
    models: Iterable[Model] = (),
) -> World:
    """Return a world of endpoints and their models, those given or bare ones."""
    given = {model.model: model for model in models}
    listed = {e.model: Model(e.model) for e in endpoints} | given
    return World(
        tuple(listed.values()), endpoints, tuple(observations), tuple(preferences), tuple(tenants)
    )


def mixed_world() -> World:
    """Return two models under `exacto`: members and others, measured and unmeasured endpoints."""
    good = [endpoint(f"good{n}", price=float(n), **throughput(50.0 + n)) for n in range(1, 6)]
    weak = [
        endpoint("weak1", price=0.1, **throughput(500.0)),
        endpoint("weak2/fp8", price=0.2, quantization="fp8"),
    ]
    unseen = [
        endpoint("unseen", price=0.05, zdr=True),
        endpoint("good1/priority", price=9.0, **throughput(900.0)),
    ]
    others = [endpoint("good1", OTHER, price=2.0), endpoint("weak1", OTHER, price=1.0, zdr=True)]
    seen = [make_observation(f"good{n}", errored=n) for n in range(1, 6)]
    seen += [
        make_observation("weak1", errored=400),
        make_observation("weak2/fp8", errored=150),
        make_observation("good1", model=OTHER),
    ]
    return world(*good, *weak, *unseen, *others, observations=seen)


MEMBERS = frozenset(f"{MODEL}@good{n}" for n in range(1, 6))

# --- policies ---

HEAD = "apiVersion: assay/v1\nkind: {kind}\nmetadata: {{name: {name}}}\nspec:\n"
DEFAULT = """
    order: [{name: price, expression: endpoint.price.blended}]
"""


def policy_files(bindings: str, rule_sets: Mapping[str, str]) -> dict[str, str]:
    """Return the files of a policy from the specs of its parts."""
    specs = {
        f"{name}.yaml": ("RuleSet", name, spec)
        for name, spec in {"default": DEFAULT, **rule_sets}.items()
    }
    specs["bindings.yaml"] = (
        "Bindings",
        "bindings",
        dedent(bindings) + "\n- {name: default, ruleSet: default}\n",
    )
    return {
        file: HEAD.format(kind=kind, name=name) + indent(dedent(spec).strip("\n"), "  ") + "\n"
        for file, (kind, name, spec) in specs.items()
    }


def policy(bindings: str = "", **rule_sets: str) -> Policy:
    """Compile a policy from specs; by default one that sorts by price. `_` means `-`."""
    files = policy_files(
        bindings, {name.replace("_", "-"): spec for name, spec in rule_sets.items()}
    )
    read, bound = read_policy(files)
    return compile_policy(read, bound, PolicySource(files))


def policy_faults(bindings: str = "", **rule_sets: str) -> list[str]:
    """Return the errors of a policy, one line each."""
    try:
        policy(bindings, **rule_sets)
    except PolicyFaults as error:
        return [str(fault) for fault in error.faults]
    return []


@cache
def shipped_policy() -> Policy:
    """Return the shipped policy."""
    source = read_directory(policy_dir())
    return compile_policy(*read_policy(source.files), source)


# --- plans ---


def judge_world(
    of: World, by: Policy | None = None, as_of: datetime = AS_OF, members: Members = NO_MEMBERS
) -> Snapshot:
    """Judge a world without memory, by the shipped policy unless another is given."""
    return judge(of, by or shipped_policy(), as_of, members).snapshot


@cache
def mixed_snapshot() -> Snapshot:
    """Return the mixed world under the shipped policy."""
    return judge_world(mixed_world())


def make_request(
    model: str = MODEL, *models: str, provider: ProviderPreferences | None = None, **more: Any
) -> Request:
    """Return a request; fields of `provider` may be given by their own names."""
    wants = {name: more.pop(name) for name in PREFERENCES & more.keys()}
    return Request(
        model, models, provider=replace(provider or ProviderPreferences(), **wants), **more
    )


PREFERENCES = frozenset(ProviderPreferences.__dataclass_fields__)


def make_moment(
    seed: bytes = SEED, now: datetime = AS_OF, health: Mapping[str, str] | None = None
) -> Moment:
    """Return a moment: time, seed and demoted endpoints."""
    return Moment(now, seed, health or {})


def plan_for(
    snapshot: Snapshot, model: str = MODEL, *models: str, at: Moment | None = None, **more: Any
) -> Plan:
    """Return the plan for a request, at AS_OF unless another moment is given."""
    return plan(make_request(model, *models, **more), snapshot, at or make_moment())


def tags(answer: Plan) -> list[str]:
    """Return the tags of the attempts, in order."""
    return [attempt.tag for attempt in answer.attempts]


def endpoint_ids(answer: Plan) -> list[str]:
    """Return the endpoint ids of the attempts, in order."""
    return [attempt.endpoint_id for attempt in answer.attempts]


def reasons(answer: Plan) -> dict[str, list[str]]:
    """Return the reasons for each excluded endpoint, by tag."""
    return {
        verdict.tag: [finding.reason for finding in verdict.broken] for verdict in answer.excluded
    }


def verdict_of(answer: Plan, tag: str) -> Verdict:
    """Return the verdict of one endpoint."""
    return next(verdict for verdict in answer.verdicts if verdict.tag == tag)


def describe_findings(findings: Iterable[RuleFinding]) -> list[tuple[str, str, str]]:
    """Return rule, reason and outcome of findings."""
    return [(finding.rule, finding.reason, finding.outcome) for finding in findings]


def shared_facts(
    request: Request, settings_of: TenantSettings | None = None
) -> dict[str, Mapping[str, object]]:
    """Return the facts that guards of bindings read."""
    return {
        "model": {"id": request.model, "author": "lab"},
        "request": request_facts(request, request.model, ()),
        "tenant": tenant_facts(request.tenant, settings_of, (), request.model),
    }
