"""What a provider's error says: its message, whose fault it is, and what it names as unsupported.

Providers agree on no form of an error. `read_error_fields` therefore collects messages, types,
codes and names of parameters wherever they are in the JSON: OpenAI's and Anthropic's `error`,
Google's `details`, FastAPI's `detail` with `loc`, a list of errors, or a plain text.

`is_about_account` finds messages about the gateway's own account at the provider: keys, budgets,
quotas. Callers can do nothing about them and never see them. A message may quote the request, so
quoted parts that occur in the request say nothing.

`unsupported_capability` reads what a refusal says about an endpoint's capabilities. It recognizes a
few shapes (`_PARAMETER_SHAPES` and the patterns below it) and returns only what the request had.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from typing import Final, NamedTuple

from assay.forward.request import OTHER_SPELLING, ChatRequest, catalog_name

_MAX_NODES: Final = 64
_MAX_TEXT: Final = 16_000  # characters that are searched
_MAX_MESSAGE: Final = 4000
_MAX_KIND: Final = 200  # so that many of them leave room for the message that callers may see
_KEYS: Final = {
    **dict.fromkeys(("message", "msg", "error", "detail", "details", "errors"), "messages"),
    **dict.fromkeys(("error_message", "errorMessage", "error_msg", "Message"), "messages"),
    **dict.fromkeys(("error_description", "faultstring", "title", "raw"), "messages"),
    **dict.fromkeys(("status_msg", "description"), "messages"),
    **dict.fromkeys(("type", "error_type", "__type"), "kinds"),
    **dict.fromkeys(("code", "status", "status_code", "error_code", "reason"), "kinds"),
    **dict.fromkeys(("param", "parameter"), "parameters"),
}


_NUMERIC: Final = ("code", "status", "status_code", "error_code")


class ErrorFields(NamedTuple):
    """What an error says: `kinds` are its types and codes, `parameters` paths in the request."""

    messages: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    parameters: tuple[str, ...] = ()

    @property
    def message(self) -> str:
        """The first message, which is the outermost."""
        return self.messages[0] if self.messages else ""

    @property
    def text(self) -> str:
        """Types, codes and messages, one a line, for patterns to search."""
        return "\n".join((*self.kinds, *self.messages))[:_MAX_TEXT]


NO_FIELDS: Final = ErrorFields()


def read_error_fields(error: object) -> ErrorFields:
    """Return the fields of an error of any form, outer ones first."""
    found: dict[str, list[str]] = {"messages": [], "kinds": [], "parameters": []}
    waiting = deque([("message", error)])
    for _ in range(_MAX_NODES):
        if not waiting:
            break
        key, value = waiting.popleft()
        if key == "loc" and isinstance(value, list):
            found["parameters"].append(".".join(map(str, value)))
        elif isinstance(value, dict):
            waiting += [(str(name), item) for name, item in value.items()]
        elif isinstance(value, list):
            waiting += [(key, item) for item in value]
        elif key in _KEYS and (isinstance(value, str) or key in _NUMERIC) and value:
            longest = _MAX_MESSAGE if _KEYS[key] == "messages" else _MAX_KIND
            text = str(value)[:longest].encode(errors="replace").decode()  # half a surrogate pair
            found[_KEYS[key]].append(text)
    return ErrorFields(*map(tuple, found.values()))


_ACCOUNT: Final = re.compile(
    r"\bapi ?keys?\b|\b(access|secret|subscription|auth\w*|bearer|id) (key|token)s?\b"
    r"|\bkey (is |has |has been |was )?(not valid|invalid|expired|revoked|disabled|not found)"
    r"|\btoken (is |has |has been |was )?(expired|revoked)|\bsecurity token\b|\bjwt\b|\bsignature\b"
    r"|\b(incorrect|expired|revoked|disabled|missing|wrong) key\b|\binvalid key provided"
    r"|\binvalid token\b(?! ?(count|id|limit|type))"
    r"|\b(un)?authori[sz](ed|ation)\b|authenticat|credential|\bpermissions?\b|access denied"
    r"|n[o']t have access|\bip (address )?.{0,20}(allow|block|ban|white ?list)"
    r"|\bquotas?\b|usage (limit|cap)|\brate limit|too many requests"
    r"|\b(requests?|tokens?) per (second|minute|hour|day)|\b(hourly|daily|weekly|monthly) limit"
    r"|\b(request|spend|spending|account|plan|concurren\w+) (limit|cap)\b|exceeded your|hard limit"
    r"|reached your|(?<!context )(?<!token )limit (has been |was )?reached"
    r"|\bbilling\b|\bpayments?\b|\bcredits?\b|\bprepaid\b|\binvoice|overdue|in arrears|top up"
    r"|(?<!thinking )(?<!reasoning )(?<!token )\bbudget(?! ?tokens)|insufficient (fund|balance)"
    r"|(not enough|add|out of) (balance|funds?)\b|recharge|deposit|upgrade your"
    r"|\bbalance (is )?(too low|insufficient|not enough|exhausted|negative)|account balance"
    r"|\b(your|this|the) (account|project|workspace|subscription|plan|license)\b|organi[sz]ation"
    r"|free tier|\btrial\b|\b(suspended|deactivated|banned)\b"
    r"|密钥|令牌|余额|欠费|配额|额度|账户|账号"
)
_SECRET: Final = re.compile(r"\b(sk|gsk|pk|xai|key|nvapi|hf|r8)[-_][\w*.-]{6,}|\bAIza\w{8,}")
_QUOTED: Final = re.compile(r"'([^']{1,200})'|\"([^\"]{1,200})\"|`([^`]{1,200})`")


def is_about_account(text: str, request_body: bytes = b"") -> bool:
    """Return whether an error is about the gateway's key, budget or quota at the provider."""
    if _SECRET.search(text):
        return True
    if request_body:
        text = _QUOTED.sub(
            lambda quoted: "" if quoted[0][1:-1].encode() in request_body else quoted[0], text
        )
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])|[_-]", " ", text)  # codes in snake_case and CamelCase
    return _ACCOUNT.search(spaced.lower()) is not None


