"""The ingestor when things end: itself, Kafka, the exchange."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from websockets.asyncio.server import ServerConnection, serve

from libs.kafka.topics import dead_letter_topic
from services.ingestor.exchange.connection import MAX_MESSAGE_BYTES
from services.ingestor.publishing.dead_letters import MAX_RAW_BYTES
from tests.support.binance import trade_frame
from tests.support.ingesting import (
    count,
    identities,
    ingesting,
    nothing_missing,
    records_of,
    sent,
    trades_of,
    variables,
)
from tests.support.polling import eventually
from tests.support.processes import started
from tools.kafka.broker import LocalKafka
from tools.simulator.player import PlayOptions
from tools.simulator.server import Exchange
from tools.simulator.session import generated

Handle = Callable[[ServerConnection, int], Awaitable[None]]


async def test_sigterm_loses_nothing_received_and_a_restart_doubles_nothing(
    kafka: str, topic: str, tmp_path: Path
) -> None:
    """Per symbol, the ids in Kafka run without a hole up to the stop, and on from the restart."""
    session = generated(11, symbols=5, duration_s=60, rate=3_000)
    async with Exchange(session, play=PlayOptions(pace=1, hold="nobody")) as exchange:
        env = variables(kafka, topic, exchange.address, session.symbols, tmp_path)
        for run in (1, 2):
            before = await count(kafka, topic)
            with started(
                "services.ingestor", name=f"ingestor-{run}", run_dir=tmp_path, env=env
            ) as process:
                await eventually(partial(_more_than, kafka, topic, before + 3_000), 60)
                assert await asyncio.to_thread(process.stop) == 0, process.log_text()
            if run == 1:
                found = identities(await trades_of(kafka, topic))
                assert _holes(found) == 0
    assert set(identities(await trades_of(kafka, topic)).values()) == {1}


async def test_sigkill_loses_nothing(kafka: str, topic: str, tmp_path: Path) -> None:
    """What was under way is fetched by the next process; copies in the log are the writer's."""
    session = generated(12, symbols=5, duration_s=60, rate=4_000)
    async with Exchange(session, play=PlayOptions(pace=1, hold="nobody")) as exchange:
        env = variables(kafka, topic, exchange.address, session.symbols, tmp_path)
        with started("services.ingestor", name="ingestor-1", run_dir=tmp_path, env=env) as process:
            await eventually(partial(_more_than, kafka, topic, 4_000), 60)
            process.kill()
            assert process.exit_code == -signal.SIGKILL
            before = await count(kafka, topic)
            process.restart()
            await eventually(partial(_more_than, kafka, topic, before + 4_000), 60)
            await nothing_missing(process)
            assert await asyncio.to_thread(process.stop) == 0, process.log_text()
    found = identities(await trades_of(kafka, topic))
    assert _holes(found) == 0
    assert set(found) <= set(sent(session))


async def test_kafka_goes_away_and_comes_back_and_nothing_is_lost(tmp_path: Path) -> None:
    """The exchange sends on meanwhile; every trade arrives once, in order per symbol."""
    broker = LocalKafka(tmp_path / "kafka")
    await asyncio.to_thread(broker.start)
    try:
        topic = "market.crypto.trades.test"
        session = generated(13, symbols=5, duration_s=8, rate=2_000)
        async with (
            Exchange(session, play=PlayOptions(pace=1)) as exchange,
            ingesting(
                broker.bootstrap, topic, exchange.address, session.symbols, tmp_path
            ) as ingestor,
        ):
            await _sends_on(exchange)
            exchange.player.pause()
            await eventually(partial(_more_than, broker.bootstrap, topic, 1_000), 60)
            exchange.player.start()
            stopping = asyncio.create_task(asyncio.to_thread(broker.stop))
            await _sends_on(exchange)
            exchange.player.pause()
            await stopping
            exchange.player.start()
            await _sends_on(exchange)
            await asyncio.to_thread(broker.start)
            await exchange.played()
            await ingestor.arrived(sum(sent(session).values()))
        trades = await trades_of(broker.bootstrap, topic)
    finally:
        await asyncio.to_thread(broker.stop)
    assert identities(trades) == sent(session)
    for symbol in session.symbols:
        ids = [trade.source_sequence for trade in trades if trade.symbol == symbol]
        assert ids == sorted(ids, key=lambda id_: id_ or 0)


async def test_a_silent_connection_is_replaced(kafka: str, topic: str, tmp_path: Path) -> None:
    """The first one brings nothing, not even a ping."""

    async def one_after_silence(connection: ServerConnection, number: int) -> None:
        if number > 1:
            await connection.send(trade_frame(t=1), text=True)

    async with (
        _exchange(one_after_silence) as address,
        ingesting(kafka, topic, address, ["BTCUSDT"], tmp_path, silence_s=0.3) as ingestor,
    ):
        await ingestor.arrived(1)
        assert (await ingestor.feeds()).reconnects >= 1


