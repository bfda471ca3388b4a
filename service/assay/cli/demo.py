"""`assay demo`: three parts on real data, without any setup."""

from __future__ import annotations

import time
from collections.abc import Mapping
from importlib.util import find_spec

from assay.cli.output import console, print_table, unique_reasons
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
    """Show decisions on a real catalog, pools on simulated traffic, and a conversation.

    Needs no setup, writes only to temporary directories, and takes about ten seconds. The
    conversation uses OpenAI's client; without the extra assay[demo] it is skipped.

    Exit codes: 0 done; 1 a part failed.

    Example: assay demo
    """
    started = time.perf_counter()
    with demo() as (loaded, answers):
        console.print(
            f"[bold]{loaded.models}[/] models, [bold]{loaded.endpoints}[/] endpoints, "
            f"[bold]{loaded.observations}[/] observations; judged as of "
            f"{OBSERVED:%Y-%m-%d %H:%M} UTC, when they were fresh"
        )
        for answer in answers:
            _show_answer(answer)
    _show_traffic(simulate_traffic())
    if find_spec("openai") is None:
        words = "the conversation needs OpenAI's client: install assay[demo] to see it"
        console.print(words, markup=False)
    else:
        _show_conversation(run_conversation())
    seconds = time.perf_counter() - started
    words = f"\ndone in {seconds:.1f} s; the temporary databases are deleted"
    console.print(words, markup=False)


def _show_answer(answer: ModelAnswer) -> None:
    response = answer.response
    console.rule(f"[bold]{answer.model}[/] with 2 tools", align="left")
    rows = [(each.rank, each.tag, each.rule_set) for each in response.attempts]
    print_table(f"{len(rows)} serve", ("#", "endpoint", "by"), rows)
    excluded: list[tuple[str, str, str]] = []
    for each in response.excluded:
        tag = each.tag
        for reason, message in unique_reasons(each.reasons):
            excluded.append((tag, reason, message))
            tag = ""
    if excluded:
        title = f"{len(response.excluded)} left out"
        print_table(title, ("endpoint", "reason", ""), excluded)


def _show_traffic(seen: TrafficSimulation) -> None:
    """Show how pools form, and how the endpoint that becomes worse is evicted."""
    console.rule(f"[bold]simulated[/] traffic of {HOURS} hours: pools are earned", align="left")
    for model in MODELS:
        rows = [
            (name.partition("@")[2], f"{true:.3f}", *(seen.states[hour][name] for hour in SHOWN))
            for name, true in seen.accuracies.items()
            if name.startswith(f"{model}@")
        ]
        title = f"{model}:exacto, true accuracy simulated"
        print_table(title, ("endpoint", "true", *(f"{hour} h" for hour in SHOWN)), rows)
    became = f"{seen.worsening} fell to {WORSE:.3f} after {WORSE_AFTER} h"
    eviction = seen.eviction
    if eviction is None:
        console.print(f"{became} and was not evicted", markup=False)
        return
    hours = (eviction.at - seen.worse_at).total_seconds() / 3600
    words = f"{became} and was evicted {hours:.0f} h later: {eviction.message}"
    console.print(words, markup=False)


def _show_conversation(seen: Conversation) -> None:
    title = f"[bold]{MODEL}:exacto[/] over HTTP, providers are [bold]simulated[/]"
    console.rule(title, align="left")
    console.print(
        f"after {REQUESTS} requests to each provider: {_states(seen.before)}", markup=False
    )
    _show_turn(seen.first)
    words = f"{WORSENING} becomes worse; {REQUESTS} requests and {seen.hours} hours later"
    console.print(f"{words}: {_states(seen.after)}", markup=False)
    _show_turn(seen.second)


def _show_turn(turn: ConversationTurn) -> None:
    calling, answering = turn.providers
    console.print(f"  {calling} calls {turn.call}", markup=False)
    console.print(f"  {answering} answers: {turn.answer}", markup=False)


def _states(states: Mapping[str, str]) -> str:
    return ", ".join(f"{provider} {state}" for provider, state in sorted(states.items()))
