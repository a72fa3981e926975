"""Trades to test with."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pyarrow as pa
from hypothesis import strategies as st

from libs.market.trade import EARLIEST_US, LATEST_RECEIPT_US, AssetClass, Origin, Side, Trade

A_TRADE = Trade(
    exchange="BINANCE",
    asset_class=AssetClass.CRYPTO,
    symbol="BTCUSDT",
    trade_id="3700000001",
    timestamp_us=1_723_107_600_000_001,
    ingest_timestamp_us=1_723_107_600_004_002,
    price=Decimal("57432.01000000"),
    quantity=Decimal("0.00250000"),
    currency="USDT",
    side=Side.BUY,
    source_sequence=3_700_000_001,
)


def a_trade(**changes: Any) -> Trade:
    """Make a trade like any other but for `changes`."""
    return replace(A_TRADE, **changes)


_texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
_numbers = st.integers(1, 10**28 - 1).map(lambda unscaled: Decimal(unscaled).scaleb(-12))
_moments = st.integers(EARLIEST_US, LATEST_RECEIPT_US - 1)
_int32s = st.integers(-(2**31), 2**31 - 1)
_int64s = st.integers(-(2**63), 2**63 - 1)


def trades() -> st.SearchStrategy[Trade]:
    """Draw any trade that K2 takes."""
    drawn = st.builds(
        Trade,
        exchange=_texts,
        asset_class=st.sampled_from(AssetClass),
        symbol=_texts,
        trade_id=_texts,
        timestamp_us=_moments,
        ingest_timestamp_us=_moments,
        price=_numbers,
        quantity=_numbers,
        currency=_texts,
        side=st.sampled_from(Side),
        source_sequence=st.none() | _int64s,
        sequence_epoch=_int32s,
        trade_conditions=st.lists(_texts, max_size=3).map(tuple),
        origin=st.sampled_from(Origin),
        vendor_data=st.dictionaries(_texts, _texts, max_size=3),
    )
    return drawn.map(_received_after)


def _received_after(trade: Trade) -> Trade:
    moments = trade.timestamp_us, trade.ingest_timestamp_us
    return replace(trade, timestamp_us=min(moments), ingest_timestamp_us=max(moments))


def trades_of(batch: pa.RecordBatch) -> list[Trade]:
    """Read a TRADE_SCHEMA batch back into trades."""
    traded = batch["timestamp"].cast(pa.int64()).to_pylist()
    received = batch["ingest_timestamp"].cast(pa.int64()).to_pylist()
    return [
        Trade(
            exchange=row["exchange"],
            asset_class=AssetClass(row["asset_class"]),
            symbol=row["symbol"],
            trade_id=row["trade_id"],
            timestamp_us=timestamp_us,
            ingest_timestamp_us=ingest_timestamp_us,
            price=row["price"],
            quantity=row["quantity"],
            currency=row["currency"],
            side=Side(row["side"]),
            source_sequence=row["source_sequence"],
            sequence_epoch=row["sequence_epoch"],
            trade_conditions=tuple(row["trade_conditions"]),
            origin=Origin(row["origin"]),
            vendor_data=dict(row["vendor_data"]),
        )
        for row, timestamp_us, ingest_timestamp_us in zip(
            batch.drop_columns(["timestamp", "ingest_timestamp"]).to_pylist(),
            traded,
            received,
            strict=True,
        )
    ]