async def test_odd_frames_of_every_size_lose_nothing(
    kafka: str, topic: str, tmp_path: Path
) -> None:
    """Fragments are put together; what is too large for a trade, or a record, is dead-lettered."""
    large = trade_frame(t=2, x="y" * 100_000)
    huge = b"[" + b" " * (MAX_RAW_BYTES + 1_000)

    async def odd(connection: ServerConnection, _: int) -> None:
        await connection.send(trade_frame(t=1), text=True)
        await connection.send(large, text=True)
        await connection.send(huge, text=True)
        half = len(trade_frame(t=3)) // 2
        await connection.send([trade_frame(t=3)[:half].decode(), trade_frame(t=3)[half:].decode()])
        await connection.send(trade_frame(t=4), text=False)
        await connection.send(b"\xff", text=True)
        await connection.send(trade_frame(t=5), text=True)

    async with (
        _exchange(odd) as address,
        ingesting(kafka, topic, address, ["BTCUSDT"], tmp_path) as ingestor,
    ):
        await ingestor.arrived(4, dead_letters=3)
    letters = await records_of(kafka, dead_letter_topic(topic))
    assert [letter.value for letter in letters] == [large, huge[:MAX_RAW_BYTES], b"\xff"]
    headers = [dict(letter.headers) for letter in letters]
    assert [h["reason"] for h in headers] == [b"OVERSIZED", b"MALFORMED", b"MALFORMED"]
    assert headers[1]["bytes"] == str(len(huge)).encode()
    ids = Counter(trade.source_sequence for trade in await trades_of(kafka, topic))
    assert ids == Counter({1: 1, 3: 1, 4: 1, 5: 1})


async def test_a_message_beyond_all_bounds_costs_its_connection_alone(
    kafka: str, topic: str, tmp_path: Path
) -> None:
    """It is refused, and the next connection goes on."""

    async def first_too_much(connection: ServerConnection, number: int) -> None:
        if number == 1:
            await connection.send("x" * (MAX_MESSAGE_BYTES + 1))
        else:
            await connection.send(trade_frame(t=9), text=True)

    async with (
        _exchange(first_too_much) as address,
        ingesting(kafka, topic, address, ["BTCUSDT"], tmp_path) as ingestor,
    ):
        await ingestor.arrived(1)
    assert [trade.source_sequence for trade in await trades_of(kafka, topic)] == [9]


async def test_without_kafka_it_says_so_and_ends(tmp_path: Path) -> None:
    """One sentence with the address and what to do."""
    env = variables("127.0.0.1:1", "trades", "127.0.0.1:1", ["BTCUSDT"], tmp_path)
    with started("services.ingestor", name="ingestor-1", run_dir=tmp_path, env=env) as process:
        assert await asyncio.to_thread(process.wait, 60) == 70
        assert "no Kafka answers at 127.0.0.1:1" in process.log_text()
        assert "Traceback" not in process.log_text()


async def test_without_an_exchange_it_waits_for_one_and_can_be_stopped(
    kafka: str, topic: str, tmp_path: Path
) -> None:
    """It listens, is not serving, tries again, and ends at once when asked."""
    env = variables(kafka, topic, "127.0.0.1:1", ["BTCUSDT"], tmp_path)
    with started("services.ingestor", name="ingestor-1", run_dir=tmp_path, env=env) as process:
        await process.door()
        await eventually(lambda: "exchange_unavailable" in process.log_text(), 30)
        assert await asyncio.to_thread(process.stop) == 0


async def _sends_on(exchange: Exchange, trades: int = 1_500) -> None:
    before = exchange.player.trades_sent
    await eventually(lambda: exchange.player.trades_sent > before + trades, what="trades sent")


async def _more_than(bootstrap: str, topic: str, records: int) -> bool:
    return await count(bootstrap, topic) > records


def _holes(found: Counter[tuple[str, int]]) -> int:
    by_symbol: dict[str, list[int]] = {}
    for symbol, id_ in found:
        by_symbol.setdefault(symbol, []).append(id_)
    return sum(max(ids) - min(ids) + 1 - len(ids) for ids in by_symbol.values())


@asynccontextmanager
async def _exchange(handle: Handle) -> AsyncIterator[str]:
    """Serve a WebSocket that does as `handle` says to each connection, by its number."""
    number = 0

    async def accept(connection: ServerConnection) -> None:
        nonlocal number
        number += 1
        await handle(connection, number)
        await connection.wait_closed()

    async with serve(accept, "127.0.0.1", 0, compression=None, ping_interval=None) as server:
        host, port = next(iter(server.sockets)).getsockname()
        yield f"{host}:{port}"
