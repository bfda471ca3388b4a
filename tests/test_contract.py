"""The committed code is generated from the contract, and the contract only grows."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet

from assay.v1 import audit_pb2, catalog_pb2, evidence_pb2, routing_pb2

PROTO = Path(__file__).resolve().parents[1] / "proto"
GENERATED = (
    routing_pb2.DESCRIPTOR,
    catalog_pb2.DESCRIPTOR,
    audit_pb2.DESCRIPTOR,
    evidence_pb2.DESCRIPTOR,
)
FORBIDDEN = ("prompt", "content", "message", "messages", "text", "body", "arguments")

needs_buf = pytest.mark.skipif(
    not (Path(sys.executable).with_name("buf").exists() or shutil.which("buf")),
    reason="buf is not installed",
)


def compiled(folder: Path) -> dict[str, FileDescriptorProto]:
    """Compile the proto files, without names that compilers fill in differently."""
    target = folder / "set.binpb"
    files = sorted(str(p.relative_to(PROTO)) for p in PROTO.rglob("*.proto"))
    command = [
        sys.executable,
        "-m",
        "grpc_tools.protoc",
        f"--proto_path={PROTO}",
        f"--descriptor_set_out={target}",
    ]
    subprocess.run([*command, *files], check=True, timeout=60)
    found = FileDescriptorSet.FromString(target.read_bytes())
    return {file.name: without_json_names(file) for file in found.file}


def without_json_names(file: FileDescriptorProto) -> FileDescriptorProto:
    for message in file.message_type:
        for field in message.field:
            field.ClearField("json_name")
    return file


def committed(descriptor: FileDescriptor) -> FileDescriptorProto:
    file = FileDescriptorProto()
    descriptor.CopyToProto(file)
    return without_json_names(file)


def test_generated_code_is_that_of_the_proto_files(tmp_path: Path) -> None:
    """If this fails, run `make proto`."""
    assert {d.name: committed(d) for d in GENERATED} == compiled(tmp_path)


def test_no_request_field_could_carry_prompt_text() -> None:
    """Text fields are names of at most 256 characters; none has a name such as `content`."""
    seen = {
        field.name
        for message in (
            *(routing_pb2.DecideRequest, routing_pb2.ProviderPreferences, routing_pb2.Sort),
            *(
                evidence_pb2.ReportOutcomesRequest,
                evidence_pb2.StreamOutcomesRequest,
                evidence_pb2.Outcome,
            ),
            *(evidence_pb2.ToolUse, evidence_pb2.SetPreferenceRequest),
        )
        for field in message.DESCRIPTOR.fields
        if field.type in {field.TYPE_STRING, field.TYPE_BYTES}
    }

    assert seen.isdisjoint(FORBIDDEN)


@needs_buf
@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(("lint",), id="lint"),
        pytest.param(("format", "--diff", "--exit-code"), id="format"),
        pytest.param(
            ("breaking", "--against", str(PROTO / "baseline.binpb")),
            id="nothing released is broken",
        ),
    ],
)
def test_buf(arguments: tuple[str, ...]) -> None:
    buf = Path(sys.executable).with_name("buf")
    command = [str(buf if buf.exists() else shutil.which("buf")), *arguments]
    ran = subprocess.run(
        command, cwd=PROTO, capture_output=True, text=True, check=False, timeout=60
    )

    assert (ran.returncode, ran.stdout) == (0, "")
