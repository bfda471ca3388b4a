"""Every error of Assay has a status and a reason; other errors are masked."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterator

import grpc
import pytest
from structlog.testing import capture_logs

import assay
from assay.engine import errors
from assay.rpc.status import MASKED, STATUS_CODES, code_of, reason_of, status_of

pytestmark = pytest.mark.usefixtures("logging_of_every_level")


def subclasses(base: type[errors.AssayError]) -> Iterator[type[errors.AssayError]]:
    yield base
    for kind in base.__subclasses__():
        yield from subclasses(kind)


def all_errors() -> list[type[errors.AssayError]]:
    for module in pkgutil.walk_packages(assay.__path__, "assay."):
        importlib.import_module(module.name)
    return sorted(set(subclasses(errors.AssayError)), key=lambda kind: kind.__qualname__)


DECLARED = [
    c for _, c in inspect.getmembers(errors, inspect.isclass) if issubclass(c, errors.AssayError)
]


@pytest.mark.parametrize("kind", DECLARED, ids=lambda kind: kind.__name__)
def test_every_declared_error_has_its_own_status(kind: type[errors.AssayError]) -> None:
    assert kind in STATUS_CODES


def test_no_error_of_assay_is_internal() -> None:
    internal = [kind for kind in all_errors() if code_of(kind) is grpc.StatusCode.INTERNAL]

    assert internal == [errors.AssayError]


def test_every_error_has_its_own_reason() -> None:
    reasons = [reason_of(kind) for kind in all_errors()]

    assert len(set(reasons)) == len(reasons)
    assert reason_of(errors.UnknownModel) == "unknown-model"


def test_a_subclass_has_the_status_of_its_nearest_base() -> None:
    class Narrower(errors.UnknownModel):
        pass

    assert code_of(Narrower) is grpc.StatusCode.NOT_FOUND


def test_errors_of_assay_are_returned_unchanged() -> None:
    with capture_logs() as logged:
        status = status_of(errors.UnknownModel("a/b"), "assay.v1.RoutingService/Decide")

    assert status.code is grpc.StatusCode.NOT_FOUND
    assert status.message == "model: 'a/b' is not in the catalog"
    assert status.reason == "unknown-model"
    assert logged == []


def test_other_errors_are_logged_and_masked() -> None:
    error = ValueError("the password is hunter2")
    with capture_logs() as logged:
        status = status_of(error, "assay.v1.RoutingService/Decide")

    assert status == MASKED
    assert "hunter2" not in status.message
    assert [(entry["log_level"], entry["method"], entry["exc_info"]) for entry in logged] == [
        ("error", "assay.v1.RoutingService/Decide", error)
    ]
