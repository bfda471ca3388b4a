"""Settings of this process: environment, shipped files, version and clock."""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
CHECKOUT = PACKAGE.parents[1]

Clock = Callable[[], datetime]


@dataclass(frozen=True, slots=True)
class Settings:
    """Defaults of the command line.

    `ASSAY_DATABASE`, `ASSAY_POLICY`, `ASSAY_JOURNAL` and `ASSAY_SPOOL` override them.
    """

    database: str
    policy: Path
    journal: Path
    spool: Path


def read_settings(environment: Mapping[str, str], home: Path, shipped_policy: Path) -> Settings:
    """Return the settings of a user with this environment and home directory."""
    data = Path(environment.get("XDG_DATA_HOME") or home / ".local" / "share") / "assay"
    return Settings(
        database=environment.get("ASSAY_DATABASE") or f"sqlite:///{data / 'assay.db'}",
        policy=Path(environment.get("ASSAY_POLICY") or shipped_policy),
        journal=Path(environment.get("ASSAY_JOURNAL") or data / "journal"),
        spool=Path(environment.get("ASSAY_SPOOL") or data / "spool"),
    )


def process_settings() -> Settings:
    """Return the settings of this process."""
    return read_settings(os.environ, Path.home(), policy_dir())


def environment() -> Mapping[str, str]:
    """Return the environment of this process, which holds the keys of providers."""
    return os.environ


def policy_path(given: Path | None) -> Path:
    """Return the directory of rule files."""
    return process_settings().policy if given is None else given


def journal_path(given: Path | None) -> Path:
    """Return the directory of the journal, its signing key and its signed heads."""
    return process_settings().journal if given is None else given


def spool_path(given: Path | None) -> Path:
    """Return the directory of outcomes that wait to be reported."""
    return process_settings().spool if given is None else given


def policy_dir() -> Path:
    """Return the directory of the shipped rule files."""
    return _shipped("policy")


def migrations_dir() -> Path:
    """Return the directory of the alembic environment and its versions."""
    return _shipped("migrations")


def _shipped(name: str) -> Path:
    # An editable install puts a copy into site-packages that goes stale; PACKAGE is the checkout's.
    installed = PACKAGE / "_shipped" / name
    return installed if installed.is_dir() else CHECKOUT / name


def engine_version() -> str:
    """Return the version of the installed package; a checkout that is not installed has none."""
    try:
        return version("assay")
    except PackageNotFoundError:
        return "not installed, run from a checkout"


def process_name() -> str:
    """Return a name for operators that no other process has: host, process id and random digits."""
    return f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"


def wall_clock() -> datetime:
    """Return the time now, in UTC."""
    return datetime.now(UTC)
