"""Errors by whose fault they are: the caller's, the policy author's or the operator's.

A refusal is a value, not an error; these are raised where work cannot go on. Every class has a row in
`assay.rpc.status` (a test fails when one is missing).
"""

from __future__ import annotations


class AssayError(Exception):
    """Anything Assay raises on purpose; the message is one line naming field and value."""


class CallerError(AssayError):
    """The request cannot be answered as it was asked."""


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


class UnknownVariant(CallerError):
    """The suffix after `:` selects no binding and belongs to no catalog model."""

    def __init__(self, slug: str, variant: str, known: tuple[str, ...]) -> None:
        super().__init__(
            f"model: {quoted(slug)} has the unknown variant {quoted(variant)}, known are {', '.join(known)}"
        )
        self.slug = slug
        self.variant = variant
        self.known = known


class PolicyBehind(CallerError):
    """The caller asked for a newer policy revision than the one in force."""

    def __init__(self, wanted: int, current: int) -> None:
        super().__init__(
            f"min_policy_revision: {wanted} is newer than the revision in force, {current}"
        )
        self.wanted = wanted
        self.current = current


class TooManyStreams(CallerError):
    """As many streams are open as the server takes."""

    def __init__(self, most: int) -> None:
        super().__init__(f"{most} streams are open already, which is as many as this server takes")
        self.most = most


class AuthorError(AssayError):
    """Rule files that cannot be put into force."""


class OperatorError(AssayError):
    """Something the person running Assay has to mend: settings, database, files."""


class SnapshotUnavailable(OperatorError):
    """Nothing has been judged yet, so nothing can be decided."""

    def __init__(self, why: str) -> None:
        super().__init__(f"no snapshot to decide from: {why}")


class DecisionNotLogged(OperatorError):
    """The journal takes no records, so nothing may be answered: what is answered has to be on record."""

    def __init__(self, why: str) -> None:
        super().__init__(f"the decision cannot be logged, so it is not answered: {why}")


class EvidenceNotKept(OperatorError):
    """The journal takes no records, so nothing may be acknowledged; all of the batch may be sent again."""

    def __init__(self, why: str) -> None:
        super().__init__(f"the outcomes cannot be kept, send them again later: {why}")


class StoreUnavailable(OperatorError):
    """The database cannot be reached or is not at the expected migration."""


class BadData(OperatorError):
    """A file to import is not what it claims to be; nothing of it was kept."""


def quoted(value: object, limit: int = 80) -> str:
    """Show a value from outside in an error: one line, printable, cut at `limit` characters."""
    text = value if isinstance(value, str) else str(value)
    if len(text) <= limit:
        return ascii(text) if isinstance(value, str) else text
    return f"{text[:limit]!a}… ({len(text)} characters)"
