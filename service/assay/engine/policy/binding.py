"""Bindings, compiled with their parameters, and the route that a request takes through them."""

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
    rule_program,
    value_columns,
)
from assay.engine.policy.rule_set import Binding, MemorySpec, Parameter
from assay.engine.policy.verdict import NO_FINDINGS, RuleFindings

NO_ROW: tuple[Facts, ...] = ({},)


@dataclass(frozen=True, slots=True, eq=False)
class CompiledKey:
    """One order key; the values of `judged` keys are computed with the pool."""

    name: str
    expression: CheckedExpression
    when: CheckedExpression | None
    judged: bool
    draws: bool
    descending: bool


@dataclass(slots=True)
class CompiledOrder:
    """Order keys of one binding, most significant first; keys fused together share variables."""

    binding: str
    keys: tuple[CompiledKey, ...]
    scope: RuleScope
    guards: Column
    fused: dict[tuple[CompiledKey, ...], Column] = field(default_factory=dict)

    @property
    def judged_keys(self) -> tuple[CompiledKey, ...]:
        """The keys that need no request."""
        return tuple(key for key in self.keys if key.judged)

    def applying(self, shared: SharedFacts) -> tuple[CompiledKey, ...]:
        """Return the keys whose `when` is not false; with a missing fact a key still orders."""
        guards = iter(self.guards(NO_ROW, shared))
        return tuple(k for k in self.keys if k.when is None or next(guards)[0] is not False)

    def values(
        self, keys: tuple[CompiledKey, ...], rows: Sequence[Facts], shared: SharedFacts
    ) -> list[list[object]]:
        """Return one column of values per key; keys are fused when they are first used together."""
        if keys not in self.fused:
            named = [(key.name, key.expression) for key in keys]
            self.fused[keys] = value_columns(named, self.scope)
        return self.fused[keys](rows, shared)


@dataclass(frozen=True, slots=True)
class CompiledBinding:
    """One binding's rule set with its parameters inlined; `enter` is `None` without a pool.

    Endpoints are sorted by the keys in `across`, then by the position of their model in the
    request, then by the keys in `within`. `fold` names the binding's way of folding evidence;
    snapshots store a row of facts per endpoint under that name.
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
        """The binding's name, by which its pools are found."""
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
        """The accuracy expected of members, `None` if the rule set names none."""
        params = {**self.rules.effective.rule_set.params, **self.binding.params}
        return expected_accuracy(self.memory, params)

    @property
    def minimum(self) -> int:
        """How many members slow evictions leave at least."""
        return self.rules.effective.rule_set.minimum or 0

    @property
    def owns_order(self) -> bool:
        """Whether the rule set's own file defines an order."""
        return self.rules.effective.owns_order

    @property
    def judged(self) -> bool:
        """Whether judging has anything to compute for it."""
        return self.enter is not None or bool(self.across.judged_keys or self.within.judged_keys)

    def pool_findings(
        self,
        rows: Sequence[Facts],
        shared: SharedFacts,
        members: frozenset[str] = frozenset(),
    ) -> list[RuleFindings]:
        """Evaluate the pool's rules per row: `stay` for `members` (ids), otherwise `enter`."""
        if self.enter is None or self.stay is None:
            return [NO_FINDINGS] * len(rows)
        if not members:
            return self.enter.findings(rows, shared)
        entering = iter(self.enter.findings([r for r in rows if r["id"] not in members], shared))
        staying = iter(self.stay.findings([r for r in rows if r["id"] in members], shared))
        return [next(staying if row["id"] in members else entering) for row in rows]

    def serves(self, tenant: str) -> bool:
        """Whether the binding is for everyone or for this tenant."""
        return not self.binding.tenants or tenant in self.binding.tenants

    def applies(self, shared: SharedFacts) -> bool:
        """Whether the binding's `when` is true, not missing a fact or failing."""
        return self.when is not None and self.when(NO_ROW, shared)[0][0] is True


def expected_accuracy(memory: MemorySpec, params: Mapping[str, Parameter]) -> float | None:
    """Return the value of the parameter that `memory.accuracy` names."""
    found = params.get(memory.accuracy) if memory.accuracy else None
    return found if isinstance(found, float) else None


def compile_binding(
    binding: Binding, rules: CheckedRuleSet, when: CheckedExpression | None
) -> CompiledBinding:
    """Inline a binding's parameters and fuse its rules and order keys."""
    own = rules.effective.rule_set
    params = {**own.params, **binding.params}
    scope = RuleScope(
        tuple((v.name, v.checked) for v in rules.variables),
        {f"params.{name}": value for name, value in params.items()},
    )
    has_pool = rules.enter is not None
    return CompiledBinding(
        binding,
        rules,
        scope,
        enter=rule_program(rules.enter or (), scope, pool=True) if has_pool else None,
        stay=rule_program(rules.stay, scope, pool=True) if has_pool else None,
        across=_order(binding.name, [k for k in rules.order if k.key.across_models], scope),
        within=_order(binding.name, [k for k in rules.order if not k.key.across_models], scope),
        when=value_columns([(binding.name, when)], scope, row="nothing") if when else None,
        fold=rules.effective.evidence.key,
    )


def _order(binding: str, checked: Sequence[CheckedKey], scope: RuleScope) -> CompiledOrder:
    keys = tuple(
        CompiledKey(
            name=k.name,
            expression=k.expression,
            when=k.when,
            judged=k.judged,
            draws=k.key.weight is not None,
            descending=k.key.direction == "descending",
        )
        for k in checked
    )
    guards = value_columns([(k.name, k.when) for k in keys if k.when], scope, row="nothing")
    return CompiledOrder(binding, keys, scope, guards)


