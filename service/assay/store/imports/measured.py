"""Which endpoint a benchmark run measured: the one the operator names, or the one its pins leave; never a guess."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

from sqlalchemy import Connection

from assay.engine.catalog import Endpoint, Provider
from assay.engine.document import Refusal, Subject
from assay.engine.errors import InvalidField, quoted
from assay.engine.slug import CATALOG_VARIANTS, means
from assay.store.listings import ENDPOINTS, PROVIDERS, holding, listings

NAME_IT = "name the endpoint with --endpoint"
SPELL_IT = "write its slug, or the endpoint's tag in the column tag"


class Measured:
    """All endpoints there ever were, by what files of others call them; `named` is the operator's word for all."""

    def __init__(self, endpoints: Iterable[Endpoint], providers: Iterable[Provider], named: str | None) -> None:
        known = {each.endpoint_id: each for each in endpoints}
        if named is not None and named not in known:
            raise InvalidField("--endpoint", named, "the id of an endpoint that a catalog has listed")
        self.named = None if named is None else known[named]
        self._by_model: dict[str, list[Endpoint]] = defaultdict(list)
        for each in known.values():
            self._by_model[each.model].append(each)
        self._slugs = slugs(providers)

    def meant_by(self, subject: Subject) -> str | Refusal:
        """Return the id of the endpoint meant, or why it is not known which that is."""
        if self.named is not None:
            fault = self._contradiction(subject, self.named)
            return self.named.endpoint_id if fault is None else Refusal(subject.where, fault)
        return self._pinned(subject)

    def _contradiction(self, subject: Subject, named: Endpoint) -> str | None:
        """Say where the file denies what the operator says."""
        if subject.model is not None and not is_of(named.model, subject.model):
            return f"the model is {quoted(subject.model)}, --endpoint is one of {named.model}"
        pinned = not subject.pins or any(self._means(pin, named) for pin in subject.pins)
        if not pinned or not self._is_by(subject, named):
            stated = subject.pins if subject.provider is None else (subject.provider, *subject.pins)
            said = ", ".join(map(quoted, dict.fromkeys(stated)))
            return f"the provider is {said}, --endpoint is {named.endpoint_id}"
        return None

    def _pinned(self, subject: Subject) -> str | Refusal:
        """Find the one endpoint that the pins leave."""
        if len(subject.pins) != 1:
            to = "several providers" if subject.pins else "no provider"
            return Refusal(subject.where, f"the run is pinned to {to}, so it measured whoever answered: {NAME_IT}")
        if subject.model is None:
            return Refusal(subject.where, f"no model of a catalog is named: {NAME_IT}")
        models = [name for name in self._by_model if is_of(name, subject.model)]
        if len(models) != 1:
            several = f"may be {', '.join(sorted(models))}" if models else "is in no catalog"
            return Refusal(subject.where, f"model {quoted(subject.model)} {several}")
        (pin,) = subject.pins
        found = [e for e in self._by_model[models[0]] if self._means(pin, e) and self._is_by(subject, e)]
        if len(found) == 1:
            return found[0].endpoint_id
        ids = ", ".join(sorted(e.endpoint_id for e in found))
        what = f"provider {quoted(pin)} means any of {ids}" if ids else f"{models[0]} has no provider {quoted(pin)}"
        return Refusal(subject.where, f"{what}: {NAME_IT if subject.provider is None else SPELL_IT}")

    def _means(self, pin: str, endpoint: Endpoint) -> bool:
        """Whether a slug, a name that a catalog gives, or a tag means the endpoint."""
        name = self._slugs.get(pin.casefold(), pin)
        return means(name, endpoint.provider, endpoint.tag, endpoint.service_tier)

    def _is_by(self, subject: Subject, endpoint: Endpoint) -> bool:
        said = subject.provider
        return said is None or self._slugs.get(said.casefold(), said) == endpoint.provider


def is_of(model: str, said: str) -> bool:
    """Whether a file's word for a model means one of the catalog: its id, without author or routing variant."""
    if "/" not in said:
        return model.partition("/")[2] == said
    base, *variants = said.split(":")
    return model == ":".join((base, *(each for each in variants if each in CATALOG_VARIANTS)))


def slugs(providers: Iterable[Provider]) -> Mapping[str, str]:
    """Map slugs and names, in small letters, to slugs; a name that two providers share means neither."""
    found: dict[str, set[str]] = defaultdict(set)
    for each in providers:
        for name in {each.slug, each.name or each.slug}:
            found[name.casefold()].add(each.slug)
    return {name: next(iter(of)) for name, of in found.items() if len(of) == 1}


def known_endpoints(connection: Connection, named: str | None) -> Measured:
    """Read what there is to be meant, gone or not; raises InvalidField where `named` is no endpoint."""
    endpoints = (holding(said).value for said in listings(connection, ENDPOINTS).values())
    providers = (each.value for said in listings(connection, PROVIDERS).values() for each in said)
    return Measured(endpoints, providers, named)
