"""The rule sets that are put to the test: the one that ships, and the one that the reference was simulated with."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from assay.engine.policy.binding import CompiledBinding
from assay.engine.policy.policy import Policy
from assay.engine.policy.rule_set import PolicySource
from assay.rule_files.compile import compile_source
from assay.rule_files.directory import read_directory
from assay.server.settings import policy_dir

STRICT = Path(__file__).with_name("strict.yaml")
BINDINGS = """
apiVersion: assay/v1
kind: Bindings
metadata: {{name: bindings}}
spec:
  - {{name: {name}, variant: {name}, ruleSet: {name}}}
  - {{name: default, ruleSet: default}}
"""


@dataclass(frozen=True, slots=True)
class Profile:
    """A compiled policy of one pool, and its name, which is that of its rule set and its binding."""

    name: str
    policy: Policy

    @property
    def bound(self) -> CompiledBinding:
        """The binding that brings the pool."""
        return self.policy.bindings[self.name]


@cache
def profile(name: str) -> Profile:
    """`exacto` as it ships, or `strict`, with no other binding beside it but the default."""
    files = dict(read_directory(policy_dir()).files)
    files["strict.yaml"] = STRICT.read_text(encoding="utf-8")
    files["bindings.yaml"] = BINDINGS.format(name=name)
    return Profile(name, compile_source(PolicySource(files)))
