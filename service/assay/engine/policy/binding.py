"""Bindings put to work: each rule set with its parameters, and the route that a request takes through them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from assay.engine.cel.check import CheckedExpression
from assay.engine.errors import InvalidField
from assay.engine.evidence.decay import EvidenceSpec
from assay.engine.policy.compile import CheckedKey, CheckedRule, CheckedRuleSet
from assay.engine.policy.evaluation import (
    Column,
    Facts,
    RuleProgram,
    RuleScope,
    SharedFacts,
    column,
    columns,
    program,
)
from assay.engine.policy.rule_set import Binding, MemorySpec, Parameter

NO_ROW: tuple[Facts, ...] = ({},)


@dataclass(frozen=True, slots=True, eq=False)
class CompiledKey:
    """One order key; judged keys were computed with the pool and are found there by name."""

    name: str
    expression: CheckedExpression
    when: CheckedExpression | None
    judged: bool
    draws: bool
    descending: bool


@dataclass(frozen=True, slots=True)
class CompiledOrder:
    """Order keys of one binding, most significant first, run together: what they share is computed once."""

    binding: str
    keys: tuple[CompiledKey, ...]
    scope: RuleScope
    guards: Column
    fused: dict[tuple[CompiledKey, ...], Column] = field(default_factory=dict)

    def applying(self, shared: SharedFacts) -> tuple[CompiledKey, ...]:
        """The keys whose `when` holds; where it cannot be said, the key orders, and what it misses comes last."""
        held = iter(self.guards(NO_ROW, shared))
        return tuple(k for k in self.keys if k.when is None or next(held)[0] is not False)

    def values(
        self, keys: tuple[CompiledKey, ...], rows: Sequence[Facts], shared: SharedFacts
    ) -> list[list[object]]:
        """One column of values per key, fused when these keys are first asked for together."""
        if keys not in self.fused:
            self.fused[keys] = columns([(k.name, k.expression) for k in keys], self.scope)
        return self.fused[keys](rows, shared)


@dataclass(frozen=True, slots=True)
class CompiledBinding:
    """One binding's rule set with the binding's parameters inlined; `enter` is `None` where there is no pool.

    `across` are the order keys that come before the turn of the requested models, `within` those after it.
    `fold` names its way of folding evidence, under which snapshots keep its rows.
    """

    binding: Binding
    rules: CheckedRuleSet
    scope: RuleScope
    enter: RuleProgram | None
    stay: RuleProgram | None
    across: CompiledOrder
    within: CompiledOrder
    when: Column | None
    fold: str

    @property
    def name(self) -> str:
        """The binding's name: the key of its pools."""
        return self.binding.name

    @property
    def evidence(self) -> EvidenceSpec:
        """How evidence is folded for this binding."""
        return self.rules.effective.evidence

    @property
    def memory(self) -> MemorySpec:
        """How its pools remember."""
        return self.rules.effective.memory

    @property
    def accuracy(self) -> float | None:
        """The accuracy that members should have, `None` where the rule set names none."""
        return accuracy(
            self.memory, {**self.rules.effective.rule_set.params, **self.binding.params}
        )

    @property
    def minimum(self) -> int:
        """How many members the slow way out leaves at least."""
        return self.rules.effective.rule_set.minimum or 0

    @property
    def owns_order(self) -> bool:
        """Whether the rule set's own file says how to order."""
        return self.rules.effective.owns_order

    @property
    def judged(self) -> bool:
        """Whether judging has anything to do for it."""
        return self.enter is not None or any(
            key.judged for keys in (self.across, self.within) for key in keys.keys
        )

    def holds(self, shared: SharedFacts) -> bool:
        """Whether the binding's `when` is true; absent and failed are not."""
        return self.when is not None and self.when(NO_ROW, shared)[0][0] is True


def accuracy(memory: MemorySpec, params: Mapping[str, Parameter]) -> float | None:
    """The value of the parameter that `memory.accuracy` names."""
    found = params.get(memory.accuracy) if memory.accuracy else None
    return found if isinstance(found, float) else None


def bind(
    binding: Binding, rules: CheckedRuleSet, when: CheckedExpression | None
) -> CompiledBinding:
    """Inline a binding's parameters and fuse what judging and ordering call."""
    own = rules.effective.rule_set
    params = {**own.params, **binding.params}
    scope = RuleScope(
        tuple((v.name, v.checked) for v in rules.variables),
        {f"params.{name}": value for name, value in params.items()},
    )
    return CompiledBinding(
        binding,
        rules,
        scope,
        enter=None if rules.enter is None else program(rules.enter, scope, pool=True),
        stay=None if rules.enter is None else program(rules.stay, scope, pool=True),
        across=keys(binding.name, [k for k in rules.order if k.key.across_models], scope),
        within=keys(binding.name, [k for k in rules.order if not k.key.across_models], scope),
        when=column(binding.name, when, scope, row="nothing") if when else None,
        fold=rules.effective.evidence.key,
    )


def keys(binding: str, checked: Sequence[CheckedKey], scope: RuleScope) -> CompiledOrder:
    """Make order keys ready to run."""
    return CompiledOrder(
        binding,
        tuple(key(k) for k in checked),
        scope,
        guards=columns([(k.name, k.when) for k in checked if k.when], scope, row="nothing"),
    )


def key(checked: CheckedKey) -> CompiledKey:
    """One order key as planning looks at it."""
    return CompiledKey(
        name=checked.name,
        expression=checked.expression,
        when=checked.when,
        judged=checked.judged,
        draws=checked.key.weight is not None,
        descending=checked.key.direction == "descending",
    )


