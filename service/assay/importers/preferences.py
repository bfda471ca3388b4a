"""Standing preferences of tenants, as a table of ours.

    tenant,kind,target,model
    acme,ignore,deepinfra,
    acme,pin,novita/fp8,moonshotai/kimi-k2-0905

`kind` is `pin` or `ignore`; `target` is a provider slug or an endpoint tag; a blank `model` means all models, and the
column may be left out. The file replaces everything said before of the tenants it names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from assay.engine.world.tenants import Preference
from assay.importers import cells
from assay.importers.cells import InvalidItemError
from assay.importers.documents import PreferenceDocument, Rejection
from assay.importers.table import read_table

if TYPE_CHECKING:
    from collections.abc import Mapping

    from assay.importers.table import CsvRow

REQUIRED = ("tenant", "kind", "target")
OPTIONAL = ("model",)
KINDS = ("pin", "ignore")

Key = tuple[str, str, str | None]  # tenant, target, model


def read_preferences(data: bytes) -> PreferenceDocument:
    """Read a preference table; a target both pinned and ignored for one model is refused the second time."""
    table = read_table(data, required=REQUIRED, optional=OPTIONAL)
    taken: dict[Key, Preference] = {}
    refused = list(table.rejected)
    for row in table.rows:
        try:
            preference = _preference(row)
            taken[_new(preference, taken)] = preference
        except InvalidItemError as error:
            refused.append(Rejection(row.where, str(error)))
    refused.sort(key=lambda refusal: int(refusal.where.removeprefix("line ")))
    return PreferenceDocument(table.digest, tuple(taken.values()), tuple(refused))


def _new(preference: Preference, taken: Mapping[Key, Preference]) -> Key:
    key = (preference.tenant, preference.target, preference.model)
    if key in taken:
        kind = taken[key].kind
        raise InvalidItemError(
            "target", preference.target, f"new for this tenant and model: it has its {kind} above"
        )
    return key


def _preference(row: CsvRow) -> Preference:
    return Preference(
        tenant=row.need("tenant", lambda field, text: cells.named(field, text, cells.TENANT)),
        kind=row.need("kind", _kind),
        target=row.need("target", lambda field, text: cells.named(field, text, cells.TAG)),
        model=row.read("model", lambda field, text: cells.named(field, text, cells.MODEL)),
    )


def _kind(field: str, text: str) -> str:
    if text not in KINDS:
        raise InvalidItemError(field, text, "pin or ignore")
    return text
