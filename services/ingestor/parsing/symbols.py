"""The symbols an ingestor takes, and what it must know of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from libs.kafka.ready import key_fields

# Longest first: USDT must not be cut to a currency that ends it. From Binance's quoteAsset values.
QUOTE_CURRENCIES = tuple(
    sorted(
        (
            *("USDT", "FDUSD", "USDC", "TUSD", "BUSD", "USDP", "USDS", "USD1", "DAI", "PAX"),
            *("BTC", "ETH", "BNB", "TRX", "XRP", "DOT", "DOGE", "SOL"),
            *("EUR", "TRY", "BRL", "GBP", "AUD", "RUB", "UAH", "ZAR", "PLN", "RON", "ARS", "JPY"),
            *("MXN", "CZK", "NGN", "COP", "IDR", "IDRT", "BIDR", "BVND", "VAI", "UST", "BKRW"),
        ),
        key=len,
        reverse=True,
    )
)
UNKNOWN_CURRENCY = "UNKNOWN"


def derived_currency(symbol: str) -> str:
    """Guess the quote currency from the symbol's end: for when the exchange cannot be asked."""
    return next(
        (c for c in QUOTE_CURRENCIES if symbol.endswith(c) and symbol != c), UNKNOWN_CURRENCY
    )


def trade_stream(symbol: str) -> str:
    """Name the stream of a symbol's trades."""
    return f"{symbol.lower()}@trade"


@dataclass(frozen=True, slots=True)
class SymbolTable:
    """Symbols by code, the number that stands for a symbol in a batch's columns."""

    symbols: tuple[str, ...]
    codes: Mapping[str, int]
    names: pa.StringArray
    streams: pa.StringArray
    keys: tuple[bytes, ...]
    key_fields: pa.BinaryArray
    currencies: pa.StringArray
    partitions: npt.NDArray[np.int32]


def symbol_table(
    symbols: Sequence[str], currencies: Mapping[str, str], partitions: Sequence[int]
) -> SymbolTable:
    """Number `symbols`; what `currencies` does not name is derived from the symbol.

    `partitions` holds each symbol's Kafka partition, in the same order.
    """
    quoted = [currencies.get(symbol) or derived_currency(symbol) for symbol in symbols]
    keys = tuple(symbol.encode() for symbol in symbols)
    return SymbolTable(
        symbols=tuple(symbols),
        codes={symbol: code for code, symbol in enumerate(symbols)},
        names=pa.array(symbols, pa.string()),
        streams=pa.array([trade_stream(symbol) for symbol in symbols], pa.string()),
        keys=keys,
        key_fields=key_fields(keys),
        currencies=pa.array(quoted, pa.string()),
        partitions=np.asarray(partitions, np.int32),
    )
