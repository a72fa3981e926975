"""WebSocket frames cut out of socket reads."""

from __future__ import annotations

import pytest

from services.ingestor.exchange.frames import split
from services.ingestor.exchange.streams import MAX_URL_CHARACTERS, shards, trade_streams
from services.ingestor.parsing.symbols import derived_currency


def text(payload: bytes) -> bytes:
    size = len(payload)
    length = bytes([size]) if size < 126 else b"\x7e" + size.to_bytes(2, "big")
    return b"\x81" + length + payload


def test_texts_are_cut_out_and_the_unfinished_one_waits() -> None:
    """Short and two-byte lengths."""
    found = split(text(b"a") + text(b"b" * 300) + text(b"c" * 200)[:50])
    assert list(found.texts) == [b"a", b"b" * 300]
    assert found.rest == text(b"c" * 200)[:50]
    assert found.plain


@pytest.mark.parametrize("cut", range(1, 310))
def test_a_frame_may_be_cut_anywhere(cut: int) -> None:
    """What one read leaves, the next completes."""
    data = text(b"a" * 100) + text(b"b" * 200)
    first = split(data[:cut])
    second = split(first.rest + data[cut:])
    assert [*first.texts, *second.texts] == [b"a" * 100, b"b" * 200]
    assert second.rest == b""


def test_control_frames_go_to_the_full_parser_one_by_one() -> None:
    """An empty ping is two bytes and must not wait for more."""
    ping, close = b"\x89\x00", b"\x88\x02\x03\xe8"
    found = split(text(b"a") + ping + text(b"b") + close)
    assert (list(found.texts), found.others, found.rest) == ([b"a", b"b"], [ping, close], b"")


@pytest.mark.parametrize(
    "odd",
    [
        b"\x01\x01a",  # first fragment
        b"\x80\x01a",  # last fragment
        b"\x82\x01a",  # binary
        b"\xc1\x01a",  # compressed
        b"\x81\x81abcda",  # masked
        b"\x81\x7f\x00\x00\x00\x00\x00\x01\x00\x00",  # eight-byte length
    ],
)
def test_what_is_unusual_is_left_whole(odd: bytes) -> None:
    """From there on the full parser has everything."""
    found = split(text(b"a") + odd + text(b"b"))
    assert list(found.texts) == [b"a"]
    assert found.rest == odd + text(b"b")
    assert not found.plain


def test_streams_go_into_the_url_and_the_rest_into_requests() -> None:
    """No symbol is asked for twice or forgotten."""
    symbols = [f"SYM{n}USDT" for n in range(1000)]
    streams = trade_streams("wss://x:1/", symbols, "MICROSECOND")
    assert streams.url.startswith("wss://x:1/stream?timeUnit=MICROSECOND&streams=sym0usdt@trade/")
    assert len(streams.url) <= MAX_URL_CHARACTERS
    asked = streams.url.count("@trade") + sum(r.count("@trade") for r in streams.requests)
    assert asked == 1000
    assert [len(shard) for shard in shards(list(range(2100)))] == [1024, 1024, 52]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("symbol", "currency"),
    [("BTCUSDT", "USDT"), ("ETHBTC", "BTC"), ("BTCFDUSD", "FDUSD"), ("XYZ", "UNKNOWN")],
)
def test_a_currency_can_be_derived(symbol: str, currency: str) -> None:
    """For when the exchange's REST API does not answer."""
    assert derived_currency(symbol) == currency
