"""The simulated exchange's REST, its process, and recordings made from it."""

from __future__ import annotations

import asyncio
import math
import sys
from itertools import pairwise
from pathlib import Path

import msgspec
import pyarrow.parquet as pq
import pytest

from tests.support.polling import eventually
from tests.support.realdata import binance_recordings, binance_truth, needs_realdata
from tests.support.simulator import (
    AS_FAST_AS_READ,
    SimulatorStart,
    combined_url,
    get,
    messages,
    post,
    receive,
    simulated_exchange,
)
from tools.simulator import truth
from tools.simulator.faults import Fault
from tools.simulator.player import PlayOptions
from tools.simulator.record import record
from tools.simulator.recorded import read_lines
from tools.simulator.session import generated, recorded
from tools.simulator.websocket import Limits


async def test_rest_answers_in_the_exchanges_form() -> None:
    """Instruments, trades and aggregates have the exchange's fields, in the unit asked for."""
    session = generated(1, symbols=3, trades=3_000)
    async with simulated_exchange(session) as exchange:
        await receive(combined_url(exchange, session.streams), 3_000)
        expected = truth.expected(session)["BTCUSDT"]
        _, info, _ = await get(exchange, "/api/v3/exchangeInfo?symbols=[%22BTCUSDT%22]")
        _, trades, headers = await get(exchange, "/api/v3/trades?symbol=BTCUSDT&limit=5")
        _, fine, _ = await get(
            exchange, "/api/v3/trades?symbol=BTCUSDT&limit=5", X_MBX_TIME_UNIT="MICROSECOND"
        )
        aggregates = (await get(exchange, "/api/v3/aggTrades?symbol=BTCUSDT&fromId=1"))[1]
    assert isinstance(info, dict)
    assert isinstance(trades, list)
    assert isinstance(fine, list)
    assert isinstance(aggregates, list)
    assert [s["symbol"] for s in info["symbols"]] == ["BTCUSDT"]
    assert [t["id"] for t in trades] == list(range(expected.last_id - 4, expected.last_id + 1))
    # 20 of the first request and 25 of this one, where no minute began between them.
    assert headers["X-MBX-USED-WEIGHT-1M"] in ("45", "25")
    assert [t["time"] for t in trades] == [t["time"] // 1_000 for t in fine]
    assert [a["a"] for a in aggregates] == list(range(1, len(aggregates) + 1))
    covered = [(a["f"], a["l"]) for a in aggregates]
    assert all(before[1] + 1 == after[0] for before, after in pairwise(covered))


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/api/v3/trades", -1102),
        ("/api/v3/trades?symbol=NOPE", -1121),
        ("/api/v3/trades?symbol=btcusdt", -1100),
        ("/api/v3/historicalTrades?symbol=BTCUSDT&fromId=x", -1100),
        ("/api/v3/aggTrades?symbol=BTCUSDT&fromId=1&startTime=5", -1128),
        ("/api/v3/exchangeInfo?symbol=NOPE", -1121),
        ("/api/v3/exchangeInfo?symbols=BTC", -1100),
    ],
)
async def test_a_bad_rest_request_has_the_exchanges_code(path: str, code: int) -> None:
    """The answer is 400 with code and sentence."""
    async with simulated_exchange(generated(1, symbols=1, trades=3)) as exchange:
        status, body, _ = await get(exchange, path)
    assert status == 400
    assert isinstance(body, dict)
    assert body["code"] == code


async def test_what_passed_before_is_known_to_rest_and_sent_to_nobody() -> None:
    """Trades go on with the next id, and the rendering is as if the exchange had never stopped."""
    session = generated(1, symbols=1, trades=3_000)
    lines = list(session)
    from_ns = lines[1_999][0] + 1
    passed = sum(received_ns < from_ns for received_ns, _ in lines)
    play = PlayOptions(pace=math.inf, hold="nobody", from_ns=from_ns)
    async with simulated_exchange(session, play=play) as exchange:
        sent = await receive(combined_url(exchange, session.streams), 3_000 - passed)
        first = truth.expected(session)["BTCUSDT"].first_id
        path = f"/api/v3/historicalTrades?symbol=BTCUSDT&limit=1000&fromId={first}"
        _, past, _ = await get(exchange, path)
    assert sent == messages(session)[passed:]
    assert isinstance(past, list)
    assert [trade["id"] for trade in past] == list(range(first, first + 1_000))


