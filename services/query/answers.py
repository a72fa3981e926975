"""Rows to what a caller reads: derived columns, decimal text, Protobuf."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import ROUND_HALF_EVEN, Context, Decimal
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import ptars
import pyarrow as pa
import pyarrow.compute as pc
from k2.query.v1 import query_pb2

from libs.market.trade import DECIMALS
from libs.rpc.times import timestamp
from libs.wire.decimal_words import words_of
from libs.wire.notional import notional
from libs.wire.schema import TIMESTAMP
from services.query.asked import ANSWER_COLUMNS, MESSAGE_ID
from services.query.completeness.provenance import topic_offsets
from services.query.extra import extra_maps
from services.query.reading.rows import Listing, whole
from services.query.snapshots import SnapshotInfo
from services.query.symbols import Activity, SymbolName

OWN = frozenset(ANSWER_COLUMNS)
DECIMAL_COLUMNS = ("price", "quantity", "notional")
MOST_RESPONSE_BYTES = 8 * 1024 * 1024
IPC_BYTES = 1024 * 1024
_ONE = 10**DECIMALS
# Powers of ten, and how often each goes into 10^12.
_BASES = {10**6: 2, 10**4: 3, 10**3: 4, 10**2: 6, 10: 12}
_TAG_FIRST_FIELD = b"\x0a"
# Below this many, Python is faster than Arrow's kernels.
FEW_ROWS = 48
_NO_TEXT = pa.scalar(None, pa.string())
_QUANTUM = Decimal(1).scaleb(-DECIMALS)
_POOL = ptars.HandlerPool([query_pb2.DESCRIPTOR], ptars.PtarsConfig(timestamp_unit="us"))
_TRADES = _POOL.get_for_message(query_pb2.Trade.DESCRIPTOR)
_BARS = _POOL.get_for_message(query_pb2.Bar.DESCRIPTOR)
DIVISION = Context(prec=76, rounding=ROUND_HALF_EVEN)


def with_derived(table: pa.Table, columns: Sequence[str]) -> pa.Table:
    """Return the asked columns in the table's order, computing what is not stored."""
    own = (name for name in ANSWER_COLUMNS if name in columns)
    added = (name for name in columns if name not in OWN)
    return pa.table({name: derived(table, name) for name in (*own, *added)})


def with_all(table: pa.Table) -> pa.Table:
    return with_derived(table, (*ANSWER_COLUMNS, *added_names(table)))


def added_names(table: pa.Table) -> list[str]:
    return [name for name in table.schema.names if name not in OWN]


def derived(table: pa.Table, name: str) -> pa.Array | pa.ChunkedArray:
    if name == MESSAGE_ID:
        return message_ids(table)
    if name == "notional":
        return full_notional(table)
    return table[name]


def message_ids(table: pa.Table) -> pa.Array:
    """Spell out the identity; null where the exchange gives no sequence to know a trade by."""
    parts = ("exchange", "asset_class", "symbol", "sequence_epoch", "source_sequence")
    texts = [table[name].cast(pa.string()) for name in parts]
    return pc.binary_join_element_wise(*texts, ":")


def full_notional(table: pa.Table) -> pa.ChunkedArray:
    """Compute what a level skipped: the answer is the same whether it was stored or not."""
    stored = table["notional"]
    if not stored.null_count:
        return stored
    computed = notional(whole(table["price"]), whole(table["quantity"]))
    return pc.coalesce(stored, computed)


def decimal_texts(numbers: pa.Array) -> pa.Array:
    """Print decimals exactly, with no exponent and no zeros after the last digit that counts.

    Arrow prints all digits, but what is below 10^-6 it prints with an exponent.
    """
    if len(numbers) > FEW_ROWS:
        texts = numbers.cast(pa.string())
        if not pc.any(pc.match_substring(texts, "E")).as_py():
            return without_zeros(texts)
        units = small_units(numbers)
        if units is not None:
            return unit_texts(units)
    return pa.array([decimal_text(number) for number in numbers.to_pylist()], pa.string())


