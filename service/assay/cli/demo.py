"""`assay demo`: the whole loop on real data, embedded, no set-up."""

from __future__ import annotations

import time
from collections.abc import Mapping
from importlib.util import find_spec

from assay.cli.output import console, print_table, said
from assay.demo.forwarding import (
    MODEL,
    REQUESTS,
    WORSENING,
    Conversation,
    ConversationTurn,
    run_conversation,
)
from assay.demo.questions import OBSERVED, ModelAnswer, demo
from assay.demo.traffic import (
    HOURS,
    MODELS,
    SHOWN,
    WORSE,
    WORSE_AFTER,
    TrafficSimulation,
    simulate_traffic,
)


def demo_command() -> None:
    """Show the whole loop: decisions on a real catalog, pools earned on simulated traffic, a conversation through them.

    Example: assay demo
    """
    started = time.perf_counter()
    with demo() as (loaded, answers):
        console.print(
            f"[bold]{loaded.models}[/] models, [bold]{loaded.endpoints}[/] endpoints, [bold]{loaded.observations}[/] "
            f"observations; judged as of {OBSERVED:%Y-%m-%d %H:%M} UTC, when they were fresh"
        )
        for answer in answers:
            show(answer)
    show_days(simulate_traffic())
    if find_spec("openai") is None:
        console.print(
            "the third act speaks through OpenAI's client: install assay[demo] to see it",
            markup=False,
        )
    else:
        show_conversation(run_conversation())
    console.print(
        f"\ndone in {time.perf_counter() - started:.1f} s; the temporary databases are gone",
        markup=False,
    )


def show(answer: ModelAnswer) -> None:
    """Who serves, in order, and why the others do not."""
    response = answer.response
    console.rule(f"[bold]{answer.model}[/] with 2 tools", align="left")
    rows = [(a.rank, a.tag, a.rule_set) for a in response.attempts]
    print_table(f"{len(rows)} serve", ("#", "endpoint", "by"), rows)
    reasons = [
        (e.tag if n == 0 else "", *reason)
        for e in response.excluded
        for n, reason in enumerate(said(e.reasons))
    ]
    if reasons:
        print_table(f"{len(response.excluded)} left out", ("endpoint", "reason", ""), reasons)


def show_days(seen: TrafficSimulation) -> None:
    """How pools form on simulated traffic, and how one endpoint loses its place."""
    console.rule(f"[bold]simulated[/] traffic of {HOURS} hours: pools are earned", align="left")
    for model in MODELS:
        rows = [
            (
                endpoint_id.partition("@")[2],
                f"{accuracy:.3f}",
                *(seen.states[hour][endpoint_id] for hour in SHOWN),
            )
            for endpoint_id, accuracy in seen.accuracies.items()
            if endpoint_id.startswith(f"{model}@")
        ]
        title = f"{model}:exacto, true accuracy simulated"
        print_table(title, ("endpoint", "true", *(f"{hour} h" for hour in SHOWN)), rows)
    told = seen.eviction
    became = f"{seen.worsening} fell to {WORSE:.3f} after {WORSE_AFTER} h"
    if told is None:
        console.print(f"{became} and was not evicted", markup=False)
    else:
        late = (told.at - seen.worse_at).total_seconds() / 3600
        console.print(
            f"{became}, and left the pool {late:.0f} h later: {told.message}", markup=False
        )


def show_conversation(seen: Conversation) -> None:
    """A tool-calling conversation through the pool, before and after one provider went bad."""
    console.rule(
        f"[bold]{MODEL}:exacto[/] over HTTP, providers are [bold]simulated[/]", align="left"
    )
    console.print(f"after {REQUESTS} ordinary requests to each: {stand(seen.before)}", markup=False)
    show_turn(seen.first)
    words = f"{WORSENING} goes bad; {REQUESTS} requests and {seen.hours} closed hours later: {stand(seen.after)}"
    console.print(words, markup=False)
    show_turn(seen.second)


def show_turn(turn: ConversationTurn) -> None:
    """One question as it went."""
    calling, answering = turn.providers
    console.print(f"  {calling} calls {turn.call}", markup=False)
    console.print(f"  {answering} answers: {turn.answer}", markup=False)


def stand(states: Mapping[str, str]) -> str:
    """Where providers stand with the pool."""
    return ", ".join(f"{provider} {state}" for provider, state in sorted(states.items()))
