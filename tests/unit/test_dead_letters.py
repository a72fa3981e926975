"""Dead letters as their readers see them: each once, paged, and what may be replayed of them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.kafka.dead_letter_log import Index, Wanted
from libs.kafka.dead_letters import REPLAYED, DeadLetter
from libs.market.errors import InvalidError
from libs.rpc.pages import encode_token
from libs.wire.plain import encode_trade, fields_of
from libs.wire.rejection import Reason, Rejected
from services.writer.dead_letters.book import Found, Place
from services.writer.dead_letters.replay import WHAT_TO_DO, what_to_do, why_never, why_not
from tests.support.wire import a_trade

TOPIC = "market.crypto.trades.binance"
LETTER = DeadLetter(TOPIC, 3, 41, "UNKNOWN_SCHEMA", "schema id 9 is of no trade", b"raw", "BTCUSDT")
FRAME = DeadLetter("BINANCE", 1_700_000_000_000_000, 0, "MALFORMED", "no JSON", b"{")


@dataclass
class Record:
    """What an index needs of a consumer's record."""

    key: bytes
    value: bytes
    offset: int
    headers: list[tuple[str, bytes]] = field(default_factory=list)


def record(letter: DeadLetter, offset: int) -> Record:
    said = {"reason": letter.reason, "detail": letter.detail, "symbol": letter.symbol}
    said["time_us"] = str(letter.time_us)
    headers = [(name, text.encode()) for name, text in said.items()]
    return Record(letter.key, letter.raw, offset, headers)


def indexed(wanted: Wanted, *letters: DeadLetter) -> Index:
    index = Index()
    for offset, letter in enumerate(letters):
        index.add(record(letter, offset), wanted)
    return index


def test_a_letter_written_twice_counts_once() -> None:
    """At the place where it was written first."""
    other = replace(LETTER, offset=42)
    index = indexed(Wanted(), LETTER, other, LETTER)
    assert index.offsets(Wanted()) == [0, 1]


def test_a_replayed_letter_is_left_out_unless_asked_for() -> None:
    """Its mark has the same key, and is no letter itself."""
    mark = replace(LETTER, reason=REPLAYED, raw=b"", time_us=7)
    index = indexed(Wanted(), LETTER, replace(LETTER, offset=42), mark)
    assert index.offsets(Wanted()) == [1]
    assert index.offsets(Wanted(replayed=True)) == [0, 1]
    assert index.replayed_us == {LETTER.key.decode(): 7}


@pytest.mark.parametrize(
    ("wanted", "places"),
    [
        (Wanted(reason="EMPTY"), [1]),
        (Wanted(symbol="ETHUSDT"), [2]),
        (Wanted(keys=frozenset({f"{TOPIC}/3/41"})), [0]),
        (Wanted(reason="UNKNOWN_SCHEMA", symbol="ETHUSDT"), [2]),
        (Wanted(reason="FIELD"), []),
    ],
)
def test_letters_are_chosen_by_reason_symbol_and_key(wanted: Wanted, places: list[int]) -> None:
    """All that is said must be so."""
    letters = (
        LETTER,
        replace(LETTER, offset=42, reason="EMPTY"),
        replace(LETTER, offset=43, symbol="ETHUSDT"),
    )
    assert indexed(wanted, *letters).offsets(wanted) == places


places_of = st.lists(
    st.tuples(st.sampled_from(["a", "b"]), st.integers(0, 50)), unique=True, max_size=30
)


@given(places_of, st.integers(1, 10), st.data())
def test_pages_show_each_letter_once(
    found: list[tuple[str, int]], rows: int, data: st.DataObject
) -> None:
    """Also where some are replayed between two pages, the last one of a page among them."""
    ordered = sorted(found, key=lambda place: (place[0], -place[1]))
    left = [Place(topic, offset, f"{topic}/{offset}") for topic, offset in ordered]
    seen: list[Place] = []
    token = ""
    while True:
        page, last = Found(("a", "b"), left, {}).page(token, rows)
        assert not set(page) & set(seen)
        seen += page
        if last is None:
            break
        token = encode_token(last)
        gone = data.draw(st.sets(st.sampled_from(seen)))
        left = [place for place in left if place not in gone]
    assert set(left) <= set(seen)


def test_a_page_token_of_another_call_is_refused() -> None:
    """It says so, and names the field."""
    found = Found((TOPIC,), [], {})
    with pytest.raises(InvalidError, match="page_token"):
        found.page("bad", 10)
    with pytest.raises(InvalidError, match="another question"):
        found.page(encode_token(Place("other", 1, "other/0/1")), 10)


def test_what_cannot_be_sent_again_is_said() -> None:
    """A frame never was a record, and a cut one is not whole."""
    assert "never a record" in why_never(FRAME, TOPIC)
    assert "only 3 of its 900 bytes" in why_never(replace(LETTER, size_bytes=900), TOPIC)
    assert why_never(replace(LETTER, size_bytes=3), TOPIC) == ""


def test_what_would_come_back_is_said() -> None:
    """What does not decode now, and what contradicts the table."""
    rejected = Rejected(0, Reason.FIELD, "symbol is empty", b"")
    assert why_not(LETTER, rejected) == "FIELD: symbol is empty"
    assert "another trade" in why_not(replace(LETTER, reason="CONFLICT"), None)
    assert why_not(LETTER, None) == ""


def test_every_reason_has_something_to_do() -> None:
    """And what reads by now has the command."""
    assert WHAT_TO_DO.keys() == set(Reason)
    assert "register the schema" in what_to_do(LETTER, TOPIC, "UNKNOWN_SCHEMA: no")
    assert what_to_do(LETTER, TOPIC, "").endswith(f"k2 dlq replay {TOPIC}/3/41")
    assert "parser" in what_to_do(FRAME, TOPIC, "it was a frame")


def test_fields_are_shown_as_far_as_they_decode() -> None:
    """By name, enumerations too; of bytes that are no record, none."""
    trade = a_trade()
    fields = fields_of(encode_trade(trade, 5))
    assert fields["symbol"] == trade.symbol
    assert fields["price"] == f"{trade.price:f}"
    assert fields["side"] == trade.side.value
    assert fields_of(b"no trade at all") == {}
