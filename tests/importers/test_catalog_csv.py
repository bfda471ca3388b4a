"""The importer of catalog tables: every column, and every fault of a row or a header."""

from __future__ import annotations

import gzip
from datetime import UTC, datetime
from pathlib import Path

import pytest

import assay
from assay.engine.errors import BadData
from assay.engine.world.catalog import Endpoint, Model, Percentiles, Prices, Provider
from assay.importers.catalog_csv import OPTIONAL, read_catalog
from assay.importers.documents import CatalogDocument

DEMO = Path(str(assay.__file__)).parent / "demo" / "data" / "catalog_facts"
GOOD = "lab/one,acme,acme/fp8,1,2"


def read(text: str) -> CatalogDocument:
    return read_catalog(text.encode(), source="ours")


def with_row(row: str) -> CatalogDocument:
    """Read a table with `row` on line 3, between valid rows."""
    header = "model,provider,tag,prompt_usd_per_mtok,context_length"
    return read(f"{header}\n{GOOD}\n{row}\nlab/two,acme,acme,,")


@pytest.mark.parametrize(
    ("name", "models", "endpoints"),
    [
        pytest.param("endpoints_2026-07-04.csv", 301, 852, id="the public catalog"),
        pytest.param("kimi-k2-0905_direct.csv", 1, 11, id="the vendors' own catalog"),
    ],
)
def test_every_row_of_the_demo_tables_is_accepted(name: str, models: int, endpoints: int) -> None:
    document = read_catalog((DEMO / name).read_bytes(), source="demo")
    assert (len(document.models), len(document.endpoints), document.rejected) == (
        models,
        endpoints,
        (),
    )
    assert len({endpoint.endpoint_id for endpoint in document.endpoints}) == endpoints


def test_the_source_of_every_demo_table_is_documented() -> None:
    named = (DEMO.parent / "SOURCES.md").read_text(encoding="utf-8")
    tables = [path.relative_to(DEMO.parent).as_posix() for path in DEMO.parent.rglob("*.csv")]
    assert len(tables) == 3
    assert [table for table in tables if f"`{table}`" not in named] == []


@pytest.mark.slow
def test_a_table_with_too_many_rows_is_rejected() -> None:
    with pytest.raises(BadData, match="more than 500000 rows"):
        read("model,provider,tag\n" + "x,y,z\n" * 500_002)


def test_every_column_is_read_into_its_field() -> None:
    cells = {
        "model": "lab/one:free",
        "provider": "acme",
        "tag": "acme/fp8",
        "provider_name": "Acmé, Inc",
        "quantization": "fp8",
        "context_length": "8192",
        "max_completion_tokens": "0",
        "max_prompt_tokens": "7",
        "prompt_usd_per_mtok": "0.1",
        "completion_usd_per_mtok": "2e-1",
        "cache_read_usd_per_mtok": "0.3",
        "cache_write_usd_per_mtok": "0.4",
        "audio_usd_per_mtok": "0.5",
        "request_usd": "0",
        "image_usd": "0.6",
        "supported_parameters": "tools  top_p",
        "tool_choices": "auto required",
        "input_modalities": "text image",
        "status": "-2",
        "uptime_last_30m_percent": "99.5",
        "uptime_last_1d_percent": "0.5",
        "supports_implicit_caching": "TRUE",
        "zdr": "false",
        "data_collection": "deny",
        "generated_at": "2026-07-04T02:00:00+02:00",
        **{
            f"latency_{p}_s": value
            for p, value in zip(("p50", "p75", "p90", "p99"), "1224", strict=True)
        },
        **{
            f"throughput_{p}_tps": value
            for p, value in zip(("p50", "p75", "p90", "p99"), "9881", strict=True)
        },
    }
    assert set(OPTIONAL) <= set(cells)
    document = read(",".join(cells) + "\n" + ",".join(f'"{cell}"' for cell in cells.values()))
    assert document.endpoints == (
        Endpoint(
            endpoint_id="lab/one:free@acme/fp8",
            model="lab/one:free",
            provider="acme",
            tag="acme/fp8",
            provider_name="Acmé, Inc",
            quantization="fp8",
            context_length=8192,
            max_prompt_tokens=7,
            supported_parameters=("tools", "top_p"),
            tool_choices=("auto", "required"),
            prices=Prices(0.1, 0.2, 0.3, 0.4, 0.5, 0.0, 0.6),
            status=-2,
            uptime_30m_percent=99.5,
            uptime_1d_percent=0.5,
            latency_s=Percentiles(1.0, 2.0, 2.0, 4.0),
            throughput_tps=Percentiles(9.0, 8.0, 8.0, 1.0),
            zdr=False,
            collects_data=False,
            implicit_caching=True,
        ),
    )
    assert document.models == (Model("lab/one:free", input_modalities=("text", "image")),)
    assert document.providers == (Provider("acme", "Acmé, Inc"),)
    assert document.generated_at == datetime(2026, 7, 4, tzinfo=UTC)


