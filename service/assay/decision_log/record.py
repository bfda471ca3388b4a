"""The decision record: what the journal stores of one answered decision, as canonical JSON bytes.

Only the fields listed here are written. The tenant appears under its pseudonym; of the session only
the seed is stored; no field can hold prompt text. Messages are not stored but rendered on reading.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
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
from assay.journal.sink import RecordKind

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

VERSION: Final = 1

UNLOGGED: Final = frozenset({"tenant", "session_id", "seed", "min_policy_revision"})
NESTED: Final = {
    "max_price": MaxPrice,
    "preferred_min_throughput": Percentiles,
    "preferred_max_latency": Percentiles,
}

_PLAN: Final = b',"plan":'  # the last key of a record; no key inside the plan has this name
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
"""The errors that reading corrupted bytes may raise."""

_encoder = msgspec.json.Encoder(order="deterministic")
_decoder = msgspec.json.Decoder()


@dataclass(frozen=True, slots=True)
class DecisionRecord:
    """One decision as logged; `plan` is the canonical plan, byte for byte.

    `at_us` is the time of the answer, in microseconds since 1970 UTC.
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
        """Time of the answer."""
        return from_micros(self.at_us)

    @property
    def decoded_plan(self) -> dict[str, Any]:
        """The plan as a mapping: attempts, verdicts, availability, snapshot."""
        decoded: dict[str, Any] = _decoder.decode(self.plan)
        return decoded


def encode_record(record: DecisionRecord) -> bytes:
    """Encode a record; equal records give equal bytes."""
    encode = _encoder.encode
    return (
        b'{"at_us":%d,"engine":%b,"health":%b,"id":%b,"now_us":%d,"plan_ns":%d,"policy_digest":%b,'
        b'"policy_revision":%d,"request":%b,"seed":"%b","snapshot":%b,"tenant":%b,"v":%d,"plan":%b}'
    ) % (
        record.at_us,
        _encode_repeated(record.engine_version),
        encode(dict(record.moment.health)) if record.moment.health else b"{}",
        encode(record.decision_id),
        to_micros(record.moment.now),
        record.plan_ns,
        _encode_repeated(record.policy_digest),
        record.policy_revision,
        encode(_request_fields(record.request)),
        record.moment.seed.hex().encode(),
        _encode_repeated(record.snapshot_id),
        _encode_repeated(record.tenant),
        VERSION,
        record.plan,
    )


@lru_cache(maxsize=1 << 12)
def _encode_repeated(value: str) -> bytes:
    """Encode a text that many records share."""
    return _encoder.encode(value)


def encode_tenant(tenant: str, pseudonym: str, at_us: int) -> bytes:
    """Encode the record that maps a pseudonym to a tenant; it is outside the chain and erasable."""
    return _encoder.encode({"tenant": tenant, "pseudonym": pseudonym, "at_us": at_us})


def decode_record(data: bytes) -> DecisionRecord:
    """Decode a record; raise ValueError if the bytes are not a valid record."""
    try:
        found = _decoder.decode(data)
        plan = data[data.rindex(_PLAN) + len(_PLAN) : -1]
        if found["v"] != VERSION:
            raise ValueError(f"record version {found['v']} is not known")
        seed = bytes.fromhex(found["seed"])
        return DecisionRecord(
            decision_id=found["id"],
            at_us=found["at_us"],
            moment=Moment(from_micros(found["now_us"]), seed, found["health"]),
            tenant=found["tenant"],
            request=request_of(found["request"]),
            snapshot_id=found["snapshot"],
            policy_revision=found["policy_revision"],
            policy_digest=found["policy_digest"],
            engine_version=found["engine"],
            plan_ns=found["plan_ns"],
            plan=plan,
        )
    except UNREADABLE as error:
        raise ValueError(f"not a decision record: {error}") from error


def to_micros(time: datetime) -> int:
    """Return microseconds since 1970, exactly."""
    since = time - EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def from_micros(us: int) -> datetime:
    """Return the UTC time of microseconds since 1970."""
    return datetime.fromtimestamp(us // 1_000_000, UTC).replace(microsecond=us % 1_000_000)


_Defaults = tuple[tuple[str, object], ...]


def _defaults(value: DataclassInstance, left_out: frozenset[str] = frozenset()) -> _Defaults:
    names = sorted(field.name for field in fields(value) if field.name not in left_out)
    return tuple((name, getattr(value, name)) for name in names)


_REQUEST_DEFAULTS: Final = _defaults(Request(model="-"), UNLOGGED)
_PROVIDER_DEFAULTS: Final = _defaults(ProviderPreferences())
_NESTED_DEFAULTS: Final = {name: _defaults(kind()) for name, kind in NESTED.items()}


def _changed_fields(value: object, defaults: _Defaults) -> dict[str, Any]:
    """Return the fields that differ from their defaults."""
    return {
        name: own
        for name, default in defaults
        if (own := getattr(value, name)) is not default and own != default
    }


def _request_fields(request: Request) -> dict[str, Any]:
    """Return the fields that differ from their defaults, except those in UNLOGGED."""
    found = _changed_fields(request, _REQUEST_DEFAULTS)
    if "provider" in found:
        preferences = _changed_fields(request.provider, _PROVIDER_DEFAULTS)
        for name, defaults in _NESTED_DEFAULTS.items():
            if name in preferences:
                preferences[name] = _changed_fields(preferences[name], defaults)
        found["provider"] = preferences
    return found


def request_of(found: Mapping[str, Any]) -> Request:
    """Return the request of its logged fields."""
    values = _with_tuples(found)
    if "provider" in values:
        preferences = _with_tuples(values["provider"])
        for name, kind in NESTED.items():
            if name in preferences:
                preferences[name] = kind(**preferences[name])
        values["provider"] = ProviderPreferences(**preferences)
    return Request(**values)


def _with_tuples(found: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in found.items()}


Append = Callable[[int, bytes], None]
"""Appends a record to the journal; raises JournalError if it is not stored."""


class TenantPseudonyms:
    """The pseudonyms of tenants, shared by all writers of a process; `known` are those in the log.

    A pseudonym is random. Only one record maps it to the tenant's name, and that can be erased.
    """

    def __init__(self, known: Mapping[str, str] | None = None) -> None:
        self.known = dict(known or {})

    def get(self, tenant: str, at_us: int, append: Append) -> str:
        """Return the pseudonym of a tenant, and journal a new one first; "" stays empty."""
        if not tenant:
            return ""
        if tenant not in self.known:
            created = secrets.token_hex(16)
            append(RecordKind.TENANT, encode_tenant(tenant, created, at_us))
            self.known.setdefault(tenant, created)
        return self.known[tenant]
