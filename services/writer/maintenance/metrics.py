"""The maintainer's metrics."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

SECONDS = (0.1, 0.5, 1, 5, 15, 60, 300, 900)

STEPS = Counter(
    "k2_writer_maintenance_steps", "Steps of maintenance, by task and outcome", ["task", "outcome"]
)
STEP_SECONDS = Histogram(
    "k2_writer_maintenance_seconds",
    "Time of a step of maintenance, rests in it",
    ["task"],
    buckets=SECONDS,
)
COMPACTED_FILES = Counter("k2_writer_compacted_files", "Data files that larger ones replaced")
COMPACTED_ROWS = Counter("k2_writer_compacted_rows", "Rows written anew into larger files")
DELETED_FILES = Counter(
    "k2_writer_maintenance_deleted_files", "Files that maintenance deleted", ["task"]
)
DUE = Gauge("k2_writer_compactions_due", "Compactions due at the last look")
