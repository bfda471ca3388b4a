"""What a provider's error says: whose fault it is, what callers may read, what is unsupported."""

from __future__ import annotations

import json
from typing import Any

import pytest

from assay.forward.refusals import is_about_account, read_error_fields, unsupported_capability
from assay.forward.request import read_request
from assay.forward.taxonomy import status_error

IMAGE = {"role": "user", "content": [{"type": "image_url"}, {"type": "text", "text": "?"}]}
TOOL = {"type": "function", "function": {"name": "f"}}
SCHEMA = {"type": "json_schema", "json_schema": {"name": "s", "schema": {}}}


@pytest.mark.parametrize(
    "error",
    [
        {"error": {"message": "API key not valid. Please pass a valid API key.", "code": 400}},
        {"error": {"details": [{"reason": "API_KEY_INVALID"}], "message": "Bad request"}},
        {"error": {"message": "Incorrect API key provided: sk-ab****", "code": "invalid_api_key"}},
        {"code": "InvalidApiKey", "message": "No key"},
        {"error": {"type": "authentication_error", "message": "invalid x-api-key"}},
        {"error": "usage limit reached"},
        {"error": {"message": "You exceeded your current quota", "type": "insufficient_quota"}},
        {"error": {"message": "Your credit balance is too low to access the API"}},
        {"error": {"code": "billing_hard_limit_reached", "message": "Limit"}},
        {"message": "Monthly budget of the project exceeded"},
        {"detail": "Rate limit exceeded: 60 requests per minute"},
        {"detail": [{"msg": "Missing credentials", "loc": ["header"]}]},
        {"msg": "账户余额不足"},
        [{"error": {"status": "PERMISSION_DENIED", "message": "Consumer has been suspended"}}],
        {"error": {"message": "Provider returned error", "metadata": {"raw": "invalid api key"}}},
        "Unauthorized",
        {"error": {"message": "The security token included in the request is expired"}},
        {"message": "The model does not exist or you do not have access to it"},
        {"error": {"message": "You have insufficient permissions for this operation"}},
        {"error": {"message": "Request limit reached for this deployment"}},
        {"message": "Please add funds to continue"},
        {"message": "Your IP address is not allowed"},
        {"error": {"message": "Your trial has expired"}},
    ],
)
@pytest.mark.parametrize("status", [400, 403, 422])
def test_an_error_about_the_account_is_the_endpoints_and_its_words_are_kept_from_callers(
    error: object, status: int
) -> None:
    found = status_error(status, read_error_fields(error))
    assert (found.kind.name, found.status, found.message) == ("rejected", status, "")


def test_many_words_before_a_message_do_not_hide_what_it_is_about() -> None:
    kinds = [{"type": "x" * 5000} for _ in range(25)]
    found = status_error(400, read_error_fields([*kinds, {"message": "Invalid API key"}]))
    assert (found.kind.name, found.message) == ("rejected", "")


@pytest.mark.parametrize(
    "message",
    [
        "This model's maximum context length is 8192 tokens, your messages have 9000 tokens",
        "max_tokens must be greater than thinking.budget_tokens",
        "Invalid schema for function 'get_weather': object has no properties",
        "Unsupported parameter: 'prompt_cache_key'",
        "messages[3].tool_calls: tool_call_id is missing",
        "Invalid token count in max_tokens",
        "temperature must be at most 2",
        "The context limit reached: please shorten the messages",
        "Image dimensions exceed the limit of 8000 pixels",
    ],
)
def test_an_error_about_the_request_keeps_its_message(message: str) -> None:
    found = status_error(400, read_error_fields({"error": {"message": message}}))
    assert (found.kind.name, found.message) == ("caller_error", message)


def test_words_that_an_error_quotes_from_the_request_say_nothing_about_the_account() -> None:
    body = b'{"tools":[{"function":{"name":"billing"}}]}'
    assert not is_about_account("Invalid schema for function 'billing'", body)
    assert is_about_account("Invalid schema for function 'billing'", b"{}")
    quoting = {"error": {"message": "Invalid schema for function 'billing'"}}
    found = status_error(400, read_error_fields(quoting), body)
    assert (found.kind.name, found.message) == ("caller_error", "")  # shown only beyond doubt


@pytest.mark.parametrize(
    ("status", "kind"), [(400, "refused"), (422, "refused"), (413, "too_large"), (403, "forbidden")]
)
def test_without_a_readable_body_the_status_decides(status: int, kind: str) -> None:
    assert status_error(status, None).kind.name == kind


def unsupported(error: object, **fields: Any) -> str:
    body = {"model": "lab/m", "messages": [], **fields}
    request = read_request(json.dumps(body).encode(), tenant="", session_id="", request_id="")
    return unsupported_capability(read_error_fields(error), request)