def small_units(numbers: pa.Array) -> npt.NDArray[np.int64] | None:
    """Return decimals in units of 10^-12; None where one is null, negative or past 64 bits."""
    if numbers.null_count:
        return None
    words = words_of(numbers).view(np.int64)
    fit = not words[:, 1].any() and bool((words[:, 0] >= 0).all())
    return words[:, 0] if fit else None


def unit_texts(units: npt.NDArray[np.int64]) -> pa.Array:
    whole, rest = np.divmod(units, _ONE)
    fractions = pc.utf8_lpad(pc.cast(pa.array(rest), pa.string()), DECIMALS, "0")
    texts = pc.binary_join_element_wise(pc.cast(pa.array(whole), pa.string()), fractions, ".")
    return without_zeros(texts)


def without_zeros(texts: pa.Array) -> pa.Array:
    """Cut the zeros off texts that all have a point, and the point where nothing follows it."""
    return pc.ascii_rtrim(pc.ascii_rtrim(texts, "0"), ".")


def decimal_text(number: Decimal | None) -> str | None:
    if number is None:
        return None
    text = f"{number:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def fitting(payloads: Sequence[bytes]) -> Sequence[bytes]:
    """Return as many as a message holds, at least one."""
    sizes = np.cumsum([len(payload) for payload in payloads])
    return payloads[: max(1, int(np.searchsorted(sizes, MOST_RESPONSE_BYTES, "right")))]


def no_rows(listing: Listing) -> pa.Table:
    return with_derived(listing.schema.empty_table(), listing.columns)


