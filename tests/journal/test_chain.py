"""Heads are signed and stored outside the database, and every change of a record is detected."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from assay.journal.chain import Head, HeadSigner, chain_link, genesis_link, verify_head
from assay.journal.errors import HeadFileDamaged, KeyUnusable
from assay.journal.heads import HeadFile
from assay.journal.operating_system import REAL

STREAM = "01a204f143b17331b93e45a7285fd295"


def test_the_chain_is_computed_as_documented() -> None:
    """The formula is repeated here, because logs of every version must still verify."""
    link = genesis_link(STREAM)
    assert link.hex() == "0bd269f9c0b756f39d960f26dad6e4e2b004de3b2d8f8b974e6500430225371a"
    assert (
        chain_link(link, 1, 2, b"record").hex()
        == "73ba13372cabc6fc527aec40b2d985b18de595aee134bf1310572eb359b778c0"
    )


@pytest.mark.parametrize(
    ("seq", "kind", "payload"),
    [
        pytest.param(2, 1, b"record", id="another number"),
        pytest.param(1, 2, b"record", id="another kind"),
        pytest.param(1, 1, b"recorD", id="another content"),
    ],
)
def test_a_link_depends_on_each_part_of_a_record(seq: int, kind: int, payload: bytes) -> None:
    assert chain_link(genesis_link(STREAM), seq, kind, payload) != chain_link(
        genesis_link(STREAM), 1, 1, b"record"
    )


def test_each_stream_has_its_own_genesis_link() -> None:
    assert genesis_link(STREAM) != genesis_link(STREAM[::-1])


def test_a_key_is_created_once_and_readable_by_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "key"
    signer = HeadSigner(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert HeadSigner(path).public_key == signer.public_key
    assert [each.name for each in path.parent.iterdir()] == ["key"]


def test_a_new_key_is_on_the_disk_before_it_signs(tmp_path: Path) -> None:
    lengths: list[int] = []
    names: list[str] = []

    def sync_directory(path: str | os.PathLike[str]) -> None:
        names.extend(each.name for each in Path(path).iterdir())

    sync = replace(
        REAL,
        sync_data=lambda descriptor: lengths.append(os.fstat(descriptor).st_size),
        sync_directory=sync_directory,
    )
    HeadSigner(tmp_path / "key", sync)
    assert lengths == [(tmp_path / "key").stat().st_size]
    assert "key" in names


def test_concurrent_creators_of_a_key_get_the_same_key(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as threads:
        keys = {each.public_key for each in threads.map(HeadSigner, [tmp_path / "key"] * 16)}
    assert len(keys) == 1


def test_openssl_reads_the_key(tmp_path: Path) -> None:
    HeadSigner(tmp_path / "key")
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl on this machine")
    shown = subprocess.run(
        [openssl, "pkey", "-in", tmp_path / "key", "-noout", "-text"],
        check=True,
        capture_output=True,
    )
    assert b"ED25519 Private-Key" in shown.stdout


@pytest.mark.parametrize(
    "content", [b"", b"no key", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"]
)
def test_an_invalid_key_file_is_rejected(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "key"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(KeyUnusable, match="expected an Ed25519 private key in PEM"):
        HeadSigner(path)


def test_a_key_that_others_may_read_is_rejected(tmp_path: Path) -> None:
    path = tmp_path / "key"
    HeadSigner(path)
    path.chmod(0o640)
    with pytest.raises(KeyUnusable, match="mode 0600"):
        HeadSigner(path)


def test_a_head_with_any_changed_part_does_not_verify(tmp_path: Path) -> None:
    signer, other = HeadSigner(tmp_path / "key"), HeadSigner(tmp_path / "other")
    head = signer.sign(STREAM, 7, genesis_link(STREAM))
    assert verify_head(head, signer.public_key)
    assert not verify_head(head, other.public_key)
    for changed in (
        replace(head, stream=STREAM[::-1]),
        replace(head, seq=8),
        replace(head, chain=bytes(32)),
        replace(head, signature=bytes(64)),
        replace(head, key_id=other.key_id),
    ):
        assert not verify_head(changed, signer.public_key)


def heads(signer: HeadSigner, number: int) -> list[Head]:
    return [signer.sign(STREAM, seq, genesis_link(STREAM)) for seq in range(1, number + 1)]


def test_heads_are_read_back_in_order(tmp_path: Path) -> None:
    signed = heads(HeadSigner(tmp_path / "key"), 5)
    file = HeadFile(tmp_path / "heads")
    assert file.read() == []
    for head in signed:
        file.append(head)
    assert file.read() == signed
    assert [json.loads(line)["seq"] for line in file.path.read_text().splitlines()] == [
        1,
        2,
        3,
        4,
        5,
    ]


def test_a_line_torn_at_any_byte_is_ignored(tmp_path: Path) -> None:
    first, second, third = heads(HeadSigner(tmp_path / "key"), 3)
    file = HeadFile(tmp_path / "heads")
    file.append(first)
    whole = file.path.stat().st_size
    file.append(second)
    content = file.path.read_bytes()
    for length in range(whole, len(content)):
        file.path.write_bytes(content[:length])
        assert file.read() == [first]
        file.append(third)
        assert file.read() == [first, third]


def test_a_damaged_line_is_reported_with_its_number(tmp_path: Path) -> None:
    file = HeadFile(tmp_path / "heads")
    for head in heads(HeadSigner(tmp_path / "key"), 3):
        file.append(head)
    lines = file.path.read_text().splitlines()
    for damage in (
        "",
        "no json",
        "{}",
        "[]",
        lines[1].replace('"seq":2', '"seq":"x"'),
        lines[1][:-9] + "}",
    ):
        file.path.write_text("\n".join([lines[0], damage, lines[2], ""]))
        with pytest.raises(HeadFileDamaged, match="line 2 "):
            file.read()


def test_processes_append_complete_lines(tmp_path: Path) -> None:
    signed = heads(HeadSigner(tmp_path / "key"), 40)
    file = HeadFile(tmp_path / "heads")
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(file.append, signed))
    assert sorted(file.read(), key=lambda head: head.seq) == signed
    assert file.path.stat().st_mode & 0o777 == 0o644


def test_a_head_is_on_the_disk_before_append_returns(tmp_path: Path) -> None:
    lengths: list[int] = []
    sync = replace(REAL, sync_data=lambda descriptor: lengths.append(os.fstat(descriptor).st_size))
    file = HeadFile(tmp_path / "heads", sync)
    for head in heads(HeadSigner(tmp_path / "key"), 3):
        file.append(head)
        assert lengths[-1:] == [file.path.stat().st_size]


def test_the_name_of_a_new_file_of_heads_is_on_the_disk_before_append_returns(
    tmp_path: Path,
) -> None:
    names: list[list[str]] = []

    def sync_directory(path: str | os.PathLike[str]) -> None:
        names.append(sorted(each.name for each in Path(path).iterdir()))

    file = HeadFile(tmp_path / "heads", replace(REAL, sync_directory=sync_directory))
    for head in heads(HeadSigner(tmp_path / "key"), 3):
        file.append(head)
        assert names == [["heads", "key"]]


def test_a_key_that_does_not_fit_on_the_disk_is_not_left_behind(tmp_path: Path) -> None:
    short = replace(REAL, write=lambda descriptor, data: os.write(descriptor, data[:10]))
    with pytest.raises(KeyUnusable, match="room on the disk"):
        HeadSigner(tmp_path / "key", short)
    assert list(tmp_path.iterdir()) == []
    assert HeadSigner(tmp_path / "key").key_id
