"""The importers of preferences (a table) and tenant settings (YAML)."""

from __future__ import annotations

import time

import pytest

from assay.engine.errors import BadData
from assay.engine.world.world import Preference, TenantSettings
from assay.importers.preferences import read_preferences
from assay.importers.tenants import read_tenants


def test_preferences_are_read() -> None:
    document = read_preferences(
        b"tenant,kind,target,model\nacme,ignore,deepinfra,\nacme,pin,novita/fp8,lab/one\n"
        b"beta,ignore,deepinfra,lab/one\n"
    )
    assert document.preferences == (
        Preference("acme", "ignore", "deepinfra"),
        Preference("acme", "pin", "novita/fp8", "lab/one"),
        Preference("beta", "ignore", "deepinfra", "lab/one"),
    )
    assert document.rejected == ()


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        pytest.param(",pin,novita,", "tenant: '' is not a plain name", id="no tenant"),
        pytest.param("acme,like,novita,", "kind: 'like' is not pin or ignore", id="another kind"),
        pytest.param("acme,pin,,", "target: '' is not an endpoint tag", id="no target"),
        pytest.param("acme,pin,deepinfra,", "it has its ignore above", id="pinned and ignored"),
        pytest.param("acme,pin,novita,one", "model: 'one' is not a model id", id="no model id"),
        pytest.param("acme,ignore,deepinfra,", "the same row as line 2", id="a repeated row"),
    ],
)
def test_an_invalid_preference_is_rejected_with_its_line(row: str, reason: str) -> None:
    document = read_preferences(
        f"tenant,kind,target,model\nacme,ignore,deepinfra,\n{row}\n".encode()
    )
    assert len(document.preferences) == 1
    assert [(rejection.where, reason in rejection.reason) for rejection in document.rejected] == [
        ("line 3", True)
    ]


def test_tenant_settings_are_read() -> None:
    document = read_tenants(
        b"# ours\n- tenant: acme\n  only: [novita, deepinfra/fp8]\n  zdr: true\n"
        b"- {tenant: beta, ignore: [x], deny_data_collection: true, zdr: false}\n"
        b"- {tenant: '7', affiliated_provider: novita}\n"
    )
    assert document.tenants == (
        TenantSettings("acme", only=("novita", "deepinfra/fp8"), zdr=True),
        TenantSettings("beta", ignore=("x",), deny_data_collection=True),
        TenantSettings("7"),
    )
    assert document.affiliated == {"7": "novita"}
    assert document.rejected == ()


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        pytest.param(
            "- tenant: acme",
            "tenant: 'acme' is not new: it is listed above",
            id="a tenant twice",
        ),
        pytest.param(
            "- {tenant: b, zrd: true}", "key: 'zrd' is not one of tenant, only", id="an unknown key"
        ),
        pytest.param(
            "- {tenant: b, zdr: true, zdr: false}", "key: 'zdr' is not given once", id="a key twice"
        ),
        pytest.param("- {zdr: true}", "tenant: '' is not a plain name", id="no tenant"),
        pytest.param(
            "- {tenant: no}", "tenant: 'no' is not text (quote it", id="a boolean as a name"
        ),
        pytest.param(
            "- {tenant: b, zdr: 1}", "zdr: '1' is not true or false", id="a number as a boolean"
        ),
        pytest.param("- {tenant: b, zdr:}", "zdr: '' is not true or false", id="a blank boolean"),
        pytest.param(
            "- {tenant: b, only: novita}",
            "only: 'novita' is not a list",
            id="a provider instead of a list",
        ),
        pytest.param(
            "- {tenant: b, only: []}", "leave the key out to allow all", id="an empty allow-list"
        ),
        pytest.param(
            "- {tenant: b, ignore: [[x]]}", "ignore: 'a list' is not text", id="a list in a list"
        ),
        pytest.param(
            "- {tenant: b, affiliated_provider: novita/fp8}",
            "affiliated_provider: 'novita/fp8' is not a provider slug",
            id="affiliated with an endpoint",
        ),
        pytest.param(
            "- {tenant: !!python/name:os.system x}", "tenant: 'x' is not text", id="a foreign type"
        ),
        pytest.param(
            "- acme", "item: 'acme' is not a mapping with the key tenant", id="a bare name"
        ),
        pytest.param(
            "- {tenant: a\u202eb}",
            r"tenant: 'a\u202eb' is not a plain name",
            id="a name with a right-to-left override",
        ),
        pytest.param("- {[a]: b}", "key: 'a list' is not one of", id="a list as key"),
    ],
)
def test_an_invalid_tenant_is_rejected_with_its_line(item: str, reason: str) -> None:
    document = read_tenants(f"- tenant: acme\n{item}\n".encode())
    assert [settings.tenant for settings in document.tenants] == ["acme"]
    assert [(rejection.where, reason in rejection.reason) for rejection in document.rejected] == [
        ("line 2", True)
    ]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        pytest.param(b"", "the file is empty", id="empty"),
        pytest.param(b"# empty\n", "line 1: expected a list of tenants", id="only a comment"),
        pytest.param(b"tenant: acme\n", "line 1: expected a list of tenants", id="no list"),
        pytest.param(b"- {tenant: a\n", "not YAML", id="cut off"),
        pytest.param(b"- tenant: \x07\n", "not YAML", id="a control character"),
        pytest.param(b"- \xff\n", "not UTF-8", id="latin-1"),
        pytest.param(b"- []\n---\n- []\n", "not YAML", id="two documents"),
        pytest.param(
            b"- &a {tenant: x}\n- *a\n", "line 2: aliases are not allowed here", id="an alias"
        ),
        pytest.param(b"[" * 100_000, "line 1: nested deeper than 8", id="deeply nested"),
        pytest.param(b"- {tenant: " + b"x" * 2**20 + b"}", "more than 1048576 bytes", id="1 MB"),
    ],
)
def test_a_file_that_is_not_a_list_of_tenants_is_rejected_as_a_whole(
    data: bytes, message: str
) -> None:
    started = time.monotonic()
    with pytest.raises(BadData) as caught:
        read_tenants(data)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert time.monotonic() - started < 5
