"""A producer that sends more than a writer takes, and knows every trade that it sent.

What a trade holds follows from its symbol and id alone, so that the truth needs no memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from aiokafka import AIOKafkaProducer

from libs.degradation.policy import Priority
from libs.kafka.deadline import deadline
from libs.kafka.ready import ReadyBatch, key_fields, sections
from libs.kafka.send import SEND_TIMEOUT_S
from libs.market.bucket import bucket_of
from libs.market.errors import InvalidError
from libs.market.trade import AssetClass, Origin, Side
from libs.wire.framed import framed_trades
from libs.wire.trades import proto_batch
from tools.chaos.digest import CONTENT, digest
from tools.simulator.truth import ExpectedTrades

# As tools/chaos/priorities.toml has them; no session knows them. Each in a partition of its own.
SYMBOLS: Mapping[Priority, tuple[str, ...]] = {
    Priority.CRITICAL: ("CRITICAL1USDT", "CRITICAL2USDT", "CRITICAL3USDT", "CRITICAL5USDT"),
    Priority.HIGH: ("HIGH1USDT", "HIGH2USDT", "HIGH3USDT", "HIGH4USDT"),
    Priority.NORMAL: ("NORMAL1USDT", "NORMAL2USDT", "NORMAL3USDT", "NORMAL5USDT"),
    Priority.LOW: ("LOW1USDT", "LOW2USDT", "LOW3USDT", "LOW4USDT"),
}
# Critical too: what a market in turmoil trades most is what matters most, and that never waits.
SURGE = (
    *("SURGE3USDT", "SURGE4USDT", "SURGE5USDT", "SURGE7USDT"),
    *("SURGE9USDT", "SURGE11USDT", "SURGE13USDT", "SURGE15USDT"),
)
BY_CLASS = tuple(symbol for symbols in SYMBOLS.values() for symbol in symbols)
ALL_SYMBOLS = (*BY_CLASS, *SURGE)
# Of each symbol so large a part: all classes alike, or nearly nothing that can be put off.
ALIKE: Mapping[str, float] = {symbol: 1 / len(BY_CLASS) for symbol in BY_CLASS}
SURGING: Mapping[str, float] = {
    **{symbol: 0.1 / len(BY_CLASS) for symbol in BY_CLASS},
    **{symbol: 0.9 / len(SURGE) for symbol in SURGE},
}
FIRST_ID = 1
# Kafka takes a batch of each partition at a time: few large ones are there sooner than many.
BATCH_ROWS = 16_000
EXCHANGE = "BINANCE"


@dataclass(frozen=True, slots=True)
class Burst:
    """Trades of one symbol that are to be sent next, as Kafka takes them."""

    symbol: str
    rows: int
    batches: list[ReadyBatch]


@dataclass(slots=True)
class Flood:
    """Sends trades of each symbol in the order of their ids; `sent` counts what Kafka has.

    `_ready` are values made beforehand, of the ids before `_next_id`.
    """

    producer: AIOKafkaProducer
    topic: str
    schema_id: int
    start_us: int
    sent: dict[str, int] = field(default_factory=dict)
    _next_id: dict[str, int] = field(default_factory=dict)
    _ready: dict[str, pa.BinaryArray] = field(default_factory=dict)

    @property
    def total(self) -> int:
        return sum(self.sent.values())

    async def make(self, rows: int, mix: Mapping[str, float]) -> None:
        """Make about so many trades beforehand: then they can be sent much faster."""
        for symbol, share in mix.items():
            await self._make(symbol, round(rows * share))

    async def bursts(self, rows: int, mix: Mapping[str, float]) -> list[Burst]:
        """Return about so many trades, to be sent before any others of their symbols."""
        counts = {symbol: max(1, round(rows * share)) for symbol, share in mix.items()}
        return [await self._burst(symbol, count) for symbol, count in counts.items()]

    async def send(self, bursts: Iterable[Burst]) -> None:
        """Send them all, and wait until Kafka has them.

        Raises:
            UnavailableError: Kafka did not take them; then what is in it is not known any more.
        """
        await asyncio.gather(*map(self._send, bursts))

    def expected(self, symbol: str) -> ExpectedTrades:
        """Return what must come back of a symbol."""
        ids = np.arange(FIRST_ID, FIRST_ID + self.sent.get(symbol, 0))
        text = contents(ids, self.start_us)
        same = pa.repeat(pa.scalar(False), len(ids))
        columns = [text["source_sequence"], text["price"], text["quantity"], text["timestamp_us"]]
        return digest(symbol, pa.table([*columns, same], names=CONTENT.names))

    async def _make(self, symbol: str, rows: int) -> None:
        """Have the values of the next ids ready."""
        ready = self._ready.setdefault(symbol, pa.array([], pa.binary()))
        missing = rows - len(ready)
        if missing > 0:
            first = self._next_id.get(symbol, FIRST_ID)
            self._next_id[symbol] = first + missing
            ids = np.arange(first, first + missing)
            encode = partial(encoded, symbol, ids, self.start_us, self.schema_id)
            self._ready[symbol] = pa.concat_arrays([ready, await asyncio.to_thread(encode)])

    async def _burst(self, symbol: str, rows: int) -> Burst:
        await self._make(symbol, rows)
        values, self._ready[symbol] = self._ready[symbol][:rows], self._ready[symbol][rows:]
        return Burst(symbol, rows, await asyncio.to_thread(batches, symbol, values))

    async def _send(self, burst: Burst) -> None:
        symbol, place = burst.symbol, bucket_of(burst.symbol)
        async with deadline(f"Kafka did not take {burst.rows} trades of {symbol}", SEND_TIMEOUT_S):
            taken = [
                await self.producer.send_batch(batch, self.topic, partition=place)
                for batch in burst.batches
            ]
            await asyncio.gather(*taken)
        self.sent[symbol] = self.sent.get(symbol, 0) + burst.rows


def contents(ids: np.ndarray, start_us: int) -> dict[str, pa.Array]:
    """Return what the trades with these ids hold; prices and quantities as an exchange prints."""
    number = pa.array(ids, pa.int64())
    whole, decimals = pa.array(1_000 + ids % 997), pa.array(1_000 + ids % 8_999)
    return {
        "trade_id": pc.cast(number, pa.string()),
        "source_sequence": number,
        "timestamp_us": pa.array(start_us + ids),
        "price": pc.binary_join_element_wise(_text(whole), _text(decimals), "."),
        "quantity": pc.binary_join_element_wise("0", _text(decimals), "."),
    }


def batches(symbol: str, values: pa.BinaryArray) -> list[ReadyBatch]:
    """Return the batches of these values: made by the column, a writer is slower than that.

    Raises:
        InvalidError: a value is too long for it.
    """
    keys = pa.repeat(key_fields([symbol.encode()])[0], len(values))
    starts = [*range(0, len(values), BATCH_ROWS), len(values)]
    made = sections(keys, values, starts)
    if made is None:
        raise InvalidError(f"a trade of {symbol} is too long to be flooded", field="value")
    return [ReadyBatch(section) for section in made]


def encoded(symbol: str, ids: np.ndarray, start_us: int, schema_id: int) -> pa.BinaryArray:
    """Return the trades with these ids as Kafka values."""
    columns = contents(ids, start_us)
    columns["ingest_timestamp_us"] = columns["timestamp_us"]
    same = {
        "exchange": EXCHANGE,
        "asset_class": AssetClass.CRYPTO,
        "symbol": symbol,
        "currency": "USDT",
        "side": Side.BUY,
        "origin": Origin.STREAM,
    }
    return framed_trades(proto_batch(columns, same), schema_id)


def _text(numbers: pa.Array) -> pa.Array:
    return pc.cast(numbers, pa.string())
