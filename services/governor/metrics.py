"""What the governor shows Prometheus."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

LEVEL = Gauge("k2_governor_level", "Level shown, 0 NORMAL to 4 CIRCUIT_BREAK")
LAG = Gauge("k2_governor_lag", "Records that a group has not decoded yet", ["group"])
HELD_LAG = Gauge("k2_governor_held_lag", "Of these, in partitions that wait to be read", ["group"])
PRODUCED = Gauge("k2_governor_produced_per_s", "Records that come, a second", ["group"])
DECODED = Gauge("k2_governor_decoded_per_s", "Records that a group decodes, a second", ["group"])
DESIRED = Gauge(
    "k2_governor_desired_replicas", "Writers that would keep up and drain the lag", ["group"]
)
CAUSE = Gauge("k2_governor_cause", "1 while the cause holds somewhere", ["cause"])
LAG_KNOWN = Gauge("k2_governor_lag_known", "1 while the lag can be read", ["group"])
ATTACHED = Gauge("k2_governor_attached", "Processes with an open stream")
PUSHES = Counter("k2_governor_pushes", "Directives sent")
REFUSALS = Counter("k2_governor_refusals", "Directives that a process refused")
APPLY_SECONDS = Histogram(
    "k2_governor_apply_seconds",
    "From a new directive sent to its acknowledgement",
    buckets=(0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10),
)
LEADING = Gauge("k2_governor_leading", "1 while this governor leads")
TERMS = Counter("k2_governor_claims", "Claims that Kafka took")
RECORD_SECONDS = Histogram(
    "k2_governor_record_seconds",
    "A transaction on the topic of directives",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
)
APPLIED_SECONDS = Histogram(
    "k2_governor_applied_seconds",
    "From the reading of lag that crossed a threshold to a directive's acknowledgement",
    buckets=(0.1, 0.25, 0.5, 0.75, 1, 1.5, 2.5, 5, 10),
)
