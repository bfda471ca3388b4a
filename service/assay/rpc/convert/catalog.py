"""Catalog values and pools as messages."""

from __future__ import annotations

from collections.abc import Collection

from assay.engine.policy.fact_values import endpoint_facts
from assay.engine.pool.report import PoolEndpoint, PoolReport
from assay.engine.world.capabilities import capabilities, capability_facts
from assay.engine.world.catalog import Endpoint, Model
from assay.rpc.convert.copying import copied, stamp
from assay.rpc.convert.plan import facts, finding
from assay.v1 import catalog_pb2 as pb


def model(value: Model) -> pb.Model:
    """Return a model as a message; unknown fields stay unset."""
    return copied(value, pb.Model())


_SUPPORT = {True: pb.SUPPORT_YES, False: pb.SUPPORT_NO}


def endpoint(value: Endpoint, refused: Collection[str] = ()) -> pb.Endpoint:
    """Return an endpoint as a message; unknown fields stay unset.

    `refused` are the capabilities that it does not have, as learned from refusals.
    """
    known = endpoint_facts(value) | capability_facts(value, refused)
    del known["demoted"]  # comes from outcomes
    overrides = [
        copied(each, pb.PriceOverride(utc_start_minute=each.utc_start, utc_end_minute=each.utc_end))
        for each in value.overrides
    ]
    message = pb.Endpoint(
        service_tier=value.service_tier,
        overrides=overrides,
        facts=facts(known.items()),
        capabilities=[
            pb.EndpointCapability(
                path=each.path, support=_SUPPORT[each.is_supported], source=each.source
            )
            for each in capabilities(value, refused)
        ],
    )
    return copied(value, message)


def pool(value: PoolReport) -> pb.Pool:
    """Return a pool as a message, with the verdict and the facts of every endpoint."""
    members, others = map(_pool_endpoint, value.members), map(_pool_endpoint, value.others)
    return copied(value, pb.Pool(members=members, others=others))


def _pool_endpoint(value: PoolEndpoint) -> pb.PoolEndpoint:
    verdict = value.verdict
    message = pb.PoolEndpoint(
        facts=facts(value.facts),
        broken=map(finding, verdict.broken),
        abstained=map(finding, verdict.abstained),
        shadow=map(finding, verdict.shadow),
        state=value.state or "",
        since=stamp(value.since),
    )
    return copied(verdict, message)
