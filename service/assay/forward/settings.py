"""Providers and how to reach them, as the operator's file says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NoReturn

from yarl import URL

from assay.forward.addresses import literal_refused
from assay.forward.files import Document


class Secret:
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
class Provider:
    """One provider; `models` holds its own names of models, by endpoint id or by model."""

    slug: str
    name: str
    url: URL
    private: bool = False
    key: Secret | None = None
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
class Providers:
    """Every provider that requests may be sent to, by slug; `deadline` and `keep_alive` in seconds."""

    by_slug: Mapping[str, Provider]
    deadline: float = 600.0
    keep_alive: float = 10.0


def read_providers(file: Path, environment: Mapping[str, str]) -> Providers:
    """The providers of a file with their keys from the environment; raises BadFile telling every fault."""
    document = Document(file, "providers")
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
        by_slug[slug] = Provider(
            slug, entry.get("name", slug), url, entry.get("private", False), key, entry.get("keyHeader"),
            entry.get("models", {}), timeouts({**spec.get("timeouts", {}), **entry.get("timeouts", {})}),
        )  # fmt: skip
    document.refuse(faults)
    named = {
        name: seconds(spec[key])
        for key, name in (("deadline", "deadline"), ("keepAlive", "keep_alive"))
        if key in spec
    }
    return Providers(by_slug, **named)


def url_faults(url: URL, *, private: bool) -> Iterator[str]:
    """Why a provider may not be reached there."""
    if url.scheme != "https" and not private:
        yield "is not https, and the provider is not private"
    if literal_refused(url.host or "", private=private):
        yield "is an address that is not to be connected to; loopback and private ones need `private: true`"


def secret(variable: str | None, environment: Mapping[str, str]) -> Secret | None:
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
    return Secret(value) if value and value.isascii() and value.isprintable() else None


def timeouts(spec: Mapping[str, Any]) -> Timeouts:
    """Timeouts by their names in the file."""
    return Timeouts(**{FIELDS.get(name, name): seconds(text) for name, text in spec.items()})


def seconds(text: str) -> float:
    """A duration such as `500ms`, `2s`, `5m`."""
    number = text.rstrip("ms")
    return float(number) * UNITS[text[len(number) :]]
