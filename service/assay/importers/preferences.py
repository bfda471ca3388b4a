"""Standing preferences of tenants, as a table in our form.

    tenant,kind,target,model
    acme,ignore,deepinfra,
    acme,pin,novita/fp8,moonshotai/kimi-k2-0905

`kind` is `pin` or `ignore`; `target` is a provider slug or an endpoint tag. If `model` is blank, or
there is no such column, the preference applies to all models. The file replaces all preferences of
the tenants it names.
"""

from __future__ import annotations

from collections.abc import Mapping

from assay.engine.world.world import Preference
from assay.importers import cells
from assay.importers.cells import InvalidItemError
from assay.importers.documents import PreferenceDocument
from assay.importers.table import CsvRow, read_table

_KINDS = ("pin", "ignore")
_Key = tuple[str, str, str | None]  # tenant, target, model


def read_preferences(data: bytes) -> PreferenceDocument:
    """Read a preference table; a second preference for one target and model is rejected."""
    table = read_table(data, required=("tenant", "kind", "target"), optional=("model",))
    seen: dict[_Key, Preference] = {}
    found = table.read(lambda row: _read_row(row, seen), _key_of, "the same preference")
    return PreferenceDocument(table.digest, *found)


def _read_row(row: CsvRow, seen: dict[_Key, Preference]) -> Preference:
    preference = Preference(
        tenant=row.need("tenant", cells.TENANT),
        kind=row.need("kind", _read_kind),
        target=row.need("target", cells.TAG),
        model=row.read("model", cells.MODEL),
    )
    _require_new(preference, seen)
    seen[_key_of(preference)] = preference
    return preference


def _require_new(preference: Preference, seen: Mapping[_Key, Preference]) -> None:
    first = seen.get(_key_of(preference))
    if first is not None:
        expected = f"new for this tenant and model: it has its {first.kind} above"
        raise InvalidItemError("target", preference.target, expected)


def _key_of(preference: Preference) -> _Key:
    return preference.tenant, preference.target, preference.model


def _read_kind(field: str, text: str) -> str:
    if text not in _KINDS:
        raise InvalidItemError(field, text, "pin or ignore")
    return text