def in_openais_form(message: str, param: str, code: str) -> dict[str, Any]:
    return {"error": {"message": message, "param": param, "code": code}}


SEED_REFUSALS = [
    in_openais_form("Unsupported parameter: 'seed'", "seed", "unsupported_parameter"),
    in_openais_form("Unknown parameter.", "seed", "unknown_parameter"),
    {"error": {"message": "Unrecognized request argument supplied: seed"}},
    {"detail": [{"type": "extra_forbidden", "loc": ["body", "seed"], "msg": "Extra inputs"}]},
    {"detail": [{"loc": ["body", "seed"], "msg": "extra fields not permitted"}]},
    {"message": {"detail": [{"type": "extra_forbidden", "loc": ["body", "seed"]}]}},
    "extra fields not permitted: seed",
    {"error": {"message": "property 'seed' is unsupported"}},
    {"error": {"message": "'seed' : property is not supported"}},
    {"error": {"message": 'Invalid payload. Unknown name "seed": Cannot find field.'}},
    {"error": {"message": 'json: unknown field "seed"'}},
    {"error": {"message": "unknown field `seed`, expected one of `model`, `stop`"}},
    {"error": {"message": "The model does not support parameters: seed"}},
    {"error": {"message": "This model doesn't support `seed`."}},
    "Additional properties are not allowed ('seed' was unexpected)",
    "seed: Extra inputs are not permitted",
    "Unrecognized key(s) in object: 'seed'",
    "The following parameters are not supported: seed",
    "Argument not supported on this model: seed",
    "got an unexpected keyword argument 'seed'",
    "parameter seed not supported",
    "'seed' is not a valid parameter for this endpoint",
    {"error": {"message": "seed is currently not supported by this model"}},
]


@pytest.mark.parametrize("error", SEED_REFUSALS, ids=str)
def test_an_unsupported_parameter_is_recognized_only_if_it_was_sent(error: object) -> None:
    assert unsupported(error, seed=7, temperature=1) in ("parameters.seed", "")
    assert unsupported(error, seed=7) == "parameters.seed"
    assert unsupported(error, top_k=7) == ""


@pytest.mark.parametrize(
    ("message", "fields", "expected"),
    [
        ("`max_tokens` is not supported", {"max_tokens": 5}, "parameters.max_tokens"),
        ("Unsupported value: 'temperature' does not support 0.1", {"temperature": 0.1}, ""),
        ("temperature values above 2 are not supported", {"temperature": 3}, ""),
        ("Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.",
         {"max_tokens": 5}, ""),
        ("Unsupported parameter: 'response_format'", {"response_format": SCHEMA},
         "structured_outputs"),
        ("Unknown error: stop sequences could not be read", {"stop": ["x"]}, ""),
        ("max_tokens is too large", {"max_tokens": 5}, ""),
        ("tool_choice 'required' is not supported", "required", "tool_choice.required"),
        ("Tool choice must be auto", "required", "tool_choice.required"),
        ("Invalid value: 'required'. tool_choice: Supported values are: 'none', 'auto'",
         "required", "tool_choice.required"),
        ("Tool choice must be auto", "auto", ""),
        ('"auto" tool choice requires --enable-auto-tool-choice', "", "tool_choice.auto"),
        ("deepseek-reasoner does not support this tool_choice", "function", "tool_choice.function"),
        ("tool_choice 'required' is not supported", {}, ""),
        ("qwen does not support tools", {"tools": [TOOL]}, "parameters.tools"),
        ("Function calling is not enabled for this model", {"tools": [TOOL]}, "parameters.tools"),
        ("qwen does not support tools", {}, ""),
        ("This model does not support image input", {"messages": [IMAGE]},
         "input_modalities.image"),
        ("unknown variant `image_url`, expected `text`", {"messages": [IMAGE]},
         "input_modalities.image"),
        ("llama is not a multimodal model", {"messages": [IMAGE]}, "input_modalities.image"),
        ("image format webp is not supported", {"messages": [IMAGE]}, ""),
        ("This model does not support image input", {}, ""),
        ("This model does not support response format `json_schema`",
         {"response_format": SCHEMA}, "structured_outputs"),
    ],
)  # fmt: skip
def test_an_unsupported_capability_is_recognized_only_if_the_request_used_it(
    message: str, fields: dict[str, Any] | str, expected: str
) -> None:
    if isinstance(fields, str):
        choice: Any = {"type": "function", "function": {"name": "f"}}
        words = {"function": choice, "": None}
        fields = {"tools": [TOOL], "tool_choice": words.get(fields, fields)}
    assert unsupported({"error": {"message": message}}, **fields) == expected
