"""Catalog values and pools as messages."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from datetime import datetime
from typing import TypeVar

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from assay.engine.policy.fact_values import endpoint_facts
from assay.engine.pool.report import PoolEndpoint, PoolReport
from assay.engine.world.catalog import Endpoint, Model, PriceOverride
from assay.rpc.convert.plan import facts, finding
from assay.v1 import catalog_pb2 as pb

AnyMessage = TypeVar("AnyMessage", bound=Message)


def stamp(at: datetime | None) -> Timestamp | None:
    """Return an instant as a timestamp; `None` stays `None`."""
    if at is None:
        return None
    made = Timestamp()
    made.FromDatetime(at)
    return made


def model(value: Model) -> pb.Model:
    """Return a model as a message; unknown fields stay unset."""
    return _copied(value, pb.Model())


def endpoint(value: Endpoint) -> pb.Endpoint:
    """Return an endpoint as a message; unknown fields stay unset."""
    known = endpoint_facts(value)
    del known["demoted"]  # comes from outcomes
    message = pb.Endpoint(
        service_tier=value.service_tier,
        overrides=map(_override, value.overrides),
        facts=facts(known.items()),
    )
    return _copied(value, message)


def _override(value: PriceOverride) -> pb.PriceOverride:
    message = pb.PriceOverride(utc_start_minute=value.utc_start, utc_end_minute=value.utc_end)
    return _copied(value, message)


def _copied(value: object, message: AnyMessage) -> AnyMessage:
    """Copy the fields of a value, which have the same names, into a message."""
    known = message.DESCRIPTOR.fields_by_name
    for item in fields(value):  # type: ignore[arg-type]  # a dataclass
        found = getattr(value, item.name)
        if found is None or found == () or item.name not in known or item.name == "overrides":
            continue
        if is_dataclass(found):
            inner = getattr(message, item.name)
            inner.SetInParent()
            _copied(found, inner)
        elif isinstance(found, tuple):
            getattr(message, item.name).extend(found)
        else:
            setattr(message, item.name, found)
    return message


def pool(value: PoolReport) -> pb.Pool:
    """Return a pool as a message, with the verdict and the facts of every endpoint."""
    return pb.Pool(
        model=value.model,
        variant=value.variant,
        binding=value.binding,
        rule_set=value.rule_set,
        as_of=stamp(value.as_of),
        snapshot_id=value.snapshot_id,
        members=map(_pool_endpoint, value.members),
        others=map(_pool_endpoint, value.others),
    )


def _pool_endpoint(value: PoolEndpoint) -> pb.PoolEndpoint:
    verdict = value.verdict
    return pb.PoolEndpoint(
        endpoint_id=verdict.endpoint_id,
        provider=verdict.provider,
        tag=verdict.tag,
        facts=facts(value.facts),
        broken=map(finding, verdict.broken),
        abstained=map(finding, verdict.abstained),
        shadow=map(finding, verdict.shadow),
        state=value.state or "",
        since=stamp(value.since),
    )
