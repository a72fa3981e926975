"""What the governor shows Prometheus."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

LEVEL = Gauge("k2_governor_level", "Level shown, 0 NORMAL to 4 CIRCUIT_BREAK")
LAG = Gauge("k2_governor_lag", "Records that a group has not decoded yet", ["group"])
LAG_KNOWN = Gauge("k2_governor_lag_known", "1 while the lag can be read", ["group"])
ATTACHED = Gauge("k2_governor_attached", "Processes with an open stream")
PUSHES = Counter("k2_governor_pushes", "Directives sent")
REFUSALS = Counter("k2_governor_refusals", "Directives that a process refused")
APPLY_SECONDS = Histogram(
    "k2_governor_apply_seconds",
    "From a new directive sent to its acknowledgement",
    buckets=(0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10),
)
