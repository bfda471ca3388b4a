"""The operator's files: all faults are reported, with their place and without any value."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import pytest

from assay.forward.errors import ErrorReply
from assay.forward.refusals import read_error_fields
from assay.forward.settings import BadSettingsFile, Clients, Timeouts, read_clients, read_providers
from assay.forward.taxonomy import error_in_answer, status_error

KEY = "sk-canary-0123456789"
GOOD = """
apiVersion: assay/v1
kind: Providers
spec:
  deadline: 1.5m
  keepAlive: 3s
  timeouts: {connect: 250ms, firstToken: 4s}
  providers:
    far:
      baseUrl: https://far.example/v1/
      keyEnv: FAR_KEY
      models: {a/b: b-1, a/b@far/turbo: b-1-turbo}
      timeouts: {connect: 1s}
    near:
      baseUrl: http://127.0.0.1:9/v1
      private: true
      keyEnv: NEAR_KEY
      keyHeader: x-api-key
      name: Near
"""


def written(folder: Path, text: str) -> Path:
    file = folder / "file.yaml"
    file.write_text(text)
    return file


def test_a_providers_file_is_read_with_its_keys(tmp_path: Path) -> None:
    (tmp_path / "near").write_text("near-key\n\n")
    environment = {"FAR_KEY": KEY, "NEAR_KEY_FILE": str(tmp_path / "near")}
    providers = read_providers(written(tmp_path, GOOD), environment)
    far, near = providers.by_slug["far"], providers.by_slug["near"]
    assert (providers.deadline, providers.keep_alive) == (90.0, 3.0)
    assert str(far.url) == "https://far.example/v1/chat/completions"
    assert far.timeouts == Timeouts(connect=1.0, first_token=4.0)
    assert far.headers() == {"Authorization": f"Bearer {KEY}"}
    assert near.headers() == {"x-api-key": "near-key"}
    assert (far.name, near.name) == ("far", "Near")
    names = [("a/b@far/turbo", "a/b"), ("a/b@far", "a/b"), ("a/c@far", "a/c")]
    assert [far.model_of(*each) for each in names] == ["b-1-turbo", "b-1", "a/c"]


@pytest.mark.parametrize(
    ("status", "error", "row"),
    [
        (400, {"message": "model is Loading"}, "server_error"),
        (422, {"message": "model is loading"}, "caller_error"),
        (403, {"code": "insufficient_user_quota"}, "rate_limited"),
        (500, {"type": "content_filter"}, "caller_error"),
        (200, {"code": "content_filter"}, "caller_error"),
        (404, {}, "forbidden"),
        (400, {"message": "odd"}, "caller_error"),
        (400, {"message": "api key"}, "rejected"),
    ],
)
def test_the_first_override_that_matches_decides_the_row_of_a_failure(
    tmp_path: Path, status: int, error: dict[str, str], row: str
) -> None:
    overrides = """
      failures:
        - {status: 400, pattern: model is (busy|loading), row: server_error}
        - {status: 403, pattern: insufficient_user_quota, row: rate_limited}
        - {pattern: content_filter, row: caller_error}
        - {status: 404, row: forbidden}
        - {status: 404, row: refused}
