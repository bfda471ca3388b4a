"""The command line for its operator: help, defaults, migrations, secrets, pipes, terminals."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from tests.support.catalogs import DEMO_CATALOGS, KIMI, NOW, POLICY, SMALL_CATALOG
from tests.support.commands import assay, assay_process, assert_rejected, copy_policy
from tests.support.processes import environment

from assay.cli.app import COMMANDS as COMMANDS_OF_APP
from assay.store.database import open_database, writing

IMPORTS = (
    "catalog",
    "openrouter",
    "observations",
    "preferences",
    "tenants",
    "benchmarks",
    "inspect",
    "tau2",
)
AUDIT = ("list", "show", "replay", "verify", "export", "prune", "erase", "revisions", "tenants")
COMMANDS = (
    *("demo", "serve", "migrate", "decide", "pool", "outcomes"),
    *(f"import {kind}" for kind in IMPORTS),
    *("policy check", "policy test", "policy list"),
    *(f"audit {command}" for command in AUDIT),
    "curator repair",
)
ESCAPE = "\x1b"


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_an_example_of_the_command(command: str) -> None:
    ran = assay(*command.split(), "--help")

    assert (ran.code, ran.err) == (0, "")
    assert f"Example: assay {command}" in " ".join(ran.out.split())
    assert f"Usage: assay {command}" in ran.out


def test_help_lists_exactly_the_commands() -> None:
    def listed(*group: str) -> set[str]:
        return set(re.findall(r"^│ ([a-z0-9]+) ", assay(*group, "--help").out, re.MULTILINE))

    built = {
        "demo",
        "serve",
        "migrate",
        "import",
        "decide",
        "pool",
        "outcomes",
        "policy",
        "audit",
        "curator",
        "forward",
        "simulate",
    }
    assert listed() == built
    assert listed("import") == set(IMPORTS)
    assert listed("policy") == {"check", "list", "reference", "test"}
    assert listed("audit") == set(AUDIT)


def test_the_list_of_commands_quotes_the_first_line_of_their_help() -> None:
    for name, (function, summary) in COMMANDS_OF_APP.items():
        module, _, attribute = function.partition(":")
        help_text = getattr(import_module(f"assay.cli.{module}"), attribute).__doc__
        assert help_text.splitlines()[0] == summary, name


def test_the_version_is_one_line() -> None:
    ran = assay_process("--version")

    assert (ran.code, ran.err, len(ran.out.splitlines())) == (0, "", 1)


def test_the_environment_sets_the_data_directory(tmp_path: Path) -> None:
    home, data, named = tmp_path / "home", tmp_path / "data", tmp_path / "named" / "x.db"
    for changes in ({}, {"XDG_DATA_HOME": str(data)}, {"ASSAY_DATABASE": f"sqlite:///{named}"}):
        assert assay_process("migrate", HOME=str(home), **changes).code == 0
    given = tmp_path / "given.db"
    assert (
        assay_process(
            "migrate", "--database", f"sqlite:///{given}", HOME=str(home), ASSAY_DATABASE="no"
        ).code
        == 0
    )

    assert [
        path.is_file()
        for path in (home / ".local/share/assay/assay.db", data / "assay/assay.db", named, given)
    ] == [True] * 4


def test_the_environment_sets_the_policy_directory(tmp_path: Path) -> None:
    ran = assay_process("policy", "check", ASSAY_POLICY=str(tmp_path / "nowhere"))
    assert_rejected(ran, 1, f"'{tmp_path / 'nowhere'}' does not exist")
    shipped = assay_process("policy", "check", "--json")
    assert shipped.json["digest"] == assay("policy", "check", POLICY, "--json").json["digest"]


def test_a_second_migrate_has_nothing_to_do(empty_database_url: str) -> None:
    first = assay("migrate", "--database", empty_database_url, "--json")
    second = assay("migrate", "--database", empty_database_url, "--json")

    assert (first.code, first.json["from"]) == (0, None)
    assert (second.code, second.json) == (0, {"from": first.json["to"], "to": first.json["to"]})
    assert "nothing to do" in assay("migrate", "--database", empty_database_url).out


def test_a_database_has_to_be_created_or_migrated_before_it_is_read(
    empty_database_url: str,
) -> None:
    ran = assay("policy", "list", "--database", empty_database_url)
    is_file = empty_database_url.startswith("sqlite")
    assert_rejected(ran, 1, "no such file" if is_file else "is empty", "`assay migrate`")


@pytest.mark.parametrize(
    ("command", "words"),
    [
        pytest.param(
            ["pool", f"{KIMI}:exacto"], "is at revision 'from_the_future', newer than", id="read"
        ),
        pytest.param(
            ["import", "catalog", DEMO_CATALOGS[1]],
            "is at revision 'from_the_future', newer than",
            id="write",
        ),
        pytest.param(["migrate"], "from_the_future", id="migrate"),
    ],
)
def test_a_database_of_a_newer_version_is_not_touched(
    database_url: str, command: list[object], words: str
) -> None:
    database = open_database(database_url)
    with writing(database) as connection:
        before = connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one()
        connection.execute(text("UPDATE alembic_version SET version_num = 'from_the_future'"))
    try:
        assert_rejected(assay(*command, "--database", database_url), 1, words)
    finally:
        with writing(database) as connection:
            connection.execute(
                text("UPDATE alembic_version SET version_num = :before"), {"before": before}
            )
        database.dispose()


SECRET = "geheim"  # noqa: S105 - what must never be shown


@pytest.mark.parametrize(
    "url",
    [
        pytest.param(f"postgresql://ann:{SECRET}@127.0.0.1:1/assay", id="nothing listens"),
        pytest.param(
            f"postgresql://ann@127.0.0.1:1/assay?password={SECRET}", id="password as an option"
        ),
        pytest.param(f"postgresql://ann:{SECRET}@127.0.0.1:port/assay", id="no port"),
        pytest.param(f"mysql://ann:{SECRET}@127.0.0.1/assay", id="another kind"),
        pytest.param(f"ann:{SECRET}@127.0.0.1", id="no URL"),
        pytest.param("", id="nothing"),
        pytest.param("sqlite://", id="memory"),
        pytest.param("sqlite:////dev/null/assay.db", id="no place for a file"),
    ],
)
@pytest.mark.parametrize(
    "command",
    [
        pytest.param(["migrate"], id="migrate"),
        pytest.param(["pool", f"{KIMI}:exacto"], id="pool"),
        pytest.param(["import", "catalog", DEMO_CATALOGS[1]], id="import"),
        pytest.param(["serve", "--listen", "127.0.0.1:0"], id="serve"),
        pytest.param(["policy", "list"], id="policy list"),
    ],
)
def test_an_unavailable_database_is_one_line_without_its_password(
    command: list[object], url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Beside the journal of an earlier run lies a snapshot, with which `serve` would start.
    monkeypatch.setenv("ASSAY_JOURNAL", str(tmp_path / "journal"))
    ran = assay(*command, "--database", url)

    assert_rejected(ran, 1, "database")
    assert SECRET not in ran.err


def test_a_password_in_the_environment_is_not_shown_either() -> None:
    ran = assay_process(
        "pool", f"{KIMI}:exacto", ASSAY_DATABASE=f"postgresql://ann:{SECRET}@127.0.0.1:1/assay"
    )

    assert_rejected(ran, 1, "database", "refused")
    assert SECRET not in ran.err


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(["decide", "lab/mixed", "--policy", "{path}"], id="decide"),
        pytest.param(["pool", "lab/pair:exacto", "--policy", "{path}"], id="pool"),
        pytest.param(["policy", "check", "{path}"], id="check"),
        pytest.param(["policy", "test", "{path}"], id="test"),
        pytest.param(["policy", "list", "{path}"], id="list"),
    ],
)
@pytest.mark.parametrize(
    ("made", "words"),
    [
        pytest.param(lambda _: None, "does not exist", id="missing"),
        pytest.param(lambda path: path.write_text("x"), "is not a directory", id="file"),
        pytest.param(lambda path: path.mkdir(), "holds no rule files", id="empty"),
    ],
)
def test_an_invalid_policy_directory_is_named(
    small: str, tmp_path: Path, command: list[str], made: Callable[[Path], object], words: str
) -> None:
    made(tmp_path / "rules")
    arguments = [word.format(path=tmp_path / "rules") for word in command]
    database = (
        ["--database", small]
        if arguments[:2] not in (["policy", "check"], ["policy", "test"])
        else []
    )

    assert_rejected(assay(*arguments, *database), 1, "policy directory: ", words)


READS: tuple[list[str], ...] = (
    ["pool", "lab/pair:exacto", "--now", NOW, "--database", "{small}"],
    ["decide", "lab/pair:exacto", "--now", NOW, "--database", "{small}"],
    ["decide", "lab/pair:exacto", "--now", NOW, "--explain", "--database", "{small}"],
    ["policy", "list", "--database", "{small}"],
    ["policy", "check"],
    ["policy", "test", "--only", "errors in 500"],
    ["migrate", "--database", "{small}"],
)


@pytest.mark.parametrize(
    "command", [pytest.param(command, id=" ".join(command[:2])) for command in READS]
)
def test_a_pipe_gets_json_or_a_table_without_colors(small: str, command: list[str]) -> None:
    arguments = [word.format(small=small) for word in command]
    people, programs = assay(*arguments), assay(*arguments, "--json")

    assert [(people.code, people.err), (programs.code, programs.err)] == [(0, "")] * 2
    assert isinstance(programs.json, (dict, list))
    assert people.out
    with pytest.raises(json.JSONDecodeError):
        json.loads(people.out)
    assert ESCAPE not in people.out + programs.out


def on_a_terminal(*arguments: str) -> str:
    """What a command shows on a terminal."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "assay.cli", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
        env=environment(TERM="xterm-256color", COLUMNS="120"),
    ) as process:
        os.close(theirs)
        shown = b""
        while chunk := read_some(ours):
            shown += chunk
        process.wait(60)
    os.close(ours)
    return shown.decode()


