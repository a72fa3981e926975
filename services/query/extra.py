"""Added columns as the text that a Protobuf trade has of them, by name."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping

import msgspec
import numpy as np
import pyarrow as pa

from libs.wire.schema import VENDOR_DATA


def extra_maps(columns: Mapping[str, pa.Array]) -> pa.Array:
    """Return each row's values by column name, as text; a null has no entry."""
    texts = [text_of(column) for column in columns.values()]
    rows = len(texts[0])
    held = np.column_stack([text.is_valid().to_numpy(zero_copy_only=False) for text in texts])
    at_row, at_column = np.nonzero(held)
    offsets = np.concatenate(([0], np.cumsum(held.sum(axis=1)))).astype(np.int32)
    keys = pa.array(list(columns), pa.string()).take(pa.array(at_column))
    items = pa.concat_arrays(texts).take(pa.array(at_column * rows + at_row))
    return pa.MapArray.from_arrays(pa.array(offsets), keys, items).cast(VENDOR_DATA)


def text_of(values: pa.Array) -> pa.Array:
    """Print a column's values: bytes in base64, lists as JSON."""
    if pa.types.is_binary(values.type):
        encoded = (None if raw is None else b64encode(raw) for raw in values.to_pylist())
        return pa.array(encoded, pa.binary()).cast(pa.string())
    if pa.types.is_list(values.type):
        listed = (None if v is None else msgspec.json.encode(v) for v in values.to_pylist())
        return pa.array(listed, pa.binary()).cast(pa.string())
    return values.cast(pa.string())
