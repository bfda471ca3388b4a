"""A policy directory is read atomically and deterministically."""

from __future__ import annotations

from pathlib import Path

import pytest

from assay.engine.errors import OperatorError
from assay.engine.policy.faults import PolicyFaults
from assay.rule_files.directory import read_directory, read_tests
from assay.rule_files.read import read_policy
from assay.rule_files.source import MAX_BYTES


def write(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"# {name}\n", encoding="utf-8")


def test_rule_files_and_test_files_are_distinguished(tmp_path: Path) -> None:
    write(
        tmp_path, "b.yaml", "a.yaml", "a_test.yaml", "team/c.yaml", "team/c_test.yaml", "README.md"
    )
    write(tmp_path, "testdata/d.yaml", "team/testdata/e.yaml", ".git/f.yaml", ".g.yaml")
    assert list(read_directory(tmp_path).files) == ["a.yaml", "b.yaml", "team/c.yaml"]
    assert list(read_tests(tmp_path)) == ["a_test.yaml", "team/c_test.yaml"]


def test_a_mounted_config_map_is_read(tmp_path: Path) -> None:
    write(tmp_path, "..2025_09_23/a.yaml")
    (tmp_path / "..data").symlink_to("..2025_09_23")
    (tmp_path / "a.yaml").symlink_to("..data/a.yaml")
    assert dict(read_directory(tmp_path).files) == {"a.yaml": "# ..2025_09_23/a.yaml\n"}


def test_the_directory_may_be_a_symbolic_link(tmp_path: Path) -> None:
    write(tmp_path, "v1/a.yaml")
    (tmp_path / "current").symlink_to("v1")
    assert list(read_directory(tmp_path / "current").files) == ["a.yaml"]


def escape(root: Path) -> None:
    write(root, "outside.yaml", "policy/a.yaml")
    (root / "policy" / "b.yaml").symlink_to(root / "outside.yaml")


def circle(root: Path) -> None:
    write(root, "policy/a.yaml")
    (root / "policy" / "b.yaml").symlink_to("b.yaml")


@pytest.mark.parametrize(
    ("prepare", "why"),
    [
        pytest.param(lambda _: None, "does not exist", id="missing"),
        pytest.param(lambda root: write(root, "policy"), "is not a directory", id="file"),
        pytest.param(
            lambda root: write(root, "policy/README.md", "policy/a_test.yaml"),
            "holds no rule files",
            id="empty",
        ),
        pytest.param(
            lambda root: write(root, "policy/a.yml"), "would be passed over", id="other suffix"
        ),
        pytest.param(
            lambda root: write(root, *(f"policy/r{n}.yaml" for n in range(257))),
            "more than 256",
            id="many",
        ),
        pytest.param(
            lambda root: write(root, "policy/a\x1b.yaml"),
            "whose name cannot be printed",
            id="odd name",
        ),
        pytest.param(escape, "is a link that leads out of the directory", id="link out"),
        pytest.param(circle, "cannot be read", id="link to itself"),
        pytest.param(
            lambda root: (root / "policy" / "a.yaml").mkdir(parents=True),
            "holds no rule files",
            id="folder",
        ),
    ],
)
def test_an_unreadable_directory_is_an_operator_error(
    prepare: object, why: str, tmp_path: Path
) -> None:
    assert callable(prepare)
    prepare(tmp_path)
    with pytest.raises(OperatorError, match=why):
        read_directory(tmp_path / "policy")


@pytest.mark.parametrize(
    ("content", "why"),
    [
        pytest.param(b"a: 1\nb: \xff\n", r"a.yaml:2:4: a byte that is not UTF-8", id="not UTF-8"),
        pytest.param(
            b"a" * (MAX_BYTES + 100), r"a.yaml:1:1: the file is larger than 256 KiB", id="too large"
        ),
    ],
)
def test_an_invalid_file_is_an_author_error(content: bytes, why: str, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes(content)
    source = read_directory(tmp_path)
    assert len(source.digest) == 64
    with pytest.raises(PolicyFaults, match=why):
        read_policy(source.files)