"""
    file = written(tmp_path, GOOD.rstrip() + overrides)
    provider = read_providers(file, {"FAR_KEY": KEY, "NEAR_KEY": KEY}).by_slug["near"]
    found = (
        error_in_answer(error) if status == 200 else status_error(status, read_error_fields(error))
    )
    assert provider.classify(found).kind.name == row


def test_a_key_is_never_printed(tmp_path: Path) -> None:
    providers = read_providers(written(tmp_path, GOOD), {"FAR_KEY": KEY, "NEAR_KEY": KEY})
    far = providers.by_slug["far"]
    assert KEY not in repr(providers)
    assert KEY not in f"{far.key} {far.key!r} {far.key!s}"
    assert far.redact(f"your key {KEY} is no good") == "your key … is no good"


HEAD = "apiVersion: assay/v1\nkind: Providers\nspec:\n  providers:\n"
P = f"{HEAD}    p: "
FAULTS = (
    ("spec", HEAD + "    p: {}", ["5:8: spec.providers.p: baseUrl is missing"]),
    (
        "not https",
        P + "{baseUrl: 'http://p.example'}",
        ["5:18: spec.providers.p.baseUrl: must be https"],
    ),
    (
        "literal",
        P + "{baseUrl: 'https://10.0.0.1'}",
        ["5:18: spec.providers.p.baseUrl: address is not allowed"],
    ),
    (
        "short literal",
        P + "{baseUrl: 'https://127.1'}",
        ["5:18: spec.providers.p.baseUrl: address is not allowed"],
    ),
    (
        "no key",
        P + "{baseUrl: 'https://p.example', keyEnv: NONE}",
        ["5:47: spec.providers.p.keyEnv"],
    ),
    (
        "unknown",
        P + f"{{baseUrl: 'https://p.example', key: {KEY}}}",
        ["5:8: spec.providers.p: unknown field key"],
    ),
    (
        "a key for its name",
        P + f"{{baseUrl: 'https://p', keyEnv: {KEY}}}",
        ["5:39: spec.providers.p.keyEnv"],
    ),
    (
        "user in url",
        P + f"{{baseUrl: 'https://{KEY}@p'}}",
        ["5:18: spec.providers.p.baseUrl: does not match"],
    ),
    (
        "twice",
        P + "{baseUrl: 'https://p'}\n    p: {baseUrl: 'https://q'}",
        ["6:5: p: duplicate key"],
    ),
    (
        "overrides",
        P
        + """
      baseUrl: https://p.example
      failures:
        - {status: 400, pattern: '(', row: refused}
        - {status: 400, row: refused}
        - {pattern: '(?=x)', row: refused}""",
        [
            "8:34: spec.providers.p.failures.0.pattern: is not a valid RE2 pattern",
            "10:21: spec.providers.p.failures.2.pattern: is not a valid RE2 pattern",
        ],
    ),
    (
        "override without a condition",
        P + "{baseUrl: 'https://p.example', failures: [{row: refused}]}",
        ["5:50: spec.providers.p.failures.0: expected one of the fields status, pattern"],
    ),
    (
        "override with an unknown row",
        P + "{baseUrl: 'https://p.example', failures: [{status: 400, row: cut}]}",
        ["5:69: spec.providers.p.failures.0.row: expected one of rate_limited, server_error"],
    ),
    ("two faults", HEAD + "    p: {}\n    q: {}", ["5:8", "6:8"]),
    ("not YAML", "a: [", ["1:5: not valid YAML"]),
    ("nothing", "", ["1:1: the file: expected object"]),
    ("a list", "- 1", ["1:1: the file: expected object"]),
)


@pytest.mark.parametrize(("text", "faults"), [f[1:] for f in FAULTS], ids=[f[0] for f in FAULTS])
def test_every_fault_of_a_providers_file_is_reported_with_its_place(
    tmp_path: Path, text: str, faults: list[str]
) -> None:
    file = written(tmp_path, text)
    with pytest.raises(BadSettingsFile) as caught:
        read_providers(file, {})
    lines = str(caught.value).splitlines()
    assert len(lines) == len(faults)
    for line, fault in zip(lines, faults, strict=True):
        assert line.startswith(f"{file}:{fault}"), line
    assert KEY not in str(caught.value)


def test_an_unreadable_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(BadSettingsFile, match="No such file"):
        read_clients(tmp_path / "none.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"\xff")
    with pytest.raises(BadSettingsFile, match="not UTF-8"):
        read_clients(tmp_path / "latin.yaml")


def clients_file(folder: Path, *entries: tuple[str, str]) -> Path:
    lines = [
        f"  - {{tenant: {tenant}, sha256: {sha256(key.encode()).hexdigest()}}}"
        for tenant, key in entries
    ]
    return written(folder, "\n".join(["apiVersion: assay/v1", "kind: Clients", "spec:", *lines]))


def test_a_key_belongs_to_its_tenant(tmp_path: Path) -> None:
    clients = read_clients(
        clients_file(tmp_path, ("acme", "one"), ("acme", "two"), ("other", "three"))
    )
    tenants = [
        clients.tenant_of(header) for header in (b"Bearer one", b"bearer two", b"Bearer three ")
    ]
    assert tenants == ["acme", "acme", "other"]
    for header in (b"", b"Bearer ", b"Bearer four", b"one", b"Basic one", b"Bearer \xff"):
        with pytest.raises(ErrorReply) as caught:
            clients.tenant_of(header)
        assert caught.value.status == 401


def test_without_a_clients_file_every_caller_is_accepted() -> None:
    assert Clients().tenant_of(b"") == ""


def test_a_key_that_is_listed_twice_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(BadSettingsFile, match=r":5:\d+: spec.1.sha256: this key is listed above"):
        read_clients(clients_file(tmp_path, ("acme", "one"), ("other", "one")))
