"""`make bench-exacto`: how many fewer tool-call errors agents get from pools.

Simulated agents send the same seeded tasks (tools offered, several turns) to the five models of the
demo through three arms: plain requests under the rule set `default`, requests with tools under
`auto-exacto`, and `:exacto`. All go through real processes on loopback: `assay forward`, `assay
serve` and `assay simulate`. `population` describes the simulated providers, `chain` how they earn
their evidence. Errors come from the simulated providers alone: they record each bad call that they
send, and the run fails if the agents count any other number.

Exits with 1 if plain requests have less than three times as many errors as `:exacto`, if the lower
limit of that ratio is not above 1, or if more than 20 of 1,000 requests are not answered. Tasks and
behaviors are seeded; which request is a provider's n-th depends on timing, so that figures vary
within their intervals.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import orjson
import uvloop
from rich.console import Console
from tests.bench.exacto.chain import SEED, running_chain
from tests.bench.exacto.report import WIDTH, Report, as_json, print_report, report

from assay.demo.agents import QUESTIONS_EACH, agent_tasks, run_agents
from assay.demo.comparison import ARMS
from assay.demo.traffic import MODELS

REQUESTS: Final = 1800  # of each arm
PROBES: Final = 250  # of each endpoint, for evidence
IN_FLIGHT: Final = 16


def measure(folder: Path, models: Sequence[str], *, requests: int, probes: int) -> Report:
    """Run the chain, and send about so many requests through each arm."""
    tasks = agent_tasks(models, math.ceil(requests / (2 * QUESTIONS_EACH)), SEED)
    with running_chain(folder, models, probes) as chain:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            sent = runner.run(run_agents(chain.http, ARMS, tasks, in_flight=IN_FLIGHT))
        return report(chain, models, sent)


def main(arguments: list[str]) -> int:
    """Measure, print, and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.exacto", description=__doc__.partition("\n")[0]
    )
    parser.add_argument(
        "--requests", type=int, default=REQUESTS, help=f"about so many of each arm ({REQUESTS})"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    options, began = parser.parse_args(arguments), time.monotonic()
    with TemporaryDirectory(prefix="assay-bench-") as folder:
        found = measure(Path(folder), MODELS, requests=options.requests, probes=PROBES)
    if options.json:
        sys.stdout.write(orjson.dumps(as_json(found), option=orjson.OPT_INDENT_2).decode() + "\n")
    else:
        console = Console(width=WIDTH, highlight=False)
        print_report(found, console)
        console.print(f"{time.monotonic() - began:.0f} s")
    return 1 if found.missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
