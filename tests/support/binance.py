"""Binance's messages, as its stream prints them."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator

import numpy as np

from services.ingestor.parsing.symbols import SymbolTable, symbol_table
from tests.support.realdata import realdata

NOW_US = 1_723_161_255_500_000
RECORDINGS = ("btcusdt_20240808", "btcusdt_20240809", "ethusdt_20240808", "ethusdt_20240809")


def trade_frame(symbol: str = "BTCUSDT", t: object = 1, **fields: object) -> bytes:
    """Print a trade; `fields` replace or, as None, remove what it has."""
    trade = {
        "e": "trade",
        "E": 1_723_161_255_343,
        "s": symbol,
        "t": t,
        "p": "61837.63000000",
        "q": "0.02000000",
        "T": 1_723_161_255_342,
        "m": True,
        "M": True,
    } | fields
    data = {name: value for name, value in trade.items() if value is not None}
    stream = f"{symbol.lower()}@trade"
    return json.dumps({"stream": stream, "data": data}, separators=(",", ":")).encode()


def table(*symbols: str) -> SymbolTable:
    """Number symbols; each goes to the partition of its own number."""
    return symbol_table(symbols, {}, range(len(symbols)))


def stamps(count: int, first_us: int = NOW_US) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.arange(first_us, first_us + count, dtype=np.int64)


def recorded_lines(name: str) -> Iterator[tuple[int, bytes]]:
    """Read a recording: each line's receive time in microseconds, and its message."""
    with gzip.open(realdata() / "binance-spot" / f"{name}.gz") as lines:
        for line in lines:
            received_ns, message = line.rstrip(b"\n").split(b" ", 1)
            yield int(received_ns) // 1_000, message
