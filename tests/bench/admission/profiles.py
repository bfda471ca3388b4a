"""The rule sets under test: the shipped one, and a strict one with published figures."""

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
    """A compiled policy of one pool; its name is that of its rule set and binding."""

    name: str
    policy: Policy

    @property
    def bound(self) -> CompiledBinding:
        """Return the binding that has the pool."""
        return self.policy.bindings[self.name]


@cache
def profile(name: str) -> Profile:
    """Compile `exacto` as it ships, or `strict`, with no other binding except the default."""
    files = dict(read_directory(policy_dir()).files)
    files["strict.yaml"] = STRICT.read_text(encoding="utf-8")
    files["bindings.yaml"] = BINDINGS.format(name=name)
    return Profile(name, compile_source(PolicySource(files)))
