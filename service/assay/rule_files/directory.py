"""Read a policy directory: the texts of its rule files and test files."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from assay.engine.errors import OperatorError, quoted
from assay.engine.policy.rule_set import PolicySource
from assay.rule_files.source import MAX_BYTES

TEST_SUFFIX: Final = "_test.yaml"
TESTDATA: Final = "testdata"
MAX_FILES: Final = 256


class UnreadableDirectory(OperatorError):
    """A policy directory, or a file in it, cannot be read."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"policy directory: {quoted(str(path))} {why}")
        self.path = path


def read_directory(path: Path) -> PolicySource:
    """Return every rule file by its relative path, without tests, `testdata/` and hidden files."""
    files = {name: _text(path, name) for name in _names(path) if not name.endswith(TEST_SUFFIX)}
    if not files:
        raise UnreadableDirectory(path, "holds no rule files (*.yaml)")
    return PolicySource(files)


def read_tests(path: Path) -> Mapping[str, str]:
    """Return every test file (`*_test.yaml`) by its relative path."""
    return {name: _text(path, name) for name in _names(path) if name.endswith(TEST_SUFFIX)}


def _names(root: Path) -> list[str]:
    """Return the relative paths of all YAML files, sorted."""
    if not root.is_dir():
        raise UnreadableDirectory(root, "is not a directory" if root.exists() else "does not exist")
    names = []
    for name in _walk(root):
        if not name.isprintable():
            why = f"holds a file whose name cannot be printed: {quoted(name)}"
            raise UnreadableDirectory(root, why)
        if name.endswith(".yml"):
            raise UnreadableDirectory(root / name, "would be passed over: rule files end in .yaml")
        if name.endswith(".yaml"):
            names.append(name)
        if len(names) > MAX_FILES:
            raise UnreadableDirectory(root, f"holds more than {MAX_FILES} rule files")
    return sorted(names)


def _walk(root: Path) -> Iterator[str]:
    """Yield relative paths of files, without hidden ones, `testdata/` and linked directories."""

    def reject(error: OSError) -> None:
        raise UnreadableDirectory(Path(error.filename), f"cannot be read: {error.strerror}")

    for folder, folders, files in os.walk(root, onerror=reject):
        folders[:] = [n for n in sorted(folders) if n != TESTDATA and not n.startswith(".")]
        for name in files:
            if not name.startswith("."):
                yield (Path(folder) / name).relative_to(root).as_posix()


def _text(root: Path, name: str) -> str:
    """Return a file's text, at most a byte over the limit.

    Bytes that are not UTF-8 become replacement characters, which reading rejects.
    """
    path = root / name
    try:
        if not path.resolve(strict=True).is_relative_to(root.resolve(strict=True)):
            raise UnreadableDirectory(path, "is a link that leads out of the directory")
        if not path.is_file():
            raise UnreadableDirectory(path, "is not an ordinary file")
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1).decode("utf-8", errors="replace")
    except (OSError, RuntimeError) as error:
        # A circle of links is a RuntimeError before Python 3.13.
        why = getattr(error, "strerror", None) or "a circle of links"
        raise UnreadableDirectory(path, f"cannot be read: {why}") from error
