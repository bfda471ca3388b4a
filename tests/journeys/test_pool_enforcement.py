"""Decisions on the command line and over gRPC: no request leads around the pool."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import grpc
import pytest
from tests.support.catalogs import KIMI, MEMBERS, NOW, SMALL_CATALOG
from tests.support.commands import assay
from tests.support.processes import AssayProcess, environment, serving
from tests.support.server_calls import decide, reasons, tags
from tests.support.waiting import eventually

from assay.forward.provider_preferences import provider_preferences
from assay.v1 import routing_pb2 as pb, routing_pb2_grpc as pb_grpc

ALONE = "deepseek/deepseek-v3.1-terminus"  # in the demo's catalog, never observed


def answered(url: str, model: str, *more: str) -> Any:
    ran = assay("decide", model, "--tools", "2", "--now", NOW, "--database", url, "--json", *more)
    assert (ran.code, ran.err) == (0, "")
    return ran.json


def tried(answer: Any) -> list[str]:
    return [attempt["tag"] for attempt in answer["attempts"]]


def test_the_suffix_orders_only_members(observed: str) -> None:
    answer = answered(observed, f"{KIMI}:exacto")

    assert set(tried(answer)) == MEMBERS
    assert [attempt["rank"] for attempt in answer["attempts"]] == [1, 2, 3, 4]
    assert {found["tag"] for found in answer["excluded"]}.isdisjoint(MEMBERS)
    assert all(reason["message"] for found in answer["excluded"] for reason in found["reasons"])
    assert answer["availability"] == ""


@pytest.mark.parametrize("provider", ['{"sort":"price"}', '{"order":["deepinfra"]}'])
def test_no_preference_lets_a_non_member_in(observed: str, provider: str) -> None:
    assert set(tried(answered(observed, f"{KIMI}:exacto", "--provider", provider))) == MEMBERS


@pytest.mark.parametrize(
    "provider",
    [
        pytest.param({"sort": "throughput"}, id="sorted by throughput"),
        pytest.param({"sort": "exacto"}, id="sorted by the soft tiers"),
        pytest.param({"sort": {"by": "latency", "partition": "none"}}, id="sorted over all models"),
        pytest.param(
            {"order": ["deepinfra", "novita"], "allow_fallbacks": True}, id="with fallbacks"
        ),
        pytest.param({"only": ["deepinfra", "novita"]}, id="only a non-member and a member"),
        pytest.param({"quantizations": ["unknown", "fp8", "fp4"]}, id="quantizations of all"),
    ],
)
def test_no_other_preference_lets_a_non_member_in(
    kimi_server: grpc.Channel, provider: dict[str, Any]
) -> None:
    seen = tags(
        decide(kimi_server, f"{KIMI}:exacto", tools=2, provider=provider_preferences(provider))
    )

    assert seen
    assert set(seen) <= MEMBERS


@pytest.mark.parametrize(
    "provider",
    [
        pytest.param({"only": ["deepinfra"]}, id="only a non-member"),
        pytest.param(
            {"order": ["deepinfra"], "allow_fallbacks": False}, id="a non-member without fallbacks"
        ),
    ],
)
def test_only_a_non_member_leaves_no_attempt_and_says_why(
    observed: str, provider: dict[str, Any]
) -> None:
    answer = answered(observed, f"{KIMI}:exacto", "--provider", json.dumps(provider))

    assert (answer["attempts"], answer["availability"]) == ([], "constraint_filtered")
    assert {"only", "ACCURACY"} <= {reason["reason"] for reason in answer["availability_reasons"]}


def test_without_the_suffix_every_endpoint_may_appear(observed: str) -> None:
    assert len(tried(answered(observed, KIMI))) == 11
    assert tried(answered(observed, KIMI, "--provider", '{"only": ["deepinfra"]}')) == ["deepinfra"]
    assert (
        tried(answered(observed, KIMI, "--provider", '{"order": ["deepinfra"]}'))[0] == "deepinfra"
    )


def test_missing_evidence_excludes(kimi: str, kimi_server: grpc.Channel) -> None:
    answer = answered(kimi, f"{ALONE}:exacto")

    assert (answer["attempts"], answer["availability"]) == ([], "constraint_filtered")
    assert len(answer["excluded"]) == 5
    assert all(
        "EVIDENCE_ABSENT" in {r["reason"] for r in found["reasons"]} for found in answer["excluded"]
    )
    remote = decide(kimi_server, f"{ALONE}:exacto", tools=2)
    assert not remote.attempts
    assert (remote.availability_reasons[0].reason, remote.availability_reasons[0].endpoints) == (
        "EVIDENCE_ABSENT",
        5,
    )
    assert decide(kimi_server, ALONE, tools=2).attempts


def test_propensity_abstains_with_two_endpoints(small: str, small_server: grpc.Channel) -> None:
    ran = assay("pool", "lab/pair:exacto", "--now", NOW, "--database", small, "--json")
    abstained = {
        (each["tag"], finding["rule"], bool(finding["message"]))
        for each in (*ran.json["members"], *ran.json["others"])
        for finding in each["abstained"]
        if finding["reason"] == "PROPENSITY"
    }
    assert abstained == {("one", "propensity_in_band", True), ("two", "propensity_in_band", True)}

    answer = decide(small_server, "lab/pair:exacto", tools=1)
    assert tags(answer) == ["one"]
    assert reasons(answer)["two"] == {"ACCURACY", "EVIDENCE_THIN"}
    said = {found.tag: {each.rule for each in found.reasons} for found in answer.abstained}
    assert all("propensity_in_band" in said[tag] for tag in ("one", "two"))


def test_suffixes_compose_in_any_order(observed: str) -> None:
    def without_id(model: str) -> Any:
        return {**answered(observed, model, "--seed", "00" * 16), "decision_id": ""}

    first, second = without_id(f"{KIMI}:nitro:exacto"), without_id(f"{KIMI}:exacto:nitro")
    assert {*tried(first)} == MEMBERS
    assert first == second


def test_the_last_suffix_with_an_order_determines_the_order(small_server: grpc.Channel) -> None:
    by_price, by_speed = ["one/a", "two/b", "three/c"], ["three/c", "two/b", "one/a"]
    orders = {
        "lab/mixed:nitro:floor": by_price,
        "lab/mixed:floor:nitro": by_speed,
        "lab/mixed:floor": by_price,
        "lab/mixed:nitro": by_speed,
    }
    assert {model: tags(decide(small_server, model)) for model in orders} == orders


def test_each_model_of_a_request_has_its_own_suffix(small_server: grpc.Channel) -> None:
    answer = decide(small_server, "lab/pair:exacto", models=["lab/mixed"], tools=1)
    assert [a.model for a in answer.attempts] == ["lab/pair", *["lab/mixed"] * 3]
    assert answer.attempts[0].tag == "one"

    swapped = decide(small_server, "lab/pair", models=["lab/mixed:exacto"], tools=1)
    assert {a.model for a in swapped.attempts} == {"lab/pair"}
    assert {f.model for f in swapped.excluded} == {"lab/mixed"}


def test_a_repeated_tag_means_both_endpoints(small_server: grpc.Channel) -> None:
    only = pb.ProviderPreferences(only=["one"])
    both = decide(small_server, "lab/twice:floor", provider=only)
    assert [a.endpoint_id for a in both.attempts] == ["lab/twice@one", "lab/twice@one~2"]
    assert reasons(both) == {"two": {"only"}}


@pytest.mark.parametrize(
    ("wishes", "parameters", "left"),
    [
        pytest.param({"max_price": {"prompt": 2}}, [], {"one/a", "two/b"}, id="max_price"),
        pytest.param(
            {"max_price": {"completion": "1.5"}},
            [],
            {"one/a"},
            id="max_price of completions, as text",
        ),
        pytest.param(
            {"quantizations": ["bf16", "int4"]}, [], {"two/b", "three/c"}, id="quantizations"
        ),
        pytest.param({"zdr": True}, [], {"one/a"}, id="zdr: unknown is not known to keep nothing"),
        pytest.param({"require_parameters": True}, ["seed"], {"one/a"}, id="require_parameters"),
        pytest.param(
            {}, ["seed"], {"one/a", "two/b", "three/c"}, id="parameters alone exclude no endpoint"
        ),
        pytest.param(
            {"data_collection": "deny"}, [], set(), id="data_collection: unknown is not no"
        ),
        pytest.param({"ignore": ["two"]}, [], {"one/a", "three/c"}, id="ignore a provider"),
        pytest.param({"ignore": ["two/b"]}, [], {"one/a", "three/c"}, id="ignore a tag"),
        pytest.param(
            {"preferred_min_throughput": 25},
            [],
            {"one/a", "two/b", "three/c"},
            id="preferred demotes only",
        ),
    ],
)
def test_preferences_exclude_what_they_name(
    small_server: grpc.Channel, wishes: dict[str, Any], parameters: list[str], left: set[str]
) -> None:
    answer = decide(
        small_server, "lab/mixed", provider=provider_preferences(wishes), parameters=parameters
    )

    assert set(tags(answer)) == left
    assert set(tags(answer)) | set(reasons(answer)) == {"one/a", "two/b", "three/c"}
    assert set(tags(answer)).isdisjoint(reasons(answer))


CANONICAL = """
import sys
from datetime import datetime
from assay.engine.decide.ordering import seed_for
from assay.engine.decide.plan import Moment, plan
from assay.engine.world.request import Request
from assay.server.database import open_current_database, snapshot_now
url, now, *models = sys.argv[1:]
at = datetime.fromisoformat(now)
with open_current_database(url) as database:
    snapshot = snapshot_now(database, None, at)
