"""Faults and controls of the simulated exchange, as a client meets them."""

from __future__ import annotations

import time

import msgspec
import pytest
import websockets
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.support.polling import eventually
from tests.support.simulator import (
    combined_url,
    connected,
    get,
    messages,
    next_message,
    post,
    receive,
    simulated_exchange,
)
from tools.simulator.faults import MALFORMED, Fault
from tools.simulator.player import PlayOptions
from tools.simulator.session import generated
from tools.simulator.websocket import Limits

UNHURRIED = PlayOptions(pace=1.0, hold="nobody")


async def test_more_than_five_requests_a_second_disconnect() -> None:
    """The sixth request within a second ends the connection."""
    async with (
        simulated_exchange(generated(1, symbols=1, trades=3)) as exchange,
        connected(f"ws://{exchange.address}/ws") as connection,
    ):
        with pytest.raises(ConnectionClosed) as closed:
            await ask_too_often(connection)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1008


async def ask_too_often(connection: websockets.ClientConnection) -> None:
    """Send more than six: a machine that stands still may put a second between two of them."""
    for number in range(60):
        await connection.send(b'{"method":"LIST_SUBSCRIPTIONS","id":%d}' % number)
    await until_closed(connection)


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
        asked_s = time.monotonic()
        await post(exchange, "/control/fault", {"kind": "delay", "seconds": 0.5})
        await eventually(lambda: exchange.player.injector.plan.injected)
        sent = exchange.player.trades_sent
        await eventually(lambda: exchange.player.trades_sent > sent)
    assert time.monotonic() - asked_s > 0.4


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
