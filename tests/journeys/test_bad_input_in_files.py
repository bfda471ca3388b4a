"""Bad input in files: exit code 3, one line that names the file, and no row changes."""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path

import pytest
from tests.support.catalogs import SMALL_CATALOG, SMALL_OBSERVATIONS, catalog_csv
from tests.support.commands import MEGABYTE, assay, assert_rejected
from tests.support.databases import count_rows

OBSERVED = SMALL_OBSERVATIONS.splitlines(keepends=True)[0]
ROW = "lab/pair,one,one,other,2025-09-01T00:00:00Z,2025-09-02T00:00:00Z,{},{},{},false\n"
HEAD = "model,provider,tag,prompt_usd_per_mtok\n"


@pytest.mark.parametrize(
    ("kind", "content", "line"),
    [
        *(
            pytest.param(kind, content, line, id=f"{name} {kind}")
            for kind in ("catalog", "openrouter", "observations", "preferences", "tenants")
            for name, content, line in (
                ("empty", b"", "empty"),
                ("blank", b" \n\n", "empty"),
                ("NULs for", bytes(100), ""),
                ("UTF-16 for", "model,provider\n".encode("utf-16"), ""),
                ("a picture for", b"\x89PNG\r\n\x1a\n" + bytes(range(256)), ""),
                ("broken gzip for", b"\x1f\x8b" + b"x" * 100, "gzip"),
                ("cut gzip for", gzip.compress(OBSERVED.encode() * 100)[:-9], "gzip"),
                ("gzip with a wrong sum for", gzip.compress(b"x" * 100)[:-8] + bytes(8), "gzip"),
                ("gzip bomb for", gzip.compress(bytes(300_000_000), 1), "more than"),
                ("gzip in gzip for", gzip.compress(gzip.compress(bytes(100_000))), ""),
                ("nesting for", b"[" * 100_000, ""),
            )
        ),
        pytest.param(
            "openrouter", b'{"generated": "2026-07-04T00:00:00Z"', "not JSON", id="cut JSON"
        ),
        pytest.param("openrouter", b"[1, 2]", "", id="JSON of another kind"),
        pytest.param(
            "openrouter",
            b'{"generated": 1, "models": [], "endpoints": {}}',
            "generated",
            id="no time",
        ),
        pytest.param(
            "openrouter", b'{"generated": "2026-07-04T00:00:00Z", "models": {}}', "", id="swapped"
        ),
        pytest.param("catalog", b"provider,tag\nx,y\n", "column model", id="a missing column"),
        pytest.param(
            "catalog", b"model,provider,tag,price\na/b,x,y,1\n", "'price'", id="an unknown column"
        ),
        pytest.param(
            "catalog",
            b"model,model,provider,tag\na/b,a/b,x,y\n",
            "column model",
            id="a column twice",
        ),
        pytest.param("catalog", (HEAD + 'lab/x,"one').encode(), "line 2", id="an open quote"),
        pytest.param(
            "catalog", (HEAD + "lab/x,one,one,NaN\n").encode(), "NaN", id="price not a number"
        ),
        pytest.param("catalog", (HEAD + "lab/x,one,one,-1\n").encode(), "-1", id="negative price"),
        pytest.param(
            "catalog", (HEAD + "lab/x,one,one,1e999\n").encode(), "1e999", id="infinite price"
        ),
        pytest.param(
            "catalog", (HEAD + f"lab/{MEGABYTE},one,one,1\n").encode(), "line 2", id="1 MB model"
        ),
        pytest.param(
            "catalog", (HEAD + "lab/x\u202e,one,one,1\n").encode(), r"\u202e", id="right to left"
        ),
        pytest.param(
            "catalog", (HEAD + "l\u0430b/x,one,one,1\n").encode(), r"\u0430", id="homoglyph"
        ),
        pytest.param("catalog", (HEAD + "lab/x\0,one,one,1\n").encode(), "NUL", id="NUL in a name"),
        pytest.param(
            "catalog",
            (HEAD + "lab/x,one,one,1\n").encode() + b"\xff\n",
            "UTF-8",
            id="not UTF-8 at the end",
        ),
        pytest.param(
            "tenants",
            b"- tenant: acme\n  zdr: maybe\n- &a [*a]\n",
            "alias",
            id="YAML that eats itself",
        ),
        pytest.param(
            "tenants", b"a: !!python/object/apply:os.system [id]\n", "", id="YAML that runs"
        ),
    ],
)
def test_a_malformed_file_changes_nothing(
    written: tuple[str, dict[str, int]], tmp_path: Path, kind: str, content: bytes, line: str
) -> None:
    database, before = written
    path = tmp_path / "given"
    path.write_bytes(content)
    ran = assay("import", kind, path, "--database", database, "--json")

    assert_rejected(ran, 3, f"file '{path}': ", line)
    assert len(ran.line) < 1000
    assert count_rows(database) == before


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        pytest.param(ROW.format("NaN", 1, 1), "NaN", id="not a number"),
        pytest.param(ROW.format(10, -1, 0), "-1", id="negative"),
        pytest.param(ROW.format(10, 11, 0), "11", id="more calls than requests"),
        pytest.param(ROW.format(10, 5, 6), "6", id="more errors than calls"),
        pytest.param(ROW.format("9" * 20, 1, 0), "9" * 20, id="more than an integer holds"),
        pytest.param(ROW.format("1e3", 1, 0), "1e3", id="a power"),
        pytest.param(
            ROW.format(10, 1, 0).replace("2025-09-02", "2025-08-02"), "", id="ends before it begins"
        ),
        pytest.param(
            ROW.format(10, 1, 0).replace("lab/pair", "lab/unknown"),
            "lab/unknown",
            id="of an unknown model",
        ),
        pytest.param(
            ROW.format(10, 1, 0).replace("00:00:00Z", "00:00:00"), "zone", id="time without a zone"
        ),
    ],
)
def test_a_bad_row_is_rejected_by_line_and_the_others_are_imported(
    small: str, tmp_path: Path, row: str, reason: str
) -> None:
    database = (
        f"sqlite:///{shutil.copyfile(small.removeprefix('sqlite:///'), tmp_path / 'assay.db')}"
    )
    path = tmp_path / "observations.csv"
    path.write_text(OBSERVED + row + ROW.format(100, 30, 1))
    ran = assay("import", "observations", path, "--database", database, "--json")

    assert (ran.code, ran.err) == (3, "")
    (report,) = ran.json
    assert len(report["observations"]["added"]) == 1
    ((where, why),) = [(each["where"], each["reason"]) for each in report["refused"]]
    assert where == "line 2"
    assert reason in why


