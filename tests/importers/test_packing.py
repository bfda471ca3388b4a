"""Unpacking of files: plain and gzip, within a size limit."""

from __future__ import annotations

import gzip

import pytest

from assay.engine.errors import BadData
from assay.importers.packing import digest, unpacked


def test_a_plain_file_and_its_gzip_have_the_same_digest() -> None:
    assert unpacked(gzip.compress(b"a,b\n")) == unpacked(b"a,b\n") == b"a,b\n"
    assert digest(unpacked(gzip.compress(b"a"))) == digest(b"a")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        pytest.param(gzip.compress(b"a" * 1000)[:-9], "broken gzip file", id="cut off"),
        pytest.param(
            gzip.compress(b"a" * 1000)[:5], "broken gzip file", id="cut off in its header"
        ),
        pytest.param(gzip.compress(b"a") + b"tail", "broken gzip file", id="trailing bytes"),
        pytest.param(b"\x1f\x8bnonsense", "broken gzip file", id="only the first bytes are gzip's"),
        pytest.param(gzip.compress(bytes(5_000_000)), "more than 1000000 bytes", id="a gzip bomb"),
        pytest.param(b"a" * 1_000_001, "more than 1000000 bytes", id="plain but too long"),
        pytest.param(gzip.compress(b" \n"), "empty", id="nothing inside"),
    ],
)
def test_broken_and_oversized_files_are_rejected(data: bytes, message: str) -> None:
    with pytest.raises(BadData, match=message):
        unpacked(data, 1_000_000)
