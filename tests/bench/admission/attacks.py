"""Hostile tenants and providers: what each kind of attack sends, and what it moves.

An attack is compared with the same honest hours without it. It moves a pool if a member is out
afterwards, or an endpoint is in that is bad or that only hostile tenants use. Its cost is its
number of requests, at most as many as the honest tool-call requests of a day.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from tests.bench.admission.established import (
    MEMBERS,
    MODEL,
    EstablishedPool,
    bad,
    clean,
    established,
    text,
)
from tests.bench.admission.ledger import Sent
from tests.bench.admission.pools import HOUR, START
from tests.bench.admission.population import Mix, Offered

from assay.engine.evidence.decay import RATE_DAYS, half_life_step, half_lives
from assay.engine.evidence.ignores import Voter, ignore_votes
from assay.engine.world.world import Preference

AFTER: Final = 2  # honest hours after the attack
VICTIM: Final = 1
HALVED: Final = -1
BAD_93, BAD_85, NEWCOMER = (len(MEMBERS) + n for n in range(3))
OFFERED: Final = (*MEMBERS, Offered(0.93, 0.1), Offered(0.85, 0.1), Offered(0.99))
GOOD: Final = frozenset({*range(len(MEMBERS)), NEWCOMER})
SHORTEST: Final = 20  # requests of the cheapest attempt
DAYS_BEFORE: Final = 14
RUNG: Final = 8  # between attempts of falling cost


@dataclass(frozen=True, slots=True)
class Plan:
    """What is sent by the hour, and on each of `past_days` before; the pool it is sent to."""

    pool: EstablishedPool
    hours: Sequence[Sent]
    past: Sent = field(default_factory=dict)
    past_days: int = 0


Names = Sequence[str]
MakePlan = Callable[[EstablishedPool, Names, int], Plan]


def members(pool: EstablishedPool) -> frozenset[int]:
    """Return the members."""
    return pool.members


def honest_members(pool: EstablishedPool) -> frozenset[int]:
    """Return the members, except made-up endpoints."""
    return frozenset(n for n in pool.members if n < len(OFFERED))


@dataclass(frozen=True, slots=True)
class Attack:
    """A kind of attack; `plan` takes the pool, the hostile tenants' names and the requests."""

    name: str
    what: str
    plan: MakePlan
    offers: tuple[int, ...] = ()
    at_night: bool = False
    most: int | None = None
    accounts: int = 1
    outcome: Callable[[EstablishedPool], frozenset[int]] = members