def test_a_faulty_file_is_named_and_the_files_before_it_are_reported(
    database_url: str, tmp_path: Path
) -> None:
    good, bad = tmp_path / "good.csv", tmp_path / "bad.csv"
    good.write_text(SMALL_CATALOG)
    bad.write_text(catalog_csv("lab/bad,one,one,fp8,NaN,1"))
    ran = assay("import", "catalog", good, bad, "--database", database_url, "--json")

    assert ran.code == 3
    assert f"file '{bad}'" in ran.line
    assert [report["endpoints"]["total"] for report in ran.json] == [12]
    assert count_rows(database_url)["endpoint"] == 12


@pytest.mark.parametrize(
    ("path", "words"),
    [
        pytest.param("{tmp}/nothing", "No such file", id="no file"),
        pytest.param("{tmp}", "Is a directory", id="a directory"),
        pytest.param("{tmp}/" + "x" * 5000, "too long", id="a name of 5,000 characters"),
        pytest.param("/dev/null", "empty", id="nothing in it"),
    ],
)
def test_an_unreadable_path_is_named(small: str, tmp_path: Path, path: str, words: str) -> None:
    assert_rejected(
        assay("import", "catalog", path.format(tmp=tmp_path), "--database", small),
        3,
        "file '",
        words,
    )


@pytest.mark.parametrize("source", ["", "\u202e", "x" * 300])
def test_a_source_needs_a_name(
    written: tuple[str, dict[str, int]], tmp_path: Path, source: str
) -> None:
    path = tmp_path / "catalog.csv"
    path.write_text(SMALL_CATALOG)
    assert_rejected(
        assay("import", "catalog", path, "--source", source, "--database", written[0]),
        2,
        "--source: ",
    )
    assert count_rows(written[0]) == written[1]


@pytest.fixture(scope="module")
def written(small: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, int]]:
    """A database that nothing may change, and the rows it holds."""
    copy = shutil.copyfile(
        small.removeprefix("sqlite:///"), tmp_path_factory.mktemp("written") / "assay.db"
    )
    url = f"sqlite:///{copy}"
    return url, count_rows(url)
