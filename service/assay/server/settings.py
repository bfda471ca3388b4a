"""What the environment may set; read once, from a mapping handed in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
CHECKOUT = PACKAGE.parents[1]


def policy_dir() -> Path:
    """The shipped rule files."""
    return _shipped("policy")


def migrations_dir() -> Path:
    """The alembic environment and its versions."""
    return _shipped("migrations")


def _shipped(name: str) -> Path:
    # An editable install puts a copy into site-packages that goes stale; PACKAGE is the checkout's then.
    installed = PACKAGE / "_shipped" / name
    return installed if installed.is_dir() else CHECKOUT / name


@dataclass(frozen=True, slots=True)
class Settings:
    """Defaults of the command line: `ASSAY_DATABASE`, `_POLICY`, `_JOURNAL` and `_SPOOL` say where things lie."""

    database: str
    policy: Path
    journal: Path
    spool: Path


def read_settings(environment: Mapping[str, str], home: Path, shipped_policy: Path) -> Settings:
    """The settings of a user with this environment and home directory."""
    data = Path(environment.get("XDG_DATA_HOME") or home / ".local" / "share") / "assay"
    return Settings(
        database=environment.get("ASSAY_DATABASE") or f"sqlite:///{data / 'assay.db'}",
        policy=Path(environment.get("ASSAY_POLICY") or shipped_policy),
        journal=Path(environment.get("ASSAY_JOURNAL") or data / "journal"),
        spool=Path(environment.get("ASSAY_SPOOL") or data / "spool"),
    )
