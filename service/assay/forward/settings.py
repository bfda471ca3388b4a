"""The operator's files: providers.yaml and clients.yaml, each checked by a JSON Schema.

Every fault is reported with its line and column, and without the value: it could be a key that was
put in the wrong place.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from importlib import resources
from pathlib import Path
from typing import Any, Final, NoReturn

import jsonschema_rs
import re2
import yaml
from yarl import URL

from assay.engine.errors import BadData
from assay.forward.addresses import is_forbidden_literal
from assay.forward.errors import ErrorReply
from assay.forward.taxonomy import TABLE, AttemptError, FailureKind

ValuePath = Sequence[str | int]
_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0}
_FIELDS: Final = {"firstToken": "first_token", "keepAlive": "keep_alive"}
_MAX_MESSAGE: Final = 2000  # characters of a provider's message that callers may see
_BEARER: Final = b"bearer "
_ROWS: Final = {row.name: row for row in TABLE}


class BadSettingsFile(BadData):
    """A file that cannot be used; the message has one line per fault."""

    def __init__(self, file: Path, faults: Sequence[tuple[int, int, str]]) -> None:
        lines = (f"{file}:{line}:{column}: {what}" for line, column, what in faults)
        super().__init__("\n".join(lines))


class ProviderKey:
    """A provider's key, which does not show in logs, errors or pickles."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def __repr__(self) -> str:
        return "ProviderKey(…)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a provider's key cannot be serialized")

    def reveal(self) -> str:
        """Return the key itself, for the one header that holds it."""
        return self._value

    def redact(self, text: str) -> str:
        """Return a text of the provider without the key."""
        return text.replace(self._value, "…")


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Limits of one attempt, in seconds; schema/providers.schema.json says from when to when."""

    connect: float = 2.0
    headers: float = 30.0
    first_token: float = 30.0
    idle: float = 30.0
    answer: float = 300.0


@dataclass(frozen=True, slots=True)
class FailureOverride:
    """The row of errors with this status whose type, code or message has this pattern."""

    kind: FailureKind
    status: int | None = None
    pattern: Any = None  # a compiled re2 pattern: linear in the length of what a provider sends

    def matches(self, error: AttemptError) -> bool:
        """Return whether both conditions hold; a missing one does."""
        if self.status not in (None, error.status):
            return False
        return self.pattern is None or self.pattern.search(error.fields.text) is not None


@dataclass(frozen=True, slots=True)
class ProviderConnection:
    """How to reach a provider; `models` has its own model names, by endpoint id or by model."""

    slug: str
    name: str
    url: URL
    private: bool = False
    key: ProviderKey | None = None
    key_header: str | None = None
    models: Mapping[str, str] = field(default_factory=dict)
    timeouts: Timeouts = field(default_factory=Timeouts)
    failures: Sequence[FailureOverride] = ()

    def classify(self, error: AttemptError) -> AttemptError:
        """Return an error of this provider in the row that the first matching override names."""
        if error.status:
            matching = (each.kind for each in self.failures if each.matches(error))
            error.kind = next(matching, error.kind)
        error.message = self.redact(error.message)
        return error

    def model_of(self, endpoint_id: str, model: str) -> str:
        """Return the provider's name for the model of an endpoint."""
        return self.models.get(endpoint_id) or self.models.get(model, model)

    def redact(self, text: str) -> str:
        """Return a message of the provider for callers: without the key, and shortened."""
        return (self.key.redact(text) if self.key else text)[:_MAX_MESSAGE]

    def headers(self) -> dict[str, str]:
        """Return the header that authenticates us to the provider."""
        if self.key is None:
            return {}
        key = self.key.reveal()
        return {self.key_header: key} if self.key_header else {"Authorization": f"Bearer {key}"}


@dataclass(frozen=True, slots=True)
class ProviderConnections:
    """Every provider that may get requests, by slug; `deadline` and `keep_alive` in seconds."""

    by_slug: Mapping[str, ProviderConnection]
    deadline: float = 600.0
    keep_alive: float = 10.0


