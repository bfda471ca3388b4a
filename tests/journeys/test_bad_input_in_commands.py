"""Bad input on the command line: exit code 2, and one line that names the value."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tests.support.catalogs import NOW
from tests.support.commands import HOMOGLYPH, MEGABYTE, assay, assert_rejected
from tests.support.processes import serving

MODEL = "lab/mixed"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        pytest.param(["guess"], 'Unknown command "guess"', id="unknown command"),
        pytest.param(["import", "guess"], 'Unknown command "guess"', id="unknown kind of import"),
        pytest.param(["decide"], "requires an argument", id="nothing to decide"),
        pytest.param(["decide", MODEL, "--guess"], "--guess", id="unknown option"),
        pytest.param(["decide", MODEL, "more"], "'more'", id="one word too many"),
        pytest.param(["decide", MODEL, "--tools", "two"], '"two"', id="a word for a number"),
        pytest.param(["decide", MODEL, "--tools", "-1"], "tools: -1", id="negative tools"),
        pytest.param(
            ["decide", MODEL, "--tools", str(2**40)], f"tools: {2**40}", id="more tools than fit"
        ),
        pytest.param(
            ["decide", MODEL, "--max-tokens", str(2**80)],
            f"max_tokens: {2**80}",
            id="more tokens than fit",
        ),
        pytest.param(["decide", ""], "model: ''", id="no model"),
        pytest.param(
            ["decide", "no/such"], "model: 'no/such' is not in the catalog", id="unknown model"
        ),
        pytest.param(["decide", f"{MODEL}:turbo"], "unknown variant 'turbo'", id="unknown variant"),
        pytest.param(["decide", MEGABYTE], "characters) is not at most 256", id="1 MB model"),
        pytest.param(["decide", HOMOGLYPH], r"'l\u0430b/mixed'", id="homoglyph"),
        pytest.param(["decide", "lab/mixed\u202e"], r"\u202e", id="right to left"),
        pytest.param(
            ["decide", "lab/\udcff"], r"'lab/\udcff' is not UTF-8", id="bytes that are no text"
        ),
        pytest.param(
            ["decide", MODEL, "--tenant", "\ud800"], r"'\ud800' is not UTF-8", id="a lone surrogate"
        ),
        pytest.param(
            ["decide", MODEL, "--seed", "zz"], "--seed: 'zz'", id="seed that is not hexadecimal"
        ),
        pytest.param(
            ["decide", MODEL, "--seed", "00"], "seed: '00' is not 16 or 32 bytes", id="short seed"
        ),
        pytest.param(["decide", MODEL, "--now", "today"], "--now: 'today'", id="a word for a time"),
        pytest.param(
            ["decide", MODEL, "--now", "2025-09-23T12:00:00"],
            "with a zone",
            id="time without a zone",
        ),
        pytest.param(
            ["decide", MODEL, "--now", "0001-01-01T00:00+14:00"], "--now: ", id="time before time"
        ),
        pytest.param(
            ["decide", MODEL, "--models", "no/such"], "'no/such'", id="unknown further model"
        ),
        pytest.param(["decide", MODEL, "--server", ""], "--server: ''", id="empty server"),
        pytest.param(
            ["decide", MODEL, "--server", "127.0.0.1:1", "--now", NOW],
            "--server: ",
            id="server and time",
        ),
        pytest.param(
            ["pool", MODEL],
            f"model: '{MODEL}' is not a name with one variant",
            id="pool of no variant",
        ),
        pytest.param(["pool", f"{MODEL}:nitro"], "variant: 'nitro'", id="variant without a pool"),
        pytest.param(["pool", "no/such:exacto"], "model: 'no/such'", id="pool of an unknown model"),
        pytest.param(["pool", f"{MODEL}:exacto", "--now", "x"], "--now: 'x'", id="pool at no time"),
        pytest.param(
            ["serve", "--poll-interval", "0"], "--poll-interval: 0", id="poll without a pause"
        ),
        pytest.param(["serve", "--poll-interval", "nan"], "--poll-interval: nan", id="poll never"),
        pytest.param(["serve", "--now", "x"], "--now: 'x'", id="serve at no time"),
        pytest.param(["import", "catalog"], "requires an argument", id="nothing to import"),
    ],
)
def test_a_wrong_command_is_a_usage_error_in_one_line(
    small: str, arguments: list[str], line: str
) -> None:
    database = [] if "--server" in arguments else ["--database", small]
    if arguments[0] in {"guess", "import"}:
        database = []
    assert_rejected(assay(*arguments, *database), 2, line)


@pytest.mark.parametrize(
    ("provider", "line"),
    [
        pytest.param("{", "--provider: '{' is not JSON", id="half an object"),
        pytest.param("[]", "provider: [] is not an object", id="a list"),
        pytest.param("null", "provider: ", id="null"),
        pytest.param('{"guess": 1}', "provider: 'guess' is not one of", id="unknown key"),
        pytest.param('{"order": "novita"}', "provider.order: 'novita'", id="a text for a list"),
        pytest.param('{"order": [1]}', "provider.order: [1]", id="a number among texts"),
        pytest.param('{"only": ["' + MEGABYTE + '"]}', "provider.only[0]: ", id="1 MB slug"),
        pytest.param(
            '{"only": [' + ", ".join(['"x"'] * 257) + "]}",
            "provider.only: '257 items'",
            id="over-long list",
        ),
        pytest.param(r'{"only": ["\u0000"]}', r"provider.only[0]: '\x00'", id="NUL"),
        pytest.param(r'{"only": ["\ud800"]}', "--provider: ", id="lone surrogate"),
        pytest.param('{"zdr": "yes"}', "provider.zdr: 'yes'", id="a text for a flag"),
        pytest.param('{"zdr": 1}', "provider.zdr: 1", id="a number for a flag"),
        pytest.param('{"sort": 1}', "provider.sort: 1", id="a number for a sort"),
        pytest.param('{"sort": "luck"}', "'luck' is not one of price", id="unknown sort"),
        pytest.param(
            '{"sort": {"by": "price", "of": 1}}', "provider.sort: 'of'", id="unknown key of sort"
        ),
        pytest.param('{"sort": {"by": ["price"]}}', "provider.sort.by: ", id="a list for a sort"),
        pytest.param('{"max_price": {"prompt": NaN}}', "--provider: ", id="NaN"),
        pytest.param(
            '{"max_price": {"prompt": "NaN"}}',
            "provider.max_price.prompt: 'NaN'",
            id="NaN in a text",
        ),
        pytest.param(
            '{"max_price": {"prompt": "Infinity"}}',
            "provider.max_price.prompt: 'Infinity'",
            id="infinity in a text",
        ),
        pytest.param(
            '{"max_price": {"prompt": 1e999}}', "--provider: ", id="more than a double holds"
        ),
        pytest.param(
            '{"max_price": {"prompt": -1}}', "provider.max_price.prompt: -1", id="negative price"
        ),
        pytest.param(
            '{"max_price": {"prompt": true}}',
            "provider.max_price.prompt: True",
            id="a flag for a price",
        ),
        pytest.param(
            '{"max_price": {"tokens": 1}}',
            "provider.max_price: 'tokens'",
            id="unknown kind of price",
        ),
        pytest.param('{"max_price": 1}', "provider.max_price: 1", id="a number for prices"),
        pytest.param(
            '{"preferred_max_latency": {"p50": {}}}',
            "preferred_max_latency.p50: {}",
            id="object for a number",
        ),
        pytest.param(
            '{"quantizations": ["fp7"]}', "provider.quantizations: 'fp7'", id="unknown quantization"
        ),
        pytest.param("[" * 100_000, "--provider: ", id="deep"),
    ],
)
def test_a_bad_provider_object_is_rejected_by_field(small: str, provider: str, line: str) -> None:
    ran = assay("decide", MODEL, "--provider", provider, "--database", small)
    assert_rejected(ran, 2, line)
    assert len(ran.line) < 500


def test_a_rejected_server_call_is_one_line(small: str, tmp_path: Path) -> None:
    database = (
        f"sqlite:///{shutil.copyfile(small.removeprefix('sqlite:///'), tmp_path / 'assay.db')}"
    )
    with serving("--database", database, "--now", NOW) as server:
        assert_rejected(
            assay("decide", "no/such", "--server", server.address),
            2,
            "NOT_FOUND",
            "model: 'no/such'",
        )
        remote = assay("decide", "lab/mixed", "--server", server.address, "--json")
        here = assay("decide", "lab/mixed", "--database", database, "--now", NOW, "--json")
        explained = assay(
            "decide", f"{MODEL}:exacto", "--explain", "--server", server.address, "--json"
        ).json
    assert remote.json["attempts"]
    assert remote.json.keys() == here.json.keys()
    assert remote.json["snapshot_id"] == here.json["snapshot_id"]
    assert all(verdict["seen"] for verdict in explained["verdicts"])
    assert_rejected(assay("decide", "lab/mixed", "--server", server.address), 1, "UNAVAILABLE")
