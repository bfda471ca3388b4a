"""`assay decide`: decide one request, in this process or on a server, with the same messages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import grpc
import orjson
from cyclopts import Parameter
from google.protobuf import json_format

from assay.cli.options import DatabaseUrl, JournalDir, Json, Now, PolicyDir, Tenant, instant
from assay.cli.output import console, print_json, print_table, unique_reasons
from assay.engine.errors import CallerError, InvalidField, OperatorError
from assay.forward.provider_preferences import provider_preferences
from assay.rpc.convert.plan import decide_response, explain_response
from assay.rpc.routing import request_from
from assay.server.database import open_current_database, snapshot_now
from assay.server.decider import Decider
from assay.server.service import recording_decider
from assay.server.settings import wall_clock
from assay.v1 import routing_pb2 as pb, routing_pb2_grpc

TIMEOUT_SECONDS = 30.0
CALLER_CODES = (
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.FAILED_PRECONDITION,
)


class ServerRefused(CallerError):
    """The server rejected the request."""


class ServerFailed(OperatorError):
    """The server did not answer."""


@Parameter(name="*")
@dataclass(frozen=True, slots=True)
class RequestOptions:
    """One option per field of a request."""

    models: Annotated[
        list[str] | None, Parameter(help="Fallback models, in order of preference.")
    ] = None
    tools: Annotated[int, Parameter(help="How many tools the request offers.")] = 0
    tool_choice: Annotated[
        str | None, Parameter(help="`none`, `auto`, `required` or `function`.")
    ] = None
    parameters: Annotated[
        list[str] | None, Parameter(help="Names of the parameters that the request sends.")
    ] = None
    provider: Annotated[str | None, Parameter(help="OpenRouter's `provider` object as JSON.")] = (
        None
    )
    max_tokens: Annotated[int | None, Parameter(help="Requested limit of the answer.")] = None
    prompt_tokens: Annotated[int | None, Parameter(help="Length of the prompt.")] = None
    input_modalities: Annotated[
        list[str] | None,
        Parameter(help="Kinds of input: `text`, `image`, `file`, `audio`, `video`."),
    ] = None
    service_tier: Annotated[
        str | None, Parameter(help="`auto`, `default`, `flex` or `priority`.")
    ] = None
    session_id: Annotated[str, Parameter(help="The conversation of the request.")] = ""
    previous: Annotated[
        str, Parameter(help="The endpoint that served the conversation before: MODEL@TAG.")
    ] = ""
    tenant: Tenant = ""
    seed: Annotated[str | None, Parameter(help="Seed of the draws, 16 or 32 bytes in hex.")] = None

    def message(self, model: str) -> pb.DecideRequest:
        """Return the request as a message; raises InvalidField."""
        message = pb.DecideRequest(
            model=model,
            models=self.models or (),
            tenant=self.tenant,
            tool_choice=self.tool_choice,
            parameters=self.parameters or (),
            input_modalities=self.input_modalities or (),
            service_tier=self.service_tier,
            session_id=self.session_id,
            previous_endpoint_id=self.previous,
        )
        for name in ("tools", "max_tokens", "prompt_tokens"):
            if (value := getattr(self, name)) is not None:
                try:
                    setattr(message, name, value)
                except ValueError as error:
                    raise InvalidField(name, value, "an integer of 32 or 64 bits") from error
        if self.provider is not None:
            try:
                provider = orjson.loads(self.provider)
            except orjson.JSONDecodeError as error:
                raise InvalidField("--provider", self.provider, f"JSON: {error}") from error
            message.provider.CopyFrom(provider_preferences(provider))
        if self.seed is not None:
            try:
                message.seed = bytes.fromhex(self.seed)
            except ValueError as error:
                expected = "16 or 32 bytes in hexadecimal"
                raise InvalidField("--seed", self.seed, expected) from error
        return message


@Parameter(name="*")
@dataclass(frozen=True, slots=True)
class SourceOptions:
    """Where the request is decided, and where the decision is recorded."""

    now: Now = None
    record: Annotated[
        bool,
        Parameter(help="Write the decision to the log, so that it can be replayed."),
    ] = False
    journal: JournalDir = None
    server: Annotated[
        str | None, Parameter(help="Send the request to this server: HOST:PORT or unix:PATH.")
    ] = None
    url: DatabaseUrl = None
    policy: PolicyDir = None

    def require_compatible(self, *, explain: bool) -> None:
        """Reject options that exclude each other."""
        if self.record and (explain or self.server is not None):
            raise InvalidField("--record", "", "allowed together with --explain or --server")
        if self.journal is not None and not self.record:
            raise InvalidField("--journal", str(self.journal), "allowed without --record")
        if self.server is None:
            return
        if self.now is not None or self.url is not None or self.policy is not None:
            raise InvalidField(
                "--server", self.server, "allowed together with --now, --database or --policy"
            )
        if not self.server:
            raise InvalidField("--server", self.server, "HOST:PORT or unix:PATH")


NO_FIELDS = RequestOptions()
DEFAULT_SOURCE = SourceOptions()


def decide_command(
    model: str,
    *,
    request: RequestOptions = NO_FIELDS,
    source: SourceOptions = DEFAULT_SOURCE,
    explain: Annotated[
        bool, Parameter(help="Show every verdict with the values that rules read.")
    ] = False,
    json: Json = False,
) -> None:
    """Order the endpoints that may serve a request, with a reason for every other endpoint.

    Decides from the published snapshot of the database. With --now or --policy, or if nothing was
    published, it judges the database first. With --server, it asks a running server.

    Exit codes: 0 decided, even if no endpoint is left; 1 the database or server failed; 2 the
    request is not valid; 3 the rule files have faults.

    Example: assay decide moonshotai/kimi-k2-0905:exacto --tools 2

    Example: assay decide openai/gpt-oss-120b --provider '{"sort": "price"}' --json

    Example: assay decide openai/gpt-oss-120b:nitro --tenant acme --record

    Example: assay decide openai/gpt-oss-120b:nitro --server 127.0.0.1:7333
    """
    source.require_compatible(explain=explain)
    message = request.message(model)
    if source.server is not None:
        answer = _ask_server(source.server, message, explain=explain)
    else:
        answer = _decide_here(message, source, explain=explain)
    if json:
        print_json(_as_json(answer))
    else:
        _show(answer)


def _decide_here(
    message: pb.DecideRequest, source: SourceOptions, *, explain: bool
) -> pb.DecideResponse | pb.ExplainResponse:
    """Decide in this process; with `record`, return once the decision is in the log."""
    request, now = request_from(message), instant("--now", source.now)
    with open_current_database(source.url, create=False) as database:
        if source.record:
            with recording_decider(database, source.policy, now, source.journal) as recording:
                decision = recording.decide(request)
            return decide_response(decision)
        snapshot = snapshot_now(database, source.policy, now)
    decider = Decider(clock=(lambda: now) if now else wall_clock, snapshot=snapshot)
    if explain:
        return explain_response(decider.explain(request))
    return decide_response(decider.decide(request))


def _ask_server(
    server: str, message: pb.DecideRequest, *, explain: bool
) -> pb.DecideResponse | pb.ExplainResponse:
    with grpc.insecure_channel(server) as channel:
        stub = routing_pb2_grpc.RoutingServiceStub(channel)
        try:
            if explain:
                return stub.Explain(pb.ExplainRequest(request=message), timeout=TIMEOUT_SECONDS)
            return stub.Decide(message, timeout=TIMEOUT_SECONDS)
        except grpc.RpcError as error:
            text = f"{server}: {error.code().name}: {' '.join(str(error.details()).split())}"
            is_refused = error.code() in CALLER_CODES
            raise (ServerRefused if is_refused else ServerFailed)(text) from error


def _as_json(answer: pb.DecideResponse | pb.ExplainResponse) -> dict[str, Any]:
    """Convert the answer for programs; empty fields are included."""
    shown: dict[str, Any] = json_format.MessageToDict(
        answer, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    shown["policy_revision"] = {
        "number": answer.policy_revision.number,
        "digest": answer.policy_revision.digest,
    }
    return shown


def _show(answer: pb.DecideResponse | pb.ExplainResponse) -> None:
    attempts = [(a.rank, a.model, a.tag, a.rule_set) for a in answer.attempts]
    print_table("attempts", ("#", "model", "endpoint", "by"), attempts)
    if not answer.attempts:
        why = ", ".join(f"{r.reason} ({r.endpoints})" for r in answer.availability_reasons)
        console.print(f"no endpoint is left: {answer.availability}; {why}")
    for warning in answer.warnings:
        console.print(f"warning: {warning.message}", markup=False)
    if answer.affinity:
        console.print(f"endpoint of the conversation: {answer.affinity}")
    if isinstance(answer, pb.DecideResponse):
        excluded = [(f.model, f.tag, f.reasons) for f in answer.excluded]
    else:
        excluded = [(v.model, v.tag, v.broken) for v in answer.verdicts]
    rows = [(m, tag, *why) for m, tag, findings in excluded for why in unique_reasons(findings)]
    if rows:
        print_table("left out", ("model", "endpoint", "reason", ""), rows)
    if isinstance(answer, pb.ExplainResponse):
        seen = [(verdict.tag, fact) for verdict in answer.verdicts for fact in verdict.seen]
        facts = [
            (tag, f.name, _text(f.value) if f.HasField("value") else "absent") for tag, f in seen
        ]
        print_table("values seen", ("endpoint", "fact", "value"), facts)


def _text(value: pb.FactValue) -> str:
    kind = value.WhichOneof("kind")
    if kind == "list_value":
        return "[" + ", ".join(map(_text, value.list_value.values)) + "]"
    return str(getattr(value, kind)) if kind else ""
