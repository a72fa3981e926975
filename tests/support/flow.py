"""A seeded flow of records as it comes in life: trades, re-sent trades, and what is no trade."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from random import Random

import numpy as np
from aiokafka import AIOKafkaProducer

from libs.kafka.send import send_values
from libs.lake.table.tables import bucket_of
from libs.market.trade import AssetClass, Origin, Side
from libs.wire.trades import encode_trades, proto_batch
from tests.support.polling import eventually
from tests.support.writer import FIRST_TRADE_US, Writing

SYMBOLS = ("BTCUSDT", "ETHUSDT", "BNBUSDT", "XRPUSDT")
JUNK = (b"", b"{no trade}", b"\x00\x00\x0f\x42\x3f\x00unknown schema")


@dataclass
class Flow:
    """Sends trades of each symbol in the order of their ids, of which some come again later.

    Nothing that is no trade, or contradicts one, comes with the keys of `clean`.
    """

    writing: Writing
    producer: AIOKafkaProducer
    seed: int = 7
    symbols: tuple[str, ...] = SYMBOLS
    clean: tuple[str, ...] = ()
    resent: float = 0.05
    junk: int = 2
    contradictions: int = 1
    sent: dict[str, int] = field(default_factory=dict)
    ends: dict[int, int] = field(default_factory=dict)
    random: Random = field(init=False)

    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    def __post_init__(self) -> None:
        self.random = Random(self.seed)

    async def send(self, rows: int = 600) -> None:
        """Send so many new trades of each symbol, re-sends and junk among them.

        What Kafka did not take comes again with the next call.
        """
        async with self._turn:
            for symbol in self.symbols:
                await self._send_some(symbol, rows)

    async def _send_some(self, symbol: str, rows: int) -> None:
        first = self.sent.get(symbol, 0)
        values = encoded(symbol, self._ids(first, rows), self.writing.schema_id)
        for value in () if symbol in self.clean else self._odd(symbol, first):
            values.insert(self.random.randrange(len(values)), value)
        await self._send(symbol, values)
        self.sent[symbol] = first + rows

    async def _send(self, symbol: str, values: list[bytes]) -> None:
        partition = bucket_of(symbol)
        keys = [symbol.encode()] * len(values)
        await send_values(self.producer, self.writing.topic, partition, keys, values)
        self.ends[partition] = self.ends.get(partition, 0) + len(values)

    def _ids(self, first: int, rows: int) -> np.ndarray:
        """Return ids on from `first`, between them some that were sent before."""
        ids = list(range(first, first + rows))
        for _ in range(round(rows * self.resent)):
            at = self.random.randrange(1, len(ids))
            ids.insert(at, self.random.randint(0, max(ids[:at])))
        return np.array(ids, dtype=np.int64)

    def _odd(self, symbol: str, before: int) -> list[bytes]:
        return self.random.choices(JUNK, k=self.junk) + self._contradicting(symbol, before)

    def _contradicting(self, symbol: str, before: int) -> list[bytes]:
        """Return trades with ids that were sent before, and another price."""
        if not before:
            return []
        ids = [self.random.randrange(before) for _ in range(self.contradictions)]
        return encoded(symbol, np.array(ids), self.writing.schema_id, more_by=1_000)

    async def committed(self, timeout_s: float = 60) -> None:
        """Wait until the seam is past everything sent."""
        await eventually(
            lambda: self.writing.seam().get(self.writing.topic) == self.ends,
            timeout_s,
            what="the seam is at the end",
            poll_s=0.1,
        )


def encoded(symbol: str, ids: np.ndarray, schema_id: int, *, more_by: int = 0) -> list[bytes]:
    """Return the trades with these ids, each the same however often it is asked for."""
    numbers = ids.tolist()
    trades = proto_batch(
        {
            "trade_id": [str(n) for n in numbers],
            "source_sequence": ids,
            "timestamp_us": FIRST_TRADE_US + ids * 1_000,
            "ingest_timestamp_us": FIRST_TRADE_US + ids * 1_000 + 900,
            "price": [f"{n % 999 + 1 + more_by}.{n % 10**8:08}" for n in numbers],
            "quantity": [f"0.{n % 997 + 1:05}" for n in numbers],
        },
        {
            "exchange": "BINANCE",
            "asset_class": AssetClass.CRYPTO,
            "symbol": symbol,
            "currency": "USDT",
            "side": Side.BUY,
            "origin": Origin.STREAM,
        },
    )
    return list(encode_trades(trades, schema_id))
