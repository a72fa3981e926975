"""Opening a catalog: an SQLite file of K2's own, PostgreSQL, or an Iceberg REST server."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from urllib.parse import urlsplit

import pyiceberg.exceptions as iceberg
from pyiceberg.catalog import Catalog, load_catalog
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.io import FileIO
from pyiceberg.table.metadata import TableMetadata
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, OperationalError

from libs.lake.table.durable import make_durable
from libs.market.errors import ConfigError, CorruptError, UnavailableError
from libs.telemetry.redaction import without_password

CATALOG_NAME = "k2"
SQLITE_BUSY_TIMEOUT_S = 5


class DurableSqlCatalog(SqlCatalog):
    """PyIceberg's SQL catalog; its metadata files are on the disk before it points at them."""

    @staticmethod
    def _write_metadata(metadata: TableMetadata, io: FileIO, metadata_path: str) -> None:
        SqlCatalog._write_metadata(metadata, io, metadata_path)  # noqa: SLF001 - its one hook
        make_durable([metadata_path])


def open_server(catalog_uri: str, warehouse: str) -> Catalog:
    """Open a catalog that another process serves: PostgreSQL or Iceberg REST."""
    shown = without_password(catalog_uri)
    kind = DurableSqlCatalog if catalog_uri.startswith("postgresql") else load_catalog
    try:
        return kind(CATALOG_NAME, uri=catalog_uri, warehouse=warehouse)
    except (ValueError, ArgumentError, NoSuchModuleError) as error:
        raise ConfigError(
            f"{shown} is no catalog: sqlite://, postgresql:// or http(s)://"
        ) from error
    except ImportError as error:
        raise ConfigError(f"the catalog {shown} needs a driver: {error}") from error
    except (iceberg.RESTError, OSError, DBAPIError) as error:
        raise cannot_open(shown, getattr(error, "orig", None) or error) from error


def open_sql(path: Path, warehouse: str) -> DurableSqlCatalog:
    uri = f"sqlite:///{path}?timeout={SQLITE_BUSY_TIMEOUT_S}"
    # Of processes that make the catalog's two tables at once, a loser may lose once for each.
    for last in (False, False, True):
        try:
            return DurableSqlCatalog(CATALOG_NAME, uri=uri, warehouse=warehouse)
        except OperationalError as error:
            if last or "already exists" not in str(error):
                raise cannot_open(path, error.orig) from error
        except DBAPIError as error:
            raise damaged(str(path)) from error
    raise AssertionError("the last try returns or raises")


def warehouse_uri(warehouse: str | Path) -> str:
    text_form = str(warehouse)
    if urlsplit(text_form).scheme:
        return text_form.rstrip("/")
    return Path(text_form).resolve().as_uri()


def sqlite_path(catalog_uri: str) -> Path:
    return Path(catalog_uri.partition(":///")[2].partition("?")[0]).resolve()


def prepare_sqlite(path: Path) -> None:
    """Switch the file to write-ahead logging: readers and a writer do not wait for each other."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(path, timeout=SQLITE_BUSY_TIMEOUT_S)
        try:
            connection.execute("PRAGMA journal_mode=WAL").fetchone()
        finally:
            connection.close()
    except (sqlite3.OperationalError, OSError) as error:
        raise cannot_open(path, error) from error
    except sqlite3.DatabaseError as error:
        raise damaged(str(path)) from error


def cannot_open(catalog: str | Path, why: object) -> UnavailableError:
    return UnavailableError(f"cannot open the catalog {catalog}: {why}", catalog=str(catalog))


def damaged(catalog: str) -> CorruptError:
    return CorruptError(
        f"the catalog {catalog} is not a sound SQLite database: restore it, or move it away",
        catalog=catalog,
    )
