"""Compiling rule files: given ones, stored ones, and a directory that is watched."""

from __future__ import annotations

from pathlib import Path

import structlog

from assay.engine.errors import AssayError
from assay.engine.policy.policy import Policy, compile_policy
from assay.engine.policy.rule_set import PolicySource
from assay.rule_files.directory import read_directory
from assay.rule_files.read import read_policy

log = structlog.get_logger(__name__)


def compile_source(source: PolicySource, revision: int = 0) -> Policy:
    """Read and compile rule files; raises PolicyFaults with every fault."""
    rule_sets, bindings = read_policy(source.files)
    return compile_policy(rule_sets, bindings, source, revision)


def compile_stored(source: PolicySource) -> Policy:
    """Compile rule files read from the store, which may use former names of facts."""
    rule_sets, bindings = read_policy(source.files)
    return compile_policy(rule_sets, bindings, source, accept_former=True)


class RuleDirectory:
    """A directory of rule files, compiled whenever its content changes.

    While it has faults, the last good policy stays active, and `error` says why.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.policy: Policy | None = None
        self.error: AssayError | None = None
        self._rejected: tuple[str, AssayError] | None = None

    def refresh(self) -> Policy:
        """Return the last good policy, not numbered; raises while there is none."""
        try:
            self.policy = self._read()
            self.error = None
        except AssayError as error:
            if str(error) != str(self.error):
                log.warning("policy rejected", directory=str(self.directory), error=str(error))
            self.error = error
            if self.policy is None:
                raise
        return self.policy

    def require_valid(self) -> Policy:
        """Return the directory's policy; raises the error if the directory has faults."""
        policy = self.refresh()
        if self.error:
            raise self.error
        return policy

    def _read(self) -> Policy:
        """Compile the directory; each content is compiled once, faulty ones too."""
        source = read_directory(self.directory)
        if self.policy and self.policy.digest == source.digest:
            return self.policy
        if self._rejected and self._rejected[0] == source.digest:
            raise self._rejected[1].with_traceback(None)
        try:
            policy = compile_source(source)
        except AssayError as error:
            self._rejected = source.digest, error
            raise
        policy.warm()
        return policy