_NAME: Final = r"(?<![\w.])[`'\"]?(?P<name>[a-z_][\w.]*)[`'\"]?"
_FIELD: Final = "(parameter|argument|property|field|option|name|key)"
_NOT: Final = r"((currently |yet )?not (yet |currently )?"
_NOT_SUPPORTED: Final = (
    rf"{_NOT}(supported|permitted|allowed|available|implemented|recognized)"
    rf"|not an? (valid|known|recognized|supported|allowed|permitted) {_FIELD}"
    r"|unsupported|unavailable|unknown)"
)
_UNKNOWN: Final = "(unsupported|unknown|unrecognized|unexpected)"
_WHERE: Final = "( supplied| provided| in (the )?(object|request|body|payload))"
_PARAMETER_SHAPES: Final = tuple(re.compile(shape, re.IGNORECASE) for shape in (
    # OpenAI: Unsupported parameter: 'seed' is not …; Unrecognized request argument supplied: seed
    # zod: Unrecognized key(s) in object: 'seed'
    rf"{_UNKNOWN} (request )?(keyword )?{_FIELD}s?(\(s\))?{_WHERE}?\W*?{_NAME}",
    # pydantic: extra fields not permitted: seed
    rf"extra (fields|inputs) (are )?not permitted\W+(field\W+)?{_NAME}",
    # Anthropic: seed: Extra inputs are not permitted
    rf"{_NAME}: extra (fields|inputs) (are )?not permitted",
    # JSON Schema: Additional properties are not allowed ('seed' was unexpected)
    rf"{_NAME} was unexpected",
    # The following parameters are not supported: seed
    rf"{_FIELD}s? (is |are )?{_NOT_SUPPORTED}[^:\n]{{0,40}}:\s*{_NAME}",
    # Groq: property 'seed' is unsupported
    rf"{_NAME}( ?: ?| )({_FIELD} )?((is|are) )?{_NOT_SUPPORTED}",
    # does not support parameters: seed
    rf"do(es)?( not|n't) (currently )?support (the )?({_FIELD}s?)?(\(s\))?\W*?{_NAME}",
))  # fmt: skip
_PARAMETER_KINDS: Final = re.compile(
    r"(unsupported|unknown|unrecognized|unexpected)_(parameter|keyword|argument|field)"
    r"|extra_forbidden|value_error\.extra|extra (fields|inputs)|unrecognized request argument"
)
_LACKS: Final = re.compile(
    r"not support|n't support|unsupported|not enabled|not available|unavailable|not allowed"
    r"|not accept|only supported|requires --enable|no endpoints found that support|at most 0"
    r"|unknown variant|not a multimodal|text[- ]only|invalid value|cannot be|not a valid"
)
_LIST: Final = re.compile(r"must be|supported values|expected|only (?!supported)|one of|allowed:")
_CHOICE: Final = re.compile(r"tool[ _]choice")
_WORDS: Final = re.compile(r"\b(none|auto|required|function|any)\b")
_TOOLS: Final = re.compile(r"\btools?\b( use| calls?| calling)?|function[ _-]?call")
_MODALITIES: Final = {
    "image": re.compile(r"image|vision|multi-?modal"),
    "audio": re.compile(r"audio"),
    "video": re.compile(r"video"),
    "file": re.compile(r"\bfiles?\b|input_file|document|pdf"),
}
_ONE_VALUE: Final = re.compile(
    r"format|mime|(image|media|audio|video|file) type|\bsize|resolution|dimension|download|decod"
    r"|too (large|big|many|long)|\burl\b|corrupt"
)


