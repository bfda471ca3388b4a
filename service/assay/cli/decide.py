"""`assay decide`: one request, in process or from a server, by the same messages."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import grpc
import orjson
from cyclopts import Parameter
from google.protobuf import json_format

from assay.cli.options import DatabaseUrl, JournalDir, Json, Now, PolicyDir, Tenant, instant
from assay.cli.output import console, print_json, print_table, said
from assay.engine.errors import AssayError, CallerError, InvalidField, OperatorError
from assay.forward.provider_preferences import provider_preferences
from assay.rpc.convert.plan import decide_response, explain_response
from assay.rpc.convert.request import request_from
from assay.server.database import open_current_database, snapshot_now
from assay.server.decider import Decider
from assay.server.service import recording_decider
from assay.server.settings import wall_clock
from assay.v1 import routing_pb2 as pb, routing_pb2_grpc

TIMEOUT_SECONDS = 30.0


class ServerRefused(CallerError):
    """The server answered a request with an error of the caller's."""


class ServerFailed(OperatorError):
    """The server did not answer a request."""


def decide_command(  # noqa: PLR0913 - one option per field of a request
    model: str,
    *,
    models: Annotated[
        list[str] | None, Parameter(help="Further models, in order of preference.")
    ] = None,
    tools: Annotated[int, Parameter(help="Number of tools offered.")] = 0,
    tool_choice: str | None = None,
    parameters: Annotated[list[str] | None, Parameter(help="Names of the parameters sent.")] = None,
    provider: Annotated[
        str | None, Parameter(help="OpenRouter's `provider` object as JSON.")
    ] = None,
    max_tokens: int | None = None,
    prompt_tokens: int | None = None,
    input_modalities: list[str] | None = None,
    service_tier: str | None = None,
    session_id: str = "",
    tenant: Tenant = "",
    seed: Annotated[str | None, Parameter(help="Seed of the draws, 16 or 32 bytes in hex.")] = None,
    now: Now = None,
    explain: Annotated[
        bool, Parameter(negative="", help="Show every verdict with the values its rules saw.")
    ] = False,
    record: Annotated[
        bool, Parameter(negative="", help="Keep the decision in the log; it can be replayed.")
    ] = False,
    journal: JournalDir = None,
    server: Annotated[
        str | None, Parameter(help="Ask this server: HOST:PORT or unix:PATH.")
    ] = None,
    url: DatabaseUrl = None,
    policy: PolicyDir = None,
    json: Json = False,
) -> None:
    """Order the endpoints that may serve a request, with a reason for every one left out.

    Example: assay decide moonshotai/kimi-k2-0905:exacto --tools 2

    Example: assay decide openai/gpt-oss-120b --provider '{"sort": "price", "ignore": ["groq"]}' --json

    Example: assay decide openai/gpt-oss-120b:nitro --tenant acme --record

    Example: assay decide openai/gpt-oss-120b:nitro --server 127.0.0.1:7333
    """
    if record and (explain or server is not None):
        raise InvalidField("--record", "", "to be used together with --explain or --server")
    if journal is not None and not record:
        raise InvalidField("--journal", str(journal), "to be used without --record")
    message = pb.DecideRequest(
        model=model,
        models=models or (),
        tenant=tenant,
        tool_choice=tool_choice,
        parameters=parameters or (),
        input_modalities=input_modalities or (),
        service_tier=service_tier,
        session_id=session_id,
    )
    set_number(message, "tools", tools)
    set_number(message, "max_tokens", max_tokens)
    set_number(message, "prompt_tokens", prompt_tokens)
    if provider is not None:
        message.provider.CopyFrom(provider_preferences(parsed(provider)))
    if seed is not None:
        message.seed = seed_bytes(seed)
    answer: pb.DecideResponse | pb.ExplainResponse
    if record:
        answer = record_here(message, instant("--now", now), (url, policy, journal))
    elif server is None:
        answer = answer_here(message, instant("--now", now), url, policy, explain=explain)
    elif now is not None or url is not None or policy is not None:
        raise InvalidField(
            "--server", server, "to be used together with --now, --database or --policy"
        )
    elif not server:
        raise InvalidField("--server", server, "HOST:PORT or unix:PATH")
    else:
        answer = ask(server, message, explain=explain)
    if json:
        print_json(as_json(answer))
    else:
        show(answer)