def ipc_streams(rows: pa.Table) -> Iterator[bytes]:
    """Encode rows as Arrow IPC streams of about 1 MiB each."""
    step = max(1, rows.num_rows * IPC_BYTES // max(rows.nbytes, 1))
    for start in range(0, rows.num_rows, step):
        yield ipc_stream(rows.slice(start, step))


def ipc_stream(rows: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as stream:
        stream.write_table(rows.combine_chunks())
    encoded: bytes = sink.getvalue().to_pybytes()
    return encoded


def bar_payloads(bars: pa.Table) -> list[bytes]:
    """Encode each bar; notional and VWAP stay unset where a trade's notional is too large."""
    if not bars.num_rows:
        return []
    known = pc.equal(bars["without_notional"], 0).combine_chunks()
    notional, volume = whole(bars["notional"]), whole(bars["volume"])
    arrays = {"time": whole(bars["time_us"]).cast(TIMESTAMP)}
    for name in ("open", "high", "low", "close", "volume"):
        arrays[name] = decimal_texts(whole(bars[name]))
    arrays["notional"] = pc.if_else(known, decimal_texts(notional), _NO_TEXT)
    arrays["vwap"] = pc.if_else(known, vwap_texts(notional, volume), _NO_TEXT)
    arrays["trades"] = whole(bars["trades"])
    batch = pa.RecordBatch.from_arrays(list(arrays.values()), names=list(arrays))
    payloads: list[bytes] = _BARS.record_batch_to_array(batch).to_pylist()
    return payloads


def vwap_texts(notional: pa.Array, volume: pa.Array) -> pa.Array:
    """Divide to 12 decimals, half even, in whole numbers: exact at any size."""
    money, amount = small_units(notional), small_units(volume)
    if money is None or amount is None:
        numbers = map(vwap, notional.to_pylist(), volume.to_pylist())
        return pa.array([decimal_text(number) for number in numbers], pa.string())
    if (base := long_division_base(money, amount)) is not None:
        return unit_texts(long_division(money, amount, base))
    pairs = zip(money.tolist(), amount.tolist(), strict=True)
    quotients = [rounded_quotient(m * _ONE, a) for m, a in pairs]
    if max(quotients) > np.iinfo(np.int64).max:
        texts = [decimal_text(Decimal(units).scaleb(-DECIMALS, DIVISION)) for units in quotients]
        return pa.array(texts, pa.string())
    return unit_texts(np.array(quotients, np.int64))


def long_division_base(
    dividends: npt.NDArray[np.int64], divisors: npt.NDArray[np.int64]
) -> int | None:
    """Return how far to shift a remainder at a time so that it stays below 2^63.

    None where no shift does, or where a quotient of 12 decimals may pass 62 bits.
    """
    if (dividends > divisors * (2.0**62 / _ONE)).any():
        return None
    most = int(divisors.max())
    return next((base for base in _BASES if most * base < 2**63), None)


def long_division(
    dividends: npt.NDArray[np.int64], divisors: npt.NDArray[np.int64], base: int
) -> npt.NDArray[np.int64]:
    """Divide to 12 decimals, half even, some decimals at a time."""
    quotients, rests = np.divmod(dividends, divisors)
    for _ in range(_BASES[base]):
        digits, rests = np.divmod(rests * base, divisors)
        quotients = quotients * base + digits
    above, half = 2 * rests > divisors, 2 * rests == divisors
    rounded: npt.NDArray[np.int64] = quotients + (above | (half & (quotients % 2 == 1)))
    return rounded


def rounded_quotient(dividend: int, divisor: int) -> int:
    quotient, rest = divmod(dividend, divisor)
    return quotient + (2 * rest > divisor or (2 * rest == divisor and quotient & 1))


def vwap(notional: Decimal | None, volume: Decimal) -> Decimal | None:
    """Divide to 12 decimals, half even; None where the notional is not known."""
    if notional is None:
        return None
    return DIVISION.quantize(DIVISION.divide(notional, volume), _QUANTUM)


def repeated(payloads: Sequence[bytes]) -> bytes:
    """Encode messages as field 1 of another one, without a message object for each."""
    return b"".join([part for payload in payloads for part in (prefix(len(payload)), payload)])


@lru_cache(maxsize=16_384)
def prefix(size_bytes: int) -> bytes:
    """Return the tag of field 1 and the length, as Protobuf writes them."""
    encoded = bytearray(_TAG_FIRST_FIELD)
    while size_bytes > 0x7F:
        encoded.append(size_bytes & 0x7F | 0x80)
        size_bytes >>= 7
    encoded.append(size_bytes)
    return bytes(encoded)


def trade_payloads(table: pa.Table) -> list[bytes]:
    """Encode each row as a Protobuf trade; what is null stays unset."""
    if not table.num_rows:
        return []
    added = added_names(table)
    arrays = {}
    for name in table.column_names:
        column = whole(table[name])
        arrays[name] = decimal_texts(column) if name in DECIMAL_COLUMNS else column
    if added:
        arrays["extra"] = extra_maps({name: arrays.pop(name) for name in added})
    batch = pa.RecordBatch.from_arrays(list(arrays.values()), names=list(arrays))
    payloads: list[bytes] = _TRADES.record_batch_to_array(batch).to_pylist()
    return payloads


def symbol_summary(name: SymbolName, activity: Activity) -> query_pb2.SymbolSummary:
    return query_pb2.SymbolSummary(
        exchange=name.exchange,
        asset_class=name.asset_class,
        symbol=name.symbol,
        trades=activity.trades,
        first_time=timestamp(activity.first_us),
        last_time=timestamp(activity.last_us),
    )


def snapshot(info: SnapshotInfo) -> query_pb2.Snapshot:
    return query_pb2.Snapshot(
        snapshot_id=info.snapshot_id,
        parent_snapshot_id=info.parent_id,
        commit_time=timestamp(info.commit_time_us),
        kind=info.kind,
        commit_id=info.commit_id,
        added_rows=info.added_rows,
        total_rows=info.total_rows,
        total_files=info.total_files,
        seam=topic_offsets(info.seam),
    )
