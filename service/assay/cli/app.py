"""The command tree, and the exit codes of errors: 1 failed, 2 usage, 3 invalid rules or data."""

from __future__ import annotations

import gc
import logging
import os
import sys
from collections.abc import Callable, Sequence

import cyclopts

from assay.cli.output import configure_logs, errors, fail
from assay.engine.errors import AssayError, AuthorError, BadData, CallerError, quoted
from assay.server.settings import engine_version

FAILED, USAGE, BAD_INPUT = 1, 2, 3
INTERRUPTED = 130

# Each command's function and its line in the list of commands, which is the first line of the
# function's docstring. A module is imported when its command runs, so that `assay --help` and
# short commands start quickly.
COMMANDS = {
    "demo": (
        "demo:demo_command",
        "Show decisions on a real catalog, pools on simulated traffic, and a conversation.",
    ),
    "serve": (
        "serve:serve_command",
        "Serve the gRPC API and curate pools, until SIGTERM or Ctrl-C.",
    ),
    "migrate": ("migrate:migrate_command", "Migrate the database to the newest revision."),
    "decide": (
        "decide:decide_command",
        "Order the endpoints that may serve a request, with a reason for every other endpoint.",
    ),
    "pool": (
        "pool:pool_command",
        "Show the pool of a model and variant, and the rules that other endpoints break.",
    ),
    "outcomes": (
        "outcomes:outcomes_command",
        "List reported outcomes that moved nothing, by day, kind, source and endpoint.",
    ),
    "forward": (
        "forward:forward_command",
        "Answer OpenAI-style chat requests and report their outcomes, until SIGTERM or Ctrl-C.",
    ),
    "simulate": (
        "simulate:simulate_command",
        "Run OpenAI-compatible providers at http://HOST:PORT/NAME/v1, until SIGTERM or Ctrl-C.",
    ),
    "import catalog": (
        "imports:catalog",
        "Import a catalog in Assay's CSV format.",
    ),
    "import openrouter": (
        "imports:openrouter",
        "Import a snapshot of OpenRouter's catalog, JSON or gzip.",
    ),
    "import observations": (
        "imports:observations",
        "Import counts of tool calls by endpoint and time window.",
    ),
    "import preferences": (
        "imports:preferences",
        "Import tenants' standing pins and ignores: CSV with tenant, kind, target and model.",
    ),
    "import tenants": (
        "imports:tenants",
        "Import tenant settings: YAML with the keys of each tenant.",
    ),
    "import benchmarks": (
        "imports:benchmarks",
        "Import tables of scores: CSV with model, provider, suite, score, unit, run_at and more.",
    ),
    "import inspect": (
        "imports:inspect",
        "Import logs of Inspect AI (.eval or JSON), such as those of OpenBench's LiveMCPBench.",
    ),
    "import tau2": (
        "imports:tau2",
        "Import results of tau2-bench and submissions to its leaderboard.",
    ),
    "policy check": (
        "policy:check_command",
        "Check every rule file and its cases, and report all faults with file, line and column.",
    ),
    "policy test": (
        "policy:run_cases",
        "Run the test cases in the `*_test.yaml` files of the directory.",
    ),
    "policy list": (
        "policy:list_command",
        "Show the database's active revision, and the bindings in the directory.",
    ),
    "policy reference": (
        "policy:reference_command",
        "Print what rule files may contain: keys, facts, functions, reasons, CEL and limits.",
    ),
    "curator repair": (
        "curator:repair_command",
        "Undo hours that were closed before they were over, by a clock that was ahead.",
    ),
    "audit list": ("audit_list:list_command", "List logged decisions, newest first."),
    "audit show": (
        "audit_show:show_command",
        "Show one decision: its attempts, and why each other endpoint was excluded.",
    ),
    "audit replay": (
        "audit_replay:replay_command",
        "Recompute logged decisions and compare the plans byte for byte.",
    ),
    "audit verify": (
        "audit_verify:verify_command",
        "Check each record against its row, the hash chain and the signed heads.",
    ),
    "audit export": (
        "audit_export:export_command",
        "Write logged decisions to a Parquet or JSON Lines file, oldest first.",
    ),
    "audit revisions": (
        "audit_revisions:revisions_command",
        "List the policy revisions, or show what one revision changed.",
    ),
    "audit tenants": (
        "audit_tenants:tenants_command",
        "List the tenants whose reports are set aside, by model.",
    ),
    "audit prune": (
        "audit_retention:prune_command",
        "Delete old records and outcomes, and the snapshots that no decision needs any more.",
    ),
    "audit erase": (
        "audit_retention:erase_command",
        "Erase a tenant: its pseudonyms, settings and preferences, in stored snapshots too.",
    ),
}
GROUPS = {
    "import": "Import files into the database.",
    "policy": "Check, test and list rule files.",
    "curator": "Repair what the curator has stored.",
    "audit": "Query the decision log: list, show, replay, verify, export and prune decisions.",
}


def _build_app() -> cyclopts.App:
    """Build the command tree without importing any command."""
    root = cyclopts.App(
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
    for name, summary in GROUPS.items():
        root.command(cyclopts.App(name=name, help=summary))
    for path, (function, summary) in COMMANDS.items():
        group, _, name = path.rpartition(" ")
        parent = root[group] if group else root
        parent.command(f"assay.cli.{function}", name=name, help=summary)
    return root


app = _build_app()


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and end the process with its exit code."""
    configure_logs(logging.WARNING)
    gc.disable()  # what is imported stays until the end
    code = run(sys.argv[1:] if arguments is None else arguments, on_load=_collect_from_now_on)
    gc.freeze()  # Python would search all that is left for garbage (0.5 s) before it ends
    sys.exit(code)


def _collect_from_now_on() -> None:
    """Let the garbage collector leave out what has been imported."""
    gc.freeze()
    gc.enable()


def run(arguments: Sequence[str], on_load: Callable[[], object] = lambda: None) -> int:
    """Run one command and return its exit code; `on_load` is called when it has been imported."""
    try:
        _require_text(arguments)
        _restore_help(arguments)
        on_load()
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
        if isinstance(error, (AuthorError, BadData)):
            return BAD_INPUT
        return USAGE if isinstance(error, CallerError) else FAILED
    return code if isinstance(code, int) else 0


def _restore_help(arguments: Sequence[str]) -> None:
    """Let the help page of a command show its whole docstring.

    Cyclopts replaces the docstring of a lazily imported command by its line in the list.
    """
    words = [argument for argument in arguments if not argument.startswith("-")]
    _, commands, _ = app.parse_commands(words)
    if commands[-1].default_command is not None:
        commands[-1].help = None


def _require_text(arguments: Sequence[str]) -> None:
    """Reject arguments that are not UTF-8; Python passes their bytes on as lone surrogates."""
    for argument in arguments:
        try:
            argument.encode()
        except UnicodeEncodeError as error:
            raise NotText(f"argument {quoted(argument)} is not UTF-8 text") from error


class NotText(CallerError):
    """An argument is not UTF-8."""
