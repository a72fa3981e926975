"""The simulated exchange over real sockets, met by an independent WebSocket client."""

from __future__ import annotations

import asyncio
import sys
import time
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import msgspec
import pyarrow.parquet as pq
import pytest
import websockets
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.support.polling import eventually
from tests.support.realdata import binance_recordings, binance_truth, needs_realdata
from tests.support.simulator import (
    AS_FAST_AS_READ,
    SimulatorStart,
    ask,
    combined_url,
    connected,
    get,
    next_message,
    post,
    receive,
    simulated_exchange,
)
from tools.simulator import truth
from tools.simulator.faults import MALFORMED, Fault
from tools.simulator.player import PlayOptions
from tools.simulator.record import record
from tools.simulator.recorded import read_lines
from tools.simulator.server import Exchange
from tools.simulator.session import generated, recorded
from tools.simulator.websocket import Limits

UNHURRIED = PlayOptions(pace=1.0, hold="nobody")


def messages(session: object) -> list[bytes]:
    return [message for _, message in session]  # type: ignore[attr-defined]


async def test_a_reader_gets_the_session_byte_for_byte() -> None:
    """Every message of every stream arrives once, in order, however fast the exchange could go."""
    session = generated(1, symbols=5, trades=20_000, rate=5_000, book_ticker=True)
    expected = messages(session)
    async with simulated_exchange(session) as exchange:
        assert await receive(combined_url(exchange, session.streams), len(expected)) == expected
        _, state, _ = await get(exchange, "/control/session")
    assert isinstance(state, dict)
    assert (state["done"], state["trades"], state["sent"]) == (True, 20_000, 20_000)
    truths = truth.expected(session)
    assert {s: t["trades"] for s, t in state["symbols"].items()} == {
        s: t.count for s, t in truths.items()
    }


async def test_each_socket_gets_the_streams_it_subscribed_in_its_form() -> None:
    """One reads combined in ms, the other raw in us, of another symbol, from the same session."""
    session = generated(1, symbols=3, trades=6_000)
    expected = messages(session)
    btc = [m for m in expected if m.startswith(b'{"stream":"btc')]
    eth = [msgspec.json.decode(m)["data"] for m in expected if m.startswith(b'{"stream":"eth')]
    play = PlayOptions(float("inf"), "missing")
    async with simulated_exchange(session, play=play) as exchange:
        sol = combined_url(exchange, ["solusdt@trade"])
        raw = f"ws://{exchange.address}/ws/ethusdt@trade?timeUnit=MICROSECOND"
        both = await asyncio.gather(
            receive(combined_url(exchange, ["btcusdt@trade"]), len(btc)),
            receive(raw, len(eth)),
            receive(sol, len(expected) - len(btc) - len(eth)),
        )
    assert both[0] == btc
    for fine, coarse in zip(map(msgspec.json.decode, both[1]), eth, strict=True):
        assert fine["T"] // 1_000 == coarse["T"]
        assert {**fine, "T": 0, "E": 0} == {**coarse, "T": 0, "E": 0}


async def test_a_slow_reader_loses_nothing() -> None:
    """Back-pressure reaches the session: it does not run ahead of who reads slowly."""
    session = generated(1, symbols=2, trades=60_000, rate=20_000)
    async with simulated_exchange(session) as exchange:
        async with websockets.connect(
            combined_url(exchange, session.streams), max_queue=1
        ) as connection:
            first = await next_message(connection)
            stalled_at = await eventually(lambda: exchange.player.trades_sent)
            assert stalled_at < 60_000
            rest = [await next_message(connection) for _ in range(59_999)]
        assert [first, *rest] == messages(session)


async def waits_for_its_reader(exchange: Exchange) -> bool:
    """Say whether the session has begun and stands still."""
    sent = exchange.player.trades_sent
    await asyncio.sleep(0.2)
    return 0 < sent == exchange.player.trades_sent


async def test_a_reader_that_dies_ends_neither_session_nor_exchange() -> None:
    """A connection that breaks while the exchange waits for it leaves the session playing."""
    session = generated(1, symbols=2, trades=200_000, rate=20_000)
    async with simulated_exchange(session) as exchange:
        url = combined_url(exchange, session.streams)
        async with websockets.connect(url, max_queue=1) as connection:
            await next_message(connection)
            await eventually(lambda: waits_for_its_reader(exchange))
            connection.transport.abort()
        async with connected(url) as survivor:
            await next_message(survivor)
            await eventually(lambda: exchange.player.trades_sent == 200_000, 20)


async def test_streams_can_be_subscribed_on_a_bare_connection() -> None:
    """The session waits for the first subscriber, and the answer comes before the data."""
    session = generated(1, symbols=2, trades=50)
    async with (
        simulated_exchange(session) as exchange,
        connected(f"ws://{exchange.address}/ws") as connection,
    ):
        wish = {"method": "SUBSCRIBE", "params": list(session.streams), "id": 7}
        assert await ask(connection, msgspec.json.encode(wish)) == {"result": None, "id": 7}
        first = msgspec.json.decode(await next_message(connection))
    assert first == msgspec.json.decode(messages(session)[0])["data"]


