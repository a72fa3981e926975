"""What became of each position, in SQL over the oracle's evidence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import duckdb
import numpy as np
import pyarrow as pa

from libs.lake.ledger.coverage import Ints, Series

SERIES = "exchange, asset_class, symbol, epoch"
PLACE = 'topic, partition, "offset"'

# Ranges by position; without symbols a range is about every key.
POSITIONS = """
CREATE TABLE {kind} AS
SELECT topic, partition, unnest(range(start, stop)) AS "offset", symbols FROM {kind}_ranges;
"""

FATE = f"""
CREATE TABLE holder AS
SELECT {SERIES}, sequence, arg_min(row(price, quantity, side, time_us // 1000), "offset") AS said
FROM stored WHERE sequence IS NOT NULL GROUP BY ALL;

CREATE TABLE fate AS
SELECT l.*,
    EXISTS (SELECT 1 FROM stored s
        WHERE (s.topic, s.partition, s."offset") = (l.topic, l.partition, l."offset")) AS is_stored,
    EXISTS (SELECT 1 FROM dead d
        WHERE (d.topic, d.partition, d."offset") = (l.topic, l.partition, l."offset")) AS is_dead,
    EXISTS (SELECT 1 FROM shed s
        WHERE (s.topic, s.partition, s."offset") = (l.topic, l.partition, l."offset")
        AND list_contains(s.symbols, l.key)) AS is_shed,
    EXISTS (SELECT 1 FROM lost o
        WHERE (o.topic, o.partition, o."offset") = (l.topic, l.partition, l."offset")
        AND (len(o.symbols) = 0 OR list_contains(o.symbols, l.key))) AS is_lost,
    EXISTS (SELECT 1 FROM letters x
        WHERE (x.topic, x.partition, x."offset") = (l.topic, l.partition, l."offset")) AS has_letter
FROM logged l JOIN seam USING (topic, partition) WHERE l."offset" < next;

CREATE TABLE final AS
SELECT f.*, is_stored::INT + is_dead::INT + is_shed::INT + is_lost::INT AS fates, h.said
FROM fate f LEFT JOIN holder h USING ({SERIES}, sequence);
"""

DUPLICATE = "fates = 0 AND said IS NOT NULL"

VIOLATIONS: Mapping[str, str] = {
    "a position has no fate": f"SELECT {PLACE}, key FROM final WHERE fates = 0 AND said IS NULL",
    "a position has two fates": f"""
        SELECT {PLACE}, key, is_stored, is_dead, is_shed, is_lost FROM final WHERE fates > 1""",
    "a conflict was dropped as a duplicate": f"""
        SELECT {PLACE}, key FROM final
        WHERE {DUPLICATE} AND said <> row(price, quantity, side, time_us // 1000)""",
    "a dead record has no letter": f"""
        SELECT {PLACE} FROM final WHERE is_dead AND NOT has_letter""",
    # A crash may leave the letter of what is then lost, or contradicted what in the end another
    # trade was stored for; and a backfill sends it before it commits.
    "a record that is not dead has a letter": f"""
        SELECT {PLACE} FROM final f WHERE has_letter AND NOT (is_dead OR is_lost OR is_shed)
        AND NOT EXISTS (SELECT 1 FROM final o
            WHERE NOT o.is_stored AND (o.exchange, o.asset_class, o.symbol, o.epoch, o.sequence)
                = (f.exchange, f.asset_class, f.symbol, f.epoch, f.sequence)
            AND row(o.price, o.quantity, o.side, o.time_us // 1000)
                <> row(f.price, f.quantity, f.side, f.time_us // 1000))""",
    "a position is stored twice": f"""
        SELECT {PLACE}, count(*) FROM stored GROUP BY {PLACE} HAVING count(*) > 1""",
    "an id is stored twice": f"""
        SELECT {SERIES}, sequence, count(*) FROM stored WHERE sequence IS NOT NULL
        GROUP BY ALL HAVING count(*) > 1""",
    "a row is stored past the seam": f"""
        SELECT {PLACE} FROM stored LEFT JOIN seam USING (topic, partition)
        WHERE "offset" >= coalesce(next, 0)""",
    "a row was never produced": f"SELECT {PLACE} FROM stored ANTI JOIN logged USING ({PLACE})",
    "a row is not what was produced": f"""
        SELECT {PLACE}, l.symbol, l.sequence FROM stored s JOIN logged l USING ({PLACE})
        WHERE row(s.exchange, s.asset_class, s.symbol, s.epoch, s.sequence,
            s.trade_id, s.price, s.quantity, s.side, s.time_us)
        IS DISTINCT FROM row(l.exchange, l.asset_class, l.symbol, l.epoch, l.sequence,
            l.trade_id, l.price, l.quantity, l.side, l.time_us)""",
    "duplicates are miscounted": f"""
        SELECT {SERIES}, coalesce(dropped, 0), coalesce(count, 0)
        FROM (SELECT {SERIES}, count(*) AS dropped FROM final WHERE {DUPLICATE} GROUP BY {SERIES})
        FULL JOIN counted USING ({SERIES}) WHERE coalesce(dropped, 0) <> coalesce(count, 0)""",
}

TALLY = f"""
SELECT CASE WHEN is_stored THEN 'stored' WHEN is_dead THEN 'dead-lettered'
    WHEN is_shed THEN 'shed' WHEN is_lost THEN 'lost' WHEN {DUPLICATE} THEN 'duplicate'
    ELSE 'no fate' END AS became, count(*) FROM final GROUP BY became
"""


@contextmanager
def database(tables: Mapping[str, pa.Table]) -> Iterator[duckdb.DuckDBPyConnection]:
    """Give a database of the evidence, with what became of each position."""
    with duckdb.connect() as connection:
        for name, table in tables.items():
            connection.register(f"given_{name}", table)
            connection.execute(f"CREATE TABLE {name} AS SELECT * FROM given_{name}")
        for kind in ("shed", "dead", "lost"):
            connection.execute(POSITIONS.format(kind=kind))
        connection.execute(FATE)
        yield connection


def ids_by_series(rows: pa.Table) -> Iterator[tuple[Series, Ints]]:
    """Yield each series of some rows that have an id, and its ids, each once."""
    with duckdb.connect() as connection:
        connection.register("given", rows)
        query = f"SELECT {SERIES}, list(DISTINCT sequence) FROM given GROUP BY {SERIES}"
        for *series, ids in connection.sql(query).fetchall():
            yield Series(*series), np.sort(np.array(ids, dtype=np.int64))
