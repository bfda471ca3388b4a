"""What Assay saw of tenants, by their own names: whose word counts about whom.

Days are whole ones, up to yesterday. Tenants stand under pseudonyms here, several for one tenant where several
processes met it; those whose name was erased drop out, and those that the log never saw have no say.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, Select, Table, func, select

from assay.engine.evidence.ignores import Voter, ignore_votes
from assay.engine.world.clock import EPOCH
from assay.engine.world.measurements import IgnoreVote
from assay.engine.world.tenants import Preference
from assay.store.evidence_tables import (
    tenant_activity,
    tenant_affiliation,
    tenant_ignore,
    tenant_provider,
)
from assay.store.tables import tenant_pseudonym

DAYS: Final = 28
name: Final = tenant_pseudonym.c.tenant


def load_ballots(
    connection: Connection, preferences: Iterable[Preference], as_of: datetime
) -> tuple[IgnoreVote, ...]:
    """The ballots of all eligible tenants."""
    return ignore_votes(voters(connection, as_of), preferences, as_of)


def voters(connection: Connection, as_of: datetime) -> list[Voter]:
    """Every tenant that was seen and is still known by name, with what it did in the last 28 whole days."""
    today = (as_of - EPOCH).days
    calls: defaultdict[str, dict[str, int]] = defaultdict(dict)
    count = func.sum(tenant_provider.c.tool_call_requests)
    for tenant, provider, total in connection.execute(
        lately(tenant_provider, today, "provider")
        .add_columns(count)
        .group_by(name, tenant_provider.c.provider)
    ):
        calls[tenant][provider] = int(total)
    asked: defaultdict[str, dict[str, set[str]]] = defaultdict(dict)
    for tenant, model in connection.execute(lately(tenant_activity, today, "model").distinct()):
        asked[tenant][model] = set()
    for tenant, model, target in connection.execute(
        lately(tenant_ignore, today, "model", "target").distinct()
    ):
        asked[tenant].setdefault(model, set()).add(target)
    affiliated: defaultdict[str, set[str]] = defaultdict(set)
    for row in connection.execute(select(tenant_affiliation)):
        affiliated[row.tenant].add(row.provider)
    first_seen = select(name, func.min(tenant_pseudonym.c.created_at)).group_by(name).order_by(name)
    return [
        Voter(
            tenant,
            since,
            calls[tenant],
            {model: frozenset(targets) for model, targets in asked[tenant].items()},
            frozenset(affiliated[tenant]),
        )
        for tenant, since in connection.execute(first_seen)
    ]


def lately(table: Table, today: int, *columns: str) -> Select[Any]:
    """Tenants by name with columns of a table, of the last whole days."""
    days = table.c.day.between(today - DAYS, today - 1)
    mine = tenant_pseudonym.c.pseudonym == table.c.tenant
    return (
        select(name, *(table.c[column] for column in columns))
        .join(tenant_pseudonym, mine)
        .where(days)
    )