for model in models:
    request = Request(model, tools=2, session_id="s", tenant="t")
    seed = seed_for(b"", "t", model, "s", "")
    print(plan(request, snapshot, Moment(at, seed)).canonical().hex())
"""


def test_two_processes_make_the_same_plan_to_the_byte(observed: str) -> None:
    models = [KIMI, f"{KIMI}:exacto", f"{KIMI}:nitro:floor"]
    plans = {
        subprocess.run(
            [sys.executable, "-c", CANONICAL, observed, NOW, *models],
            check=True,
            capture_output=True,
            text=True,
            timeout=60,
            env=environment(PYTHONHASHSEED=seed),
        ).stdout
        for seed in ("1", "2")
    }

    (lines,) = plans
    shown = [bytes.fromhex(line).decode() for line in lines.split()]
    assert len(set(shown)) == len(models)
    assert all(f'"{KIMI}@novita"' in plan for plan in shown)


def test_prices_of_one_and_three_draw_nine_to_one(small_server: grpc.Channel) -> None:
    stub = pb_grpc.RoutingServiceStub(small_server)
    first = 0
    for start in range(0, 10_000, 250):
        seeds = [number.to_bytes(16) for number in range(start, start + 250)]
        batch = pb.BatchDecideRequest(
            requests=[pb.DecideRequest(model="lab/draw", seed=s) for s in seeds]
        )
        first += sum(
            result.response.attempts[0].tag == "one" for result in stub.BatchDecide(batch).results
        )

    assert abs(first - 9_000) < 5 * (10_000 * 0.9 * 0.1) ** 0.5


def test_a_session_keeps_its_first_attempt_while_another_endpoint_leaves(
    small: str, tmp_path: Path
) -> None:
    url = f"sqlite:///{shutil.copyfile(small.removeprefix('sqlite:///'), tmp_path / 'assay.db')}"
    sessions = [f"session {number}" for number in range(40)]

    def firsts(server: AssayProcess) -> dict[str, str]:
        with server.channel() as channel:
            return {
                s: tags(decide(channel, "lab/draw", session_id=s, tenant="acme"))[0]
                for s in sessions
            }

    with serving("--database", url, "--now", NOW) as server, server.channel() as channel:
        before = firsts(server)
        assert firsts(server) == before
        assert set(before.values()) == {"one", "three"}
        without = tmp_path / "catalog.csv"
        without.write_text(
            "".join(
                row
                for row in SMALL_CATALOG.splitlines(keepends=True)
                if "lab/draw,three" not in row
            )
        )
        assert assay("import", "catalog", without, "--database", url).code == 0
        eventually(lambda: len(decide(channel, "lab/draw").attempts), lambda n: n == 1)
        after = firsts(server)

    assert {s for s in sessions if before[s] == "one"} == {
        s for s in sessions if after[s] == before[s]
    }


def buf() -> str:
    installed = Path(sys.executable).with_name("buf")
    found = str(installed) if installed.exists() else shutil.which("buf")
    if found is None:
        pytest.skip("no buf: the package buf-bin is not installed")
    return found


def test_a_stock_client_with_reflection_only_can_decide(observed: str, tmp_path: Path) -> None:
    url = f"sqlite:///{shutil.copyfile(observed.removeprefix('sqlite:///'), tmp_path / 'assay.db')}"
    with serving("--database", url, "--now", NOW) as server:
        ended = subprocess.run(
            [
                buf(),
                "curl",
                "--reflect",
                "--protocol",
                "grpc",
                "--http2-prior-knowledge",
                "-d",
                json.dumps(
                    {"model": f"{KIMI}:exacto", "tools": 2, "provider": {"sort": {"by": "price"}}}
                ),
                f"http://{server.address}/assay.v1.RoutingService/Decide",
            ],
            check=True,
            capture_output=True,
            text=True,
            timeout=60,
            cwd=tmp_path,
        )

    assert {attempt["tag"] for attempt in json.loads(ended.stdout)["attempts"]} == MEMBERS
