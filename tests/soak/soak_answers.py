"""Ten minutes of mutated streams and bodies, from a seed of the clock that a failure names."""

from __future__ import annotations

import os
import time
from random import Random

from tests.support.mutated_answers import (
    BODIES,
    STREAMS,
    check_told_answer,
    check_told_stream,
    mutate,
    read_stream,
    read_whole,
)

SECONDS = float(os.environ.get("ASSAY_SOAK_SECONDS", "600"))
ROUNDS = 8  # mutations on top of each other


def test_mutated_answers_end_in_an_answer_or_a_row_for_ten_minutes() -> None:
    begin, seed = time.monotonic(), time.time_ns()
    count = 0
    while time.monotonic() - begin < SECONDS:
        seed += 1
        random = Random(seed)
        stream = random.choice(list(STREAMS.values()))
        body = random.choice(list(BODIES.values()))
        for _ in range(random.randrange(1, ROUNDS)):
            stream, body = mutate(stream, random), mutate(body, random)
        try:
            check_told_stream(read_stream(stream, random)[1])
            row, told = read_whole(body)
            if row == "answered":
                check_told_answer(told)
        except BaseException as error:
            error.add_note(f"seed {seed}: stream {stream!r}, body {body!r}")
            raise
        count += 2
    assert count > 0
