"""Errors by who must act: the caller, the policy author or the operator.

An endpoint that rules exclude is a value, not an error; errors are raised where work cannot go on.
Every class has a row in `assay.rpc.status`; a test fails if one is missing.
"""

from __future__ import annotations


class AssayError(Exception):
    """Anything Assay raises on purpose; the message names field and value."""


class CallerError(AssayError):
    """The request cannot be answered; the caller has to change it."""


class InvalidField(CallerError):
    """A field of the request holds a value outside its range."""

    def __init__(self, field: str, value: object, expected: str) -> None:
        super().__init__(f"{field}: {quoted(value)} is not {expected}")
        self.field = field
        self.value = value


class UnknownModel(CallerError):
    """No model of that name is in the catalog."""

    def __init__(self, model: str) -> None:
        super().__init__(f"model: {quoted(model)} is not in the catalog")
        self.model = model


class UnknownEndpoint(CallerError):
    """No endpoint with that id is in the catalog."""

    def __init__(self, endpoint_id: str) -> None:
        super().__init__(f"endpoint_id: {quoted(endpoint_id)} is not in the catalog")


class UnknownVariant(CallerError):
    """The suffix after `:` selects no binding and belongs to no catalog model."""

    def __init__(self, slug: str, variant: str, known: tuple[str, ...]) -> None:
        unknown = f"model: {quoted(slug)} has the unknown variant {quoted(variant)}"
        super().__init__(f"{unknown}, known are {', '.join(known)}")
        self.slug = slug
        self.variant = variant
        self.known = known


class PolicyBehind(CallerError):
    """The caller asked for a newer policy revision than the active one."""

    def __init__(self, wanted: int, current: int) -> None:
        super().__init__(
            f"min_policy_revision: {wanted} is newer than the active revision, {current}"
        )
        self.wanted = wanted
        self.current = current


class TooManyStreams(CallerError):
    """The server has as many open streams as it accepts."""

    def __init__(self, most: int) -> None:
        super().__init__(f"{most} streams are open, the most that this server accepts")
        self.most = most


class AuthorError(AssayError):
    """Rule files that cannot be activated."""


class OperatorError(AssayError):
    """The operator has to repair something: settings, database, files."""


class SnapshotUnavailable(OperatorError):
    """Nothing has been judged yet, so nothing can be decided."""

    def __init__(self, why: str) -> None:
        super().__init__(f"no snapshot to decide from: {why}")


class DecisionNotLogged(OperatorError):
    """The journal accepts no records, so that no decision may be answered."""

    def __init__(self, why: str) -> None:
        super().__init__(f"the decision cannot be logged, so it is not answered: {why}")


class EvidenceNotKept(OperatorError):
    """The journal accepts no records; the whole batch may be sent again."""

    def __init__(self, why: str) -> None:
        super().__init__(f"the outcomes cannot be kept, send them again later: {why}")


class StoreUnavailable(OperatorError):
    """The database cannot be reached or is not at the expected migration."""


class BadData(OperatorError):
    """A file to import is not what it claims to be; none of it was stored."""


def quoted(value: object, limit: int = 80) -> str:
    """Return a value from outside for a message: printable, on one line, cut at `limit`."""
    text = value if isinstance(value, str) else str(value)
    if len(text) <= limit:
        return ascii(text) if isinstance(value, str) else text
    return f"{text[:limit]!a}… ({len(text)} characters)"