@dataclass(frozen=True, slots=True)
class Clients:
    """Tenants by the SHA-256 of their keys; `None` accepts every caller, without a tenant."""

    tenants: Mapping[bytes, str] | None = None

    def tenant_of(self, authorization: bytes) -> str:
        """Return the tenant of an Authorization header; raise ErrorReply if its key is unknown."""
        if self.tenants is None:
            return ""
        is_bearer = authorization[: len(_BEARER)].lower() == _BEARER
        key = authorization[len(_BEARER) :].strip() if is_bearer else b""
        tenant = self.tenants.get(sha256(key).digest())
        if tenant is None:
            message = "missing or unknown key; send it as Authorization: Bearer KEY"
            challenge = (b"www-authenticate", b'Bearer realm="assay"')
            raise ErrorReply(401, message, "authentication", headers=(challenge,))
        return tenant


def read_clients(file: Path) -> Clients:
    """Read clients.yaml; raise BadSettingsFile with every fault."""
    document = _SettingsFile(file, "clients")
    entries = document.content["spec"]
    hashes = [entry["sha256"] for entry in entries]
    repeated = [index for index, digest in enumerate(hashes) if digest in hashes[:index]]
    document.reject([(("spec", index, "sha256"), "this key is listed above") for index in repeated])
    return Clients({bytes.fromhex(entry["sha256"]): entry["tenant"] for entry in entries})


def read_providers(file: Path, environment: Mapping[str, str]) -> ProviderConnections:
    """Read providers.yaml and the keys; raise BadSettingsFile with every fault."""
    document = _SettingsFile(file, "providers")
    spec = document.content["spec"]
    faults: list[tuple[ValuePath, str]] = []
    by_slug = {}
    for slug, entry in spec["providers"].items():
        path = ("spec", "providers", slug)
        url = URL(entry["baseUrl"].rstrip("/") + "/chat/completions")
        private = entry.get("private", False)
        key = _read_key(entry.get("keyEnv"), environment)
        if url.scheme != "https" and not private:
            faults.append(((*path, "baseUrl"), "must be https unless the provider is private"))
        if is_forbidden_literal(url.host or "", private=private):
            fault = "address is not allowed; loopback and private addresses need `private: true`"
            faults.append(((*path, "baseUrl"), fault))
        if "keyEnv" in entry and key is None:
            fault = "neither this variable nor the one with _FILE appended holds a key"
            faults.append(((*path, "keyEnv"), fault))
        overrides = _read_overrides(entry.get("failures", []), (*path, "failures"), faults)
        durations = {**spec.get("timeouts", {}), **entry.get("timeouts", {})}
        by_slug[slug] = ProviderConnection(
            slug, entry.get("name", slug), url, private, key, entry.get("keyHeader"),
            entry.get("models", {}),
            Timeouts(**_seconds_of(durations)), overrides,
        )  # fmt: skip
    document.reject(faults)
    limits = {name: spec[name] for name in ("deadline", "keepAlive") if name in spec}
    return ProviderConnections(by_slug, **_seconds_of(limits))


def _read_key(variable: str | None, environment: Mapping[str, str]) -> ProviderKey | None:
    """Return the key in a variable, or in the file that the variable with `_FILE` names."""
    if variable is None:
        return None
    value = environment.get(variable, "")
    if not value and (path := environment.get(f"{variable}_FILE")):
        try:
            value = Path(path).read_text(encoding="utf-8").partition("\n")[0]
        except (OSError, UnicodeDecodeError):
            return None
    value = value.strip()
    return ProviderKey(value) if value and value.isascii() and value.isprintable() else None


def _read_overrides(
    entries: Sequence[Mapping[str, Any]], path: ValuePath, faults: list[tuple[ValuePath, str]]
) -> list[FailureOverride]:
    """Return the overrides of a provider; add the faults of their patterns to `faults`."""
    options = re2.Options()
    options.case_sensitive = False
    options.log_errors = False
    overrides = []
    for index, entry in enumerate(entries):
        pattern = None
        try:
            pattern = re2.compile(entry["pattern"], options) if "pattern" in entry else None
        except re2.error:
            faults.append(((*path, index, "pattern"), "is not a valid RE2 pattern"))
        overrides.append(FailureOverride(_ROWS[entry["row"]], entry.get("status"), pattern))
    return overrides


