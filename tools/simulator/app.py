"""`python -m tools.simulator`: a simulated Binance spot exchange."""

from __future__ import annotations

import asyncio
import math
import signal
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from libs.market.clock import SystemClock
from libs.market.errors import InvalidError, K2Error
from libs.runtime.doors import Door, publish, withdraw
from tools.simulator import faults
from tools.simulator.generated import START_US
from tools.simulator.player import Hold, PlayOptions
from tools.simulator.server import Exchange
from tools.simulator.session import Session, generated, recorded
from tools.simulator.timeline import parse_pace
from tools.simulator.websocket import Limits

EXIT_WRONG_USAGE = 2
EXIT_FAILED = 5


class HoldChoice(StrEnum):
    AUTO = "auto"
    NEVER = "never"
    NOBODY = "nobody"
    MISSING = "missing"


def simulate(
    seed: Annotated[
        int, typer.Option(help="The same seed gives the same session, byte for byte")
    ] = 1,
    symbols: Annotated[
        int, typer.Option(min=1, help="How many symbols; the k-th trades 1/k as often as the first")
    ] = 20,
    duration: Annotated[
        float, typer.Option(help="Length of the session in its own seconds")
    ] = 60.0,
    rate: Annotated[
        float, typer.Option(help="Trades a second over all symbols, on average")
    ] = 1_000.0,
    trades: Annotated[int | None, typer.Option(min=1, help="End after so many trades")] = None,
    book_ticker: Annotated[
        bool, typer.Option("--book-ticker", help="Generate @bookTicker streams too")
    ] = False,
    start: Annotated[
        str, typer.Option(help="First moment of the session: an ISO time, now, or default")
    ] = "default",
    recording: Annotated[
        list[Path] | None, typer.Option(help="Play recorded files instead, merged by receive time")
    ] = None,
    pace: Annotated[
        str,
        typer.Option(help="1 is the original, 10 ten times as fast, max as fast as readers take"),
    ] = "1",
    hold: Annotated[
        HoldChoice,
        typer.Option(
            help="When the session stands still: never, while nobody listens, while a trade stream is missing a listener; auto: nobody at pace max, else never"
        ),
    ] = HoldChoice.AUTO,
    eager: Annotated[
        bool, typer.Option("--eager", help="Begin at once, not with the first subscriber")
    ] = False,
    fault: Annotated[
        list[str] | None,
        typer.Option(
            help="kind[:key=value,...], such as skip:at=1000,count=3; kinds: drop skip duplicate delay malformed shutdown rate_limit ban"
        ),
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 takes a free one")] = 7100,
    run_dir: Annotated[
        Path | None, typer.Option(help="Publish the address in this folder, for other parts of K2")
    ] = None,
    name: Annotated[str, typer.Option(help="Name to publish under")] = "simulator",
    ping_every: Annotated[float, typer.Option(help="Seconds between pings")] = 20.0,
    pong_within: Annotated[
        float, typer.Option(help="Seconds a client has to answer a ping")
    ] = 60.0,
    connection_lives: Annotated[
        float, typer.Option(help="Seconds after which a connection is closed")
    ] = 86_400.0,
    attempts: Annotated[
        int, typer.Option(help="Connection attempts a client has in 5 minutes")
    ] = 300,
    weight_limit: Annotated[int, typer.Option(help="REST weight a client has in a minute")] = 6_000,
    history: Annotated[int, typer.Option(help="Trades that REST can still serve")] = 2_000_000,
) -> None:
    """Speak Binance's spot protocol, WebSocket and REST, from a generated or recorded session.

    Open the address in a browser for its streams, routes and fault buttons.
    """
    try:
        session = _session(seed, symbols, duration, rate, trades, book_ticker, start, recording)
        parsed_pace = parse_pace(pace)
        play = PlayOptions(parsed_pace, _hold(hold, parsed_pace), eager, history)
        limits = Limits(ping_every, pong_within, connection_lives, attempts, weight_limit)
        wishes = tuple(faults.parse(text) for text in fault or ())
        exchange = Exchange(session, host=host, port=port, play=play, limits=limits, faults=wishes)
        _run(_serve(exchange, run_dir, name))
    except K2Error as error:
        typer.echo(error.message, err=True)
        code = EXIT_WRONG_USAGE if isinstance(error, InvalidError) else EXIT_FAILED
        raise typer.Exit(code) from error


def _session(
    seed: int,
    symbols: int,
    duration_s: float,
    rate: float,
    trades: int | None,
    book_ticker: bool,
    start: str,
    recording: list[Path] | None,
) -> Session:
    if recording:
        return recorded(recording)
    return generated(
        seed,
        symbols=symbols,
        duration_s=duration_s,
        rate=rate,
        trades=trades,
        book_ticker=book_ticker,
        start_us=_start_us(start),
    )


def _start_us(start: str) -> int:
    if start == "default":
        return START_US
    if start == "now":
        return SystemClock().now_us()
    try:
        return int(datetime.fromisoformat(start).timestamp()) * 1_000_000
    except ValueError as error:
        raise InvalidError(f"--start {start!r} is no ISO time", field="start") from error


def _hold(choice: HoldChoice, pace: float) -> Hold:
    if choice is HoldChoice.AUTO:
        return "nobody" if math.isinf(pace) else "never"
    return (
        "nobody"
        if choice is HoldChoice.NOBODY
        else "missing"
        if choice is HoldChoice.MISSING
        else "never"
    )


def _run(work: object) -> None:
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(work)  # type: ignore[arg-type]


async def _serve(exchange: Exchange, run_dir: Path | None, name: str) -> None:
    asked_to_end = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, asked_to_end.set)
    async with exchange:
        door = Door(name, "simulator", extra={"http": exchange.address})
        if run_dir is not None:
            publish(run_dir, door)
        typer.echo(
            f"Simulated exchange: http://{exchange.address}/  ws://{exchange.address}/ws/btcusdt@trade"
        )
        try:
            await asked_to_end.wait()
        finally:
            if run_dir is not None:
                withdraw(run_dir, door)
