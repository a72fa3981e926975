"""Sessions, their truth, and their shape."""

from __future__ import annotations

import gzip
import hashlib
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest

from libs.market.errors import ConflictError, CorruptError, InvalidError, NotFoundError
from tools.simulator import truth
from tools.simulator.generated import START_US
from tools.simulator.instruments import known
from tools.simulator.record import RecordingFile, write_session
from tools.simulator.recorded import read_lines
from tools.simulator.session import generated, recorded

# Changes only when sessions change; a seed's bytes are promised to stay.
SESSION_SHA256 = "8c27f36ffd1cb9a5489749f0bd1070e50ceaabaa9f30ccbc7f4e238fd190d066"
_DIGEST = """
import hashlib
from tools.simulator.session import generated
session = generated(7, symbols=25, trades=20_000, rate=5_000, book_ticker=True)
digest = hashlib.sha256()
for received_ns, message in session:
    digest.update(b"%d %s\\n" % (received_ns, message))
print(digest.hexdigest())
"""
TRADE = (
    b'{"stream":"btcusdt@trade","data":{"e":"trade","E":1723161255343,"s":"BTCUSDT",'
    b'"t":3735683259,"p":"61837.63000000","q":"0.02000000","T":1723161255342,"m":true,"M":true}}'
)


@pytest.mark.parametrize("hash_seed", ["0", "1"])
def test_a_seed_gives_the_same_bytes_for_ever(hash_seed: str) -> None:
    """The bytes depend on neither the process, its hash seed, nor the machine."""
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    command = [sys.executable, "-c", _DIGEST]
    printed = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert printed.stdout.strip() == SESSION_SHA256


def test_seeds_differ() -> None:
    """Another seed is another session."""
    assert list(generated(1, trades=100)) != list(generated(2, trades=100))


def test_the_first_symbol_trades_most() -> None:
    """Activity follows Zipf: the k-th symbol has about 1/k of the first's trades."""
    counts = truth.expected(generated(1, symbols=10, trades=200_000, rate=10_000))
    assert 0.35 < counts["ETHUSDT"].count / counts["BTCUSDT"].count < 0.65
    assert (
        0.05
        < counts["DOTUSDT" if "DOTUSDT" in counts else "LINKUSDT"].count / counts["BTCUSDT"].count
        < 0.2
    )


def test_the_rate_is_the_one_asked_for() -> None:
    """Over a minute the mean is near the rate; bursts make it vary."""
    session = generated(1, symbols=20, duration_s=120, rate=2_000)
    trades = sum(len(chunk.trades) for chunk in session.chunks())
    assert 0.8 < trades / (120 * 2_000) < 1.2


def test_orders_trade_at_the_touch_the_book_ticker_told() -> None:
    """The trade after a ticker is at its bid where the taker sold, else at its ask."""
    session = generated(5, symbols=4, trades=5_000, book_ticker=True)
    messages = [msgspec.json.decode(message)["data"] for _, message in session]
    assert "b" in messages[0]
    for ticker, trade in pairwise(messages):
        if "b" in ticker:
            assert trade["s"] == ticker["s"]
            assert trade["p"] == ticker["b" if trade["m"] else "a"]
            assert float(ticker["b"]) < float(ticker["a"])


def test_a_recorded_symbol_has_its_base_and_quote() -> None:
    """Symbols that are not well known are split at the quote assets the exchange has."""
    assert (known("ETHBTC").base, known("ETHBTC").quote) == ("ETH", "BTC")
    assert (known("XYZFDUSD").base, known("XYZFDUSD").quote) == ("XYZ", "FDUSD")
    assert (known("BTCUSDT").tick, known("BTCUSDT").lot) == (1_000_000, 1_000)


