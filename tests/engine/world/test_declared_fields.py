"""A field that is declared once appears in proto, SQL, facts, fixtures and tables."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from assay.engine.policy.fact_schema import FACTS
from assay.engine.world.catalog import Endpoint, Percentiles, Prices
from assay.engine.world.declarations import build, declared_fields
from assay.engine.world.request import Request

ROOT = Path(__file__).parents[3]

DECLARATION = '    region: str | None = optional("region that it serves from")\n'
MIGRATION = '''"""Regions of endpoints."""

import sqlalchemy as sa
from alembic import op

revision = "{revision}"
down_revision = "{before}"


def upgrade() -> None:
    op.add_column("endpoint_listing", sa.Column("region", sa.Text()))


def downgrade() -> None:
    op.drop_column("endpoint_listing", "region")
'''
RULE = """
    - name: in_europe
      expression: endpoint.region == "eu"
      reason: policy
      message: it does not serve from Europe
"""
CATALOG = "model,provider,tag,region,context_length\na/b,near,near,eu,1000\na/b,far,far,us,1000\n"
SUITE = """
apiVersion: assay/v1
kind: RuleSetTest
metadata: {name: regions}
spec:
  options: {now: 2026-07-01T12:00:00Z}
  fixtures:
    models: {m: {model: a/b}}
    endpoints:
      near: {provider: near, region: eu, context_length: 1000}
      far: {provider: far, region: us, context_length: 1000}
  tests:
    - name: only Europe serves
      request: {model: m}
      endpoints: [near, far]
      expected: {attempts: [near], excluded: {far: [policy]}}
      cases: [{name: near alone}]
"""
READ_EVERYWHERE = """
import json, sys
from pathlib import Path
from assay.engine.policy.fact_schema import FACTS
from assay.importers.catalog_csv import read_catalog
from assay.rpc.convert.catalog import endpoint
from assay.server.settings import migrations_dir
from assay.store.database import open_database
from assay.store.migration import migrate
(fact,) = (fact for fact in FACTS if fact.path == "endpoint.region")
near = read_catalog(Path("catalog.csv").read_bytes(), source="test").endpoints[0]
facts = {each.name: each.value.string_value for each in endpoint(near).facts}
print(json.dumps([str(fact.type), fact.stage, fact.meaning, near.region, facts["region"]]))
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the repository with one more endpoint fact: a declaration and a migration."""
    for name in ("service", "migrations", "policy"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, tmp_path / name, ignore=ignored)
    catalog = tmp_path / "service/assay/engine/world/catalog.py"
    last = "    @property\n    def service_tier"
    catalog.write_text(catalog.read_text().replace(last, f"{DECLARATION}\n{last}"))
    versions = tmp_path / "migrations/versions"
    before = max(versions.glob("0*.py")).name[:4]
    revision = f"{int(before) + 1:04}"
    text = MIGRATION.format(revision=revision, before=before)
    (versions / f"{revision}_regions.py").write_text(text)
    rules = tmp_path / "policy/default.yaml"
    rules.write_text(rules.read_text().replace("\n  request:", f"\n  request:{RULE}", 1))
    (tmp_path / "catalog.csv").write_text(CATALOG)
    return tmp_path


def run(checkout: Path, *arguments: str) -> str:
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(checkout / "service"),
        "ASSAY_DATABASE": f"sqlite:///{checkout}/assay.db",
    }
    done = subprocess.run(
        [sys.executable, *arguments], cwd=checkout, env=environment, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


@pytest.mark.slow
def test_one_declaration_and_one_migration_add_an_endpoint_fact(checkout: Path) -> None:
    documented = json.loads(run(checkout, "-c", READ_EVERYWHERE))
    assert documented == ["string", "judged", "region that it serves from", "eu", "eu"]

    assay = ("-c", "from assay.cli import main; main()")
    run(checkout, *assay, "import", "catalog", "catalog.csv")
    explained = run(checkout, *assay, "decide", "a/b", "--explain", "--policy", "policy")
    assert "it does not serve from Europe" in explained
    assert re.search(r"^far +endpoint\.region +us *$", explained, re.MULTILINE)

    (checkout / "policy/regions_test.yaml").write_text(SUITE)
    assert "1 passed" in run(checkout, *assay, "policy", "test", "policy", "--only", "Europe")


@pytest.mark.parametrize("owner", [Endpoint, Prices, Percentiles, Request])
def test_every_field_is_declared(owner: type) -> None:
    declared = {item.path.partition(".")[0] for item in declared_fields(owner)}
    assert declared == {item.name for item in fields(owner)} - {"overrides"}


def test_a_nested_field_has_a_path_of_both_names() -> None:
    (p90,) = (item for item in declared_fields(Endpoint) if item.path == "latency_s.p90")
    assert (p90.kind, p90.is_optional) == (float, True)
    assert (p90.spellings.fact, p90.spellings.column) == ("latency.p90_s", "latency_p90_s")
    assert p90.spellings.unit == "seconds"


def test_a_value_is_built_from_its_declared_fields() -> None:
    endpoint = Endpoint(
        "i", "m", "p", "t", prices=Prices(prompt=1.0), latency_s=Percentiles(p99=2.0)
    )
    values = {item.path: item.get(endpoint) for item in declared_fields(Endpoint)}
    assert build(Endpoint, values) == endpoint


def test_every_fact_has_a_description_and_a_unit() -> None:
    assert all(fact.description for fact in FACTS)
    for item in (*declared_fields(Endpoint), *declared_fields(Request)):
        assert item.spellings.unit or item.kind is not float, item.path
