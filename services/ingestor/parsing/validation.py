"""Which trades the table cannot keep, found for a whole burst at once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from libs.market.errors import InvalidError
from libs.market.trade import DAY_US, EARLIEST_US
from libs.wire.decimals import parse_decimal, parse_decimals
from services.ingestor.parsing.columns import Int64s, TradeColumns

_ZERO = Decimal(0)


@dataclass(frozen=True, slots=True)
class Misfit:
    row: int
    reason: str
    detail: str


def misfits(columns: TradeColumns, symbols: Sequence[str]) -> list[Misfit]:
    """Find the rows the table cannot keep, one misfit a row; `symbols` is only for the words."""
    found: dict[int, Misfit] = {}
    for misfit in (
        *_unknown_symbols(columns, symbols),
        *_wrong_numbers("p", columns.prices),
        *_wrong_numbers("q", columns.quantities),
        *_wrong_times(columns.times_us, columns.received_us),
    ):
        found.setdefault(misfit.row, misfit)
    return sorted(found.values(), key=lambda misfit: misfit.row)


def _unknown_symbols(columns: TradeColumns, symbols: Sequence[str]) -> Iterable[Misfit]:
    for row in np.flatnonzero(columns.codes < 0).tolist():
        yield Misfit(row, "UNKNOWN_SYMBOL", f"{symbols[row][:40]!r} was not subscribed to")


def _wrong_times(times_us: Int64s, received_us: Int64s) -> Iterable[Misfit]:
    wrong = (times_us < EARLIEST_US) | (times_us > received_us + DAY_US)
    for row in np.flatnonzero(wrong).tolist():
        detail = f"T is {times_us[row]} us, before 2000 or more than a day after its receipt"
        yield Misfit(row, "TIMESTAMP", detail)


def _wrong_numbers(field: str, texts: pa.StringArray) -> Iterable[Misfit]:
    if not len(texts):
        return
    numbers, refused = parse_decimals(texts)
    if not refused.any() and pc.min(numbers).as_py() > _ZERO:
        return
    wrong = refused | np.asarray(pc.less_equal(numbers, _ZERO))
    for row in np.flatnonzero(wrong).tolist():
        yield Misfit(row, "PRECISION", _problem(field, texts[row].as_py()))


def _problem(field: str, text: str) -> str:
    try:
        parse_decimal(text, field=field)
    except InvalidError as error:
        return error.message[:200]
    return f"{field} {text[:40]} is not above zero"
