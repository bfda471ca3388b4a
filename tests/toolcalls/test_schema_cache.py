"""The cache of compiled schemas: least recently used ones are evicted, within a size limit."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from assay.toolcalls.call_check import CompiledSchema, compile_schema, schema_cache


def key_of(number: int, values: int = 1) -> bytes:
    """Return the key of a schema that accepts some integers, the first of them `number`."""
    return json.dumps({"enum": list(range(number, number + values))}).encode()


LARGE = 8000  # values in a schema of which the cache holds a dozen


@pytest.fixture(autouse=True)
def cold_cache() -> Iterator[None]:
    schema_cache.clear()
    yield
    schema_cache.clear()


def test_a_cached_schema_is_compiled_once() -> None:
    first, other = compile_schema(key_of(3)), compile_schema(key_of(4))
    assert compile_schema(key_of(3)) is first
    assert compile_schema(key_of(4)) is other
    assert (first.accepts(3), other.accepts(3)) == (True, False)


def test_the_least_recently_used_schema_is_evicted() -> None:
    used, unused = compile_schema(key_of(1000)), compile_schema(key_of(0, LARGE))
    for number in range(1, 30):
        compile_schema(key_of(number, LARGE))
        assert compile_schema(key_of(1000)) is used
    assert compile_schema(key_of(0, LARGE)) is not unused


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(st.lists(st.tuples(st.integers(0, 9), st.sampled_from((1, 500, LARGE))), max_size=30))
def test_the_cache_never_exceeds_its_size(keys: list[tuple[int, int]]) -> None:
    for number, values in keys:
        assert compile_schema(key_of(number, values)).accepts(number)
        assert sum(schema.size for schema in schema_cache.values()) <= schema_cache.maxsize


def test_threads_share_the_cache() -> None:
    wrong: list[CompiledSchema] = []

    def compile_many(start: int) -> None:
        for number in range(start, start + 300):
            schema = compile_schema(key_of(number % 50))
            if not schema.accepts(number % 50) or schema.accepts(number % 50 + 1):
                wrong.append(schema)

    threads = [threading.Thread(target=compile_many, args=(start,)) for start in range(0, 40, 10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert len(schema_cache) == 50
