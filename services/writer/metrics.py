"""The writer's metrics, at boundaries only."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)

FETCHED = Counter("k2_writer_fetched_records", "Records taken from Kafka")
REFUSED_BATCHES = Counter(
    "k2_writer_refused_batches", "Batches that did not start at the position expected", ["verdict"]
)
OUTDATED_ROWS = Counter(
    "k2_writer_outdated_rows", "Rows dropped because their partition was placed anew"
)
DECODE_SECONDS = Histogram("k2_writer_decode_seconds", "Time to decode one fetch", buckets=SECONDS)
BUFFERED_ROWS = Gauge("k2_writer_buffered_rows", "Rows decoded and not yet committed")
BUFFERED_BYTES = Gauge(
    "k2_writer_buffered_bytes", "Size in memory of rows decoded and not yet committed"
)
COMMITTED_ROWS = Counter("k2_writer_committed_rows", "Rows committed by this process")
COMMITS = Counter("k2_writer_commits", "Commits to the table, by outcome", ["outcome"])
COMMIT_SECONDS = Histogram(
    "k2_writer_commit_seconds",
    "Time of a commit, from buffer to table, retries in it",
    buckets=SECONDS,
)
COMMIT_FAILURES = Gauge(
    "k2_writer_commit_failures", "Attempts to commit that failed in a row; 0 is well"
)
FENCED_PARTITIONS = Counter(
    "k2_writer_fenced_partitions",
    "Partitions whose part of a commit was dropped, for another writer was first",
)
DEAD_LETTERED = Counter(
    "k2_writer_dead_lettered_rows", "Records sent to the dead-letter topic", ["reason"]
)
DUPLICATES = Counter(
    "k2_writer_duplicate_rows", "Trades sent again and dropped", ["exchange", "symbol"]
)
HELD_PARTITIONS = Gauge(
    "k2_writer_held_partitions", "ALARM: partitions held because their records cannot be read"
)
HOLDS = Counter(
    "k2_writer_holds", "Times that a partition was held for a burst of unreadable records"
)
UNREADABLE_BATCHES = Counter(
    "k2_writer_unreadable_batches", "ALARM: record batches that a broker gave and that are none"
)
HOLDS_OUTLIVED = Counter(
    "k2_writer_holds_outlived", "ALARM: bursts dead-lettered because retention came near"
)
LOST_RECORDS = Counter(
    "k2_writer_lost_records", "ALARM: positions that retention took before they were read"
)
SHED_RECORDS = Counter(
    "k2_writer_shed_records", "Records put off for later, by the class of their symbol", ["class"]
)
CIRCUIT_BREAK = Gauge(
    "k2_writer_circuit_break", "ALARM: 1 while lag is at its worst, critical symbols alone go on"
)
BACKFILLED_RECORDS = Counter(
    "k2_writer_backfilled_records",
    "Records written after they had been put off, by the class of their symbol",
    ["class"],
)
BACKFILL_OPEN_RECORDS = Gauge(
    "k2_writer_backfill_open_records", "Records put off and not yet written, in the whole table"
)
RETENTION_USED = Gauge(
    "k2_writer_backfill_retention_used",
    "ALARM from 0.8: share of retention used by what waits to be written",
)
SPARED_TOPICS = Gauge(
    "k2_writer_spared_topics", "ALARM: topics not put off any more, for retention is too near"
)
MEMORY_PAUSES = Counter(
    "k2_writer_memory_pauses",
    "Times that memory held fetching back",
    ["reads"],
)
MEMORY_PAUSES_RUN_OUT = Counter(
    "k2_writer_memory_pauses_run_out", "ALARM: pauses of a minute after which memory was as short"
)
MEMORY_STUCK = Gauge(
    "k2_writer_memory_stuck", "ALARM: 1 while memory is short and restarts did not help"
)
LAG = Gauge(
    "k2_writer_lag_records",
    "End of the log minus the decoded position, in the partitions of this writer",
)
PAUSED_PARTITIONS = Gauge("k2_writer_paused_partitions", "Assigned partitions not being read")