async def test_rest_is_limited_by_weight() -> None:
    """Over the limit comes 429 with Retry-After, and 418 on demand."""
    limits = Limits(weight_a_minute=20)
    async with simulated_exchange(generated(1, symbols=1, trades=3), limits=limits) as exchange:
        answers = [await get(exchange, "/api/v3/exchangeInfo") for _ in range(3)]
        await post(exchange, "/control/fault", {"kind": "ban", "seconds": 30})
        banned = await get(exchange, "/api/v3/time")
    # A minute may begin between two of the requests.
    assert 429 in [status for status, _, _ in answers]
    _, body, headers = next(a for a in answers if a[0] == 429)
    assert isinstance(body, dict)
    assert body["code"] == -1003
    assert 0 < int(headers["Retry-After"]) <= 60
    assert (banned[0], banned[2]["Retry-After"]) == (418, "30")


async def test_the_simulator_runs_as_a_process_and_ends_cleanly(
    start_simulator: SimulatorStart, tmp_path: Path
) -> None:
    """Its door is published while it runs; SIGTERM takes it away and leaves exit code 0."""
    options = ("--trades", "2000", "--symbols", "2", "--pace", "max", "--run-dir", str(tmp_path))
    async with start_simulator(*options) as simulator:
        door = msgspec.json.decode((tmp_path / "simulator.json").read_bytes())
        assert door["extra"]["http"] == simulator.address
        session = generated(1, symbols=2, trades=2_000)
        received = await receive(combined_url(simulator, session.streams), 2_000)
    assert received == messages(session)
    assert simulator.process.returncode == 0
    assert not (tmp_path / "simulator.json").exists()


async def test_a_taken_port_is_refused_in_one_sentence(start_simulator: SimulatorStart) -> None:
    """The error names the port and the option."""
    async with start_simulator("--trades", "1") as simulator:
        port = simulator.address.split(":")[1]
        second = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tools.simulator", "--port", port),
            stderr=asyncio.subprocess.PIPE,
        )
        _, error = await asyncio.wait_for(second.communicate(), 60)
    assert second.returncode == 5
    assert error.decode().count("\n") == 1
    assert port in error.decode()


async def test_a_recorder_writes_what_it_received(tmp_path: Path) -> None:
    """A recording holds the messages as they came, across a dropped connection."""
    session = generated(1, symbols=2, trades=400, rate=200)
    stop = asyncio.Event()
    path = tmp_path / "live.gz"
    faults = [Fault("drop", at=200)]
    play = PlayOptions(pace=4, hold="nobody")
    async with simulated_exchange(session, play=play, faults=faults) as exchange:
        url = f"ws://{exchange.address}"
        recording = asyncio.create_task(record(url, session.streams, path, stop=stop))
        await eventually(lambda: exchange.player.done)
        await eventually(lambda: path.exists() and last_message(path) == messages(session)[-1])
        stop.set()
        state = await asyncio.wait_for(recording, 60)
    written = [message for _, message in read_lines(path)]
    assert state.connections == 2
    assert len(written) == state.messages
    assert set(written) <= set(messages(session))
    assert written[-1] == messages(session)[-1]
    stamps = [stamp for stamp, _ in read_lines(path)]
    assert stamps == sorted(stamps)


def last_message(path: Path) -> bytes | None:
    return next((message for _, message in reversed(list(read_lines(path)))), None)


@needs_realdata
async def test_a_recorded_session_is_replayed_as_it_was() -> None:
    """Every stream message of the files arrives, byte for byte, merged by receive time."""
    session = recorded(binance_recordings())
    expected = messages(session)
    lines = [line for path in binance_recordings() for _, line in read_lines(path)]
    assert sorted(expected) == sorted(line for line in lines if line.startswith(b'{"stream"'))
    async with simulated_exchange(session, play=AS_FAST_AS_READ) as exchange:
        received = await receive(combined_url(exchange, session.streams), len(expected))
    assert received == expected


@needs_realdata
def test_the_truth_of_the_recording_is_the_known_one() -> None:
    """The truth computed from the lines equals the ground truth made from them elsewhere."""
    table = pq.read_table(binance_truth()).sort_by(
        [("symbol", "ascending"), ("trade_id", "ascending")]
    )
    digests = {s: truth.TradeHash(s) for s in ("BTCUSDT", "ETHUSDT")}
    for row in table.to_pylist():
        digests[row["symbol"]].add(
            row["trade_id"],
            row["price"],
            row["qty"],
            row["trade_time_ms"] * 1_000,
            is_buyer_maker=row["is_buyer_maker"],
        )
    known = {symbol: digest.expected() for symbol, digest in digests.items()}
    assert truth.expected(recorded(binance_recordings())) == known
    assert sum(t.count for t in known.values()) == 34_419
