"""Pseudonyms of tenants: random, remembered, and bounded in number whatever callers invent."""

from __future__ import annotations

import json
import tracemalloc

from assay.decision_log.record import NEW_AT_ONCE, REMEMBERED, TenantPseudonyms


class Records:
    """What was journaled."""

    def __init__(self) -> None:
        self.count = 0
        self.last = b""

    def append(self, _kind: int, payload: bytes) -> None:
        self.count += 1
        self.last = payload


def test_a_tenant_keeps_its_pseudonym_and_is_journaled_once() -> None:
    records = Records()
    tenants = TenantPseudonyms({"known": "p-1"})
    first = tenants.get("acme", 7, records.append)
    assert tenants.get("acme", 8, records.append) == first
    assert (tenants.get("known", 9, records.append), tenants.get("", 9, records.append)) == (
        "p-1", "",
    )  # fmt: skip
    assert json.loads(records.last) == {"tenant": "acme", "pseudonym": first, "at_us": 7}
    assert (records.count, tenants.remembered, tenants.unnamed) == (1, 2, 0)
    assert tenants.names() == {"p-1": "known", first: "acme"}


def test_200000_made_up_tenants_cost_a_bounded_number_of_records_and_bytes() -> None:
    records = Records()
    tenants = TenantPseudonyms({"known": "p-1"}, steady=lambda: 0.0)
    tracemalloc.start()
    for number in range(200_000):
        pseudonym = tenants.get(f"tenant-{number}", 0, records.append)
        assert bool(pseudonym) == (number < NEW_AT_ONCE)
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (records.count, tenants.unnamed) == (NEW_AT_ONCE, 200_000 - NEW_AT_ONCE)
    assert size < 4_000_000
    assert tenants.get("known", 0, records.append) == "p-1"


def test_tenants_with_settings_are_named_whatever_others_invent() -> None:
    records = Records()
    tenants = TenantPseudonyms(new_at_once=0, steady=lambda: 0.0)
    assert tenants.get("made up", 0, records.append, {"acme"}) == ""
    assert tenants.get("acme", 0, records.append, {"acme"})
    assert (records.count, tenants.unnamed) == (1, 1)


def test_new_tenants_are_named_again_as_time_passes() -> None:
    records, now = Records(), [0.0]
    tenants = TenantPseudonyms(new_at_once=2, steady=lambda: now[0])
    named = [bool(tenants.get(f"a-{number}", 0, records.append)) for number in range(4)]
    now[0] += 1.0
    named += [bool(tenants.get(f"b-{number}", 0, records.append)) for number in range(2)]
    now[0] += 3600.0
    named += [bool(tenants.get(f"c-{number}", 0, records.append)) for number in range(3)]
    assert named == [True, True, False, False, True, False, True, True, False]


def test_the_number_of_remembered_tenants_is_bounded_and_active_ones_stay() -> None:
    records = Records()
    tenants = TenantPseudonyms(remembered=100, new_at_once=10_000)
    active = tenants.get("active", 0, records.append)
    for number in range(1000):
        tenants.get(f"tenant-{number}", 0, records.append)
        assert tenants.remembered <= 200
        assert tenants.get("active", 0, records.append) == active
    assert records.count == 1001
    full = TenantPseudonyms({f"tenant-{n}": f"p-{n}" for n in range(REMEMBERED)})
    assert full.get("tenant-0", 0, records.append) == "p-0"
