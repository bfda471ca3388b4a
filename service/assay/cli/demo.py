"""`assay demo`: the whole loop on real data, embedded, no set-up."""

from __future__ import annotations

import time

from assay.cli.output import console, print_table, said
from assay.demo import OBSERVED, Answer, demo
from assay.demo_traffic import HOURS, MODELS, SHOWN, WORSE, WORSE_AFTER, Seen, two_days


def demo_command() -> None:
    """Serve a real catalog with real observations and ask over gRPC; then let two days of simulated traffic pass.

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
    show_days(two_days())
    console.print(f"\ndone in {time.perf_counter() - started:.1f} s; the temporary databases are gone", markup=False)


def show(answer: Answer) -> None:
    """Who serves, in order, and why the others do not."""
    response = answer.response
    console.rule(f"[bold]{answer.model}[/] with 2 tools", align="left")
    rows = [(a.rank, a.tag, a.rule_set) for a in response.attempts]
    print_table(f"{len(rows)} serve", ("#", "endpoint", "by"), rows)
    reasons = [
        (e.tag if n == 0 else "", *reason) for e in response.excluded for n, reason in enumerate(said(e.reasons))
    ]
    if reasons:
        print_table(f"{len(response.excluded)} left out", ("endpoint", "reason", ""), reasons)


def show_days(seen: Seen) -> None:
    """How pools form on simulated traffic, and how one endpoint loses its place."""
    console.rule(f"[bold]simulated[/] traffic of {HOURS} hours: pools are earned", align="left")
    for model in MODELS:
        rows = [
            (endpoint_id.partition("@")[2], f"{accuracy:.3f}", *(seen.states[hour][endpoint_id] for hour in SHOWN))
            for endpoint_id, accuracy in seen.truths.items()
            if endpoint_id.startswith(f"{model}@")
        ]
        title = f"{model}:exacto, true accuracy simulated"
        print_table(title, ("endpoint", "true", *(f"{hour} h" for hour in SHOWN)), rows)
    told = seen.eviction
    became = f"{seen.fallen} fell to {WORSE:.3f} after {WORSE_AFTER} h"
    if told is None:
        console.print(f"{became} and was not evicted", markup=False)
    else:
        late = (told.at - seen.worse_at).total_seconds() / 3600
        console.print(f"{became}, and left the pool {late:.0f} h later: {told.message}", markup=False)