def everywhere(pool: EstablishedPool, names: Names, calls: int) -> Plan:
    """Bad calls at every endpoint in one hour, as by a client with a broken schema."""
    each = max(1, calls // (len(names) * len(pool.listed)))
    return Plan(pool, [{(n, name, 0): bad(each) for n in pool.listed for name in names}])


def at_victim(
    hours: int = 1, share: float = 1.0, *, past: float = 0.0, to: tuple[int, ...] = (VICTIM,)
) -> MakePlan:
    """Bad calls at few endpoints; `share` of the calls are bad.

    A part `past` of the requests are clean ones at all endpoints, in the two weeks before.
    """

    def plan(pool: EstablishedPool, names: Names, calls: int) -> Plan:
        each = max(1, round(calls * (1 - past) / (len(names) * hours * len(to))))
        wrong = max(1, round(each * share))
        hour = {(n, name, 0): bad(wrong, each - wrong) for n in to for name in names}
        if not past:
            return Plan(pool, [hour] * hours)
        daily = max(1, round(calls * past / (len(names) * len(pool.listed) * DAYS_BEFORE)))
        before = {(n, name, 0): bad(0, daily) for n in pool.listed for name in names}
        return Plan(pool, [hour] * hours, before, DAYS_BEFORE)

    return plan


def praise(target: int | None, *, patient: bool = False) -> MakePlan:
    """Clean calls of one endpoint, of a new one without honest users if there is no target."""

    def plan(pool: EstablishedPool, names: Names, calls: int) -> Plan:
        place = target
        if place is None:
            pool, (place,) = pool.make_up("newest", 1)
        each = max(1, calls // len(names))
        if not patient:
            return Plan(pool, [{(place, name, 0): clean(each // 2) for name in names}])
        daily = max(1, each // 15)
        hour = {(place, name, 0): clean(daily // 2) for name in names}
        return Plan(pool, [hour], hour, 14)

    return plan


def thin_tags(pool: EstablishedPool, names: Names, calls: int) -> Plan:
    """Made-up endpoints with a single request each, answered with text."""
    wider, places = pool.make_up("p01", calls)
    return Plan(wider, [{(n, names[k % len(names)], 0): text(1) for k, n in enumerate(places)}])


def heavy_tags(pool: EstablishedPool, names: Names, calls: int) -> Plan:
    """More made-up endpoints than there are honest ones, which end in far more tool calls."""
    wider, places = pool.make_up("p01", 2 * len(pool.listed))
    each = max(1, calls // (len(places) * len(names)))
    made = round(each * 0.95)
    sent = {(n, name, 0): (each, made, 0, each, made, each) for n in places for name in names}
    return Plan(wider, [sent])


def padding(pool: EstablishedPool, names: Names, calls: int) -> Plan:
    """Free choices that never end in a tool call, all at one endpoint, in one hour."""
    each = max(1, calls // len(names))
    return Plan(pool, [{(VICTIM, name, 0): text(each) for name in names}])


def ignoring(pool: EstablishedPool, _names: Names, calls: int) -> Plan:
    """Twelve accounts that are old and busy enough to vote ignore one endpoint."""
    at = START + pool.ledger.hours * HOUR
    accounts = min(12, max(1, calls // 200))
    hostile = [f"account{n:02}" for n in range(accounts)]
    past = {
        (n, name, 0): clean(max(1, calls // (accounts * 28))) for name in hostile for n in (1, 2)
    }
    accounted = {name: {"p01": 100, "p02": 100} for name in hostile}
    voters = [
        Voter(name, at - 30 * 24 * HOUR, own, {MODEL: frozenset()}, tried=own)
        for name, own in (accounted | pool.calls_by_tenant()).items()
    ]
    wanted = [Preference(name, "ignore", "p01") for name in hostile]
    return Plan(replace(pool, votes=ignore_votes(voters, wanted, at)), [{}], past, 14)


def flood(pool: EstablishedPool, names: Names, calls: int) -> Plan:
    """Very many clean calls at one endpoint yesterday, so that its half-life gets shorter."""
    each = max(1, calls // (7 * len(names)))
    return Plan(pool, [{}], {(VICTIM, name, 0): bad(0, each) for name in names}, 6)


def halved(pool: EstablishedPool) -> frozenset[int]:
    """Return a mark if the half-life of the victim's evidence is half of what it usually is."""
    spec, own = pool.profile.bound.evidence, pool.honest.endpoint == VICTIM
    daily = (pool.honest.daily * pool.honest.propensity)[own].sum()
    usual = half_lives(spec)[half_life_step(int(RATE_DAYS * daily), RATE_DAYS, spec)]
    return frozenset({HALVED} if pool.half_life_hours(VICTIM) < 0.55 * usual else ())


ATTACKS: Final[Mapping[str, Attack]] = {
    attack.name: attack
    for attack in (
        Attack("broken-schema", "bad calls at every endpoint in one hour", everywhere),
        Attack("victim-hour", "bad calls at one member in one hour", at_victim()),
        Attack("victim-spread", "bad calls at one member over eight hours", at_victim(8)),
        Attack("victim-night", "bad calls at one member at night", at_victim(2), at_night=True),
        Attack("victim-14%", "14 % bad calls at one member over eight hours", at_victim(8, 0.14)),
        Attack("victim-patient", "half of it clean for two weeks, then bad at one member",
               at_victim(2, past=0.5)),
        Attack("victim-patient-90%", "nine tenths of it clean for two weeks, then the same",
               at_victim(2, past=0.9)),
        Attack("two-victims", "bad calls at two members over two hours", at_victim(2, to=(1, 3))),
        Attack("newcomer", "bad calls at a newcomer of .99", at_victim(to=(NEWCOMER,)),
               offers=(NEWCOMER,)),
        Attack("newcomer-patient", "half of it clean for two weeks, then the same",
               at_victim(past=0.5, to=(NEWCOMER,)), offers=(NEWCOMER,)),
        Attack("praise-93", "clean calls at a used endpoint of .93", praise(BAD_93),
               offers=(BAD_93,)),
        Attack("praise-85", "clean calls at a used endpoint of .85", praise(BAD_85),
               offers=(BAD_85,)),
        Attack("praise-85-patient", "the same over two weeks", praise(BAD_85, patient=True),
               offers=(BAD_85,)),
        Attack("praise-unused", "clean calls at an endpoint without users", praise(None)),
        Attack("praise-unused-patient", "the same over two weeks", praise(None, patient=True)),
        Attack("thin-tags", "made-up endpoints with one request each", thin_tags, most=24,
               outcome=honest_members),
        Attack("heavy-tags", "twice as many made-up endpoints, many calls", heavy_tags,
               outcome=honest_members),
        Attack("no-calls", "text answers only at one member", padding),
        Attack("ignores", "12 accounts ignore a member", ignoring, accounts=12),
        Attack("half-life", "a flood shortens the half-life to a half", flood, outcome=halved),
    )
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Ground:
    """One world to attack: its pool by day and by night."""

    by_day: EstablishedPool
    by_night: EstablishedPool
    seed: int
    known: dict[tuple[object, ...], frozenset[int]] = field(default_factory=dict)

    def usual(self, attack: Attack, hostile: int) -> frozenset[int]:
        """Return the outcome without the attack; attacks of as many hours share it."""
        hours = len(planned(self, attack, hostile, 0)[1].hours)
        key = (attack.at_night, attack.offers, hours, attack.outcome)
        if key not in self.known:
            self.known[key] = attempt(self, attack, hostile, 0)
        return self.known[key]


def daily_calls(tenants: int) -> float:
    """Return the usual tool-call requests per endpoint and day of a pool of this many tenants."""
    return max(1000.0, 100.0 * tenants)


def ground(mix: Mix, seed: int) -> Ground:
    """Draw one world."""
    listed = range(len(MEMBERS))
    day, night = (
        established(mix, OFFERED, seed, hour_of_day=hour, listed=listed) for hour in (14, 1)
    )
    return Ground(day, night, seed)


def usual_mix(tenants: int) -> Mix:
    """Return the usual mix of a number of tenants."""
    return Mix(tenants, daily_calls(tenants), strata=4 if tenants < 100 else 2)


def attempt(world: Ground, attack: Attack, hostile: int, requests: int) -> frozenset[int]:
    """Return the outcome of an attack; with 0 requests, of the same hours without it."""
    pool, plan = planned(world, attack, hostile, requests)
    if requests:
        pool = plan.pool
        if plan.past_days:
            pool.ledger.backdate(plan.past, plan.past_days)
    for sent in (*plan.hours, *({},) * AFTER):
        pool.close(sent if requests else {})
    return attack.outcome(pool)


def planned(
    world: Ground, attack: Attack, hostile: int, requests: int
) -> tuple[EstablishedPool, Plan]:
    """Return the pool and the plan of an attack."""
    pool = (world.by_night if attack.at_night else world.by_day).fork(world.seed + 1)
    pool = pool.offer(*attack.offers)
    names = [f"hostile{n:03}" for n in range(hostile)]
    return pool, attack.plan(pool, names, max(requests, 1))


def cost(plan: Plan) -> int:
    """Return the number of requests of a plan."""
    hours = sum(amounts[-1] for sent in plan.hours for amounts in sent.values())
    return hours + plan.past_days * sum(amounts[-1] for amounts in plan.past.values())


def does_harm(world: Ground, attack: Attack, hostile: int, requests: int) -> bool:
    """Return whether an attack costs a member its place, or gains one for a bad endpoint."""
    usual, now = world.usual(attack, hostile), attempt(world, attack, hostile, requests)
    return bool(usual - now or now - usual - GOOD)


def cheapest(world: Ground, attack: Attack, hostile: int) -> int | None:
    """Return the fewest requests that do harm, to a quarter; `None` if none within a day's do."""
    high = attack.most or world.by_day.daily
    while not does_harm(world, attack, hostile, high):
        high //= RUNG
        if high < (2 if attack.most else SHORTEST):
            return None
    low = 0
    while high - low > max(1, high // 4):
        middle = (low + high) // 2 if low else max(high // RUNG, 1)
        if does_harm(world, attack, hostile, middle):
            high = middle
        else:
            low = middle
    return cost(planned(world, attack, hostile, high)[1])
