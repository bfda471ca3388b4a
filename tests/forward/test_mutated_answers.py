"""Mutated streams and bodies: whatever arrives is an answer, or a row of the failure table."""

from __future__ import annotations

from random import Random

import pytest
from tests.support.mutated_answers import (
    BODIES,
    STREAMS,
    check_told_answer,
    check_told_stream,
    mutate,
    read_stream,
    read_whole,
)

STREAM_MUTATIONS = 1600  # of each stream, and as many of each body below: 20,000 in all
BODY_MUTATIONS = 2200


@pytest.mark.parametrize("name", STREAMS)
def test_recorded_streams_are_read_alike_however_they_are_cut(name: str) -> None:
    random = Random(name)
    names = {read_stream(STREAMS[name], random)[0] for _ in range(20)}
    expected = {"an error": "rate_limited", "a bare error": "server_error"}
    assert names == {expected.get(name, "answered")}


@pytest.mark.parametrize("name", BODIES)
def test_recorded_bodies_are_read(name: str) -> None:
    assert read_whole(BODIES[name])[0] == ("caller_error" if name == "an error" else "answered")


@pytest.mark.parametrize("name", STREAMS)
def test_every_mutated_stream_ends_in_an_answer_or_a_row(name: str) -> None:
    for seed in range(STREAM_MUTATIONS):
        random = Random(f"{name} {seed}")
        _, told = read_stream(mutate(STREAMS[name], random), random)
        check_told_stream(told)


@pytest.mark.parametrize("name", BODIES)
def test_every_mutated_body_ends_in_an_answer_or_a_row(name: str) -> None:
    for seed in range(BODY_MUTATIONS):
        row, told = read_whole(mutate(BODIES[name], Random(f"{name} {seed}")))
        assert bool(told) is (row == "answered")
        if told:
            check_told_answer(told)
