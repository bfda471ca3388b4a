"""`assay demo`: the whole loop on real data, embedded, no set-up."""

from __future__ import annotations

import time

from assay.cli.output import console, print_table, said
from assay.demo import OBSERVED, Answer, demo


def demo_command() -> None:
    """Import a real catalog and real observations into a temporary database, serve them, and ask over gRPC.

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
    console.print(f"\ndone in {time.perf_counter() - started:.1f} s; the temporary database is gone", markup=False)


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
