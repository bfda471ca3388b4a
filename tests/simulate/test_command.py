"""`assay simulate` rejects bad files and addresses in one line."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from tests.support.commands import assay, assert_rejected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param("seed: odd", ("seed",), id="seed"),
        pytest.param("providers: {one: {accuracy: 2}}", ("accuracy",), id="out of range"),
        pytest.param("providers: {one: {acuracy: 1}}", ("acuracy",), id="misspelt"),
        pytest.param("providers: {one: {faults: [{kind: odd}]}}", ("odd",), id="unknown fault"),
        pytest.param("providers: [", (), id="no YAML"),
        pytest.param("\x00", (), id="no text"),
    ],
)
def test_a_faulty_file_is_rejected_in_one_line(
    tmp_path: Path, text: str, words: tuple[str, ...]
) -> None:
    path = tmp_path / "cast.yaml"
    path.write_text(text)

    assert_rejected(
        assay("simulate", "--http", "127.0.0.1:0", "--providers", path), 3, "cast.yaml", *words
    )


def test_a_missing_file_is_rejected(tmp_path: Path) -> None:
    assert_rejected(
        assay("simulate", "--providers", tmp_path / "none.yaml"), 3, "none.yaml", "No such file"
    )


@pytest.mark.parametrize(
    "address",
    ["unix:sock", "localhost", "127.0.0.1:99999", "0.0.0.0:0", "example.com:80", "192.0.2.1:80"],
)
def test_only_loopback_addresses_are_accepted(address: str) -> None:
    assert_rejected(assay("simulate", "--http", address), 1, address)


def test_a_port_in_use_is_reported() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert_rejected(
            assay("simulate", "--http", f"127.0.0.1:{taken.getsockname()[1]}"), 1, "already in use"
        )