def read_some(descriptor: int) -> bytes:
    """What is there to read; a terminal whose other side is closed is at its end."""
    try:
        return os.read(descriptor, 65536)
    except OSError:
        return b""


def test_a_terminal_gets_colors(small: str) -> None:
    assert ESCAPE in on_a_terminal("pool", "lab/pair:exacto", "--now", NOW, "--database", small)
    assert ESCAPE in on_a_terminal("guess")
    piped = assay_process("guess")
    assert_rejected(piped, 2, "guess")
    assert ESCAPE not in piped.err


def test_a_closed_pipe_and_a_full_disk_cause_no_traceback(small: str) -> None:
    command = [
        sys.executable,
        "-m",
        "assay.cli",
        "pool",
        "lab/pair:exacto",
        "--now",
        NOW,
        "--database",
        small,
    ]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert (process.stderr.read(), process.wait(60)) == (b"", 1)
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(
            command,
            check=False,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(),
            timeout=60,
        )
    assert (ended.returncode, ended.stderr) == (1, "assay: [Errno 28] No space left on device\n")


def answered(small: str, model: str, *options: str) -> Any:
    ran = assay("decide", model, *options, "--now", NOW, "--database", small, "--json")
    assert (ran.code, ran.err) == (0, "")
    return ran.json


