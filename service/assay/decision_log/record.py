"""The decision record: what the journal stores of one answered decision, as canonical JSON bytes.

Only the fields listed here are written. The tenant appears under its pseudonym; of the session only
the seed is stored; no field can hold prompt text. Messages are not stored but rendered on reading.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, fields, is_dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

from assay.engine.decide.plan import Moment
from assay.engine.errors import AssayError
from assay.engine.world.clock import EPOCH
from assay.engine.world.request import Request
from assay.journal.sink import RecordKind

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

_Value = TypeVar("_Value")
VERSION: Final = 1
UNLOGGED: Final = frozenset({"tenant", "session_id", "seed", "min_policy_revision"})
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


class _StoredRecord(msgspec.Struct, gc=False):
    """A record as it is spelled: the fields in this order, the plan byte for byte."""

    at_us: int
    engine: str
    health: dict[str, str]
    id: str
    now_us: int
    plan_ns: int
    policy_digest: str
    policy_revision: int
    request: dict[str, Any]
    seed: str
    snapshot: str
    tenant: str
    v: int
    plan: msgspec.Raw


_encoder = msgspec.json.Encoder(order="deterministic")
_decoder = msgspec.json.Decoder(_StoredRecord)


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
        decoded: dict[str, Any] = msgspec.json.decode(self.plan)
        return decoded


def encode_record(record: DecisionRecord) -> bytes:
    """Encode a record; equal records give equal bytes."""
    return _encoder.encode(
        _StoredRecord(
            at_us=record.at_us,
            engine=record.engine_version,
            health=dict(record.moment.health),
            id=record.decision_id,
            now_us=to_micros(record.moment.now),
            plan_ns=record.plan_ns,
            policy_digest=record.policy_digest,
            policy_revision=record.policy_revision,
            request=_logged_fields(record.request),
            seed=record.moment.seed.hex(),
            snapshot=record.snapshot_id,
            tenant=record.tenant,
            v=VERSION,
            plan=msgspec.Raw(record.plan),
        )
    )


def encode_tenant(tenant: str, pseudonym: str, at_us: int) -> bytes:
    """Encode the record that maps a pseudonym to a tenant; it is outside the chain and erasable."""
    return _encoder.encode({"tenant": tenant, "pseudonym": pseudonym, "at_us": at_us})


def decode_record(data: bytes) -> DecisionRecord:
    """Decode a record; raise ValueError if the bytes are not a valid record."""
    try:
        found = _decoder.decode(data.decode())  # msgspec does not check UTF-8 inside the plan
        if found.v != VERSION:
            raise ValueError(f"record version {found.v} is not known")
        return DecisionRecord(
            decision_id=found.id,
            at_us=found.at_us,
            moment=Moment(from_micros(found.now_us), bytes.fromhex(found.seed), found.health),
            tenant=found.tenant,
            request=value_of(Request, found.request),
            snapshot_id=found.snapshot,
            policy_revision=found.policy_revision,
            policy_digest=found.policy_digest,
            engine_version=found.engine,
            plan_ns=found.plan_ns,
            plan=bytes(found.plan),
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


_DEFAULTS: Final[dict[type, dict[str, object]]] = {}
"""The logged fields of a request, and of the classes inside it, in order of name."""


def _add_defaults(value: DataclassInstance, left_out: frozenset[str] = frozenset()) -> None:
    names = sorted(field.name for field in fields(value) if field.name not in left_out)
    _DEFAULTS[type(value)] = defaults = {name: getattr(value, name) for name in names}
    for default in defaults.values():
        if is_dataclass(default) and not isinstance(default, type):
            _add_defaults(default)


_add_defaults(Request(model="-"), UNLOGGED)


def _logged_fields(value: object) -> dict[str, Any]:
    """Return the fields that differ from their defaults, except those in UNLOGGED."""
    found: dict[str, Any] = {}
    for name, default in _DEFAULTS[type(value)].items():
        own = getattr(value, name)
        if own is not default and own != default:
            found[name] = _logged_fields(own) if type(own) in _DEFAULTS else own
    return found


def value_of(kind: type[_Value], found: Mapping[str, Any]) -> _Value:
    """Return the request, or a value inside it, of its logged fields."""
    values: dict[str, Any] = {}
    for name, value in found.items():
        inner = type(_DEFAULTS[kind].get(name))
        if inner in _DEFAULTS:
            values[name] = value_of(inner, value)
        else:
            values[name] = tuple(value) if isinstance(value, list) else value
    return kind(**values)


Append = Callable[[int, bytes], None]
"""Appends a record to the journal; raises JournalError if it is not stored."""


REMEMBERED: Final = 32_768
"""Tenants, at least, that a process remembers; at most twice as many, about 11 MB."""
NEW_AT_ONCE: Final = 10_000
NEW_PER_SECOND: Final = 1.0


class TenantPseudonyms:
    """The pseudonyms of tenants, shared by all writers of a process; `known` are those in the log.

    A pseudonym is random. Only one record maps it to the tenant's name, and that can be erased. A
    tenant may have several: one for each process that met it first, or again after it forgot it.

    Callers choose the names of tenants and could invent any number of them. So a process remembers
    a bounded number, and creates new pseudonyms at a bounded rate. A tenant beyond that which has
    neither settings nor preferences is logged as one without a name: no plan depends on it, and its
    outcomes share the caps of all such tenants.

    `unnamed` counts decisions and reports that were stored without their tenant.
    """

    def __init__(
        self,
        known: Mapping[str, str] | None = None,
        *,
        remembered: int = REMEMBERED,
        new_at_once: int = NEW_AT_ONCE,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self.unnamed = 0
        self._remembered = remembered
        self._newer: dict[str, str] = {}
        self._older: dict[str, str] = {}
        self._new_at_once = new_at_once
        self._steady = steady
        self._allowance, self._allowed_at = float(new_at_once), steady()
        self.learn(known or {})

    def learn(self, known: Mapping[str, str]) -> None:
        """Add pseudonyms that are in the log."""
        newer = self._newer
        newer.update(known)
        if len(newer) >= self._remembered:
            self._newer, self._older = {}, newer

    def names(self) -> dict[str, str]:
        """Return the tenants that are remembered, by pseudonym."""
        known = {**self._older, **self._newer}
        return {pseudonym: tenant for tenant, pseudonym in known.items()}

    @property
    def remembered(self) -> int:
        """How many tenants are remembered, some of them twice for a while."""
        return len(self._newer) + len(self._older)

    def get(
        self, tenant: str, at_us: int, append: Append, configured: Container[str] = frozenset()
    ) -> str:
        """Return the pseudonym of a tenant, and journal a new one first.

        Returns "" for no tenant, and for one that is neither known nor `configured`, which means
        that it has settings or preferences, if too many are new.
        """
        if not tenant:
            return ""
        found = self._newer.get(tenant)
        if found is not None:
            return found
        if (found := self._older.get(tenant)) is not None:
            self.learn({tenant: found})
            return found
        if tenant not in configured and not self._take_allowance():
            self.unnamed += 1
            return ""
        created = secrets.token_hex(16)
        append(RecordKind.TENANT, encode_tenant(tenant, created, at_us))
        self.learn({tenant: created})
        return created

    def _take_allowance(self) -> bool:
        """Whether one more pseudonym may be created; threads that race may get a few too many."""
        now = self._steady()
        gained = (now - self._allowed_at) * NEW_PER_SECOND
        allowance = min(self._allowance + gained, float(self._new_at_once))
        if allowance < 1.0:
            return False
        self._allowance, self._allowed_at = allowance - 1.0, now
        return True
