"""The decision record: what the journal keeps of one answered decision, as canonical JSON bytes.

Only fields listed here are written. The tenant goes by its pseudonym, the session not at all (its seed is kept), and
there is no field that could hold prompt text. Messages are left out; they are rendered again on reading.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import msgspec

from assay.engine.decide.plan import Moment
from assay.engine.errors import AssayError
from assay.engine.world.catalog import Percentiles
from assay.engine.world.clock import EPOCH
from assay.engine.world.request import MaxPrice, ProviderPreferences, Request

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

VERSION: Final = 1

UNLOGGED: Final = frozenset({"tenant", "session_id", "seed", "min_policy_revision"})
NESTED: Final = {
    "max_price": MaxPrice,
    "preferred_min_throughput": Percentiles,
    "preferred_max_latency": Percentiles,
}

PLAN: Final = b',"plan":'  # it comes last, and inside it no key is called so
UNREADABLE: Final = (
    msgspec.DecodeError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    AssayError,
    RecursionError,
)
"""What altered bytes may raise on being read."""

encoder = msgspec.json.Encoder(order="deterministic")
decoder = msgspec.json.Decoder()


@dataclass(frozen=True, slots=True)
class Record:
    """One decision as logged; `plan` is the canonical plan, byte for byte.

    `at_us` is when it was answered, in microseconds since 1970 (UTC); `plan_ns` is how long planning took.
    """

    decision_id: str
    at_us: int
    moment: Moment
    tenant: str
    request: Request
    snapshot_id: str
    policy_revision: int
    policy_digest: str
    engine_version: str
    plan_ns: int
    plan: bytes

    @property
    def decided_at(self) -> datetime:
        """When it was answered."""
        return moment_of(self.at_us)

    @property
    def planned(self) -> dict[str, Any]:
        """The plan as a mapping: attempts, verdicts, availability, snapshot."""
        read: dict[str, Any] = decoder.decode(self.plan)
        return read


def encode(record: Record) -> bytes:
    """The bytes of a record; equal records have equal bytes."""
    text = encoder.encode
    return (
        b'{"at_us":%d,"engine":%b,"health":%b,"id":%b,"now_us":%d,"plan_ns":%d,"policy_digest":%b,'
        b'"policy_revision":%d,"request":%b,"seed":"%b","snapshot":%b,"tenant":%b,"v":%d,"plan":%b}'
    ) % (
        record.at_us,
        known_text(record.engine_version),
        text(dict(record.moment.health)) if record.moment.health else b"{}",
        text(record.decision_id),
        micros(record.moment.now),
        record.plan_ns,
        known_text(record.policy_digest),
        record.policy_revision,
        text(request_fields(record.request)),
        record.moment.seed.hex().encode(),
        known_text(record.snapshot_id),
        known_text(record.tenant),
        VERSION,
        record.plan,
    )


@lru_cache(maxsize=1 << 12)
def known_text(value: str) -> bytes:
    """Text that stands in many records, as JSON."""
    return encoder.encode(value)


def encode_tenant(tenant: str, pseudonym: str, at_us: int) -> bytes:
    """The bytes that tie a pseudonym to its tenant; they are kept apart from decisions and can be erased."""
    return encoder.encode({"tenant": tenant, "pseudonym": pseudonym, "at_us": at_us})


def decode(data: bytes) -> Record:
    """A record read back; raises ValueError where the bytes are none."""
    try:
        read = decoder.decode(data)
        plan = data[data.rindex(PLAN) + len(PLAN) : -1]
        if read["v"] != VERSION:
            raise ValueError(f"record version {read['v']} is not known")
        return Record(
            decision_id=read["id"],
            at_us=read["at_us"],
            moment=Moment(moment_of(read["now_us"]), bytes.fromhex(read["seed"]), read["health"]),
            tenant=read["tenant"],
            request=request_of(read["request"]),
            snapshot_id=read["snapshot"],
            policy_revision=read["policy_revision"],
            policy_digest=read["policy_digest"],
            engine_version=read["engine"],
            plan_ns=read["plan_ns"],
            plan=plan,
        )
    except UNREADABLE as error:
        raise ValueError(f"these bytes are no decision record: {error}") from error


def micros(time: datetime) -> int:
    """Microseconds since 1970, exactly."""
    since = time - EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def moment_of(us: int) -> datetime:
    """The UTC time of microseconds since 1970."""
    return datetime.fromtimestamp(us // 1_000_000, UTC).replace(microsecond=us % 1_000_000)


Defaults = tuple[tuple[str, object], ...]


def defaults(plain: DataclassInstance, left_out: frozenset[str] = frozenset()) -> Defaults:
    """The fields of a dataclass with the values that need not be written, by name."""
    named = ((field.name, getattr(plain, field.name)) for field in fields(plain))
    return tuple(sorted(pair for pair in named if pair[0] not in left_out))


OF_REQUEST: Final = defaults(Request(model="-"), UNLOGGED)
OF_PROVIDER: Final = defaults(ProviderPreferences())
OF_NESTED: Final = {name: defaults(kind()) for name, kind in NESTED.items()}


def changed(value: object, plain: Defaults) -> dict[str, Any]:
    """The fields of a dataclass that differ from its defaults."""
    return {
        name: own
        for name, default in plain
        if (own := getattr(value, name)) is not default and own != default
    }


def request_fields(request: Request) -> dict[str, Any]:
    """What a request says besides its defaults, without tenant, session and seed."""
    found = changed(request, OF_REQUEST)
    if "provider" in found:
        wants = changed(request.provider, OF_PROVIDER)
        for name, plain in OF_NESTED.items():
            if name in wants:
                wants[name] = changed(wants[name], plain)
        found["provider"] = wants
    return found


def request_of(found: Mapping[str, Any]) -> Request:
    """A logged request read back."""
    read: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in found.items()
    }
    if "provider" in read:
        wants: dict[str, Any] = {
            n: tuple(v) if isinstance(v, list) else v for n, v in read["provider"].items()
        }
        for name, kind in NESTED.items():
            if name in wants:
                wants[name] = kind(**wants[name])
        read["provider"] = ProviderPreferences(**wants)
    return Request(**read)