def test_a_blank_cell_means_unknown() -> None:
    (endpoint,) = read(
        "model,provider,tag," + ",".join(OPTIONAL) + "\nlab/one,acme,acme" + "," * len(OPTIONAL)
    ).endpoints
    assert endpoint == Endpoint("lab/one@acme", "lab/one", "acme", "acme")


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        pytest.param(
            ",acme,acme,1,2", "model: '' is not a model id such as author/slug", id="no model"
        ),
        pytest.param(
            "one,acme,acme,1,2", "model: 'one' is not a model id", id="a model without author"
        ),
        pytest.param("lab/one,,acme,1,2", "provider: '' is not a provider slug", id="no provider"),
        pytest.param(
            "lab/one,acme,acme fp8,1,2",
            "tag: 'acme fp8' is not an endpoint tag",
            id="a blank in a tag",
        ),
        pytest.param(
            "lab/one,acme,\u0430cme,1,2",
            r"tag: '\u0430cme' is not",
            id="a letter of another alphabet",
        ),
        pytest.param(
            "lab/one,acme,acme,-1,2",
            "prompt_usd_per_mtok: '-1' is not a number",
            id="a negative price",
        ),
        pytest.param(
            "lab/one,acme,acme,nan,2", "prompt_usd_per_mtok: 'nan' is not a number", id="NaN"
        ),
        pytest.param(
            "lab/one,acme,acme,1e99,2",
            "prompt_usd_per_mtok: '1e99' is not a price",
            id="a price that is too high",
        ),
        pytest.param(
            "lab/one,acme,acme,\u0661,2",
            r"prompt_usd_per_mtok: '\u0661' is not a number",
            id="digits of another script",
        ),
        pytest.param(
            "lab/one,acme,acme,1,2.5",
            "context_length: '2.5' is not a whole number",
            id="half a token",
        ),
        pytest.param(
            "lab/one,acme,acme,1", "row: '4 cells' is not as wide as the header, 5", id="too narrow"
        ),
        pytest.param("lab/one,acme,acme,1,2,3", "row: '6 cells' is not as wide", id="too wide"),
        pytest.param(GOOD, "the same row as line 2", id="a repeated row"),
        pytest.param(
            f"lab/{'x' * 5000},acme,acme,1,2",
            " characters) is not of at most 4096",
            id="a cell that is too long",
        ),
        pytest.param(
            f"lab/{'x' * 500},acme,acme,1,2",
            " characters) is not a model id",
            id="a model id that is too long",
        ),
    ],
)
def test_an_invalid_row_is_rejected_with_its_line(row: str, reason: str) -> None:
    document = with_row(row)
    assert [endpoint.endpoint_id for endpoint in document.endpoints] == [
        "lab/one@acme/fp8",
        "lab/two@acme",
    ]
    assert [rejection.where for rejection in document.rejected] == ["line 3"]
    assert reason in document.rejected[0].reason
    assert len(document.rejected[0].reason) < 250


def test_rows_that_differ_may_share_a_tag() -> None:
    assert [e.endpoint_id for e in with_row("lab/one,acme,acme/fp8,9,2").endpoints][:2] == [
        "lab/one@acme/fp8",
        "lab/one@acme/fp8~2",
    ]


def test_rejections_name_physical_lines() -> None:
    document = read(
        "model,provider,tag,provider_name\n\n"
        'lab/one,acme,a,"Two\nlines"\n\nlab/one,acme,b,\nlab/one,acme,c,x\n'
    )
    assert [(rejection.where, rejection.reason) for rejection in document.rejected] == [
        ("line 3", r"provider_name: 'Two\nlines' is not a printable name of at most 200 characters")
    ]


