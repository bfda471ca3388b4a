"""The demo's catalogs and observations, and a small hand-written catalog, as files to import."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
POLICY = ROOT / "policy"
DEMO_DATA = ROOT / "service" / "assay" / "demo" / "data"
DEMO_CATALOGS = (
    DEMO_DATA / "catalog_facts" / "endpoints_2026-07-04.csv",
    DEMO_DATA / "catalog_facts" / "kimi-k2-0905_direct.csv",
)
KIMI_CSV = DEMO_DATA / "observations" / "kimi-k2-0905_2025-09-22.csv"
KIMI = "moonshotai/kimi-k2-0905"
NOW = "2025-09-23T12:00:00Z"
MEMBERS = {"moonshotai", "moonshotai/turbo", "novita", "infinigence"}

COLUMNS = (
    *("model", "provider", "tag", "quantization", "prompt_usd_per_mtok", "completion_usd_per_mtok"),
    *(
        "throughput_p50_tps",
        "zdr",
        "supported_parameters",
        "context_length",
        "max_completion_tokens",
    ),
    "input_modalities",
)


def catalog_csv(*rows: str) -> str:
    """Return a catalog file of these rows; columns missing at the end of a row are blank."""
    padded = [row + "," * (len(COLUMNS) - 1 - row.count(",")) for row in rows]
    return "".join(f"{line}\n" for line in (",".join(COLUMNS), *padded))


SMALL_CATALOG = catalog_csv(
    # prices of $1 and $3, for draws
    "lab/draw,one,one,fp8,1,1,10,,tools",
    "lab/draw,three,three,fp8,3,3,30,,tools",
    # evidence for two endpoints only
    "lab/pair,one,one,fp8,1,1,,,tools",
    "lab/pair,two,two,fp8,2,2,,,tools",
    # cheapest, fastest and steadiest differ
    "lab/mixed,one,one/a,fp8,1,1,10,true,tools seed",
    "lab/mixed,two,two/b,bf16,2,2,20,false,tools",
    "lab/mixed,three,three/c,int4,3,3,30,,tools",
    # one tag twice, at two prices
    "lab/twice,one,one,fp8,1,1,,,tools",
    "lab/twice,one,one,fp8,2,2,,,tools",
    "lab/twice,two,two,fp8,3,3,,,tools",
    # one that can little and one that can much
    "lab/sizes,narrow,narrow,fp8,1,1,,,,1000,100,text",
    "lab/sizes,wide,wide,fp8,2,2,,,tools tool_choice,100000,10000,text",
)
SMALL_OBSERVATIONS = (
    "model,provider,tag,source,observed_from,observed_to,"
    "requests,tool_call_requests,errored_requests,reference\n"
    "lab/pair,one,one,probe,2025-09-22T00:00:00Z,2025-09-23T00:00:00Z,2000,500,0,false\n"
    "lab/pair,two,two,probe,2025-09-22T00:00:00Z,2025-09-23T00:00:00Z,2000,20,0,false\n"
)