async def test_the_session_stands_still_while_nobody_listens() -> None:
    """Who comes back goes on where the session stopped: nothing passed meanwhile."""
    session = generated(1, symbols=2, duration_s=3_600, rate=200)
    async with simulated_exchange(session, play=PlayOptions(20, "nobody")) as exchange:
        url = combined_url(exchange, session.streams)
        async with connected(url) as connection:
            await next_message(connection)
        await eventually(lambda: not exchange.player.connections)
        passed = exchange.player.history.passed
        assert not exchange.player.playing
        following = await receive(url, 1)
    expected = messages(generated(1, symbols=2, trades=passed + 1, rate=200))
    assert following == [expected[passed]]


async def test_what_passed_unheard_is_served_by_rest() -> None:
    """A live session runs on without its reader, who finds what it missed in historicalTrades."""
    session = generated(1, symbols=2, duration_s=3_600, rate=500)
    play = PlayOptions(pace=50, hold="never")
    async with simulated_exchange(session, play=play) as exchange:
        url = combined_url(exchange, ["btcusdt@trade"])
        before = msgspec.json.decode((await receive(url, 1))[0])["data"]
        passed = exchange.player.history.passed
        await eventually(lambda: exchange.player.history.passed > passed + 500)
        after = msgspec.json.decode((await receive(url, 1))[0])["data"]
        assert after["t"] > before["t"] + 1
        path = f"/api/v3/historicalTrades?symbol=BTCUSDT&fromId={before['t']}&limit=1000"
        _, missed, _ = await get(exchange, path)
    assert isinstance(missed, list)
    ids = [trade["id"] for trade in missed]
    assert ids == list(range(before["t"], before["t"] + len(ids)))
    assert (missed[0]["price"], missed[0]["qty"]) == (before["p"], before["q"])
    assert (missed[0]["time"], missed[0]["isBuyerMaker"]) == (before["T"], before["m"])


