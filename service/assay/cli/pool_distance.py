"""`assay pool`: how far the endpoints outside a pool are from it, and what would admit them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from assay.cli.output import print_table
from assay.cli.questions import utc
from assay.engine.pool.scorecard import Scorecard

HOURS_A_DAY = 24


def distance_json(card: Scorecard) -> dict[str, Any]:
    """One endpoint's distance for programs: values its broken rules read, its accuracy, and what is needed."""
    share = card.accuracy
    return {
        "rules": [{"rule": f.rule, "reason": f.reason, "seen": dict(f.seen)} for f in card.broken],
        "accuracy": share
        and {
            "value": share.value,
            "low": share.low,
            "high": share.high,
            "effective_requests": share.requests,
        },
        "clean_requests": card.clean_requests,
        "hours": card.hours,
        "held_until": card.held_until and utc(card.held_until),
    }


def show_distances(cards: Mapping[str, Scorecard]) -> None:
    """What would admit each endpoint outside a pool, for people."""
    rows = [
        (card.endpoint.verdict.tag, accuracy(card), needed(card), duration(card.hours), until(card))
        for card in cards.values()
    ]
    if rows:
        columns = (
            "endpoint",
            "accuracy",
            "clean tool calls needed",
            "at present rate",
            "not before",
        )
        print_table("what would admit them", columns, rows)


def accuracy(card: Scorecard) -> str:
    """The measured accuracy with its interval."""
    share = card.accuracy
    return f"{share.value:.4f} ({share.low:.4f} – {share.high:.4f})" if share else "not measured"


def needed(card: Scorecard) -> str:
    """How many clean requests are needed."""
    return "no number would do" if card.clean_requests is None else f"{card.clean_requests:,}"


def duration(hours: float | None) -> str:
    """A time in words, empty where it cannot be told."""
    if hours is None:
        return ""
    return f"{hours:.1f} h" if hours < 2 * HOURS_A_DAY else f"{hours / HOURS_A_DAY:.1f} d"


def until(card: Scorecard) -> str:
    """Until when it is held out, where it is."""
    return f"{card.held_until:%Y-%m-%d %H:%M}" if card.held_until else ""
