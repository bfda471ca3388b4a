"""The command tree, and how errors become exit codes: 0 done, 1 failed, 2 usage, 3 bad policy or data."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version

import cyclopts

from assay.cli.database import migrate_command
from assay.cli.decide import decide_command
from assay.cli.demo import demo_command
from assay.cli.imports import imports
from assay.cli.logs import configure_logs
from assay.cli.output import errors, fail
from assay.cli.policy import policy
from assay.cli.pool import pool_command
from assay.cli.serve import serve_command
from assay.engine.errors import AssayError, AuthorError, BadData, CallerError

FAILED, USAGE, BAD_INPUT = 1, 2, 3
INTERRUPTED = 130

app = cyclopts.App(
    name="assay",
    help="Decide which provider endpoints may serve an LLM request, and in what order.",
    version=lambda: version("assay"),
    version_flags=["--version"],
    help_flags=["--help", "-h"],
    error_console=errors,
)
app.command(demo_command, name="demo")
app.command(serve_command, name="serve")
app.command(migrate_command, name="migrate")
app.command(imports)
app.command(decide_command, name="decide")
app.command(pool_command, name="pool")
app.command(policy)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and end the process with its exit code."""
    configure_logs(logging.WARNING)
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: Sequence[str]) -> int:
    """Run one command; its exit code."""
    try:
        code = app(list(arguments), exit_on_error=False, result_action="return_value")
    except cyclopts.CycloptsError:
        return USAGE  # cyclopts has said why
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of a pipe is gone: keep Python from complaining about it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except AssayError as error:
        fail(str(error))
        return exit_code(error)
    return code if isinstance(code, int) else 0


def exit_code(error: AssayError) -> int:
    """The exit code of a failure, by whose fault it is."""
    if isinstance(error, (AuthorError, BadData)):
        return BAD_INPUT
    return USAGE if isinstance(error, CallerError) else FAILED
