"""A checkout uses its own rule files and migrations."""

from __future__ import annotations

from assay.server.settings import migrations_dir, policy_dir


def test_the_checkout_is_read_in_place() -> None:
    assert (policy_dir() / "bindings.yaml").is_file()
    assert (migrations_dir() / "env.py").is_file()
    assert policy_dir().parent == migrations_dir().parent
