"""The ingestor's metrics, and a bound on how often it logs the same thing."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

TRADES = Counter("k2_ingestor_acknowledged_trades", "Trades that Kafka has acknowledged")
RECEIVED = Counter("k2_ingestor_received_trades", "Trades parsed from the exchange")
REJECTED = Counter("k2_ingestor_rejected_frames", "Frames sent to the dead letters", ["reason"])
IGNORED = Counter("k2_ingestor_ignored_frames", "Frames of streams that K2 does not keep")
STEPS = Counter("k2_ingestor_sequence_steps", "Trades whose id was not the next one", ["step"])
MISSING = Gauge(
    "k2_ingestor_missing_trades",
    "Trade ids that had not come when a later one did, since the start",
)
OPEN_GAPS = Gauge("k2_ingestor_open_gaps", "Gaps in trade ids that nobody has filled yet")
HEALED = Counter("k2_ingestor_healed_trades", "Missing trades that REST brought")
VENUE_HOLES = Counter("k2_ingestor_venue_hole_ids", "Ids recorded as never issued by the exchange")
REST_REQUESTS = Counter(
    "k2_ingestor_rest_requests", "REST requests for missed trades, by HTTP status", ["status"]
)
REST_WEIGHT = Gauge(
    "k2_ingestor_rest_weight", "Weight of REST requests, used of this minute's budget"
)
RECONNECTS = Counter("k2_ingestor_reconnects", "Connections opened after a symbol's first one")
CONNECTED = Gauge("k2_ingestor_connections", "Connections to the exchange that are open")
BURST_ROWS = Histogram(
    "k2_ingestor_burst_rows",
    "Trades taken from a connection at once",
    buckets=[4**n for n in range(7)],
)
ACK_SECONDS = Histogram(
    "k2_ingestor_ack_seconds",
    "From handing a burst to the producer to Kafka's acknowledgement",
    buckets=[0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1, 5, 30],
)
IN_FLIGHT = Gauge(
    "k2_ingestor_unacknowledged_records",
    "Records handed to the producer that Kafka has not acknowledged",
)
SPOOL_BYTES = Gauge("k2_ingestor_spool_bytes", "Bytes of records that wait in local files")
SPOOL_RECORDS = Gauge("k2_ingestor_spool_records", "Records that wait in local files")
BOOK_FAILURES = Counter(
    "k2_ingestor_book_failures", "Writes of the book that the disk refused; each is tried again"
)
TAKING = Gauge(
    "k2_ingestor_taking", "1 while new data is taken, 0 at CIRCUIT_BREAK with the spool full"
)
DISCARDED = Counter(
    "k2_ingestor_discarded_messages", "Messages in connections that were given up for memory"
)
RESENDS = Counter("k2_ingestor_producer_restarts", "Producers replaced after Kafka refused a batch")


class Seldom:
    """Lets a thing be said once in `every_s`; counts what was not. Time is passed in."""

    def __init__(self, every_s: float) -> None:
        self._every_s = every_s
        self._said_s: dict[str, float] = {}
        self._unsaid: dict[str, int] = {}

    def may_say(self, what: str, now_s: float) -> int | None:
        """Return how often it went unsaid since the last time; None where it must wait."""
        if now_s - self._said_s.get(what, float("-inf")) < self._every_s:
            self._unsaid[what] = self._unsaid.get(what, 0) + 1
            return None
        self._said_s[what] = now_s
        return self._unsaid.pop(what, 0)