@pytest.mark.parametrize(
    ("columns", "values", "reason"),
    [
        pytest.param(
            "latency_p50_s,latency_p99_s",
            "2,1",
            "latency_p50…p99_s: '2, 1' is not rising",
            id="latency",
        ),
        pytest.param(
            "throughput_p50_tps,throughput_p90_tps",
            "35,47",
            "'35, 47' is not falling",
            id="throughput",
        ),
        pytest.param(
            "uptime_last_1d_percent,status",
            "101,0",
            "is not a percentage from 0 to 100",
            id="uptime",
        ),
        pytest.param(
            "zdr,status", "maybe,0", "zdr: 'maybe' is not one of true, false", id="boolean"
        ),
        pytest.param(
            "data_collection,status",
            "yes,0",
            "one of true, false, allow, deny",
            id="data collection",
        ),
        pytest.param(
            "generated_at,status", "2026-07-04,0", "is not an ISO time with a zone", id="time"
        ),
        pytest.param(
            "input_modalities,status",
            "text,0",
            "'text' is not text image, as in a row before",
            id="modalities",
        ),
    ],
)
def test_values_that_contradict_their_column_are_rejected(
    columns: str, values: str, reason: str
) -> None:
    good = "text image," if columns.startswith("input") else ","
    document = read(
        f"model,provider,tag,{columns}\nlab/one,acme,a,{good}\nlab/one,acme,b,{values}\n"
    )
    assert [(rejection.where, reason in rejection.reason) for rejection in document.rejected] == [
        ("line 3", True)
    ]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        pytest.param(b"", "the file is empty", id="empty"),
        pytest.param(b"model,provider,tag\n", "0 of 0 rows are invalid", id="only a header"),
        pytest.param(
            b"model,provider\nlab/one,acme\n", "line 1: missing column tag", id="a column missing"
        ),
        pytest.param(
            b"model,provider,tag,latency_p50_ms\n",
            "line 1: unknown column 'latency_p50_ms', did you mean latency_p50_s?",
            id="a column in another unit",
        ),
        pytest.param(
            b"model,provider,tag,qqq\n",
            "'qqq', known are model, provider, tag",
            id="an unknown column",
        ),
        pytest.param(
            b"model,provider,tag,tag\n", "line 1: column tag occurs twice", id="a column twice"
        ),
        pytest.param(
            b"model,provider,tag\nlab/one,acme,\xff\n",
            "line 2: the file is not UTF-8",
            id="latin-1",
        ),
        pytest.param(
            "model,provider,tag\n".encode("utf-16"), "line 1: the file is not UTF-8", id="utf-16"
        ),
        pytest.param(
            b"model,provider,tag\nlab/one,acme,\0\n", "line 2: the file holds a NUL byte", id="NUL"
        ),
        pytest.param(
            b'model,provider,tag\nlab/one,acme,"a\n', "line 2: not a CSV row", id="an open quote"
        ),
        pytest.param(
            b"model,provider,tag\nlab/" + b"x" * 1_000_000 + b",acme,a\n",
            "line 2: not a CSV row: field",
            id="1 MB",
        ),
        pytest.param(
            b"model,provider,tag\nlab/one,acme,a\nx,y,z\nx,y,q\n",
            "2 of 3 rows are invalid, first line 3: model: 'x'",
            id="more than half rejected",
        ),
        pytest.param(
            b"model,provider,tag,generated_at\n"
            b"a/b,c,d,2026-07-04T00:00Z\na/b,c,e,2026-07-05T00:00Z\n",
            "generated_at: the rows do not all state the same time",
            id="two times",
        ),
    ],
)
def test_a_file_that_is_not_a_table_is_rejected_as_a_whole(data: bytes, message: str) -> None:
    with pytest.raises(BadData) as caught:
        read_catalog(data, source="ours")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_byte_order_mark_and_gzip_make_no_difference() -> None:
    plain = f"model,provider,tag,prompt_usd_per_mtok,context_length\r\n{GOOD}\r\n".encode()
    documents = [read_catalog(data, source="ours") for data in (plain, gzip.compress(plain))]
    assert documents[0] == documents[1]
    assert read_catalog(b"\xef\xbb\xbf" + plain, source="ours").endpoints == documents[0].endpoints
