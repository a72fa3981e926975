"""What the governor shows Prometheus."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

LEVEL = Gauge("k2_governor_level", "Level of the last directive, 0 NORMAL to 4 CIRCUIT_BREAK")
LAG = Gauge("k2_governor_lag_records", "Records that a group has not decoded yet", ["group"])
HELD_LAG = Gauge(
    "k2_governor_held_lag_records",
    "Part of the lag, in partitions that are held until their records can be read",
    ["group"],
)
PRODUCED = Gauge(
    "k2_governor_produced_records_per_second", "Records that come in for a group", ["group"]
)
DECODED = Gauge("k2_governor_decoded_records_per_second", "Records that a group decodes", ["group"])
DESIRED = Gauge(
    "k2_governor_desired_replicas", "Writers that would keep up and drain the lag", ["group"]
)
CAUSE = Gauge("k2_governor_cause", "1 while the cause holds for a group or a process", ["cause"])
LAG_KNOWN = Gauge(
    "k2_governor_lag_known",
    "1 while the lag of a group can be read, 0 while its level is held for want of it",
    ["group"],
)
ATTACHED = Gauge("k2_governor_attached_processes", "Processes with an open stream to here")
PUSHES = Counter("k2_governor_pushes", "Directives sent to processes")
REFUSALS = Counter("k2_governor_refusals", "Directives that a process refused")
APPLY_SECONDS = Histogram(
    "k2_governor_acknowledged_seconds",
    "From a new directive sent to its acknowledgement",
    buckets=(0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10),
)
LEADING = Gauge("k2_governor_leading", "1 while this governor leads, 0 while it stands by")
TERMS = Counter("k2_governor_claims", "Times that this governor became the leader")
RECORD_SECONDS = Histogram(
    "k2_governor_record_seconds",
    "Time to record a directive in Kafka, before it is pushed",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
)
APPLIED_SECONDS = Histogram(
    "k2_governor_applied_seconds",
    "From the reading of lag that crossed a threshold to a directive's acknowledgement",
    buckets=(0.1, 0.25, 0.5, 0.75, 1, 1.5, 2.5, 5, 10),
)