def unsupported_capability(fields: ErrorFields, request: ChatRequest) -> str:
    """Return what a refusal says that the endpoint lacks, as `Outcome.unsupported`, or nothing."""
    text = "\n".join(fields.messages)[:_MAX_MESSAGE]
    lower = text.lower()
    question = request.question
    if question.tools and _CHOICE.search(lower):
        choice = question.tool_choice or "auto"
        return f"tool_choice.{choice}" if _rejects_choice(lower, choice) else ""
    for name in _named_parameters(fields, text):
        known = catalog_name(name, request.fields)
        if known in question.parameters:
            # An endpoint that asks for the other spelling supports the parameter.
            return "" if OTHER_SPELLING.get(name, "\n") in text else _path(known)
    if not _LACKS.search(lower):
        return ""
    for kind, pattern in _MODALITIES.items():
        if kind in question.input_modalities and pattern.search(lower):
            return "" if _ONE_VALUE.search(lower) else f"input_modalities.{kind}"
    if "structured_outputs" in question.parameters and re.search(
        r"json_?schema|structured[ _]outputs?|response[ _]format", lower
    ):
        return _path("structured_outputs")
    return "parameters.tools" if question.tools and _TOOLS.search(lower) else ""


def _path(name: str) -> str:
    return name if name == "structured_outputs" else f"parameters.{name}"


def _named_parameters(fields: ErrorFields, text: str) -> Iterator[str]:
    """Yield the names of fields of the request that an error names as unsupported."""
    lower = fields.text.lower()
    if _PARAMETER_KINDS.search(lower) and "unsupported value" not in lower:
        yield from (path.removeprefix("body.") for path in fields.parameters)
    for shape in _PARAMETER_SHAPES:
        yield from (found["name"].rstrip(".") for found in shape.finditer(text))


def _rejects_choice(text: str, choice: str) -> bool:
    """Return whether a message about `tool_choice` rejects this one.

    Either it lists what is possible, and this choice is not in the list, or it names what is not
    supported: this choice, or none in particular.
    """
    if listed := _LIST.search(text):
        possible = set(_WORDS.findall(text[listed.end() :]))
        return bool(possible) and choice not in possible
    named = set(_WORDS.findall(text))
    return bool(_LACKS.search(text)) and (not named or choice in named)