def set_number(message: pb.DecideRequest, name: str, value: int | None) -> None:
    """Set an integer field; raises InvalidField where it does not fit."""
    if value is not None:
        try:
            setattr(message, name, value)
        except ValueError as error:
            raise InvalidField(name, value, "an integer of 32 or 64 bits") from error


def parsed(text: str) -> object:
    """The value of a JSON option; NaN and the like are no JSON."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise InvalidField("--provider", text, f"JSON: {error}") from error


def seed_bytes(text: str) -> bytes:
    """The bytes of a hexadecimal seed."""
    try:
        return bytes.fromhex(text)
    except ValueError as error:
        raise InvalidField("--seed", text, "16 or 32 bytes in hexadecimal") from error


def answer_here(
    message: pb.DecideRequest,
    now: datetime | None,
    url: str | None,
    policy: Path | None,
    *,
    explain: bool,
) -> pb.DecideResponse | pb.ExplainResponse:
    """Answer from the database, in this process."""
    request = request_from(message)
    with open_current_database(url) as database:
        snapshot = snapshot_now(database, policy, now)
    decider = Decider(clock=(lambda: now) if now else wall_clock, snapshot=snapshot)
    if explain:
        return explain_response(decider.explain(request))
    decided = decider.decide(request)
    return decide_response(decided)


def record_here(
    message: pb.DecideRequest,
    now: datetime | None,
    places: tuple[str | None, Path | None, Path | None],
) -> pb.DecideResponse:
    """Answer from the database, in this process, once the decision is in the log."""
    url, policy, journal = places
    request = request_from(message)
    with (
        open_current_database(url) as database,
        recording_decider(database, policy, now, journal) as decider,
    ):
        decided = decider.decide(request)
    return decide_response(decided)


def ask(
    server: str, message: pb.DecideRequest, *, explain: bool
) -> pb.DecideResponse | pb.ExplainResponse:
    """Answer from a server."""
    with grpc.insecure_channel(server) as channel:
        stub = routing_pb2_grpc.RoutingServiceStub(channel)
        try:
            if explain:
                return stub.Explain(pb.ExplainRequest(request=message), timeout=TIMEOUT_SECONDS)
            return stub.Decide(message, timeout=TIMEOUT_SECONDS)
        except grpc.RpcError as error:
            raise translated(server, error) from error


def translated(server: str, error: grpc.RpcError) -> AssayError:
    """A gRPC status as one of our errors."""
    words = f"{server}: {error.code().name}: {' '.join(str(error.details()).split())}"
    callers = (
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.FAILED_PRECONDITION,
    )
    return ServerRefused(words) if error.code() in callers else ServerFailed(words)


def as_json(answer: pb.DecideResponse | pb.ExplainResponse) -> dict[str, Any]:
    """The answer for programs; every field is there, also where it is empty."""
    shown: dict[str, Any] = json_format.MessageToDict(
        answer, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    shown["policy_revision"] = {
        "number": answer.policy_revision.number,
        "digest": answer.policy_revision.digest,
    }
    return shown


def show(answer: pb.DecideResponse | pb.ExplainResponse) -> None:
    """The answer for people: who serves, and why the others do not."""
    print_table(
        "attempts",
        ("#", "model", "endpoint", "by"),
        [(a.rank, a.model, a.tag, a.rule_set) for a in answer.attempts],
    )
    if not answer.attempts:
        why = ", ".join(f"{r.reason} ({r.endpoints})" for r in answer.availability_reasons)
        console.print(f"no endpoint is left: {answer.availability}; {why}", markup=False)
    if isinstance(answer, pb.DecideResponse):
        rows = [(f.model, f.tag, *reason) for f in answer.excluded for reason in said(f.reasons)]
    else:
        rows = [(v.model, v.tag, *reason) for v in answer.verdicts for reason in said(v.broken)]
    if rows:
        print_table("left out", ("model", "endpoint", "reason", ""), rows)
    if isinstance(answer, pb.ExplainResponse):
        seen = [
            (v.tag, f.name, text_of(f.value) if f.HasField("value") else "absent")
            for v in answer.verdicts
            for f in v.seen
        ]
        print_table("values seen", ("endpoint", "fact", "value"), seen)


def text_of(value: pb.FactValue) -> str:
    """A fact's value in a cell."""
    kind = value.WhichOneof("kind")
    if kind == "list_value":
        return "[" + ", ".join(text_of(v) for v in value.list_value.values) + "]"
    return str(getattr(value, kind)) if kind else ""
