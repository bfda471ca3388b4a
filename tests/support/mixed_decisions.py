"""A log of varied decisions: variants, preferences, draws, tenants and sessions over changes."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from sqlalchemy import Engine
from tests.support.catalogs import DEMO_CATALOGS, KIMI, KIMI_CSV, POLICY
from tests.support.commands import assay

from assay.curator.curator import Curator, JudgedSnapshot
from assay.decision_log.writer import DecisionLogWriter
from assay.engine.errors import CallerError
from assay.engine.snapshot.snapshot import Snapshot
from assay.engine.world.catalog import Percentiles
from assay.engine.world.request import MaxPrice, ProviderPreferences, Request
from assay.rule_files.compile import RuleDirectory
from assay.server.decider import Decider
from assay.server.settings import engine_version

NOW = datetime(2026, 7, 4, 14, 30, tzinfo=UTC)
OBSERVED = datetime(2025, 9, 23, 12, 0, tzinfo=UTC)
VARIANTS = ("", "", ":exacto", ":nitro", ":floor", ":nitro:exacto", ":exacto:floor")
TENANTS = ("", "", "acme", "beta", "gamma", "delta")
SETTINGS = """\
- {tenant: acme, ignore: [novita], zdr: false}
- {tenant: beta, only: [moonshotai, deepinfra, novita, chutes, parasail]}
- {tenant: gamma, deny_data_collection: true}
"""
PREFERENCES = f"""\
tenant,kind,target,model
acme,pin,deepinfra,
beta,ignore,moonshotai/turbo,{KIMI}
delta,ignore,deepinfra,
"""
OWN_BINDING = (
    "  - {name: exacto-acme, variant: exacto, tenants: [acme], ruleSet: exacto,\n"
    "     params: {accuracy_enter: 0.97}}\n"
)


def prepare_database(url: str, folder: Path) -> Path:
    """Fill a database with real catalogs and made-up tenants; gives the policy to judge by."""
    (folder / "tenants.yaml").write_text(SETTINGS)
    (folder / "preferences.csv").write_text(PREFERENCES)
    for what, file in (
        *(("catalog", catalog) for catalog in DEMO_CATALOGS),
        ("observations", KIMI_CSV),
        ("tenants", folder / "tenants.yaml"),
        ("preferences", folder / "preferences.csv"),
    ):
        ran = assay("import", what, file, "--database", url)
        assert ran.code == 0, ran
    policy = Path(shutil.copytree(POLICY, folder / "policy"))
    with (policy / "bindings.yaml").open("a") as file_:
        file_.write(OWN_BINDING)
    return policy


@dataclass
class Mixture:
    """Draws requests; the same seed draws the same ones."""

    snapshot: Snapshot
    draw: random.Random = field(default_factory=lambda: random.Random(11))

    def __post_init__(self) -> None:
        self.models = sorted(self.snapshot.models)
        self.providers = sorted(
            {v.provider for m in self.snapshot.models.values() for v in m.endpoints}
        )

    def model(self) -> str:
        name = KIMI if self.draw.random() < 0.4 else self.draw.choice(self.models)
        return name + self.draw.choice(VARIANTS)

    def named(self) -> tuple[str, ...]:
        """A few providers, seldom."""
        return (
            tuple(self.draw.sample(self.providers, self.draw.randint(1, 4)))
            if self.draw.random() < 0.15
            else ()
        )

    def provider(self) -> ProviderPreferences:
        draw = self.draw
        if draw.random() < 0.5:
            return ProviderPreferences()
        return ProviderPreferences(
            order=self.named(),
            only=self.named(),
            ignore=self.named(),
            allow_fallbacks=draw.random() < 0.8,
            require_parameters=draw.random() < 0.2,
            data_collection=draw.choice(("allow", "allow", "deny")),
            zdr=draw.random() < 0.1,
            quantizations=("fp8", "bf16") if draw.random() < 0.1 else (),
            sort=draw.choice((None, None, "price", "throughput", "latency", "exacto")),
            partition=draw.choice(("model", "model", "none")),
            max_price=MaxPrice(prompt=draw.uniform(0.2, 3)) if draw.random() < 0.2 else MaxPrice(),
            preferred_min_throughput=Percentiles(p50=draw.uniform(5, 90))
            if draw.random() < 0.1
            else Percentiles(),
            preferred_max_latency=Percentiles(p90=draw.uniform(0.2, 3))
            if draw.random() < 0.1
            else Percentiles(),
        )

    def request(self) -> Request:
        draw = self.draw
        return Request(
            model=self.model(),
            models=tuple(self.model() for _ in range(draw.choice((0, 0, 0, 1, 3)))),
            tenant=draw.choice(TENANTS),
            request_id=f"request-{draw.randrange(10**9)}" if draw.random() < 0.5 else "",
            tools=draw.choice((0, 0, 1, 7)),
            tool_choice=draw.choice((None, None, "auto", "required")),
            parameters=("tools", "temperature") if draw.random() < 0.3 else (),
            max_tokens=draw.choice((None, None, 1000, 40_000)),
            prompt_tokens=draw.choice((None, 100, 250_000)),
            input_modalities=("text", "image") if draw.random() < 0.1 else (),
            provider=self.provider(),
            service_tier=draw.choice((None, None, None, "flex", "priority")),
            session_id=f"session-{draw.randrange(50)}" if draw.random() < 0.3 else "",
            seed=draw.randbytes(draw.choice((16, 32))) if draw.random() < 0.2 else b"",
            previous_endpoint_id=self.previous_endpoint_id() if draw.random() < 0.3 else "",
        )

    def previous_endpoint_id(self) -> str:
        """Some endpoint of the model that most requests name."""
        return self.draw.choice(self.snapshot.models[KIMI].endpoints).endpoint_id

    def health(self) -> Mapping[str, str]:
        """Some endpoints in trouble, or none."""
        if self.draw.random() < 0.5:
            return {}
        ids = [v.endpoint_id for v in self.snapshot.models[KIMI].endpoints]
        others = [
            v.endpoint_id for v in self.snapshot.models[self.draw.choice(self.models)].endpoints
        ]
        return dict.fromkeys((*self.draw.sample(ids, 3), *others[:1]), "errors")


@dataclass
class Producer:
    """A decider with its judging, as a server has them, without the server."""

    database: Engine
    policy: Path
    logbook: DecisionLogWriter
    pinned: datetime = OBSERVED
    ids: list[str] = field(default_factory=list)
    refused: int = 0

    def __post_init__(self) -> None:
        self.decider = Decider(
            clock=lambda: self.pinned,
            append=self.logbook.journal.append,
            engine_version=engine_version(),
        )
        rules = RuleDirectory(self.policy)
        self.judging = Curator(self.database, rules, lambda: self.pinned, self.publish)
        self.judging.judge_if_changed()
        assert self.decider.snapshot is not None
        self.mixture = Mixture(self.decider.snapshot)

    def publish(self, judged: JudgedSnapshot) -> None:
        self.decider.publish(judged.snapshot)

    def decide(self, count: int) -> Iterator[str]:
        """Answer so many requests; those that cannot be answered are no decisions."""
        while count:
            if not count % 50:
                self.decider.health = partial(dict, self.mixture.health())
            request = self.mixture.request()
            try:
                decision = self.decider.decide(request)
            except CallerError:
                self.refused += 1
                continue
            self.ids.append(decision.decision_id)
            count -= 1
            yield decision.decision_id

    def change(self, words: str) -> None:
        """Edit the policy and take it up."""
        with (self.policy / "default.yaml").open("a") as file:
            file.write(f"# {words}\n")
        assert self.judging.judge_if_changed()


def record_decisions(database: Engine, policy: Path, journal: Path, count: int) -> Producer:
    """Log so many decisions over three worlds: by another policy, and at another time."""
    logbook = DecisionLogWriter(journal, database)
    producer = Producer(database, policy, logbook)
    third = count // 3
    list(producer.decide(third))
    producer.change("edited")
    list(producer.decide(third))
    producer.pinned = NOW
    assert producer.judging.judge_if_changed()
    list(producer.decide(count - 2 * third))
    assert logbook.drain(120.0), logbook.trouble
    logbook.close()
    return producer