def _seconds_of(durations: Mapping[str, str]) -> dict[str, float]:
    """Return durations such as `500ms`, `2s` or `5m` in seconds, by our names of the fields."""
    found = {}
    for name, text in durations.items():
        number = text.rstrip("ms")
        found[_FIELDS.get(name, name)] = float(number) * _UNITS[text[len(number) :]]
    return found


class _SettingsFile:
    """A YAML file that matches the schema of its kind."""

    def __init__(self, file: Path, kind: str) -> None:
        self._file = file
        try:
            text = file.read_text(encoding="utf-8")
            self._root = yaml.compose(text, Loader=yaml.SafeLoader)
            repeated = _repeated_keys(self._root)
            self._raise_for([(*_position(key), f"{key.value}: duplicate key") for key in repeated])
            self.content: Any = yaml.safe_load(text)
        except OSError as error:
            raise BadSettingsFile(file, [(1, 1, f"cannot be read: {error.strerror}")]) from None
        except UnicodeDecodeError:
            raise BadSettingsFile(file, [(1, 1, "not UTF-8 text")]) from None
        except (yaml.MarkedYAMLError, RecursionError) as error:
            mark = getattr(error, "problem_mark", None)
            position = (mark.line + 1, mark.column + 1) if mark else (1, 1)
            raise BadSettingsFile(file, [(*position, "not valid YAML")]) from None
        schemas = resources.files(__package__).joinpath("schema")
        schema = json.loads(schemas.joinpath(f"{kind}.schema.json").read_text("utf-8"))
        violations = jsonschema_rs.Draft202012Validator(schema).iter_errors(self.content)
        self.reject([(each.instance_path, _describe(each)) for each in violations])

    def reject(self, faults: Sequence[tuple[ValuePath, str]]) -> None:
        """Raise BadSettingsFile for faults found in the content, if any."""
        self._raise_for([
            (*_position(self._node_at(path)), f"{'.'.join(map(str, path)) or 'the file'}: {what}")
            for path, what in faults
        ])  # fmt: skip

    def _raise_for(self, faults: Sequence[tuple[int, int, str]]) -> None:
        if faults:
            raise BadSettingsFile(self._file, faults)

    def _node_at(self, path: ValuePath) -> yaml.Node | None:
        node = self._root
        for step in path:
            if isinstance(node, yaml.MappingNode):
                node = next((value for key, value in node.value if key.value == step), node)
            elif isinstance(node, yaml.SequenceNode) and isinstance(step, int):
                node = node.value[step]
        return node


def _position(node: yaml.Node | None) -> tuple[int, int]:
    """Return line and column, from 1."""
    return (node.start_mark.line + 1, node.start_mark.column + 1) if node else (1, 1)


def _repeated_keys(node: yaml.Node | None) -> Iterator[yaml.Node]:
    """Yield keys that occurred before in the same mapping."""
    if isinstance(node, yaml.MappingNode):
        names: set[str] = set()
        for key, value in node.value:
            if str(key.value) in names:
                yield key
            names.add(str(key.value))
            yield from _repeated_keys(value)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            yield from _repeated_keys(item)


def _describe(violation: jsonschema_rs.ValidationError) -> str:
    """Describe a schema violation without any value of the file."""
    details = violation.kind.as_dict()
    match violation.kind.name:
        case "required":
            return f"{details['property']} is missing"
        case "additionalProperties":
            return f"unknown field {', '.join(details['unexpected'])}"
        case "type":
            return f"expected {' or '.join(details['types'])}"
        case "const" | "enum":
            words = details.get("options") or [details["expected_value"]]
            return f"expected {'one of ' if len(words) > 1 else ''}{', '.join(words)}"
        case "anyOf":
            return "expected one of the fields status, pattern"
        case keyword:
            rule = details.get(keyword, details.get("limit", "see the schema"))
            return f"does not match the schema ({keyword}: {rule})"
