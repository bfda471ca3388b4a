"""The figures of all arms, as tables and as JSON, and the targets that they must meet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from rich.console import Console
from rich.table import Table
from tests.bench.exacto.chain import Chain

from assay.demo.agents import AgentRequest, Arm
from assay.demo.comparison import (
    EXACTO,
    PLAIN,
    ArmFigures,
    ErrorRate,
    RateRatio,
    arm_figures,
    error_rate,
    rate_ratio,
)

TARGET: Final = 3.0  # how many times as many errors plain requests must have
UNANSWERED: Final = 0.02  # the largest share of requests; a pool of one endpoint has no fallback
WIDTH: Final = 120
Requests = Mapping[Arm, Sequence[AgentRequest]]


@dataclass(frozen=True, slots=True)
class Report:
    """What one run found; `injected` are the errored answers by the providers' own record."""

    models: Sequence[str]
    requests: Requests
    figures: Mapping[Arm, ArmFigures]
    ratios: Mapping[Arm, RateRatio]
    injected: int

    @property
    def missed(self) -> list[str]:
        """Return the targets that are missed, as sentences."""
        found = []
        ratio = self.ratios[EXACTO]
        if not ratio.ratio >= TARGET:
            found.append(f"plain/:exacto is {ratio.ratio:.1f}, target at least {TARGET:g}")
        if not ratio.low > 1:
            found.append(f"the lower limit of plain/:exacto is {ratio.low:.2f}, target above 1")
        for arm, figures in self.figures.items():
            if figures.unanswered > UNANSWERED * figures.requests:
                found.append(f"{arm.name}: {figures.unanswered} requests were not answered")
        counted = sum(each.errors.errored for each in self.figures.values())
        if counted != self.injected:
            found.append(f"agents counted {counted} errored answers, providers {self.injected}")
        return found

    def rate(self, arm: Arm, model: str) -> ErrorRate:
        """Return the error rate of one model in an arm."""
        return error_rate([each for each in self.requests[arm] if each.task.model == model])


def report(chain: Chain, models: Sequence[str], requests: Requests) -> Report:
    """Summarize the requests of all arms."""
    prices = {endpoint.endpoint_id: endpoint.prices for endpoint in chain.endpoints}
    figures = {arm: arm_figures(sent, prices) for arm, sent in requests.items()}
    plain = figures[PLAIN].errors
    others = {arm: rate_ratio(plain, each.errors) for arm, each in figures.items() if arm != PLAIN}
    return Report(models, requests, figures, others, chain.errored_answers())


def as_json(found: Report) -> dict[str, Any]:
    """Return the report as JSON values; an infinite limit becomes null."""
    arms = {
        arm.name: {
            **asdict(each),
            "errors_per_1000": 1000 * each.errors.rate,
            "errors_per_1000_interval": [1000 * limit for limit in each.errors.interval],
            "by_model": {model: 1000 * found.rate(arm, model).rate for model in found.models},
        }
        for arm, each in found.figures.items()
    }
    ratios = {arm.name: asdict(ratio) for arm, ratio in found.ratios.items()}
    return {
        "arms": arms,
        "plain_to": ratios,
        "injected_errors": found.injected,
        "missed": found.missed,
    }


def print_report(found: Report, console: Console) -> None:
    """Print both tables and the missed targets."""
    console.print(_arms_table(found))
    console.print(_models_table(found))
    counted = sum(each.errors.errored for each in found.figures.values())
    console.print(f"{counted} errored answers counted, {found.injected} injected by providers")
    for line in found.missed:
        console.print(f"MISSED {line}")


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", header_style="bold", box=None, pad_edge=False)


def _arms_table(found: Report) -> Table:
    table = _table("the same agents through three arms, 95 % intervals")
    for column in (
        *("arm", "requests", "errors per 1,000", "plain / arm", "retries per 1,000"),
        *("unanswered", "USD per 1,000", "latency p50"),
    ):
        table.add_column(column, justify="left" if column == "arm" else "right")
    for arm, each in found.figures.items():
        low, high = each.errors.interval
        ratio = found.ratios.get(arm)
        table.add_row(
            arm.name,
            f"{each.requests:,}",
            f"{1000 * each.errors.rate:.1f} ({1000 * low:.1f}–{1000 * high:.1f})",
            "" if ratio is None else f"{ratio.ratio:.1f}× ({ratio.low:.1f}–{ratio.high:.1f})",
            f"{1000 * each.retries_per_request:.1f}",
            str(each.unanswered),
            "" if each.usd_per_request is None else f"{1000 * each.usd_per_request:.3f}",
            f"{1000 * each.latency_p50_s:.0f} ms",
        )
    return table


def _models_table(found: Report) -> Table:
    table = _table("errors per 1,000 requests, by model")
    table.add_column("model")
    for arm in found.figures:
        table.add_column(arm.name, justify="right")
    for model in found.models:
        rates = (1000 * found.rate(arm, model).rate for arm in found.figures)
        table.add_row(model, *(f"{rate:.1f}" for rate in rates))
    return table
