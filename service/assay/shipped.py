"""Where rule files and migrations lie: inside an installed wheel, or at the top of the checkout."""

from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
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
