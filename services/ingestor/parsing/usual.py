"""Trades as Binance prints them, read for a whole burst at once. Pure.

    {"stream":"btcusdt@trade","data":{"e":"trade","E":1,"s":"BTCUSDT","t":1,"p":"1","q":"1","T":1,
    "m":true,"M":true}}

Every byte of every message is accounted for: it is one of the words between the values, or it is
of a value that is checked here or by who parses it. So what is read here is what a JSON parser
would read. A message that differs in anything, and with it its burst, is left to that parser.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from services.ingestor.parsing.columns import Bools, Int64s, TradeColumns, as_us
from services.ingestor.parsing.symbols import SymbolTable
from services.ingestor.parsing.texts import Texts

_Words = npt.NDArray[np.uint64]

_WORD = 8
_COMMA = ord(",")
# Marks of a message: its start, its commas, its end.
_COMMAS = 9
_START, _END = 0, _COMMAS + 1

# What stands at a mark, or a little off it.
_BETWEEN = (
    (_START, 0, b'{"stream":"'),
    (1, -1, b'","data":{"e":"trade","E":'),
    (3, 0, b',"s":"'),
    (4, -1, b'","t":'),
    (5, 0, b',"p":"'),
    (6, -1, b'","q":"'),
    (7, -1, b'","T":'),
    (8, 0, b',"m":'),
    (9, 0, b',"M":'),
    (_END, -3, b"e}}"),
)
# Where each value begins and ends: E, t, T, p, q, s, and the stream.
_VALUES = (
    ((2, 5), (3, 0)),
    ((4, 5), (5, 0)),
    ((7, 5), (8, 0)),
    ((5, 6), (6, -1)),
    ((6, 6), (7, -1)),
    ((3, 6), (4, -1)),
    ((_START, 11), (1, -1)),
)
_IN_TEXT_ORDER = (6, 0, 5, 1, 3, 4, 2)
_DIGITS = (ord("0"), ord("9"))
_PLAIN_NUMBER = (ord("."), ord("9"))


def _patterns() -> Sequence[tuple[int, int, bytes]]:
    """Cut what stands between values into words, the last of a long text over the one before."""
    return [
        (mark, offset + start, text[start : start + _WORD])
        for mark, offset, text in _BETWEEN
        for last in [max(len(text) - _WORD, 0)]
        for start in [*range(0, last, _WORD), last]
    ]


def _word(text: bytes) -> int:
    return int.from_bytes(text, "little")


_MARKS = np.array([mark for mark, _, _ in _patterns()])
_OFFSETS = np.array([offset for _, offset, _ in _patterns()])
_EXPECTED = np.array([_word(text) for _, _, text in _patterns()], np.uint64)
_MASKS = np.array([_word(b"\xff" * len(text)) for _, _, text in _patterns()], np.uint64)
_CUT_MARKS = np.array([mark for value in _IN_TEXT_ORDER for mark, _ in _VALUES[value]])
_CUT_OFFSETS = np.array([offset for value in _IN_TEXT_ORDER for _, offset in _VALUES[value]])
_PIECES = np.array([2 * _IN_TEXT_ORDER.index(value) for value in range(len(_VALUES))])
# From the comma before a flag: m and M.
_FLAG = len(',"m":')
_TRUE, _TRUE_MASK = np.uint64(_word(b"true")), np.uint64(_word(b"\xff" * 4))
_FALSE, _FALSE_MASK = np.uint64(_word(b"false")), np.uint64(_word(b"\xff" * 5))


def read_usual(texts: Texts, received_us: Int64s, table: SymbolTable) -> TradeColumns | None:
    """Read messages that are trades of the table's symbols, printed the usual way; else None.

    Prices and quantities are digits and points, still to be checked.
    """
    text = np.frombuffer(texts.data + b" " * _WORD, np.uint8)
    marks = _find_marks(text, texts)
    if marks is None:
        return None
    words: _Words = np.ndarray((len(text) - _WORD + 1,), "<u8", text, strides=(1,))
    if not ((words[marks[:, _MARKS] + _OFFSETS] & _MASKS) == _EXPECTED).all():
        return None
    sold, best_match = _flag(words, marks, 8), _flag(words, marks, 9)
    if sold is None or best_match is None:
        return None
    values = _cut(text, marks)
    if values is None:
        return None
    event_times, ids, times, prices, quantities, symbols, streams = values
    codes = pc.index_in(symbols, table.names)
    numbers = _integers([event_times, ids, times])
    if numbers is None or codes.null_count:
        return None
    if not pc.index_in(streams, table.streams).equals(codes):
        return None
    if not _within(prices, _PLAIN_NUMBER) or not _within(quantities, _PLAIN_NUMBER):
        return None
    return TradeColumns(
        codes=np.asarray(codes),
        ids=numbers[1],
        id_texts=ids,
        prices=prices,
        quantities=quantities,
        times_us=as_us(numbers[2]),
        event_times=event_times,
        sold=sold,
        best_match=best_match,
        received_us=received_us,
    )


def _find_marks(text: npt.NDArray[np.uint8], texts: Texts) -> Int64s | None:
    """Return a row of marks for each message, None where one has too many commas or too few."""
    commas = np.flatnonzero(text == _COMMA)
    if not len(texts) or len(commas) != _COMMAS * len(texts):
        return None
    marks = np.empty((len(texts), _COMMAS + 2), np.int64)
    marks[:, _START], marks[:, _END] = texts.starts, texts.ends
    marks[:, 1:_END] = commas.reshape(-1, _COMMAS)
    inside = (marks[:, 1] > marks[:, _START]) & (marks[:, _COMMAS] < marks[:, _END])
    return marks if inside.all() else None


def _flag(words: _Words, marks: Int64s, mark: int) -> Bools | None:
    """Read true or false, all that stands behind its name; None where it is neither."""
    found = words[marks[:, mark] + _FLAG]
    true = (found & _TRUE_MASK) == _TRUE
    whole = true | ((found & _FALSE_MASK) == _FALSE)
    closing = 2 * (mark == _COMMAS)
    lengths = marks[:, mark + 1] - marks[:, mark] - _FLAG - closing
    return true if (whole & (lengths == np.where(true, 4, 5))).all() else None


def _cut(text: npt.NDArray[np.uint8], marks: Int64s) -> list[pa.StringArray] | None:
    """Return a column a value, by cutting the text at where they begin and end."""
    bounds = np.ascontiguousarray(marks[:, _CUT_MARKS] + _CUT_OFFSETS, np.int32)
    rows, cuts = bounds.shape
    if (bounds[:, 1:] < bounds[:, :-1]).any():
        return None
    pieces = pa.StringArray.from_buffers(rows * cuts - 1, pa.py_buffer(bounds), pa.py_buffer(text))
    wanted = np.arange(0, rows * cuts, cuts) + _PIECES[:, None]
    columns = pieces.take(pa.array(wanted.ravel()))
    return [columns.slice(start, rows) for start in range(0, len(columns), rows)]


def _integers(columns: Sequence[pa.StringArray]) -> list[Int64s] | None:
    """Read numbers as JSON writes them: digits, the first of them not 0, within 64 bits."""
    texts = pa.concat_arrays(columns)
    if not _within(texts, _DIGITS) or pc.any(pc.starts_with(texts, "0")).as_py():
        return None
    try:
        numbers = np.asarray(pc.cast(texts, pa.int64()))
    except pa.ArrowInvalid:
        return None
    return np.split(numbers, len(columns))


def _within(column: pa.StringArray, bounds: tuple[int, int]) -> bool:
    """Tell whether all characters of all rows lie within bounds."""
    lowest, highest = bounds
    _, offsets, data = column.buffers()
    ends = np.frombuffer(offsets, np.int32)[column.offset : column.offset + len(column) + 1]
    characters = np.frombuffer(data or b"", np.uint8)[ends[0] : ends[-1]]
    return bool(
        characters.min(initial=highest) >= lowest and characters.max(initial=lowest) <= highest
    )
