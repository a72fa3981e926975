"""The catalog: which metadata file is the table's head.

Every call has a time bound, for a catalog that hangs must not hang the actor that asked it. A call
that passed its bound may still land: `UnavailableError` from `commit_table` means "unknown".
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from pathlib import Path
from typing import Protocol, TypeVar

import pydantic
import pyiceberg.exceptions as iceberg
from pyiceberg.catalog import Catalog
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.partitioning import PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import CommitTableResponse, Table
from pyiceberg.table.sorting import SortOrder
from pyiceberg.table.update import TableRequirement, TableUpdate
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from libs.lake.table.opening import (
    damaged,
    open_server,
    open_sql,
    prepare_sqlite,
    sqlite_path,
    warehouse_uri,
)
from libs.market.errors import ConflictError, CorruptError, NotFoundError, UnavailableError
from libs.telemetry.redaction import without_password

CALL_TIMEOUT_S = 10.0
MOST_CALLS_UNDER_WAY = 16

# What reading a metadata file that is not what was written raises.
DAMAGE = (
    json.JSONDecodeError,
    pydantic.ValidationError,
    UnicodeDecodeError,
    iceberg.ValidationError,
)

R = TypeVar("R")
Points = Callable[[str], None]


def no_points(_name: str) -> None:
    """Announce to nobody."""


class TableStore(Protocol):
    """What a commit needs of a catalog."""

    @property
    def warehouse(self) -> str:
        """Where the ledgers go, beside the tables."""
        ...

    def load_table(self, identifier: str) -> Table:
        """Raises UnavailableError, NotFoundError, CorruptError."""
        ...

    def commit_table(
        self,
        table: Table,
        requirements: tuple[TableRequirement, ...],
        updates: tuple[TableUpdate, ...],
    ) -> CommitTableResponse:
        """Raises ConflictError (told: not landed), UnavailableError (unknown)."""
        ...


class Lake:
    """A PyIceberg catalog whose every call ends within `timeout_s`, in our errors.

    `points` is told of each commit, where its time runs already: catalog.before_landing,
    catalog.after_landing.
    """

    def __init__(
        self,
        catalog: Catalog,
        *,
        uri: str,
        warehouse: str = "",
        timeout_s: float = CALL_TIMEOUT_S,
        points: Points = no_points,
    ) -> None:
        self._catalog = catalog
        self._warehouse = warehouse
        self._uri = without_password(uri)
        self._timeout_s = timeout_s
        self._points = points
        self._under_way = threading.BoundedSemaphore(MOST_CALLS_UNDER_WAY)

    @property
    def warehouse(self) -> str:
        return self._warehouse

    def load_table(self, identifier: str) -> Table:
        return self._call("load table", lambda: self._catalog.load_table(identifier))

    def load_table_after(self, identifier: str, known: Table | None) -> Table:
        """Load a table as it is now: `known` itself where that has not moved since.

        To ask where an SQL catalog's table is costs a tenth of reading its metadata file.
        """
        return self._call("load table", lambda: self._load_table_after(identifier, known))

    def commit_table(
        self,
        table: Table,
        requirements: tuple[TableRequirement, ...],
        updates: tuple[TableUpdate, ...],
    ) -> CommitTableResponse:
        return self._call("commit", lambda: self._commit_table(table, requirements, updates))

    def create_table(
        self,
        identifier: str,
        schema: Schema,
        spec: PartitionSpec,
        order: SortOrder,
        properties: dict[str, str],
    ) -> Table:
        """Create a table and its namespace, or return what another process created first."""
        return self._call(
            "create table",
            lambda: self._create_table(identifier, schema, spec, order, properties),
        )

    def metadata_location(self, identifier: str) -> str:
        """Return where the head's metadata file is, reading nothing else where that can be."""
        return self._call("read pointer", lambda: self._metadata_location(identifier))

    def close(self) -> None:
        self._catalog.close()

    def _commit_table(
        self,
        table: Table,
        requirements: tuple[TableRequirement, ...],
        updates: tuple[TableUpdate, ...],
    ) -> CommitTableResponse:
        self._points("catalog.before_landing")
        try:
            landed = self._catalog.commit_table(table, requirements, updates)
        except ValueError as error:
            if type(error) is not ValueError:
                raise
            # An update no longer applies: what it would forget, another process has forgotten.
            raise iceberg.CommitFailedException(str(error)) from error
        self._points("catalog.after_landing")
        return landed

    def _load_table_after(self, identifier: str, known: Table | None) -> Table:
        if known is None or not isinstance(self._catalog, SqlCatalog):
            return self._catalog.load_table(identifier)
        moved = self._metadata_location(identifier) != known.metadata_location
        return self._catalog.load_table(identifier) if moved else known

    def _metadata_location(self, identifier: str) -> str:
        if not isinstance(self._catalog, SqlCatalog):
            return self._catalog.load_table(identifier).metadata_location
        namespace, _, name = identifier.rpartition(".")
        query = text(
            "SELECT metadata_location FROM iceberg_tables"
            " WHERE catalog_name = :catalog AND table_namespace = :namespace AND table_name = :name"
        )
        keys = {"catalog": self._catalog.name, "namespace": namespace, "name": name}
        with self._catalog.engine.connect() as connection:
            location = connection.execute(query, keys).scalar()
        if location is None:
            raise NotFoundError(f"table {identifier} is not in the catalog", table=identifier)
        return str(location)

    def _create_table(
        self,
        identifier: str,
        schema: Schema,
        spec: PartitionSpec,
        order: SortOrder,
        properties: dict[str, str],
    ) -> Table:
        try:
            self._catalog.create_namespace_if_not_exists(identifier.rpartition(".")[0])
        except DBAPIError:
            if not self._catalog.namespace_exists(identifier.rpartition(".")[0]):
                raise
        return self._catalog.create_table_if_not_exists(
            identifier, schema, partition_spec=spec, sort_order=order, properties=properties
        )

    def _call(self, action: str, call: Callable[[], R]) -> R:
        try:
            return self._bounded(action, call)
        except iceberg.NoSuchTableError as error:
            raise NotFoundError(f"cannot {action}: {error}", catalog=self._uri) from error
        except iceberg.CommitFailedException as error:
            raise ConflictError(f"cannot {action}: {error}", catalog=self._uri) from error
        except DAMAGE as error:
            raise CorruptError(
                f"cannot {action}: the table's metadata file is damaged", catalog=self._uri
            ) from error
        except FileNotFoundError as error:
            raise CorruptError(
                f"cannot {action}: a file of the table is gone ({error})", catalog=self._uri
            ) from error
        except (OperationalError, InterfaceError, PoolTimeoutError) as error:
            raise self._away(action, error) from error
        except DBAPIError as error:
            raise damaged(self._uri) from error
        except (iceberg.RESTError, OSError) as error:
            raise self._away(action, error) from error

    def _bounded(self, action: str, call: Callable[[], R]) -> R:
        if not self._under_way.acquire(blocking=False):
            raise UnavailableError(
                f"cannot {action}: {MOST_CALLS_UNDER_WAY} calls to the catalog hang already",
                catalog=self._uri,
            )
        answer: Future[R] = Future()
        # A daemon: a call that never returns must not keep the process from ending.
        threading.Thread(
            target=self._answer, args=(call, answer), name="catalog-call", daemon=True
        ).start()
        try:
            return answer.result(self._timeout_s)
        except FutureTimeoutError as error:
            raise self._away(action, f"no answer within {self._timeout_s:g} s") from error

    def _answer(self, call: Callable[[], R], answer: Future[R]) -> None:
        try:
            answer.set_result(call())
        except BaseException as error:  # noqa: BLE001 - carried to the caller's thread, not swallowed
            answer.set_exception(error)
        finally:
            self._under_way.release()

    def _away(self, action: str, why: object) -> UnavailableError:
        detail = str(getattr(why, "orig", None) or why)
        return UnavailableError(
            f"cannot {action}: the catalog does not answer ({detail})", catalog=self._uri
        )


def open_lake(
    catalog_uri: str,
    warehouse: str | Path,
    *,
    timeout_s: float = CALL_TIMEOUT_S,
    points: Points = no_points,
) -> Lake:
    """Open the catalog, creating an SQLite one where there is none.

    Raises:
        CorruptError: the catalog's file is not an SQLite database.
        UnavailableError: it cannot be reached.
        ConfigError: there is no such kind of catalog, or no driver for its database.
    """
    location = warehouse_uri(warehouse)
    if not catalog_uri.startswith("sqlite"):
        shown, catalog = catalog_uri, open_server(catalog_uri, location)
    else:
        path = sqlite_path(catalog_uri)
        prepare_sqlite(path)
        shown, catalog = f"sqlite:///{path}", open_sql(path, location)
    return Lake(catalog, uri=shown, warehouse=location, timeout_s=timeout_s, points=points)
