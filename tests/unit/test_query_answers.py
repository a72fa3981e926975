"""Decimals, bars and messages as callers read them."""

from __future__ import annotations

from decimal import Decimal

import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from k2.query.v1 import query_pb2

from libs.wire.schema import NUMBER
from services.query import answers
from tests.support.query import trade_rows

UNITS = st.lists(st.integers(0, 10**28 - 1) | st.integers(0, 10**15), max_size=60)


@given(UNITS)
def test_decimals_are_printed_exactly_and_plainly(units: list[int]) -> None:
    """No exponent, no needless zeros, no digit lost, at any size and any number of rows."""
    numbers = [Decimal(number).scaleb(-12) for number in units]
    texts = answers.decimal_texts(pa.array(numbers, NUMBER)).to_pylist()
    assert [Decimal(text) for text in texts] == numbers
    assert all("E" not in text and not text.endswith(".") for text in texts)
    assert all("." not in text or not text.endswith("0") for text in texts)


def test_missing_decimals_stay_missing() -> None:
    """A notional that does not fit comes out as no text."""
    numbers = pa.array([None, Decimal("1.50")], NUMBER)
    assert answers.decimal_texts(numbers).to_pylist() == [None, "1.5"]


# Sizes for each way to divide.
MONEY = st.integers(1, 10**30) | st.integers(1, 10**16) | st.integers(1, 10**9)
VOLUMES = st.integers(1, 10**20) | st.integers(0, 62).map(lambda power: 2**power)


@given(
    st.lists(st.tuples(MONEY, VOLUMES), min_size=1, max_size=60)
    | st.lists(st.tuples(st.integers(1, 10**12), VOLUMES), min_size=1, max_size=9)
)
@example([(odd, 2 * 10**12) for odd in (1, 3, 5, 7)])
def test_vwap_is_the_exact_quotient(pairs: list[tuple[int, int]]) -> None:
    """Half even to 12 decimals, the same in the narrow and the wide path."""
    kind = pa.decimal128(38, 12)
    money = [Decimal(m).scaleb(-12) for m, _ in pairs]
    amounts = [Decimal(a).scaleb(-12) for _, a in pairs]
    found = answers.vwap_texts(pa.array(money, kind), pa.array(amounts, kind)).to_pylist()
    expected = [answers.vwap(m, a) for m, a in zip(money, amounts, strict=True)]
    assert [Decimal(text) for text in found] == expected


def test_notional_is_the_same_stored_or_derived() -> None:
    """A row whose notional a level skipped answers like one whose notional was stored."""
    stored, skipped = (
        answers.trade_payloads(
            answers.with_derived(
                pa.Table.from_batches([trade_rows("BTCUSDT", range(100), enriched=enriched)]),
                ("symbol", "notional"),
            )
        )
        for enriched in (True, False)
    )
    assert stored == skipped
    assert query_pb2.Trade.FromString(stored[7]).notional == "4.8000056"


def test_a_message_is_cut_before_it_is_too_large() -> None:
    """At least one row goes, and no more than fit."""
    large = b"x" * (answers.MOST_RESPONSE_BYTES + 1)
    assert len(answers.fitting([large, large])) == 1
    assert len(answers.fitting([b"x"] * 10)) == 10
    assert answers.fitting([]) == []


@pytest.mark.parametrize("size", [0, 1, 127, 128, 300, 20_000])
def test_repeated_messages_are_what_protobuf_reads(size: int) -> None:
    """Our framing of field 1 is Protobuf's, at every length of a length."""
    trade = query_pb2.Trade(symbol="x" * size)
    framed = answers.repeated([trade.SerializeToString()] * 3)
    assert list(query_pb2.ListTradesResponse.FromString(framed).trades) == [trade] * 3


@given(st.integers(0, 99), st.integers(1, 100))
def test_rows_of_a_slice_are_encoded_like_their_copy(start: int, length: int) -> None:
    """A slice shares the buffers of rows that are none of the answer's."""
    rows = pa.Table.from_batches([trade_rows("BTCUSDT", range(100), enriched=False)])
    conditions = pa.array([["R"] * (at % 3) for at in range(100)])
    at = rows.schema.get_field_index("trade_conditions")
    kind = rows.schema.field(at)
    part = rows.set_column(at, kind, conditions.cast(kind.type)).slice(start, length)
    copied = part.take(pa.array(range(part.num_rows)))
    sliced, whole = (answers.trade_payloads(answers.with_all(each)) for each in (part, copied))
    assert sliced == whole
    assert query_pb2.Trade.FromString(sliced[0]).source_sequence == start