@dataclass(frozen=True, slots=True)
class PolicyRoute:
    """What applies to one requested model: pools to intersect, rules to unite, one order."""

    bindings: tuple[CompiledBinding, ...]
    order: CompiledBinding
    programs: tuple[RuleProgram, ...]
    rule_set: str

    @property
    def pools(self) -> tuple[CompiledBinding, ...]:
        """The bindings that have a pool."""
        return tuple(b for b in self.bindings if b.enter is not None)


@dataclass(slots=True)
class RouteTable:
    """The bindings of one policy, and every route made through them, which never changes."""

    bindings: Mapping[str, CompiledBinding]
    programs: dict[object, RuleProgram] = field(default_factory=dict)
    _routes: dict[tuple[str, ...], PolicyRoute] = field(default_factory=dict)

    def variants(self, tenant: str) -> frozenset[str]:
        """Return the routing variants that select a binding for a tenant."""
        serving = [b for b in self.bindings.values() if b.serves(tenant)]
        return frozenset(b.binding.variant for b in serving if b.binding.variant)

    # INVARIANT: bindings take part in file order; the order of suffixes only chooses who orders.
    def route(
        self, variants: Sequence[str], sort: str | None, tenant: str, shared: SharedFacts
    ) -> PolicyRoute:
        """Return what applies to a request for one model.

        Each variant and `sort` select one binding, the tenant's own before the general one. If none
        of them has an order, the bindings whose `when` is true apply too; if no binding applies,
        the default does. The order is that of the first of these that exists:

        1. the binding of `sort`;
        2. the binding of the last variant that has an order;
        3. the first `when` binding that has an order;
        4. the last binding chosen, which is the default if no other applies.

        Raises InvalidField for an unknown sort.
        """
        chosen = [b for v in dict.fromkeys(variants) if (b := self.pick(tenant, variant=v))]
        sorter = self._sorter(tenant, sort) if sort else None
        order = sorter or next((b for b in reversed(chosen) if b.owns_order), None)
        if sorter:
            chosen.append(sorter)
        if order is None:
            guarded = [b for b in self.bindings.values() if b.when and b.serves(tenant)]
            applying = [b for b in guarded if b.applies(shared)]
            order = next((b for b in applying if b.owns_order), None)
            chosen += applying
        if not chosen:
            chosen.append(self.default)
        names = {b.name for b in chosen}
        in_file_order = tuple(b for b in self.bindings.values() if b.name in names)
        return self.make(in_file_order, order or chosen[-1])

    def _sorter(self, tenant: str, sort: str) -> CompiledBinding:
        if found := self.pick(tenant, sort=sort):
            return found
        serving = [b for b in self.bindings.values() if b.serves(tenant)]
        known = ", ".join(sorted({b.binding.sort for b in serving if b.binding.sort}))
        expected = f"bound by this policy, which knows {known or 'none'}"
        raise InvalidField("provider.sort", sort, expected)

    @property
    def default(self) -> CompiledBinding:
        """The binding without variant, sort and `when`."""
        return next(b for b in self.bindings.values() if is_default(b.binding))

    def pick(
        self, tenant: str, *, variant: str | None = None, sort: str | None = None
    ) -> CompiledBinding | None:
        """Return the one binding for a variant or a sort, the tenant's own first."""
        fitting = [
            b for b in self.bindings.values()
            if b.binding.variant == variant and b.binding.sort == sort and b.serves(tenant)
        ]  # fmt: skip
        return min(fitting, key=lambda b: not b.binding.tenants, default=None)

    def make(self, chosen: tuple[CompiledBinding, ...], order: CompiledBinding) -> PolicyRoute:
        """Return the route through these bindings; each is made once."""
        names = (*(b.name for b in chosen), order.name)
        if names not in self._routes:
            rule_set = "+".join(dict.fromkeys(b.rules.name for b in chosen))
            programs = tuple(self._unite_rules(chosen))
            self._routes[names] = PolicyRoute(chosen, order, programs, rule_set)
        return self._routes[names]

    def _unite_rules(self, chosen: Sequence[CompiledBinding]) -> Iterable[RuleProgram]:
        """Yield the request rules of all bindings, each once; overrides replace inherited rules."""
        overridden = frozenset[str]().union(*(b.rules.effective.overridden for b in chosen))
        seen: set[object] = set()
        for binding in chosen:
            replaced = overridden - binding.rules.effective.overridden
            rules = [r for r in binding.rules.request if r.name not in replaced]
            by_identity = {_identity(rule, binding.scope): rule for rule in rules}
            fresh = {same: rule for same, rule in by_identity.items() if same not in seen}
            seen |= fresh.keys()
            if fresh:
                key = tuple(fresh)
                if key not in self.programs:
                    self.programs[key] = rule_program(tuple(fresh.values()), binding.scope)
                yield self.programs[key]


def _identity(checked: CheckedRule, scope: RuleScope) -> object:
    """Return what makes two rules the same: their words, variables and parameters."""
    rule = checked.rule
    texts = (e.text if e else None for e in (rule.expression, rule.when, rule.message_expression))
    params = sorted(path for path in checked.reads if path.startswith("params."))
    return (
        rule.name,
        *texts,
        rule.reason,
        rule.message,
        rule.on_missing,
        rule.action,
        tuple((v.name, v.checked.text) for v in checked.variables),
        tuple((path, scope.constants[path]) for path in params),
    )


def is_default(binding: Binding) -> bool:
    """Whether a binding is the one that applies where no other does."""
    return binding.variant is None and binding.sort is None and binding.when is None