@pytest.mark.parametrize(
    ("options", "excluded"),
    [
        pytest.param([], {}, id="nothing asked"),
        pytest.param(
            ["--tools", "1", "--tool-choice", "required"], {"narrow": "tools"}, id="tools"
        ),
        pytest.param(["--max-tokens", "101"], {"narrow": "context_length"}, id="max-tokens"),
        pytest.param(["--prompt-tokens", "1001"], {"narrow": "context_length"}, id="prompt-tokens"),
        pytest.param(
            [
                "--parameters",
                "tools",
                "--parameters",
                "tool_choice",
                "--provider",
                '{"require_parameters": true}',
            ],
            {"narrow": "require_parameters"},
            id="parameters",
        ),
        pytest.param(
            ["--input-modalities", "text", "--input-modalities", "image"],
            {"narrow": "policy", "wide": "policy"},
            id="input-modalities",
        ),
        pytest.param(["--service-tier", "priority"], {}, id="service-tier: no endpoint has tiers"),
    ],
)
def test_each_field_of_a_request_has_an_option(
    small: str, options: list[str], excluded: dict[str, str]
) -> None:
    answer = answered(small, "lab/sizes", *options)

    assert {found["tag"]: found["reasons"][0]["reason"] for found in answer["excluded"]} == excluded


