"""What must come back of trades, by the column: a count, the ids, and a hash of every value."""

from __future__ import annotations

import hashlib

import numpy as np
import pyarrow as pa

from tools.simulator.truth import ExpectedTrades

NUMBER = pa.decimal128(28, 12)
CONTENT = pa.schema(
    [
        ("source_sequence", pa.int64()),
        ("price", NUMBER),
        ("quantity", NUMBER),
        ("time_us", pa.int64()),
        ("is_sell", pa.bool_()),
    ]
)


def digest(symbol: str, trades: pa.Table) -> ExpectedTrades:
    """Sum a symbol's trades up, each id once, in the order of their ids.

    `trades` has the columns of CONTENT. The hash is over these columns as Arrow lays them out,
    one after the other.
    """
    rows = trades.select(CONTENT.names).cast(CONTENT).sort_by("source_sequence").combine_chunks()
    ids = rows["source_sequence"].to_numpy()
    if not len(ids):
        return ExpectedTrades(symbol, 0, -1, -1, hashlib.sha256().hexdigest())
    once = rows.take(pa.array(np.flatnonzero(np.diff(ids, prepend=ids[0] - 1))))
    whole = hashlib.sha256()
    for name in CONTENT.names:
        whole.update(_bytes(once[name]))
    return ExpectedTrades(symbol, len(once), int(ids[0]), int(ids[-1]), whole.hexdigest())


def _bytes(column: pa.ChunkedArray) -> bytes:
    array = column.combine_chunks()
    if pa.types.is_decimal(array.type):
        width = array.type.byte_width
        start = array.offset * width
        return bytes(array.buffers()[1])[start : start + len(array) * width]
    return bytes(array.to_numpy(zero_copy_only=False).tobytes())
