"""DuckDB: one database, one cursor per query, two pools of threads.

Point queries and scans never wait for each other. A query that nobody waits for any more (the
client is gone, the deadline has passed) is interrupted.
"""

from __future__ import annotations

import asyncio
import re
import threading
import warnings
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol, TypeVar

import duckdb
import pyarrow as pa
from prometheus_client import Gauge

from libs.market.errors import CorruptError, ExhaustedError, UnavailableError
from services.query.reading.sql import text

R = TypeVar("R")

RETRY_AFTER_S = 0.5
QUOTED = re.compile(r"""["'](?P<path>[^"']+\.parquet)["']""")
WAITING = Gauge(
    "k2_query_waiting_queries", "Queries admitted but not yet running, by pool", ["pool"]
)


class Reader(Protocol):
    """Runs SQL over files and Arrow tables, in the calling thread."""

    def read(self, sql: str, tables: Mapping[str, pa.Table] | None = None) -> pa.Table: ...


class AbandonedError(UnavailableError):
    """Nobody waits for the query any more."""

    reason = "ABANDONED"


class Cursor:
    """A query's own connection. `interrupt` may come from any thread."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection
        self._abandoned = threading.Event()

    def read(self, sql: str, tables: Mapping[str, pa.Table] | None = None) -> pa.Table:
        """Run one SELECT; `tables` are visible to it by name."""
        if self._abandoned.is_set():
            raise AbandonedError("the query was abandoned before it ended")
        for name, table in (tables or {}).items():
            self._connection.register(name, table)
        try:
            return self._connection.execute(sql).to_arrow_table()
        except duckdb.InterruptException as error:
            raise AbandonedError("the query was abandoned before it ended") from error
        except duckdb.IOException as error:
            raise unreadable(error) from error
        except duckdb.InvalidInputException as error:
            if QUOTED.search(str(error)) is None:
                raise
            raise damaged(error) from error
        finally:
            for name in tables or {}:
                self._connection.unregister(name)

    def interrupt(self) -> None:
        self._abandoned.set()
        self._connection.interrupt()

    def close(self) -> None:
        self._connection.close()


def unreadable(error: duckdb.IOException) -> UnavailableError:
    """Say which data file it is, and whether it is there at all."""
    path = file_in(error)
    if path is None:
        return UnavailableError("a data file cannot be read", detail=str(error))
    what = "cannot be read" if path.exists() else "is gone"
    text = f"the data file {path} {what}: nothing that needs it can be answered"
    return UnavailableError(text, file=str(path), detail=str(error))


def damaged(error: duckdb.InvalidInputException) -> CorruptError:
    path = file_in(error)
    return CorruptError(
        f"the data file {path} is damaged: nothing that needs it can be answered",
        file=str(path),
        detail=str(error),
    )


def file_in(error: duckdb.Error) -> Path | None:
    """Return the data file that DuckDB names in quotes."""
    named = QUOTED.search(str(error))
    return Path(named["path"]) if named else None


class Engine:
    """The database: nothing is stored in it, it reads data files and what it is handed."""

    def __init__(self, *, threads: int, memory_limit_bytes: int, spill_dir: Path) -> None:
        spill_dir.mkdir(parents=True, exist_ok=True)
        # DuckDB advises con.sql() for Arrow, which binds each query twice more: 1 ms of a point
        # query's 6; the copy it saves is 14 % of a scan of 100,000 rows.
        warnings.filterwarnings("ignore", message="Arrow output on a DB-API result")
        self._database = duckdb.connect(
            config={"threads": threads, "memory_limit": f"{memory_limit_bytes}B"}
        )
        for setting in (
            "SET GLOBAL TimeZone = 'UTC'",
            f"SET GLOBAL temp_directory = {text(str(spill_dir))}",
            # Data files never change, so neither do their footers.
            "SET GLOBAL parquet_metadata_cache = true",
            "SET GLOBAL autoinstall_known_extensions = false",
        ):
            self._database.execute(setting)

    def cursor(self) -> Cursor:
        return Cursor(self._database.cursor())

    def close(self) -> None:
        self._database.close()


class Pool:
    """Runs queries in its own threads, so many at a time, with so many more waiting."""

    def __init__(
        self,
        name: str,
        engine: Engine,
        *,
        workers: int,
        most_waiting: int,
        timeout_s: float = 60,
    ) -> None:
        self._timeout_s = timeout_s
        self._name = name
        self._engine = engine
        self._executor = ThreadPoolExecutor(workers, thread_name_prefix=f"query-{name}")
        self._most_under_way = workers + most_waiting
        self._workers = workers
        self._under_way = 0

    async def run(self, query: Callable[[Reader], R]) -> R:
        """Run `query` with a cursor of its own; interrupt it where the caller is cancelled.

        Raises:
            ExhaustedError: too many are waiting already, or it took too long.
        """
        if self._under_way >= self._most_under_way:
            raise ExhaustedError(
                f"{self._under_way} {self._name} queries are under way already",
                retry_after_s=RETRY_AFTER_S,
                pool=self._name,
            )
        cursor = self._engine.cursor()
        self._count(+1)
        work = self._executor.submit(closing, cursor, query)
        work.add_done_callback(self._leave(asyncio.get_running_loop()))
        try:
            async with asyncio.timeout(self._timeout_s):
                return await asyncio.wrap_future(work)
        except asyncio.CancelledError:
            cursor.interrupt()
            raise
        except TimeoutError as error:
            cursor.interrupt()
            raise ExhaustedError(
                f"the query took longer than {self._timeout_s:g} s: ask for less at once"
            ) from error

    def close(self) -> None:
        self._executor.shutdown(wait=True, cancel_futures=True)

    def _leave(self, loop: asyncio.AbstractEventLoop) -> Callable[[object], None]:
        def leave(_: object) -> None:
            loop.call_soon_threadsafe(self._count, -1)

        return leave

    def _count(self, change: int) -> None:
        self._under_way += change
        WAITING.labels(self._name).set(max(0, self._under_way - self._workers))


def closing(cursor: Cursor, query: Callable[[Reader], R]) -> R:
    try:
        return query(cursor)
    finally:
        cursor.close()