def test_the_hash_is_as_documented() -> None:
    """The hash is SHA-256 over the line that the module's docstring shows."""
    line = b"BTCUSDT|3735683259|61837.63|0.02|1723161255342000|1\n"
    expected = truth.ExpectedTrades(
        "BTCUSDT", 1, 3735683259, 3735683259, hashlib.sha256(line).hexdigest()
    )
    assert truth.expected([(1, TRADE)]) == {"BTCUSDT": expected}


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("1.50000000", "1.5"),
        ("100", "100"),
        ("100.0", "100"),
        ("0.00000000", "0"),
        ("1E-7", "0.0000001"),
    ],
)
def test_numbers_are_plain(text: str, plain: str) -> None:
    """Equal numbers have equal text, whoever printed them."""
    assert truth.plain(text) == plain


def test_a_trade_that_comes_twice_counts_once_and_backwards_is_refused() -> None:
    """The hash is over rising ids; the proof must not forgive another order."""
    digest = truth.TradeHash("X")
    digest.add(2, "1", "1", 0, is_buyer_maker=True)
    digest.add(2, "1", "1", 0, is_buyer_maker=True)
    assert digest.expected().count == 1
    with pytest.raises(ValueError, match="trade 1 comes after 2"):
        digest.add(1, "1", "1", 0, is_buyer_maker=True)


def test_a_written_session_is_read_back_equal(tmp_path: Path) -> None:
    """A generated session survives being recorded, and a reading of the recording being one."""
    session = generated(3, symbols=3, trades=5_000, book_ticker=True)
    write_session(session, tmp_path / "session.gz")
    again = recorded([tmp_path / "session.gz"])
    assert list(again) == list(session)
    assert set(again.symbols) == set(session.symbols)
    assert [line for chunk in again.chunks() for line in chunk.lines("ms")] == list(session)


def test_recordings_are_merged_by_receive_time(tmp_path: Path) -> None:
    """Files of one session each become one, in the order things were received."""
    for name, stamps in (("a.gz", (1, 4)), ("b.gz", (2, 3))):
        write_session([(stamp, TRADE) for stamp in stamps], tmp_path / name)
    session = recorded([tmp_path / "a.gz", tmp_path / "b.gz"])
    assert [line[0] for line in session] == [1, 2, 3, 4]


def test_a_recording_cut_off_by_a_crash_is_read_to_its_last_whole_line(tmp_path: Path) -> None:
    """Members that were finished are whole; what came after is passed over."""
    path = tmp_path / "cut.gz"
    with RecordingFile(path) as file:
        file.add(1, TRADE)
        file.flush()
        file.add(2, TRADE)
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    assert list(read_lines(path)) == [(1, TRADE)]


def test_bad_recordings_are_named(tmp_path: Path) -> None:
    """A file that is missing, not gzip, or holds no message is refused by name."""
    with pytest.raises(NotFoundError, match=r"nothing\.gz"):
        recorded([tmp_path / "nothing.gz"])
    plain = tmp_path / "plain.gz"
    plain.write_text("1 {}")
    with pytest.raises(CorruptError, match="no gzip file"):
        recorded([plain])
    empty = tmp_path / "empty.gz"
    empty.write_bytes(gzip.compress(b"1 {}\n"))
    with pytest.raises(CorruptError, match="no stream message"):
        recorded([empty])


def test_a_recording_is_never_written_over(tmp_path: Path) -> None:
    """What was recorded once cannot be recorded again: a second run needs another name."""
    write_session([(1, TRADE)], tmp_path / "one.gz")
    with pytest.raises(ConflictError, match="another file"):
        write_session([(1, TRADE)], tmp_path / "one.gz")
    with pytest.raises(InvalidError, match="cannot write"):
        write_session([(1, TRADE)], tmp_path / "nowhere" / "one.gz")


def test_a_later_start_never_meets_the_ids_of_an_earlier_one() -> None:
    """An exchange that is closed and opened again goes on with new trade ids."""
    hour_later_us = START_US + 3_600_000_000
    earlier = truth.expected(generated(7, symbols=5, duration_s=60))
    later = truth.expected(generated(7, symbols=5, duration_s=60, start_us=hour_later_us))
    assert all(later[symbol].first_id > earlier[symbol].last_id for symbol in earlier)
