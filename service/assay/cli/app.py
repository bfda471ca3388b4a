"""The command tree, and the exit codes of errors: 1 failed, 2 usage, 3 invalid rules or data."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence

import cyclopts

from assay.cli.audit import audit
from assay.cli.decide import decide_command
from assay.cli.demo import demo_command
from assay.cli.forward import forward_command
from assay.cli.imports import imports
from assay.cli.options import DatabaseUrl, Json
from assay.cli.output import configure_logs, console, errors, fail, print_json
from assay.cli.policy import policy
from assay.cli.pool import pool_command
from assay.cli.serve import serve_command
from assay.cli.simulate import simulate_command
from assay.engine.errors import AssayError, AuthorError, BadData, CallerError, quoted
from assay.server.database import open_unmigrated
from assay.server.settings import engine_version, migrations_dir
from assay.store.migration import migrate

FAILED, USAGE, BAD_INPUT = 1, 2, 3
INTERRUPTED = 130


app = cyclopts.App(
    name="assay",
    help="Decide which provider endpoints may serve an LLM request, and in what order.\n\n"
    "Exit codes: 0 success; 1 failure; 2 invalid usage; 3 invalid rule files or data.\n\n"
    "Example: assay demo",
    version=engine_version,
    default_parameter=cyclopts.Parameter(negative=""),
    version_flags=["--version"],
    help_flags=["--help", "-h"],
    error_console=errors,
)


def migrate_command(*, url: DatabaseUrl = None, json: Json = False) -> None:
    """Migrate the database to the newest revision.

    Exit codes: 0 migrated, or nothing to do; 1 the database failed.

    Example: assay migrate --database postgresql://assay@localhost/assay
    """
    with open_unmigrated(url) as database:
        before, after = migrate(database, migrations_dir())
    if json:
        print_json({"from": before, "to": after})
    elif before == after:
        console.print(f"at revision {after}, nothing to do")
    else:
        console.print(f"from {before or 'an empty database'} to revision {after}")


app.command(demo_command, name="demo")
app.command(serve_command, name="serve")
app.command(migrate_command, name="migrate")
app.command(imports)
app.command(decide_command, name="decide")
app.command(pool_command, name="pool")
app.command(policy)
app.command(audit)
app.command(forward_command, name="forward")
app.command(simulate_command, name="simulate")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and end the process with its exit code."""
    configure_logs(logging.WARNING)
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code."""
    try:
        _require_text(arguments)
        code = app(
            list(arguments), exit_on_error=False, print_error=False, result_action="return_value"
        )
        sys.stdout.flush()
    except cyclopts.CycloptsError as error:
        fail(" ".join(str(error).split()))
        return USAGE
    except KeyboardInterrupt:
        return INTERRUPTED
    except OSError as error:
        if not isinstance(error, BrokenPipeError):
            fail(str(error))
        # The reader of a pipe is gone or the disk is full: keep Python from flushing again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except AssayError as error:
        fail(str(error))
        return _exit_code(error)
    return code if isinstance(code, int) else 0


def _require_text(arguments: Sequence[str]) -> None:
    """Reject arguments that are not UTF-8; Python passes their bytes on as lone surrogates."""
    for argument in arguments:
        try:
            argument.encode()
        except UnicodeEncodeError as error:
            raise NotText(argument) from error


class NotText(CallerError):
    """An argument is not UTF-8."""

    def __init__(self, argument: str) -> None:
        super().__init__(f"argument {quoted(argument)} is not UTF-8 text")


def _exit_code(error: AssayError) -> int:
    if isinstance(error, (AuthorError, BadData)):
        return BAD_INPUT
    return USAGE if isinstance(error, CallerError) else FAILED
