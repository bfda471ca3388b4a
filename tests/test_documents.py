"""Every command and code block of our pages for users works as written."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, chdir, contextmanager
from pathlib import Path

import pytest
from tests.support.catalogs import DEMO_CATALOGS, KIMI, KIMI_CSV, POLICY, ROOT
from tests.support.commands import assay
from tests.support.databases import DatabasePool
from tests.support.documents import page
from tests.support.processes import AssayProcess, environment, running

README = page("README.md")
AUDIT = page("service/AUDIT.md")
OPERATIONS = page("service/OPERATIONS.md")
FORWARD = page("service/assay/forward/README.md")
LISTENING = {"serve": "serving", "simulate": "simulating", "forward": "forwarding"}
IN_JOURNAL = ("openssl", "--heads heads.jsonl")
MAKE = shutil.which("make")


class Desk:
    """A newcomer's checkout: the demo's tables, the rule files, and a home without settings."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for file in (*DEMO_CATALOGS, KIMI_CSV):
            copied = folder / file.relative_to(ROOT)
            copied.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, copied)
        shutil.copytree(POLICY, folder / "policy")
        self.environment = environment(HOME=str(folder))
        self.journal = folder / ".local" / "share" / "assay" / "journal"

    def run(self, command: str) -> str:
        """Run a command as written, and return its output."""
        name, *arguments = shlex.split(command)
        folder = self.journal if any(words in command for words in IN_JOURNAL) else self.folder
        if name == "assay":
            with chdir(folder), pytest.MonkeyPatch.context() as changed:
                for variable in os.environ.keys() - self.environment.keys():
                    changed.delenv(variable)
                changed.setenv("HOME", str(self.folder))
                ended = assay(*arguments)
            assert ended.code == 0, f"{command}\n{ended.out}\n{ended.err}"
            return ended.out
        done = subprocess.run(
            [name, *arguments], cwd=folder, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def python(self, code: str) -> str:
        """Run a Python block, and return its output."""
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


def stops(command: str) -> bool:
    """Whether a command ends by itself."""
    name, verb, *_ = shlex.split(command)
    return name in {"assay", "openssl"} and verb not in LISTENING


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    """The desk after all commands of the README ran, each successfully and with some output."""
    desk = Desk(tmp_path_factory.mktemp("desk"))
    commands = [command for command in README.commands() if stops(command)]
    assert len(commands) >= 8
    for command in commands:
        assert desk.run(command).strip(), command
    return desk


@contextmanager
def started(desk: Desk, command: str, addresses: dict[str, str]) -> Iterator[AssayProcess]:
    """Run a command that a page shows until the end of the context, on a free port.

    `addresses` maps addresses of the page to real ones; the command's own is added.
    """
    _, verb, *arguments = shlex.split(command)
    option = {"serve": "--listen", "simulate": "--http", "forward": "--http"}[verb]
    own = arguments[arguments.index(option) + 1]
    given = {**addresses, own: "127.0.0.1:0"}
    arguments = [given.get(argument, argument) for argument in arguments]
    home = str(desk.folder)
    with running(LISTENING[verb], verb, *arguments, folder=desk.folder, HOME=home) as process:
        addresses[own] = process.address if verb == "serve" else process.http
        yield process


def replaced(text: str, addresses: dict[str, str]) -> str:
    """Return a block with the addresses of the page replaced by real ones."""
    for shown, real in addresses.items():
        text = text.replace(shown, real)
    return text


def only(commands: list[str], verb: str) -> str:
    """Return the one command that runs `assay VERB`."""
    (found,) = [command for command in commands if command.startswith(f"assay {verb} ")]
    return found


def test_the_example_at_the_top_of_the_readme_talks_to_its_server(desk: Desk) -> None:
    addresses: dict[str, str] = {}
    (example,) = README.blocks("python")

    with started(desk, only(README.commands(), "serve"), addresses):
        output = desk.python(replaced(example, addresses))

    assert len(example.splitlines()) <= 10
    assert "moonshotai/kimi-k2-0905@novita\n" in output
    assert "['ACCURACY']" in output


def test_openais_client_talks_through_the_forwarder(desk: Desk) -> None:
    addresses: dict[str, str] = {}
    (providers,) = [block for block in FORWARD.blocks("yaml") if "127.0.0.1:7340" in block]
    (example,) = FORWARD.blocks("python")

    with ExitStack() as stack:
        for command in (
            only(README.commands(), "serve"),
            only(FORWARD.commands(), "simulate"),
            only(FORWARD.commands(), "forward"),
        ):
            (desk.folder / "providers.yaml").write_text(replaced(providers, addresses))
            stack.enter_context(started(desk, command, addresses))
        provider, reason = desk.python(replaced(example, addresses)).split()

    assert provider in {"moonshotai", "novita", "infinigence"}
    assert reason in {"tool_calls", "stop"}


def test_the_questions_of_auditors_are_answered(desk: Desk) -> None:
    commands = AUDIT.commands()

    assert len(commands) >= 15
    for command in commands:
        if command.startswith("openssl") and shutil.which("openssl") is None:
            continue
        output = desk.run(command)
        assert output.strip() or command.startswith("openssl"), command


def test_replicas_run_as_operators_are_shown(
    desk: Desk, empty_databases: DatabasePool, tmp_path: Path
) -> None:
    commands = OPERATIONS.commands()
    serve = [command for command in commands if command.startswith("assay serve ")]
    assert len(serve) >= 3
    with empty_databases.lend() as url, ExitStack() as stack:

        def real(command: str) -> str:
            command = re.sub(r"postgresql://\S+", url, command)
            return command.replace("/var/lib/assay", str(tmp_path))

        assert desk.run(real(only(commands, "migrate"))).strip()
        for command in serve:
            _, verb, *arguments = shlex.split(real(command))
            if "--listen" not in arguments:
                arguments += ["--listen", f"unix:{tmp_path}/curator.sock"]
            arguments = [
                argument.replace("unix:", f"unix:{tmp_path}/")
                if argument.count("/") == 0
                else argument
                for argument in arguments
            ]
            stack.enter_context(running("serving", verb, *arguments, folder=desk.folder))


def test_the_commands_of_operators_run_as_shown(desk: Desk) -> None:
    commands = [command for command in OPERATIONS.commands() if stops(command)]
    assert len(commands) >= 3
    for command in commands:
        if "postgresql://" not in command:
            assert desk.run(command).strip(), command


@pytest.mark.slow
def test_pip_installs_a_checkout(tmp_path: Path) -> None:
    (command,) = [command for command in README.commands() if command.startswith("pip ")]
    offline = ["--no-deps", "--no-index", "--no-build-isolation", "--target", str(tmp_path)]

    subprocess.run([sys.executable, "-m", *command.split(), *offline], cwd=ROOT, check=True)

    assert (tmp_path / "assay" / "cli" / "__main__.py").exists()
    assert (tmp_path / "assay" / "_shipped" / "policy" / "bindings.yaml").exists()


@pytest.mark.slow
@pytest.mark.skipif(MAKE is None, reason="make is not installed")
@pytest.mark.skipif(
    not (ROOT / ".venv" / ".installed").exists(), reason="`make venv` has not run in this checkout"
)
def test_make_demo_prints_what_the_readme_shows(tmp_path: Path) -> None:
    # Otherwise the demo's target might call pip first, which leaves files of its own.
    subprocess.run([MAKE or "", "venv"], cwd=ROOT, capture_output=True, check=True)
    done = subprocess.run(
        [MAKE or "", "demo"],
        cwd=ROOT,
        env=environment(HOME=str(tmp_path), TMPDIR=str(tmp_path)),
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    (shown,) = README.blocks("text")
    printed = [line.split() for line in done.stdout.splitlines()]
    missing = [line for line in shown.splitlines() if line.split() not in printed]
    assert missing == []
    assert "301 models, 863 endpoints, 11 observations" in done.stdout
    for suffix in ("", ":exacto", ":nitro", ":floor", ":exacto:floor"):
        assert f"{KIMI}{suffix} with 2 tools" in done.stdout
    exacto = done.stdout.split(f"{KIMI}:exacto with 2 tools")[1].split(f"{KIMI}:nitro with")[0]
    for words in ("4 serve", "9 left out", "deepinfra", "ACCURACY", "PROPENSITY", "groq"):
        assert words in exacto
    assert "EVIDENCE_ABSENT" in exacto
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "name",
    [
        "README.md",
        "migrations/README.md",
        "policy/README.md",
        "policy/REFERENCE.md",
        "proto/README.md",
        "service/AUDIT.md",
        "service/OPERATIONS.md",
        "service/README.md",
        "service/STATISTICS.md",
        "service/assay/forward/README.md",
        "tests/README.md",
    ],
)
def test_files_that_a_page_links_to_exist(name: str) -> None:
    document = page(name)

    assert [link for link in document.links() if not (document.path.parent / link).exists()] == []


def test_the_readme_is_short() -> None:
    assert len(README.text.splitlines()) <= 150
