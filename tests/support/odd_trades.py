"""Records that are nearly trades, or are written as few producers would."""

from __future__ import annotations

from hypothesis import strategies as st
from k2.market.v1 import market_pb2

from libs.market.trade import DAY_US, EARLIEST_US, LATEST_RECEIPT_US
from libs.wire.framing import frame
from libs.wire.plain import encode_trade
from tests.support.wire import trades

SCHEMA_ID = 1

number_texts = st.one_of(
    st.decimals(allow_nan=False, allow_infinity=False).map(str),
    st.from_regex(r"[+-]?[0-9]{0,30}\.?[0-9]{0,30}([eE][+-]?[0-9]{1,3})?", fullmatch=True),
    st.text("0123456789.eE+-_ \n٣", max_size=8),
    st.sampled_from(
        [
            "",
            "NaN",
            "inf",
            "-Infinity",
            "1" * 16,
            "1" * 17,
            "0." + "0" * 60,
            "1.5" + "0" * 50,
            "0e400",
        ]
    ),
)
enum_numbers = st.integers(-2, 6)
edge_moments = st.sampled_from(
    [
        0,
        -(2**63),
        2**63 - 1,
        EARLIEST_US - 1,
        EARLIEST_US,
        EARLIEST_US + DAY_US,
        EARLIEST_US + DAY_US + 1,
        LATEST_RECEIPT_US - 1,
        LATEST_RECEIPT_US,
    ]
)


@st.composite
def odd_messages(draw: st.DrawFn) -> bytes:
    """Draw a trade with some fields replaced by what may not be there."""
    message = market_pb2.Trade.FromString(encode_trade(draw(trades()), SCHEMA_ID)[6:])
    odd = {
        "exchange": st.just(""),
        "symbol": st.just(""),
        "trade_id": st.just(""),
        "currency": st.just(""),
        "price": number_texts,
        "quantity": number_texts,
        "asset_class": enum_numbers,
        "side": enum_numbers,
        "origin": enum_numbers,
        "timestamp_us": edge_moments,
        "ingest_timestamp_us": edge_moments,
    }
    for name in draw(st.sets(st.sampled_from(sorted(odd)), max_size=2)):
        setattr(message, name, draw(odd[name]))
    return frame(SCHEMA_ID, message.SerializeToString())


@st.composite
def broken_values(draw: st.DrawFn) -> bytes | None:
    """Draw a value with a byte changed, cut off, or doubled; or any bytes at all."""
    value = draw(odd_messages())
    position = draw(st.integers(0, len(value) - 1))
    return draw(
        st.sampled_from(
            [
                None,
                b"",
                value[:position],
                value[position:],
                value + value[6:],
                value[:position] + bytes([draw(st.integers(0, 255))]) + value[position + 1 :],
                frame(draw(st.integers(0, 2**32 - 1)), value[6:]),
                frame(SCHEMA_ID, draw(st.binary(max_size=30))),
            ]
        )
    )


any_values = odd_messages() | broken_values()


def varint(number: int, *, spare: int = 0) -> bytes:
    """Write a varint, with `spare` octets more than it needs."""
    octets = []
    while number >= 0x80 or spare > 0:
        spare -= number < 0x80
        octets.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*octets, number])


varints = st.builds(
    lambda number, spare: varint(number, spare=spare),
    st.sampled_from([0, 1, 2, 4, 5, 127, 128, 2**31 - 1, 2**31, 2**32, 2**63 - 1, 2**63, 2**64 - 1])
    | st.integers(0, 2**64 - 1),
    st.sampled_from([0, 0, 0, 1, 3]),
)
lengthy = st.one_of(
    st.sampled_from([b"", b"A", b"1.5", b"0", b"\xff", "é".encode(), b"\x0a\x01E\x12\x011"]),
    st.binary(max_size=6),
    st.tuples(st.binary(max_size=3), st.binary(max_size=3)).map(
        lambda pair: (
            b"\x0a" + varint(len(pair[0])) + pair[0] + b"\x12" + varint(len(pair[1])) + pair[1]
        )
    ),
).map(lambda held: varint(len(held)) + held)
KINDS = {
    0: varints,
    1: st.binary(min_size=8, max_size=8),
    2: lengthy,
    5: st.binary(min_size=4, max_size=4),
}


@st.composite
def fields(draw: st.DrawFn) -> bytes:
    """Draw a field of any number and kind, known or not, in its own kind or another."""
    number = draw(st.integers(1, 17) | st.sampled_from([100, 2**29 - 1]))
    kind = draw(st.sampled_from(sorted(KINDS)))
    return varint(number << 3 | kind) + draw(KINDS[kind])


@st.composite
def rewritten_values(draw: st.DrawFn) -> bytes:
    """Draw a trade with fields put before and after its own: some repeat them, some are unknown."""
    message = encode_trade(draw(trades()), SCHEMA_ID)[6:]
    before, after = (b"".join(draw(st.lists(fields(), max_size=2))) for _ in range(2))
    return frame(SCHEMA_ID, before + message + after)