@dataclass(frozen=True, slots=True)
class PolicyRoute:
    """What applies to one requested model: pools to intersect, rules to unite, one order."""

    bound: tuple[CompiledBinding, ...]
    order: CompiledBinding
    programs: tuple[RuleProgram, ...]
    rule_set: str

    @property
    def pools(self) -> tuple[CompiledBinding, ...]:
        """The bindings that bring a pool."""
        return tuple(b for b in self.bound if b.enter is not None)


@dataclass(slots=True)
class RouteTable:
    """The bindings of one policy and every route already made through them; routes never change once made."""

    bound: Mapping[str, CompiledBinding]
    programs: dict[object, RuleProgram] = field(default_factory=dict)
    made: dict[tuple[str, ...], PolicyRoute] = field(default_factory=dict)

    def variants(self, tenant: str) -> frozenset[str]:
        """The routing variants that select a binding for a tenant; to others they are unknown, never ignored."""
        return frozenset(
            b.binding.variant
            for b in self.bound.values()
            if b.binding.variant and serves(b, tenant)
        )

    # INVARIANT: bindings take part in file order: the order in which suffixes are written only chooses who sorts.
    def route(
        self, variants: Sequence[str], sort: str | None, tenant: str, shared: SharedFacts
    ) -> PolicyRoute:
        """Choose what applies to a request for one model.

        Per variant one binding, the tenant's own before the general one; the last one with an order of its own
        orders, unless `provider.sort` names a binding of its own. Only where neither orders do `when` bindings apply,
        in file order. Where nothing applies, the default does.
        """
        chosen = [b for v in dict.fromkeys(variants) if (b := self.pick(tenant, variant=v))]
        sorter = self.sorter(tenant, sort) if sort else None
        order = sorter or next((b for b in reversed(chosen) if b.owns_order), None)
        if sorter:
            chosen.append(sorter)
        if order is None:
            applying = [
                b for b in self.bound.values() if b.when and serves(b, tenant) and b.holds(shared)
            ]
            order = next((b for b in applying if b.owns_order), None)
            chosen += applying
        if not chosen:
            chosen.append(self.default)
        names = {b.name for b in chosen}
        return self.make(
            tuple(b for b in self.bound.values() if b.name in names), order or chosen[-1]
        )

    def sorter(self, tenant: str, sort: str) -> CompiledBinding:
        """The binding for a sort; raises InvalidField where nothing serves it."""
        if found := self.pick(tenant, sort=sort):
            return found
        known = sorted(
            {b.binding.sort for b in self.bound.values() if b.binding.sort and serves(b, tenant)}
        )
        raise InvalidField(
            "provider.sort", sort, f"bound by this policy, which knows {', '.join(known) or 'none'}"
        )

    @property
    def default(self) -> CompiledBinding:
        """The binding without variant, sort and `when`."""
        return next(b for b in self.bound.values() if is_default(b.binding))

    def pick(
        self, tenant: str, *, variant: str | None = None, sort: str | None = None
    ) -> CompiledBinding | None:
        """The one binding for a variant or a sort, the tenant's own first."""
        fitting = [
            b for b in self.bound.values()
            if b.binding.variant == variant and b.binding.sort == sort and serves(b, tenant)
        ]  # fmt: skip
        return min(fitting, key=lambda b: not b.binding.tenants, default=None)

    def make(self, chosen: tuple[CompiledBinding, ...], order: CompiledBinding) -> PolicyRoute:
        """The route through these bindings, made once."""
        names = (*(b.name for b in chosen), order.name)
        if names not in self.made:
            rule_set = "+".join(dict.fromkeys(b.rules.name for b in chosen))
            self.made[names] = PolicyRoute(chosen, order, tuple(self.unite(chosen)), rule_set)
        return self.made[names]

    def unite(self, chosen: Sequence[CompiledBinding]) -> Iterable[RuleProgram]:
        """Request rules of all bindings: each once; where one binding wrote a rule anew, the inherited one yields."""
        overridden = frozenset[str]().union(*(b.rules.effective.overridden for b in chosen))
        seen: set[object] = set()
        for bound in chosen:
            yielding = overridden - bound.rules.effective.overridden
            kept = {
                identity(r, bound.scope): r for r in bound.rules.request if r.name not in yielding
            }
            fresh = {same: rule for same, rule in kept.items() if same not in seen}
            seen |= fresh.keys()
            if fresh:
                if tuple(fresh) not in self.programs:
                    self.programs[tuple(fresh)] = program(tuple(fresh.values()), bound.scope)
                yield self.programs[tuple(fresh)]


def identity(checked: CheckedRule, scope: RuleScope) -> object:
    """What makes two rules the same: all their words, and the variables and parameters behind them."""
    rule = checked.rule
    texts = (e.text if e else None for e in (rule.expression, rule.when, rule.message_expression))
    params = sorted(
        (path, scope.constants[path]) for path in checked.reads if path.startswith("params.")
    )
    behind = tuple((v.name, v.checked.text) for v in checked.variables)
    return (
        rule.name,
        *texts,
        rule.reason,
        rule.message,
        rule.on_missing,
        rule.action,
        behind,
        tuple(params),
    )


def serves(bound: CompiledBinding, tenant: str) -> bool:
    """Whether a binding is for everyone or for this tenant."""
    return not bound.binding.tenants or tenant in bound.binding.tenants


def is_default(binding: Binding) -> bool:
    """Whether a binding is the one that applies where no other does."""
    return binding.variant is None and binding.sort is None and binding.when is None