async def test_pings_are_sent_and_a_silent_client_is_cut() -> None:
    """The `websockets` client answers pings and stays; one that does not is disconnected."""
    session = generated(1, symbols=1, trades=10)
    limits = Limits(ping_every_s=0.05, pong_within_s=0.3)
    async with simulated_exchange(session, limits=limits) as exchange:
        reader, writer = await asyncio.open_connection(*exchange.address.split(":"))
        writer.write(
            b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        async with connected(f"ws://{exchange.address}/ws") as answering:
            async with asyncio.timeout(10):
                with suppress(ConnectionResetError):
                    while await reader.read(100):
                        pass
            listed = await ask(answering, b'{"method":"LIST_SUBSCRIPTIONS","id":1}')
            assert listed == {"result": [], "id": 1}
        writer.close()


async def test_a_connection_ends_after_its_day() -> None:
    """The 24 h cut, shortened: a proper close, after everything sent before it."""
    limits = Limits(connection_lives_s=1.5)
    async with (
        simulated_exchange(generated(1, symbols=1, trades=3), limits=limits) as exchange,
        connected(combined_url(exchange, ["btcusdt@trade"])) as connection,
    ):
        received = [await next_message(connection) for _ in range(3)]
        with pytest.raises(ConnectionClosed) as closed:
            await next_message(connection)
    assert len(received) == 3
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1001


async def test_a_thousand_streams_fit_into_one_address() -> None:
    """A reader of many symbols names them all when it connects."""
    session = generated(1, symbols=1_000, trades=3_000)
    async with simulated_exchange(session) as exchange:
        received = await receive(combined_url(exchange, session.streams), 3_000)
    assert received == messages(session)


async def test_more_than_five_requests_a_second_disconnect() -> None:
    """The sixth request within a second ends the connection."""
    async with (
        simulated_exchange(generated(1, symbols=1, trades=3)) as exchange,
        connected(f"ws://{exchange.address}/ws") as connection,
    ):
        for number in range(6):
            await connection.send(b'{"method":"LIST_SUBSCRIPTIONS","id":%d}' % number)
        with pytest.raises(ConnectionClosed) as closed:
            await until_closed(connection)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1008


async def test_too_many_connection_attempts_are_refused() -> None:
    """The attempt beyond the limit gets 429 instead of a WebSocket."""
    limits = Limits(attempts_in_5_min=1)
    async with (
        simulated_exchange(generated(1, symbols=1, trades=3), limits=limits) as exchange,
        connected(f"ws://{exchange.address}/ws"),
    ):
        with pytest.raises(InvalidStatus) as refused:
            await connected(f"ws://{exchange.address}/ws")
    assert refused.value.response.status_code == 429


async def test_faults_are_injected_where_asked_and_listed() -> None:
    """A skip, a duplicate and malformed frames reach the reader; the list says which they were."""
    session = generated(1, symbols=2, trades=5_000)
    faults = [
        Fault("skip", at=100, count=2, symbol="BTCUSDT"),
        Fault("duplicate", at=2_000, count=3),
        Fault("malformed", at=3_000, count=2),
    ]
    async with simulated_exchange(session, faults=faults) as exchange:
        received = await receive(combined_url(exchange, session.streams), 5_000 - 2 + 3 + 2)
        _, listed, _ = await get(exchange, "/control/faults")
    assert isinstance(listed, dict)
    skip, duplicate, malformed = listed["injected"]
    assert (skip["kind"], len(skip["trades"])) == ("skip", 2)
    assert (duplicate["kind"], len(duplicate["trades"])) == ("duplicate", 3)
    assert malformed["connections"] == [1]
    assert [received.count(frame) for frame in MALFORMED[:3]] == [1, 1, 0]
    good = [m for m in received if m not in MALFORMED]
    expected = messages(session)
    ids = [trade_key(m) for m in good]
    missing = {trade_key(m) for m in expected} - set(ids)
    assert missing == {tuple(trade) for trade in skip["trades"]}
    doubled = {key for key in ids if ids.count(key) == 2}
    assert doubled == {tuple(trade) for trade in duplicate["trades"]}
    # The trades before a fault's number are untouched by it.
    assert ids[:100] == [trade_key(m) for m in expected[:100]]


async def until_closed(connection: websockets.ClientConnection) -> None:
    while True:
        await next_message(connection)


def trade_key(message: bytes) -> tuple[str, int]:
    trade = msgspec.json.decode(message)["data"]
    return trade["s"], trade["t"]


async def test_a_posted_fault_drops_the_connection_without_a_close() -> None:
    """`drop` cuts like a network does; what was asked wrongly is refused with a sentence."""
    session = generated(1, symbols=1, duration_s=3_600, rate=50)
    async with (
        simulated_exchange(session, play=UNHURRIED) as exchange,
        connected(combined_url(exchange, session.streams)) as connection,
    ):
        await next_message(connection)
        assert (await post(exchange, "/control/fault", {"kind": "drop"}))[0] == 200
        with pytest.raises(ConnectionClosed) as closed:
            await until_closed(connection)
        assert closed.value.rcvd is None
        status, refusal = await post(exchange, "/control/fault", {"kind": "explode"})
    assert status == 400
    assert "explode" in str(refusal)


async def test_a_posted_delay_holds_everything_up() -> None:
    """Nothing is sent while it lasts, and what was due comes after it."""
    session = generated(1, symbols=1, duration_s=3_600, rate=200)
    async with (
        simulated_exchange(session, play=UNHURRIED) as exchange,
        connected(combined_url(exchange, session.streams)) as connection,
    ):
        await next_message(connection)
        await post(exchange, "/control/fault", {"kind": "delay", "seconds": 0.5})
        await eventually(lambda: exchange.player.injector.plan.injected)
        sent, began_s = exchange.player.trades_sent, time.monotonic()
        await eventually(lambda: exchange.player.trades_sent > sent)
    assert time.monotonic() - began_s > 0.4


async def test_a_shutdown_is_announced_in_the_readers_form() -> None:
    """`serverShutdown` comes first, wrapped where the reader is combined; then the close."""
    session = generated(1, symbols=1, trades=1)
    async with (
        simulated_exchange(session) as exchange,
        connected(combined_url(exchange, session.streams)) as connection,
    ):
        await next_message(connection)
        await post(exchange, "/control/fault", {"kind": "shutdown", "seconds": 0.05})
        notice = msgspec.json.decode(await next_message(connection))
        with pytest.raises(ConnectionClosed):
            await next_message(connection)
    assert notice["stream"] == "!serverShutdown"
    assert notice["data"]["e"] == "serverShutdown"


async def test_the_session_can_be_paused_and_started() -> None:
    """Pause stops the trades, start goes on with the next."""
    session = generated(1, symbols=1, duration_s=3_600, rate=500)
    async with (
        simulated_exchange(session, play=UNHURRIED) as exchange,
        connected(combined_url(exchange, session.streams)) as connection,
    ):
        await next_message(connection)
        await post(exchange, "/control/pause", {})
        assert not exchange.player.playing
        await post(exchange, "/control/start", {})
        await next_message(connection)


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
    assert headers["X-MBX-USED-WEIGHT-1M"] == "45"
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
        _, error = await asyncio.wait_for(second.communicate(), 20)
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
        await eventually(lambda: path.exists() and list(read_lines(path))[-1:])
        stop.set()
        state = await asyncio.wait_for(recording, 10)
    written = [message for _, message in read_lines(path)]
    assert state.connections == 2
    assert len(written) == state.messages
    assert set(written) <= set(messages(session))
    assert written[-1] == messages(session)[-1]
    stamps = [stamp for stamp, _ in read_lines(path)]
    assert stamps == sorted(stamps)


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
