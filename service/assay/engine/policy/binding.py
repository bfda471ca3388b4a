"""Bindings, compiled with their parameters, and the route that a request takes through them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

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
from assay.engine.policy.rule_set import Binding, MemorySpec
from assay.engine.policy.verdict import NO_FINDINGS, RuleFindings

NO_ROW: tuple[Facts, ...] = ({},)


@dataclass(frozen=True, slots=True)
class CompiledOrder:
    """Order keys of one binding, most significant first.

    `guards` computes the `when` of every key that has one. `fused` returns the function that
    computes the given keys; they share variables, and are fused when they are first used together.
    """

    binding: str
    keys: tuple[CheckedKey, ...]
    guards: Column
    fused: Callable[[tuple[CheckedKey, ...]], Column]

    @property
    def judged_keys(self) -> tuple[CheckedKey, ...]:
        """The keys that need no request."""
        return tuple(key for key in self.keys if key.judged)


@dataclass(frozen=True, slots=True)
class CompiledBinding:
    """One binding's rule set with its parameters inlined; `enter` is `None` without a pool.

    Endpoints are sorted by the keys in `across`, then by the position of their model in the
    request, then by the keys in `within`. `fold` names the binding's way of folding evidence;
    snapshots store a row of facts per endpoint under that name.
    """

    name: str
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
        return self.rules.expected_accuracy(self.binding)

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


def compile_binding(
    binding: Binding, rules: CheckedRuleSet, when: CheckedExpression | None
) -> CompiledBinding:
    """Inline a binding's parameters and fuse its rules and order keys."""
    scope = RuleScope(
        tuple((v.name, v.checked) for v in rules.variables),
        {f"params.{name}": value for name, value in rules.params(binding).items()},
    )
    has_pool = rules.enter is not None
    return CompiledBinding(
        binding.name,
        binding,
        rules,
        scope,
        enter=rule_program(rules.enter or (), scope, pool=True) if has_pool else None,
        stay=rule_program(rules.stay, scope, pool=True) if has_pool else None,
        across=_order(binding.name, [k for k in rules.order if k.across_models], scope),
        within=_order(binding.name, [k for k in rules.order if not k.across_models], scope),
        when=value_columns([(binding.name, when)], scope, row="nothing") if when else None,
        fold=rules.effective.evidence.key,
    )


def _order(binding: str, checked: Sequence[CheckedKey], scope: RuleScope) -> CompiledOrder:
    keys = tuple(checked)
    guards = value_columns([(k.name, k.when) for k in keys if k.when], scope, row="nothing")

    def fuse(keys: tuple[CheckedKey, ...]) -> Column:
        return value_columns([(key.name, key.expression) for key in keys], scope)

    return CompiledOrder(binding, keys, guards, cache(fuse))


@dataclass(frozen=True, slots=True)
class PolicyRoute:
    """What applies to one requested model: pools to intersect, rules to unite, one order.

    `pools` are the bindings that have a pool.
    """

    bindings: tuple[CompiledBinding, ...]
    pools: tuple[CompiledBinding, ...]
    order: CompiledBinding
    programs: tuple[RuleProgram, ...]
    rule_set: str


class TenantBindings:
    """The bindings that serve a tenant, by variant or sort; its own replace the general ones."""

    def __init__(self, bindings: Iterable[CompiledBinding], tenant: str | None) -> None:
        tenants = [b for b in bindings if not b.binding.tenants or tenant in b.binding.tenants]
        general_first = sorted(tenants, key=lambda b: bool(b.binding.tenants))
        self.by_variant = {b.binding.variant: b for b in general_first if b.binding.variant}
        self.by_sort = {b.binding.sort: b for b in general_first if b.binding.sort}
        self.guarded = [(b, b.when) for b in tenants if b.when]


class RouteTable:
    """The bindings of one policy, and every route made through them, which never changes."""

    def __init__(self, bindings: Mapping[str, CompiledBinding]) -> None:
        self.bindings = bindings
        self.programs: dict[object, RuleProgram] = {}
        self._routes: dict[tuple[str, ...], PolicyRoute] = {}
        named = {tenant for b in bindings.values() for tenant in b.binding.tenants}
        self._own = {tenant: TenantBindings(bindings.values(), tenant) for tenant in named}
        self._general = TenantBindings(bindings.values(), None)

    def serving(self, tenant: str) -> TenantBindings:
        """Return the bindings that serve a tenant."""
        return self._own.get(tenant, self._general)

    # INVARIANT: bindings take part in file order; the order of suffixes only chooses who orders.
    def route(
        self, variants: Sequence[str], sort: str | None, tenant: str, shared: SharedFacts
    ) -> PolicyRoute:
        """Return what applies to a request for one model.

        Each variant and `sort` select one binding. If none of them has an order, the bindings whose
        `when` is true apply too; if no binding applies, the default does. The order is that of the
        first of these that exists:

        1. the binding of `sort`;
        2. the binding of the last variant that has an order;
        3. the first `when` binding that has an order;
        4. the last binding chosen, which is the default if no other applies.

        Raises InvalidField for an unknown sort.
        """
        serving = self.serving(tenant)
        chosen = [serving.by_variant[v] for v in dict.fromkeys(variants)]
        order = next((b for b in reversed(chosen) if b.owns_order), None)
        if sort:
            if sort not in serving.by_sort:
                known = ", ".join(sorted(serving.by_sort)) or "none"
                expected = f"bound by this policy, which knows {known}"
                raise InvalidField("provider.sort", sort, expected)
            order = serving.by_sort[sort]
            chosen.append(order)
        if order is None:
            applying = [b for b, when in serving.guarded if when(NO_ROW, shared)[0][0] is True]
            order = next((b for b in applying if b.owns_order), None)
            chosen += applying
        if not chosen:
            chosen.append(next(b for b in self.bindings.values() if is_default(b.binding)))
        names = {b.name for b in chosen}
        in_file_order = tuple(b for b in self.bindings.values() if b.name in names)
        return self.make(in_file_order, order or chosen[-1])

    def make(self, chosen: tuple[CompiledBinding, ...], order: CompiledBinding) -> PolicyRoute:
        """Return the route through these bindings; each is made once."""
        names = (*(b.name for b in chosen), order.name)
        if names not in self._routes:
            rule_set = "+".join(dict.fromkeys(b.rules.name for b in chosen))
            programs = tuple(self._unite_rules(chosen))
            pools = tuple(b for b in chosen if b.enter is not None)
            self._routes[names] = PolicyRoute(chosen, pools, order, programs, rule_set)
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
