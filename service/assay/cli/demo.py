"""`assay demo`: three parts on real data, without any setup."""

from __future__ import annotations

import time
from collections.abc import Mapping
from importlib.util import find_spec

from rich.text import Text

from assay.cli.output import console, print_table, reason_rows, unique_reasons
from assay.demo.comparison import EXACTO, PLAIN, ArmFigures, rate_ratio
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
            f"{OBSERVED:%Y-%m-%d %H:%M} UTC, when they were fresh",
            markup=True,
        )
        for answer in answers:
            _show_answer(answer)
    _show_traffic(simulate_traffic())
    if find_spec("openai") is None:
        console.print("the conversation needs OpenAI's client: install assay[demo] to see it")
    else:
        _show_conversation(run_conversation())
    seconds = time.perf_counter() - started
    console.print(f"\ndone in {seconds:.1f} s; the temporary databases are deleted")


def _show_heading(markup: str) -> None:
    console.rule(Text.from_markup(markup), align="left")


def _show_answer(answer: ModelAnswer) -> None:
    response = answer.response
    _show_heading(f"[bold]{answer.model}[/] with 2 tools")
    rows = [(each.rank, each.tag, each.rule_set) for each in response.attempts]
    print_table(f"{len(rows)} serve", ("#", "endpoint", "by"), rows)
    excluded = reason_rows((each.tag, unique_reasons(each.reasons)) for each in response.excluded)
    if excluded:
        print_table(f"{len(response.excluded)} left out", ("endpoint", "reason", ""), excluded)


def _show_traffic(seen: TrafficSimulation) -> None:
    """Show how pools form, and how the endpoint that becomes worse is evicted."""
    _show_heading(f"[bold]simulated[/] traffic of {HOURS} hours: pools are earned")
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
        console.print(f"{became} and was not evicted")
        return
    hours = (eviction.at - seen.worse_at).total_seconds() / 3600
    console.print(f"{became} and was evicted {hours:.0f} h later: {eviction.message}")


def _show_conversation(seen: Conversation) -> None:
    _show_heading(f"[bold]{MODEL}:exacto[/] over HTTP, providers are [bold]simulated[/]")
    console.print(f"after {REQUESTS} requests to each provider: {_states(seen.before)}")
    _show_turn(seen.first)
    words = f"{WORSENING} becomes worse; {REQUESTS} requests and {seen.hours} hours later"
    console.print(f"{words}: {_states(seen.after)}")
    _show_turn(seen.second)
    _show_arms(seen.arms)


def _show_arms(arms: Mapping[str, ArmFigures]) -> None:
    """Show in one line how many tool-call errors simulated agents get through each arm."""
    rates = ", ".join(
        f"{name} {1000 * figures.errors.rate:.0f} ({1000 * low:.0f} to {1000 * high:.0f})"
        for name, figures in arms.items()
        for low, high in [figures.errors.interval]
    )
    plain, exacto = (arms[arm.name] for arm in (PLAIN, EXACTO))
    low = rate_ratio(plain.errors, exacto.errors).low
    console.print(
        f"tool-call errors per 1,000 of {plain.requests} agent requests (95 %): {rates}; "
        f"plain has at least {low:.1f} times as many as {EXACTO.name}"
    )


def _show_turn(turn: ConversationTurn) -> None:
    calling, answering = turn.providers
    console.print(f"  {calling} calls {turn.call}")
    console.print(f"  {answering} answers: {turn.answer}")


def _states(states: Mapping[str, str]) -> str:
    return ", ".join(f"{provider} {state}" for provider, state in sorted(states.items()))
