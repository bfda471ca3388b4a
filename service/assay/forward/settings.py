"""Providers and how to reach them, as the operator's file says."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from importlib import resources
from pathlib import Path
from typing import Any, Final, NoReturn

import jsonschema_rs
import yaml
from yarl import URL

from assay.engine.errors import BadData
from assay.forward.addresses import literal_refused
from assay.forward.errors import ErrorReply

Path_ = Sequence[str | int]


class BadSettingsFile(BadData):
    """A file that cannot be used; one line a fault. No value is shown: any could be a key in the wrong place."""

    def __init__(self, file: Path, faults: Sequence[tuple[int, int, str]]) -> None:
        super().__init__(
            "\n".join(f"{file}:{line}:{column}: {what}" for line, column, what in faults)
        )


class SettingsFile:
    """A file read and found to have the form of its kind."""

    def __init__(self, file: Path, kind: str) -> None:
        self.file = file
        try:
            text = file.read_text(encoding="utf-8")
            self._root = yaml.compose(text, Loader=yaml.SafeLoader)
            repeated = [
                (*place(key), f"{key.value}: stands here twice") for key in repeats(self._root)
            ]
            self._refuse_if(repeated)
            self.content: Any = yaml.safe_load(text)
        except OSError as error:
            raise BadSettingsFile(file, [(1, 1, f"cannot be read: {error.strerror}")]) from None
        except UnicodeDecodeError:
            raise BadSettingsFile(file, [(1, 1, "is not UTF-8 text")]) from None
        except (yaml.MarkedYAMLError, RecursionError) as error:
            mark = getattr(error, "problem_mark", None)
            at = (mark.line + 1, mark.column + 1) if mark else (1, 1)
            raise BadSettingsFile(file, [(*at, "is not YAML")]) from None
        schema = json.loads(
            resources.files(__package__)
            .joinpath("schema", f"{kind}.schema.json")
            .read_text("utf-8")
        )
        violations = jsonschema_rs.Draft202012Validator(schema).iter_errors(self.content)
        self._refuse_if([(*self.place(v.instance_path), worded(v)) for v in violations])

    def place(self, path: Path_) -> tuple[int, int]:
        """Line and column of a value."""
        node = self._root
        for step in path:
            if isinstance(node, yaml.MappingNode):
                node = next((value for key, value in node.value if key.value == step), node)
            elif isinstance(node, yaml.SequenceNode) and isinstance(step, int):
                node = node.value[step]
        return place(node)

    def refuse(self, faults: Sequence[tuple[Path_, str]]) -> None:
        """Raise BadFile for faults found in the content, if any."""
        self._refuse_if([(*self.place(path), f"{dotted(path)}: {what}") for path, what in faults])

    def _refuse_if(self, faults: Sequence[tuple[int, int, str]]) -> None:
        if faults:
            raise BadSettingsFile(self.file, faults)


def place(node: yaml.Node | None) -> tuple[int, int]:
    """Line and column, from 1."""
    return (node.start_mark.line + 1, node.start_mark.column + 1) if node else (1, 1)


def repeats(node: yaml.Node | None) -> Iterator[yaml.Node]:
    """Keys that occurred before in the same mapping."""
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if str(key.value) in seen:
                yield key
            seen.add(str(key.value))
            yield from repeats(value)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            yield from repeats(item)


def worded(violation: jsonschema_rs.ValidationError) -> str:
    """What a violation means, in words that hold nothing of the file but names."""
    facts = violation.kind.as_dict()
    match violation.kind.name:
        case "required":
            what = f"{facts['property']} is missing"
        case "additionalProperties":
            what = f"{', '.join(facts['unexpected'])} is not known here"
        case "type":
            what = f"is not of type {' or '.join(facts['types'])}"
        case "const":
            what = f"is not {facts['expected_value']}"
        case word:
            what = f"is not as the schema asks ({word}: {facts.get(word, facts.get('limit', 'see there'))})"
    return f"{dotted(violation.instance_path)}: {what}"


def dotted(path: Path_) -> str:
    """A path for people."""
    return ".".join(map(str, path)) or "the file"


class ProviderKey:
    """A key: shown nowhere, told only to whom it is for."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def __repr__(self) -> str:
        return "Secret(…)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not written down")

    def told(self) -> str:
        """The key itself, for the one header it belongs into."""
        return self._value

    def blotted(self, text: str) -> str:
        """A text of the provider's in which the key does not occur."""
        return text.replace(self._value, "…")


UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0}
MAX_TOLD: Final = 2000
FIELDS: Final = {"firstToken": "first_token"}


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds that an attempt may take to each of its points."""

    connect: float = 2.0
    headers: float = 30.0
    first_token: float = 30.0
    idle: float = 30.0
    answer: float = 300.0


@dataclass(frozen=True, slots=True)
class ProviderConnection:
    """One provider; `models` holds its own names of models, by endpoint id or by model."""

    slug: str
    name: str
    url: URL
    private: bool = False
    key: ProviderKey | None = None
    key_header: str | None = None
    models: Mapping[str, str] = field(default_factory=dict)
    timeouts: Timeouts = field(default_factory=Timeouts)

    def model_of(self, endpoint_id: str, model: str) -> str:
        """What the provider calls the model of an endpoint."""
        return self.models.get(endpoint_id) or self.models.get(model, model)

    def without_key(self, text: str) -> str:
        """What the provider said, as far as others may read it."""
        return (self.key.blotted(text) if self.key else text)[:MAX_TOLD]

    def headers(self) -> dict[str, str]:
        """The header that opens the provider's door."""
        if self.key is None:
            return {}
        told = self.key.told()
        return {self.key_header: told} if self.key_header else {"Authorization": f"Bearer {told}"}


@dataclass(frozen=True, slots=True)
class ProviderConnections:
    """Every provider that requests may be sent to, by slug; `deadline` and `keep_alive` in seconds."""

    by_slug: Mapping[str, ProviderConnection]
    deadline: float = 600.0
    keep_alive: float = 10.0


def read_providers(file: Path, environment: Mapping[str, str]) -> ProviderConnections:
    """The providers of a file with their keys from the environment; raises BadFile telling every fault."""
    document = SettingsFile(file, "providers")
    spec = document.content["spec"]
    faults: list[tuple[tuple[str, ...], str]] = []
    by_slug = {}
    for slug, entry in spec["providers"].items():
        at = ("spec", "providers", slug)
        url, key = (
            URL(entry["baseUrl"].rstrip("/") + "/chat/completions"),
            secret(entry.get("keyEnv"), environment),
        )
        faults += [
            ((*at, "baseUrl"), fault)
            for fault in url_faults(url, private=entry.get("private", False))
        ]
        if "keyEnv" in entry and key is None:
            faults.append(
                (
                    (*at, "keyEnv"),
                    "neither this variable nor the one with _FILE appended holds a key",
                )
            )
        by_slug[slug] = ProviderConnection(
            slug, entry.get("name", slug), url, entry.get("private", False), key, entry.get("keyHeader"),
            entry.get("models", {}), timeouts({**spec.get("timeouts", {}), **entry.get("timeouts", {})}),
        )  # fmt: skip
    document.refuse(faults)
    named = {
        name: seconds(spec[key])
        for key, name in (("deadline", "deadline"), ("keepAlive", "keep_alive"))
        if key in spec
    }
    return ProviderConnections(by_slug, **named)


def url_faults(url: URL, *, private: bool) -> Iterator[str]:
    """Why a provider may not be reached there."""
    if url.scheme != "https" and not private:
        yield "is not https, and the provider is not private"
    if literal_refused(url.host or "", private=private):
        yield "is an address that is not to be connected to; loopback and private ones need `private: true`"


def secret(variable: str | None, environment: Mapping[str, str]) -> ProviderKey | None:
    """The key that a variable holds, or the file that it names with `_FILE`."""
    if variable is None:
        return None
    value = environment.get(variable, "")
    if not value and (named := environment.get(f"{variable}_FILE")):
        try:
            value = Path(named).read_text(encoding="utf-8").partition("\n")[0]
        except (OSError, UnicodeDecodeError):
            return None
    value = value.strip()
    return ProviderKey(value) if value and value.isascii() and value.isprintable() else None


def timeouts(spec: Mapping[str, Any]) -> Timeouts:
    """Timeouts by their names in the file."""
    return Timeouts(**{FIELDS.get(name, name): seconds(text) for name, text in spec.items()})


def seconds(text: str) -> float:
    """A duration such as `500ms`, `2s`, `5m`."""
    number = text.rstrip("ms")
    return float(number) * UNITS[text[len(number) :]]


BEARER = b"bearer "


@dataclass(frozen=True, slots=True)
class Clients:
    """Tenants by the SHA-256 of their keys; without a file everybody may ask, as nobody in particular."""

    tenants: Mapping[bytes, str] | None = None

    def require(self, authorization: bytes) -> str:
        """The tenant behind an Authorization header; raises Refused where its key is not known."""
        if self.tenants is None:
            return ""
        key = (
            authorization[len(BEARER) :] if authorization[: len(BEARER)].lower() == BEARER else b""
        )
        tenant = self.tenants.get(sha256(key.strip()).digest())
        if tenant is None:
            raise ErrorReply(
                401, "a known key is needed: Authorization: Bearer KEY", "authentication"
            )
        return tenant


def read_clients(file: Path) -> Clients:
    """The clients of a file; raises BadFile telling every fault."""
    document = SettingsFile(file, "clients")
    entries = document.content["spec"]
    hashes = [entry["sha256"] for entry in entries]
    again = [index for index, digest in enumerate(hashes) if digest in hashes[:index]]
    document.refuse(
        [(("spec", index, "sha256"), "this key stands further up already") for index in again]
    )
    return Clients({bytes.fromhex(entry["sha256"]): entry["tenant"] for entry in entries})
