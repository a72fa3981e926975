"""Frames that are no trades K2 can keep, as records of the dead-letter topic."""

from __future__ import annotations

from collections.abc import Sequence

from libs.kafka.send import Header
from services.ingestor.delivering.records import Records
from services.ingestor.parsing.binance import Rejected
from services.ingestor.publishing.encoding import EXCHANGE

# Kafka's default bound is a megabyte a record. What is longer is no trade of any exchange; its
# first half megabyte says what it was, and the header `bytes` how long it was.
MAX_RAW_BYTES = 512 * 1024


class DeadLetters:
    """Makes records of a process's bad frames.

    Keys read as the other dead letters' do, (source, partition, offset): here the exchange, when
    this process began, and a number. So no two of them are alike.
    """

    def __init__(self, topic: str, began_us: int) -> None:
        self._topic = topic
        self._began_us = began_us
        self._made = 0

    def records(self, rejected: Sequence[Rejected]) -> Records:
        """Make one record a frame: the raw bytes, and in headers why they are here."""
        first, self._made = self._made, self._made + len(rejected)
        return Records(
            topic=self._topic,
            partition=0,
            keys=[
                f"{EXCHANGE}/{self._began_us}/{number}".encode()
                for number in range(first, self._made)
            ],
            values=[frame.raw[:MAX_RAW_BYTES] for frame in rejected],
            headers=[_headers(frame) for frame in rejected],
        )


def _headers(frame: Rejected) -> list[Header]:
    said = {
        "source": "ingestor",
        "exchange": EXCHANGE,
        "reason": frame.reason,
        "detail": frame.detail[:500],
        "received_us": str(frame.received_us),
        "bytes": str(len(frame.raw)),
    }
    return [(name, text.encode()) for name, text in said.items()]
