"""The simulated exchange over real sockets, met by an independent WebSocket client."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from itertools import islice

import msgspec
import pytest
import websockets
from websockets.exceptions import ConnectionClosed

from tests.support.polling import eventually
from tests.support.simulator import (
    ask,
    combined_url,
    connected,
    get,
    messages,
    next_message,
    receive,
    simulated_exchange,
)
from tools.simulator import truth
from tools.simulator.player import PlayOptions
from tools.simulator.server import Exchange
from tools.simulator.session import generated
from tools.simulator.websocket import Limits


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
            combined_url(exchange, session.streams), max_queue=1, ping_interval=None
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
    session = generated(1, symbols=2, trades=100_000, rate=20_000)
    async with simulated_exchange(session) as exchange:
        url = combined_url(exchange, session.streams)
        async with websockets.connect(url, max_queue=1, ping_interval=None) as connection:
            await next_message(connection)
            await eventually(lambda: waits_for_its_reader(exchange))
            connection.transport.abort()
        async with connected(url) as survivor:
            await next_message(survivor)
            await eventually(lambda: exchange.player.done, 240)
        assert exchange.player.history.passed == 100_000


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
    # Of the session itself: one that ends there draws its last trades otherwise.
    ((_, expected),) = islice(session, passed, passed + 1)
    assert following == [expected]


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
    limits = Limits(ping_every_s=0.05, pong_within_s=4)
    async with simulated_exchange(session, limits=limits) as exchange:
        reader, writer = await asyncio.open_connection(*exchange.address.split(":"))
        writer.write(
            b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        async with connected(f"ws://{exchange.address}/ws") as answering:
            async with asyncio.timeout(60):
                with suppress(ConnectionResetError):
                    while await reader.read(100):
                        pass
            listed = await ask(answering, b'{"method":"LIST_SUBSCRIPTIONS","id":1}')
            assert listed == {"result": [], "id": 1}
        writer.close()


async def test_a_connection_ends_after_its_day() -> None:
    """The 24 h cut, shortened: a proper close, after everything sent before it."""
    session = generated(1, symbols=1, trades=3)
    received: list[bytes] = []
    async with (
        simulated_exchange(session, limits=Limits(connection_lives_s=1)) as exchange,
        connected(combined_url(exchange, ["btcusdt@trade"])) as connection,
    ):
        with pytest.raises(ConnectionClosed) as closed:
            await receive_all(connection, received)
    # A machine that stands still for that day sends nothing before it ends.
    assert received == messages(session)[: len(received)]
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1001


async def receive_all(connection: websockets.ClientConnection, received: list[bytes]) -> None:
    while True:
        received.append(await next_message(connection))


async def test_a_thousand_streams_fit_into_one_address() -> None:
    """A reader of many symbols names them all when it connects."""
    session = generated(1, symbols=1_000, trades=3_000)
    async with simulated_exchange(session) as exchange:
        received = await receive(combined_url(exchange, session.streams), 3_000)
    assert received == messages(session)
