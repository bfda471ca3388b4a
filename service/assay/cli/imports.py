"""The `assay import` commands: each imports files into the database, one transaction per file."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from sqlalchemy import Engine

from assay.cli.importing import Files, choose_source, import_files
from assay.cli.options import DatabaseUrl, Json
from assay.importers.catalog_csv import read_catalog
from assay.importers.documents import ImportReport
from assay.importers.observations import read_observations
from assay.importers.openrouter import read_openrouter
from assay.importers.preferences import read_preferences
from assay.importers.tenants import read_tenants
from assay.server.settings import wall_clock
from assay.store.imports.catalog import apply_catalog
from assay.store.imports.observations import apply_observations
from assay.store.imports.tenants import apply_preferences, apply_tenants

DATED = re.compile(r"[_-]?\d{4}-\d{2}-\d{2}.*$")
Source = Annotated[
    str | None,
    Parameter(help="The name of the source; items that it no longer lists are marked as gone."),
]


def catalog(
    files: Files, *, source: Source = None, url: DatabaseUrl = None, json: Json = False
) -> int:
    """Import a catalog in Assay's CSV format.

    The default source is the file's name without its date.

    Example: assay import catalog endpoints_2026-07-04.csv --source openrouter
    """

    def take(database: Engine, path: Path, data: bytes) -> ImportReport:
        undated = DATED.sub("", path.name.partition(".")[0]) or path.stem
        return apply_catalog(
            database, read_catalog(data, source=choose_source(source, undated)), now=wall_clock()
        )

    return import_files(files, url, take, json=json)


def openrouter(
    files: Files, *, source: Source = None, url: DatabaseUrl = None, json: Json = False
) -> int:
    """Import a snapshot of OpenRouter's catalog, JSON or gzip.

    Example: assay import openrouter openrouter_2026-07-04T140407.json.gz
    """

    def take(database: Engine, _path: Path, data: bytes) -> ImportReport:
        return apply_catalog(
            database,
            read_openrouter(data, source=choose_source(source, "openrouter")),
            now=wall_clock(),
        )

    return import_files(files, url, take, json=json)


def observations(
    files: Files,
    *,
    create_endpoints: Annotated[
        bool,
        Parameter(negative="", help="Create models and endpoints that no catalog lists."),
    ] = False,
    url: DatabaseUrl = None,
    json: Json = False,
) -> int:
    """Import counts of tool calls by endpoint and time window.

    Example: assay import observations --create-endpoints kimi-k2-0905_2025-09-22.csv
    """

    def take(database: Engine, _path: Path, data: bytes) -> ImportReport:
        return apply_observations(
            database, read_observations(data), create_endpoints=create_endpoints, now=wall_clock()
        )

    return import_files(files, url, take, json=json)


def preferences(files: Files, *, url: DatabaseUrl = None, json: Json = False) -> int:
    """Import tenants' standing pins and ignores: CSV with tenant, kind, target and model.

    Example: assay import preferences preferences.csv
    """

    def take(database: Engine, _path: Path, data: bytes) -> ImportReport:
        return apply_preferences(database, read_preferences(data), now=wall_clock())

    return import_files(files, url, take, json=json)


def tenants(files: Files, *, url: DatabaseUrl = None, json: Json = False) -> int:
    """Import tenant settings: YAML with the keys of each tenant.

    The keys are tenant, only, ignore, zdr, deny_data_collection and affiliated_provider.

    Example: assay import tenants tenants.yaml
    """

    def take(database: Engine, _path: Path, data: bytes) -> ImportReport:
        return apply_tenants(database, read_tenants(data), now=wall_clock())

    return import_files(files, url, take, json=json)