def test_seed_session_and_tenant_decide_the_draw(small: str) -> None:
    def order(*options: str) -> list[str]:
        return [attempt["tag"] for attempt in answered(small, "lab/twice", *options)["attempts"]]

    seeds = [f"{number:032x}" for number in range(1, 9)]
    assert [order("--seed", seed) for seed in seeds[:2]] == [
        order("--seed", seed) for seed in seeds[:2]
    ]
    sticky = ["--session-id", "one", "--tenant", "acme"]
    assert order(*sticky) == order(*sticky)
    assert [a["model"] for a in answered(small, "lab/pair", "--models", "lab/twice")["attempts"]][
        -1
    ] == "lab/twice"


def test_preferences_of_tenants_are_imported(small: str, tmp_path: Path, database_url: str) -> None:
    catalog, preferences, tenants = (
        tmp_path / "catalog.csv",
        tmp_path / "preferences.csv",
        tmp_path / "tenants.yaml",
    )
    catalog.write_text(SMALL_CATALOG)
    preferences.write_text("tenant,kind,target,model\nacme,ignore,two,\nacme,ignore,unknown,\n")
    tenants.write_text("- tenant: strict\n  only: [one]\n  zdr: true\n")
    assert (
        assay("import", "catalog", catalog, "--source", "ours", "--database", database_url).code
        == 0
    )
    imported = assay("import", "preferences", preferences, "--database", database_url, "--json")
    assert (imported.code, len(imported.json[0]["refused"])) == (3, 1)
    assert assay("import", "tenants", tenants, "--database", database_url).code == 0

    def tags(tenant: str) -> set[str]:
        ran = assay("decide", "lab/mixed", "--tenant", tenant, "--database", database_url, "--json")
        return {attempt["tag"] for attempt in ran.json["attempts"]}

    assert tags("strict") == {"one/a"}
    assert tags("acme") == {"one/a", "three/c"}
    assert tags("") == {"one/a", "two/b", "three/c"}
    pool = assay(
        "pool", "lab/pair:exacto", "--tenant", "acme", "--now", NOW, "--database", small, "--json"
    )
    assert pool.code == 0


def test_the_shipped_rules_are_checked_listed_and_tested(tmp_path: Path) -> None:
    policy = copy_policy(tmp_path)
    checked = assay("policy", "check", policy)
    assert (checked.code, checked.err) == (0, "")
    assert "no faults" in checked.out
    tested = assay("policy", "test", policy, "--only", "errors in 500", "--json")
    assert tested.code == 0
    assert tested.json
    assert all(case["passed"] for case in tested.json)
    assert assay("policy", "test", policy, "--only", "no case is called this").code == 1
    exacto = policy / "exacto.yaml"
    exacto.write_text(exacto.read_text().replace("accuracy_enter: 0.95", "accuracy_enter: 0.55"))
    failed = assay("policy", "test", policy, "--only", "errors in 500")
    assert (failed.code, failed.err) == (1, "")
    assert "failed" in failed.out
