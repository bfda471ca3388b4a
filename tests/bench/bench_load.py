"""Loading the shipped policy directory in a fresh process: read, check, compile."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping

from tests.bench.ledger import Ledger
from tests.bench.measure import spread

PROGRAM = """
import json, sys, time
def spent(): return time.perf_counter(), time.process_time()
steps = {}
def done(name):
    global since
    now = spent()
    steps[name] = [b - a for a, b in zip(since, now)]
    since = now
start = since = spent()
from assay.server.settings import policy_dir
from assay.rule_files.directory import read_directory
from assay.rule_files.read import read_policy
from assay.engine.policy.policy import compile_policy
done("imports")
from assay.engine.cel.syntax import _environment
_environment()
done("cel-python's grammar")
source = read_directory(policy_dir())
rule_sets, bindings = read_policy(source.files)
done("read YAML")
from assay.engine.policy import policy as compiling
compile_binding, seconds = compiling.compile_binding, [0.0, 0.0]
def timed(*arguments):
    before = spent()
    result = compile_binding(*arguments)
    for i, (a, b) in enumerate(zip(before, spent())):
        seconds[i] += b - a
    return result
compiling.compile_binding = timed
policy = compile_policy(rule_sets, bindings, source)
done("check")
steps["check"] = [whole - part for whole, part in zip(steps["check"], seconds)]
steps["fuse"] = seconds
policy.warm()
done("warm, as the server does")
steps["all"] = [b - a for a, b in zip(start, spent())]
assert "exacto" in policy.bindings
print(json.dumps(steps))
"""


def load() -> Mapping[str, tuple[float, float]]:
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM], check=True, capture_output=True, text=True
    )
    steps: dict[str, tuple[float, float]] = json.loads(ran.stdout)
    return steps


def test_the_shipped_policy_loads_in_less_than_a_second(ledger: Ledger) -> None:
    runs = [load() for _ in range(9)]
    for step in runs[0]:
        if step != "all":
            ledger.took(f"  of it, {step} (CPU)", spread([run[step][1] for run in runs]))
    ledger.took("loading policy/, cold (CPU)", spread([run["all"][1] for run in runs]))
    ledger.took("loading policy/, cold (wall)", spread([run["all"][0] for run in runs]), below=1.0)
