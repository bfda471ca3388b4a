"""Print which modules one Decide passes, and how often it returns to one that it had left.

Run with `python -m tests.bench.decide_walk`. It traces one Decide of a warm servicer, from the
servicer's method to the journal's append and the response, with `sys.setprofile`:

- A module counts if a function of it that a reader can open runs: generated ones (methods of
  dataclasses, fused rules) and `assay.v1` do not count.
- A module is left once none of its functions is running any more. Entering it again is a return,
  except from the function that had called it last: three calls in a row by one caller are one
  visit.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import cast

import grpc
from tests.support.messages import message_from
from tests.support.population import AS_OF, MODEL, snapshot

from assay.engine.world.request import Request
from assay.journal.writer import Journal
from assay.rpc.routing import RoutingServicer
from assay.server.decider import Decider

REQUEST = Request(
    f"{MODEL}:exacto", tools=2, parameters=("tools", "tool_choice"), session_id="s", tenant="t"
)


class Walk:
    """The modules that one call passes, in order of their first visit, and the returns to them."""

    def __init__(self) -> None:
        self.modules: list[str] = []
        self.returns: list[str] = []
        self._running: list[str] = []
        self._last_called: dict[int, str] = {}  # by depth of the caller

    def trace(self, call: Callable[[], object]) -> None:
        """Record one call."""
        sys.setprofile(self._note)
        try:
            call()
        finally:
            sys.setprofile(None)

    def _note(self, frame: FrameType, event: str, _argument: object) -> None:
        module = str(frame.f_globals.get("__name__", ""))
        is_written = not frame.f_code.co_filename.startswith("<")
        if not is_written or not module.startswith("assay.") or module.startswith("assay.v1"):
            return
        if event == "call":
            self._enter(module)
        elif event == "return":
            self._running.pop()

    def _enter(self, module: str) -> None:
        depth = len(self._running)
        if module not in self._running:
            if module not in self.modules:
                self.modules.append(module)
            elif self._last_called.get(depth) != module:
                self.returns.append(module)
            self._last_called[depth] = module
        self._running.append(module)
        self._last_called.pop(depth + 1, None)


def walk_decide() -> Walk:
    """Trace one Decide whose caches are warm."""
    with tempfile.TemporaryDirectory() as directory:
        journal = Journal(Path(directory))
        decider = Decider(lambda: AS_OF, snapshot(), append=journal.append)
        servicer = RoutingServicer(decider.decide, decider.explain)
        question, walk = message_from(REQUEST), Walk()

        def decide() -> object:
            return servicer.Decide(question, cast("grpc.ServicerContext", None))

        decide()
        walk.trace(decide)
        journal.close()
    return walk


if __name__ == "__main__":
    found = walk_decide()
    sys.stdout.write(f"{len(found.modules)} modules, {len(found.returns)} returns\n")
    sys.stdout.write("".join(f"  {module}\n" for module in found.modules))
    sys.stdout.write("returns:\n" + "".join(f"  {module}\n" for module in found.returns))
