"""proto/README.md: its Python example runs, and every other name in it exists in the contract."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.protobuf import json_format
from tests.support.catalogs import DEMO_CATALOGS, KIMI_CSV, NOW, POLICY, ROOT
from tests.support.commands import assay

from assay.cli.options import instant
from assay.engine.errors import AssayError
from assay.rpc.status import code_of, reason_of
from assay.server.database import open_current_database
from assay.server.frontend import GrpcFrontend
from assay.server.service import Service, ServiceSettings
from assay.v1 import audit_pb2, catalog_pb2, evidence_pb2, routing_pb2

GUIDE = (ROOT / "proto" / "README.md").read_text()
FILES = (audit_pb2, catalog_pb2, evidence_pb2, routing_pb2)
REQUEST, ANSWER = routing_pb2.DecideRequest.DESCRIPTOR, routing_pb2.DecideResponse.DESCRIPTOR
ATTEMPT = routing_pb2.Attempt.DESCRIPTOR


def block(language: str) -> str:
    """Return the guide's only code block of a language."""
    (found,) = re.findall(rf"```{language}\n(.*?)```", GUIDE, re.DOTALL)
    return str(found)


def table_rows(heading: str) -> list[list[str]]:
    """Return the cells of the first table after a heading, without its head."""
    section = GUIDE.partition(heading)[2]
    table = section[section.index("\n|") :].strip().split("\n\n")[0].splitlines()
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in table[2:]]


def snake_case(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """Serve the demo's model from a database of its own."""
    url = f"sqlite:///{tmp_path / 'guide.db'}"
    assert assay("import", "catalog", DEMO_CATALOGS[1], "--database", url).code == 0
    assert assay("import", "observations", KIMI_CSV, "--database", url).code == 0
    with open_current_database(url) as database:
        settings = ServiceSettings(
            database=database,
            policy=POLICY,
            journal=tmp_path / "journal",
            pinned=instant("--now", NOW),
        )
        with Service(settings) as service:
            frontend = GrpcFrontend(service, ["127.0.0.1:0"])
            yield frontend.addresses[0]
            frontend.stop()


def test_the_python_example_decides_and_reports(
    address: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["example.py", address])

    exec(compile(block("python"), "proto/README.md", "exec"), {})  # noqa: S102 - our own guide

    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("1 moonshotai/kimi-k2-0905@")
    assert lines[-1] == "accepted 1"


def test_the_grpcurl_example_is_a_valid_request() -> None:
    command = block("sh")
    body, method = re.search(r"-d '(.*?)'", command), re.search(r"assay\.v1\.(\w+)/(\w+)", command)
    assert body is not None
    assert method is not None

    json_format.ParseDict(json.loads(body[1]), routing_pb2.DecideRequest())

    assert method[2] in routing_pb2.DESCRIPTOR.services_by_name[method[1]].methods_by_name


def test_the_go_example_uses_fields_of_the_contract() -> None:
    code = block("go")
    fields = {snake_case(name) for name in re.findall(r"^\t(\w+): ", code, re.MULTILINE)}
    getters = {snake_case(name) for name in re.findall(r"attempt\.Get(\w+)\(", code)}

    assert fields
    assert fields <= set(REQUEST.fields_by_name)
    assert {snake_case(n) for n in re.findall(r"decision\.Get(\w+)\(", code)} == {"attempts"}
    assert getters
    assert getters <= set(ATTEMPT.fields_by_name)


def test_the_node_example_uses_fields_of_the_contract() -> None:
    code = block("js")
    (literal,) = re.findall(r"Decide\(\{(.*?)\}", code)
    fields, read = re.findall(r"(\w+): ", literal), re.findall(r"attempt\.(\w+)", code)

    assert fields
    assert set(fields) <= set(REQUEST.fields_by_name)
    assert set(re.findall(r"decision\.(\w+)", code)) <= set(ANSWER.fields_by_name)
    assert read
    assert set(read) <= set(ATTEMPT.fields_by_name)


def test_the_guide_lists_every_service_and_method() -> None:
    listed = {row[0].strip("`"): re.findall(r"\w+", row[1]) for row in table_rows("# API guide")}
    declared = {
        service.name: [method.name for method in service.methods]
        for file in FILES
        for service in file.DESCRIPTOR.services_by_name.values()
    }

    assert listed == declared


def test_the_error_table_agrees_with_the_statuses() -> None:
    classes = {reason_of(kind): kind for kind in subclasses(AssayError)}
    rows = table_rows("## Errors")

    assert rows
    for code, reasons, _cause in rows:
        for reason in re.findall(r"[\w-]+", reasons):
            assert code_of(classes[reason]).name == code.strip("`"), reason


def subclasses(kind: type[AssayError]) -> Iterator[type[AssayError]]:
    for each in kind.__subclasses__():
        yield each
        yield from subclasses(each)
