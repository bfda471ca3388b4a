"""Outcomes over real sockets: demotions, killed servers, and the same batches at two replicas."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.timestamp_pb2 import Timestamp
from sqlalchemy import Engine, func, select
from tests.support.commands import assay
from tests.support.decide_load import import_small_catalog, ship_and_read_log
from tests.support.processes import AssayProcess, serving_journal
from tests.support.searches import files_containing
from tests.support.server_calls import decide, health_status, scrape_metrics, tags
from tests.support.waiting import eventually

from assay.store.database import open_database, reading
from assay.store.evidence_tables import (
    evidence_batch,
    evidence_counter,
    outcome,
    service_counter,
    tenant_provider,
)
from assay.v1 import evidence_pb2 as pb, evidence_pb2_grpc as pb_grpc, routing_pb2

ENDPOINTS = ("lab/draw@one", "lab/draw@three", "lab/mixed@one/a", "lab/mixed@two/b")
CANARY = "the-users-own-words"
TENANT = "tenant-canary"
BATCH = 20


def just_now(seconds_ago: float = 0.0) -> Timestamp:
    at = Timestamp()
    at.GetCurrentTime()
    at.FromNanoseconds(at.ToNanoseconds() - int(seconds_ago * 1e9))
    return at


def made_up(draw: random.Random, **fields: Any) -> pb.Outcome:
    """An ordinary outcome."""
    calls = draw.randrange(2)
    tools = pb.ToolUse(offered=draw.choice((1, 5, 20)), tool_call_requests=calls, tool_calls=calls)
    given = {
        "endpoint_id": draw.choice(ENDPOINTS),
        "tenant": draw.choice(("", "acme", TENANT)),
        "at": just_now(1),
        "result": pb.RESULT_ANSWERED,
        "first_token_s": draw.random(),
        "duration_s": 1 + draw.random(),
        "completion_tokens": draw.randrange(1000),
        "tools": tools,
    }
    return pb.Outcome(**{**given, **fields})


def made_up_batches(count: int, seed: int) -> list[pb.ReportOutcomesRequest]:
    draw = random.Random(seed)
    return [
        pb.ReportOutcomesRequest(
            source="gw", batch_id=f"b-{n}", outcomes=[made_up(draw) for _ in range(BATCH)]
        )
        for n in range(count)
    ]


def report(channel: grpc.Channel, batch: pb.ReportOutcomesRequest) -> int:
    return pb_grpc.EvidenceServiceStub(channel).ReportOutcomes(batch, timeout=30).accepted


@contextmanager
def opened(url: str) -> Iterator[Engine]:
    database = open_database(url)
    yield database
    database.dispose()


def counters(database: Engine) -> dict[str, list[tuple[Any, ...]]]:
    """Everything that outcomes were added up to, tenants by how many they are."""
    with reading(database) as connection:
        tables = (evidence_counter, service_counter)
        found = {
            table.name: [tuple(row) for row in connection.execute(select(table))]
            for table in tables
        }
        cells: Counter[tuple[Any, ...]] = Counter()
        for row in found.pop("evidence_counter"):
            for place, count in enumerate(row[5:]):
                cells[*row[:2], *row[3:5], place] += count
        providers = select(
            tenant_provider.c.provider, tenant_provider.c.day, func.sum(tenant_provider.c[3])
        )
        by_provider = connection.execute(
            providers.group_by(tenant_provider.c.provider, tenant_provider.c.day)
        )
        summed = sorted((*row[:2], int(row[2])) for row in by_provider)
    return {
        "service": sorted(found["service_counter"]),
        "evidence": sorted(cells.items()),
        "providers": summed,
    }


def names(database: Engine) -> set[str]:
    with reading(database) as connection:
        return set(connection.execute(select(evidence_batch.c.batch_id)).scalars())


def expected(batches: Iterable[pb.ReportOutcomesRequest]) -> int:
    """How many answered requests are in batches."""
    return sum(len(batch.outcomes) for batch in batches)


def answered(database: Engine) -> int:
    with reading(database) as connection:
        counts = select(func.sum(service_counter.c["count"])).where(
            service_counter.c.metric == "answered"
        )
        total = connection.scalar(counts)
    return int(total or 0)


def failing(endpoint_id: str, **fields: Any) -> list[pb.Outcome]:
    return [
        pb.Outcome(
            endpoint_id=endpoint_id,
            at=just_now(0.3 - n / 10),
            result=pb.RESULT_TRANSPORT_ERROR,
            **fields,
        )
        for n in range(3)
    ]


def test_a_decision_made_while_an_endpoint_was_demoted_replays_with_the_demotion(
    database_url: str, tmp_path: Path
) -> None:
    import_small_catalog(database_url, tmp_path)
    with serving_journal(database_url, tmp_path / "journal") as server, server.channel() as channel:
        cheapest = routing_pb2.ProviderPreferences(sort=routing_pb2.Sort(by="price"))
        before = decide(channel, "lab/draw", provider=cheapest)
        assert tags(before) == ["one", "three"]
        sent = pb.ReportOutcomesRequest(
            source="gw", batch_id="b-1", outcomes=failing("lab/draw@one")
        )
        assert report(channel, sent) == 3
        demoted = decide(channel, "lab/draw", provider=cheapest)
        limited = pb.Outcome(
            endpoint_id="lab/draw@three", at=just_now(), result=pb.RESULT_RATE_LIMITED
        )
        report(channel, pb.ReportOutcomesRequest(source="gw", batch_id="b-2", outcomes=[limited]))
        both = decide(channel, "lab/draw", provider=cheapest)
        well = [
            pb.Outcome(endpoint_id=f"lab/draw@{tag}", at=just_now(), result=pb.RESULT_ANSWERED)
            for tag in ("one", "three")
        ]
        report(channel, pb.ReportOutcomesRequest(source="gw", batch_id="b-3", outcomes=well))
        after = decide(channel, "lab/draw", provider=cheapest)
        assert server.stop() == 0
    ship_and_read_log(database_url, tmp_path / "journal")
    answers = [before, demoted, both, after]
    assert (tags(after), tags(demoted)[0]) == (["one", "three"], "three")
    ids = [answer.decision_id for answer in answers]
    replayed = assay("audit", "replay", *ids, "--database", database_url, "--json")
    assert (replayed.code, replayed.json["outcomes"]) == (0, {"identical": 4})
    shown = [
        assay("audit", "show", each, "--database", database_url, "--json").json for each in ids
    ]
    assert [each["record"]["health"] for each in shown] == [
        {},
        {"lab/draw@one": "failing"},
        {"lab/draw@one": "failing", "lab/draw@three": "rate limited"},
        {},
    ]


def test_acknowledged_outcomes_survive_a_kill_and_count_once(
    database_url: str, tmp_path: Path
) -> None:
    """Clients then send everything again, as they have to where they were not answered."""
    import_small_catalog(database_url, tmp_path)
    journal, batches, acknowledged = tmp_path / "journal", made_up_batches(200, seed=1), set[str]()
    with serving_journal(database_url, journal) as server:
        threads = [
            threading.Thread(target=send, args=(server, mine, acknowledged))
            for mine in (batches, batches[::-1])
        ]
        for thread in threads:
            thread.start()
        eventually(lambda: len(acknowledged) >= 40)
        server.kill()
        for thread in threads:
            thread.join(30)
    ship_and_read_log(database_url, journal)
    with opened(database_url) as database:
        assert names(database) >= acknowledged
        assert answered(database) == BATCH * len(names(database))
    with serving_journal(database_url, journal) as server, server.channel() as channel:
        assert [report(channel, batch) for batch in batches] == [BATCH] * len(batches)
        assert server.stop() == 0
    ship_and_read_log(database_url, journal)
    with opened(database_url) as database:
        assert names(database) == {batch.batch_id for batch in batches}
        assert answered(database) == expected(batches)


def send(
    server: AssayProcess, batches: Sequence[pb.ReportOutcomesRequest], acknowledged: set[str]
) -> None:
    """Send on a stream, until the server is gone."""
    stream = iter(
        [
            pb.StreamOutcomesRequest(source=b.source, batch_id=b.batch_id, outcomes=b.outcomes)
            for b in batches
        ]
    )
    try:
        with server.channel() as channel:
            for answer in pb_grpc.EvidenceServiceStub(channel).StreamOutcomes(stream):
                assert answer.accepted == BATCH
                acknowledged.add(answer.batch_id)
    except grpc.RpcError:
        return


def test_two_replicas_that_get_every_batch_count_it_once(new_database: Any, tmp_path: Path) -> None:
    batches = made_up_batches(60, seed=3)
    with new_database() as url, new_database() as other:
        for number, each in enumerate((url, other)):
            (tmp_path / f"{number}").mkdir()
            import_small_catalog(each, tmp_path / f"{number}")
        with (
            serving_journal(url, tmp_path / "one") as one,
            serving_journal(url, tmp_path / "two") as two,
        ):
            orders = [random.Random(n).sample(batches, len(batches)) for n in range(2)]
            threads = [
                threading.Thread(target=send, args=(server, order * 2, set()))
                for server, order in zip((one, two), orders, strict=True)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(60)
            assert (one.stop(), two.stop()) == (0, 0)
        merged = [each for batch in batches for each in batch.outcomes]
        with serving_journal(other, tmp_path / "three") as server, server.channel() as channel:
            for first in range(0, len(merged), 500):  # the same evidence in other batches
                part = merged[first : first + 500]
                whole = pb.ReportOutcomesRequest(source="gw", batch_id=f"w-{first}", outcomes=part)
                assert report(channel, whole) == len(part)
            assert server.stop() == 0
        for journal in ("one", "two"):
            ship_and_read_log(url, tmp_path / journal)
        ship_and_read_log(other, tmp_path / "three")
        with opened(url) as database, opened(other) as plain:
            assert counters(database) == counters(plain)
            assert answered(database) == expected(batches)


def test_text_of_users_and_names_of_tenants_are_stored_nowhere(
    database_url: str, tmp_path: Path
) -> None:
    import_small_catalog(database_url, tmp_path)
    journal, text = tmp_path / "journal", CANARY.encode()
    unknown = bytes([0xFA, 0x07, len(text)]) + text  # field 127
    sound = made_up(random.Random(1), tenant=TENANT).SerializeToString() + unknown
    refused = made_up(random.Random(1), endpoint_id=f"lab/{CANARY}").SerializeToString()
    named = made_up(random.Random(1), decision_id=CANARY, attempt=1).SerializeToString()
    data = b"\x0a\x02gw\x12\x03b-1" + unknown
    for each in (sound, refused, named):
        data += b"\x1a" + varint(len(each)) + each
    with serving_journal(database_url, journal) as server, server.channel() as channel:
        raw: Any = channel.unary_unary("/assay.v1.EvidenceService/ReportOutcomes")
        answer = pb.ReportOutcomesResponse.FromString(raw(data))
        assert (answer.accepted, [each.reason for each in answer.refused]) == (
            1,
            ["unknown-endpoint", "bad-decision"],
        )
        assert files_containing(tmp_path, CANARY) == []  # with the journal's segments in place
        assert server.stop() == 0
        assert not any(CANARY in line or TENANT in line for line in server.log)
    ship_and_read_log(database_url, journal)
    assert files_containing(tmp_path, CANARY) == []
    with opened(database_url) as database:
        assert answered(database) == 1
        for table in (evidence_counter, service_counter, tenant_provider, outcome, evidence_batch):
            with reading(database) as connection:
                assert TENANT not in repr(connection.execute(select(table)).all())


def varint(number: int) -> bytes:
    return bytes([number]) if number < 128 else bytes([number & 127 | 128, number >> 7])


def test_evidence_service_reports_its_health(small_address: str) -> None:
    with grpc.insecure_channel(small_address) as channel:
        assert health_status(channel, "assay.v1.EvidenceService") == "SERVING"


COUNT, TIMES, PART = 8, 50, 4
CHEAPEST = routing_pb2.ProviderPreferences(sort=routing_pb2.Sort(by="price"))


def attempts_of(decisions: Iterable[routing_pb2.DecideResponse], at: Timestamp) -> list[pb.Outcome]:
    """Return an outcome per attempt of each decision; they differ in nothing but the decision."""
    return [
        pb.Outcome(
            endpoint_id=attempt.endpoint_id,
            at=at,
            result=pb.RESULT_ANSWERED if attempt.rank == 2 else pb.RESULT_TIMEOUT,
            decision_id=decision.decision_id,
            attempt=attempt.rank,
            tenant="acme",
            tools=pb.ToolUse(offered=3, tool_call_requests=attempt.rank - 1, tool_calls=number + 1)
            if attempt.rank == 2
            else None,
        )
        for number, decision in enumerate(decisions)
        for attempt in decision.attempts
    ]


def batches_of(outcomes: Sequence[pb.Outcome], name: str) -> list[pb.ReportOutcomesRequest]:
    return [
        pb.ReportOutcomesRequest(
            source="gw", batch_id=f"{name}-{first}", outcomes=outcomes[first : first + PART]
        )
        for first in range(0, len(outcomes), PART)
    ]


def send_often(
    replicas: Sequence[AssayProcess],
    batches: Sequence[pb.ReportOutcomesRequest],
    draw: random.Random,
    sent: list[str],
) -> None:
    """Send each batch often, in any order, to any replica, half of the time under a new id."""
    work = [(batch, number) for batch in batches for number in range(TIMES // 2)]
    for batch, number in draw.sample(work, len(work)):
        again = pb.ReportOutcomesRequest()
        again.CopyFrom(batch)
        if number % 2:
            again.batch_id = f"{batch.batch_id}-{draw.randrange(10**12)}"
        while True:  # as a client has to, until the batch is acknowledged
            try:
                with draw.choice(replicas).channel() as channel:
                    report(channel, again)
                break
            except grpc.RpcError:
                continue
        sent.append(again.batch_id)


def has_sent(sent: Sequence[str], count: int) -> bool:
    return len(sent) >= count


def doubled(found: dict[str, list[tuple[Any, ...]]]) -> dict[str, list[tuple[Any, ...]]]:
    return {name: [(*row[:-1], 2 * row[-1]) for row in rows] for name, rows in found.items()}


def test_batches_sent_fifty_times_to_two_killed_replicas_count_as_if_sent_once(
    database_url: str, tmp_path: Path
) -> None:
    """The same outcomes of other decisions are sent once before: the counters must double."""
    import_small_catalog(database_url, tmp_path)
    journals, at = [tmp_path / "one", tmp_path / "two"], just_now()
    with ExitStack() as stack, opened(database_url) as database:

        def start(number: int) -> AssayProcess:
            return stack.enter_context(serving_journal(database_url, journals[number]))

        replicas = [start(0), start(1)]
        with replicas[0].channel() as channel:
            made = [decide(channel, "lab/draw", provider=CHEAPEST) for _ in range(2 * COUNT)]
        once, often = (attempts_of(made[n::2], at) for n in range(2))
        with replicas[1].channel() as channel:
            for batch in batches_of(once, "once"):
                assert report(channel, batch) == PART
        eventually(lambda: answered(database) == COUNT)
        expected, sent = doubled(counters(database)), list[str]()
        batches = batches_of(often, "often")
        threads = [
            threading.Thread(target=send_often, args=(replicas, batches, random.Random(seed), sent))
            for seed in range(2)
        ]
        for thread in threads:
            thread.start()
        total = TIMES * len(batches)
        for number in range(2):
            eventually(partial(has_sent, sent, total * (number + 1) // 3))
            replicas[number].kill()
            replicas[number] = start(number)
        for thread in threads:
            thread.join()
        assert len(sent) == total
        assert [replica.stop() for replica in replicas] == [0, 0]
        for journal in journals:
            ship_and_read_log(database_url, journal)
        assert counters(database) == expected
        listed = assay("outcomes", "--database", database_url, "--json").json
        assert {row["kind"] for row in listed["uncounted"]} == {"duplicate"}
        assert listed["waiting"] == []


def test_outcomes_that_belong_to_no_attempt_move_nothing_and_are_listed_by_kind(
    database_url: str, tmp_path: Path
) -> None:
    import_small_catalog(database_url, tmp_path)
    journal = tmp_path / "journal"
    with (
        serving_journal(database_url, journal, "--metrics", "127.0.0.1:0") as server,
        server.channel() as channel,
    ):
        made = decide(channel, "lab/draw", provider=CHEAPEST)
        right, other = attempts_of([made], just_now())
        wrong = [
            changed(right, decision_id=made.decision_id[:-4] + "0000"),
            changed(right, endpoint_id=other.endpoint_id),
            changed(right, attempt=77),
            changed(right, at=just_now(25 * 3600)),
        ]
        sent = pb.ReportOutcomesRequest(source="gw", batch_id="b-1", outcomes=wrong)
        answer = pb_grpc.EvidenceServiceStub(channel).ReportOutcomes(sent, timeout=30)
        assert [(each.index, each.reason) for each in answer.refused] == [(3, "late")]
        for number in range(3):
            report(channel, batches_of([right], f"right-{number}")[0])
        metrics = eventually(
            lambda: scrape_metrics(server.ready["metrics"]),
            lambda seen: seen['assay_uncounted_outcomes_total{kind="duplicate"}'] == 2,
        )
        assert server.stop() == 0
    assert metrics['assay_uncounted_outcomes_total{kind="wrong-endpoint"}'] == 1
    assert metrics['assay_uncounted_outcomes_total{kind="no-such-attempt"}'] == 1
    assert metrics['assay_refused_outcomes_total{reason="duplicate"}'] == 2
    assert metrics['assay_refused_outcomes_total{reason="late"}'] == 1
    ship_and_read_log(database_url, journal)
    expected = [
        ("duplicate", "lab/draw@one", 2),
        ("late", "lab/draw@one", 1),
        ("no-such-attempt", "lab/draw@one", 1),
        ("wrong-endpoint", "lab/draw@three", 1),
    ]
    assert listed_kinds(database_url) == (expected, 1)
    with opened(database_url) as database:
        assert [row[:4] for row in counters(database)["service"]] == [
            ("lab/draw@one", right.at.seconds // 3600, "failed", 0)
        ]
    age = "0h"  # nothing that waits is worth keeping any more
    assert (
        assay("audit", "prune", "--older-than", age, "--yes", "--database", database_url).code == 0
    )
    expected.insert(3, ("unknown-decision", "lab/draw@one", 1))
    assert listed_kinds(database_url) == (expected, 0)


def listed_kinds(url: str) -> tuple[list[tuple[str, str, int]], int]:
    """Return kind, endpoint and number of what moved nothing, and how many wait."""
    listed = assay("outcomes", "--database", url, "--json").json
    rows = [(row["kind"], row["endpoint_id"], row["outcomes"]) for row in listed["uncounted"]]
    return rows, sum(row["outcomes"] for row in listed["waiting"])


def changed(outcome: pb.Outcome, **fields: Any) -> pb.Outcome:
    copy = pb.Outcome()
    copy.CopyFrom(outcome)
    for name, value in fields.items():
        if name == "at":
            copy.at.CopyFrom(value)
        else:
            setattr(copy, name, value)
    return copy
