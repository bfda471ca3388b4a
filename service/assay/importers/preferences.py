"""Standing preferences of tenants, as a table in our form.

    tenant,kind,target,model
    acme,ignore,deepinfra,
    acme,pin,novita/fp8,moonshotai/kimi-k2-0905

`kind` is `pin` or `ignore`; `target` is a provider slug or an endpoint tag. If `model` is blank, or
there is no such column, the preference applies to all models. The file replaces all preferences of
the tenants it names.
"""

from __future__ import annotations

from assay.engine.world.world import Preference
from assay.importers import cells
from assay.importers.cells import InvalidItemError
from assay.importers.documents import PreferenceDocument
from assay.importers.table import CsvRow, read_table

_KINDS = ("pin", "ignore")


def read_preferences(data: bytes) -> PreferenceDocument:
    """Read a preference table; a second preference for one target and model is rejected."""
    seen: dict[tuple[str, str, str | None], Preference] = {}

    def read_row(row: CsvRow) -> Preference:
        preference = Preference(
            tenant=row.need("tenant", cells.TENANT),
            kind=row.need("kind", _read_kind),
            target=row.need("target", cells.TAG),
            model=row.read("model", cells.MODEL),
        )
        key = preference.tenant, preference.target, preference.model
        first = seen.setdefault(key, preference)
        if first is not preference:
            expected = f"new for this tenant and model: it has its {first.kind} above"
            raise InvalidItemError("target", preference.target, expected)
        return preference

    required, optional = ("tenant", "kind", "target"), ("model",)
    return PreferenceDocument(*read_table(data, read_row, required=required, optional=optional))


def _read_kind(field: str, text: str) -> str:
    if text not in _KINDS:
        raise InvalidItemError(field, text, "pin or ignore")
    return text
