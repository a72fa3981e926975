"""`python -m tools.simulator`: a simulated Binance spot exchange."""

from __future__ import annotations

import asyncio
import math
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import typer
import uvloop

from libs.market.clock import SystemClock
from libs.market.errors import InvalidError, K2Error
from libs.runtime.doors import Door, publish, withdraw
from tools.simulator import faults, options
from tools.simulator.generated import ENDLESS_S, START_US, GeneratedSession, Plan
from tools.simulator.kept import began_us
from tools.simulator.player import Hold, PlayOptions
from tools.simulator.record import write_session
from tools.simulator.server import Exchange
from tools.simulator.session import Session, recorded
from tools.simulator.timeline import parse_pace
from tools.simulator.websocket import Limits

EXIT_WRONG_USAGE = 2
EXIT_FAILED = 5
KEEP_GOES_WITH = "--keep is for a generated session with --start now and --pace 1"


def simulate(
    seed: options.Seed = 1,
    symbols: options.Symbols = 20,
    duration: options.Duration = None,
    rate: options.Rate = 1_000.0,
    trades: options.Trades = None,
    book_ticker: options.BookTicker = False,
    start: options.Start = None,
    keep: options.Keep = None,
    recording: options.Recording = None,
    write: options.Write = None,
    pace: options.Pace = "1",
    hold: options.Hold = options.HoldChoice.AUTO,
    eager: options.Eager = False,
    fault: options.Faults = None,
    host: options.Host = "127.0.0.1",
    port: options.Port = 7100,
    run_dir: options.RunDir = None,
    name: options.Name = "simulator",
    ping_every: options.PingEvery = 20.0,
    pong_within: options.PongWithin = 60.0,
    connection_lives: options.ConnectionLives = 86_400.0,
    attempts: options.Attempts = 300,
    weight_limit: options.WeightLimit = 6_000,
    history: options.History = 1_000_000,
) -> None:
    """Speak Binance's spot protocol, WebSocket and REST, from a generated or recorded session.

    Open its address in a browser for the streams, the routes and the fault buttons.
    """
    with _errors_in_one_sentence():
        plan = Plan(seed, symbols, _seconds(duration), rate, trades, book_ticker, _start_us(start))
        from_ns = 0
        if keep is not None:
            _refuse_to_keep_unless(not recording and start == "now" and parse_pace(pace) == 1)
            plan, from_ns = _kept(plan, keep)
        session: Session = recorded(recording) if recording else GeneratedSession(plan)
        if write is not None:
            write_session(session, write)
            return
        exchange = Exchange(
            session,
            host=host,
            port=port,
            play=PlayOptions(parse_pace(pace), _hold(hold, pace), eager, history, from_ns),
            limits=Limits(ping_every, pong_within, connection_lives, attempts, weight_limit),
            faults=tuple(faults.parse(text) for text in fault or ()),
        )
        _run(exchange, run_dir, name)


@contextmanager
def _errors_in_one_sentence() -> Iterator[None]:
    try:
        yield
    except K2Error as error:
        typer.echo(error.message, err=True)
        wrong_usage = isinstance(error, InvalidError)
        raise typer.Exit(EXIT_WRONG_USAGE if wrong_usage else EXIT_FAILED) from error


def _seconds(duration: float | None) -> float:
    return ENDLESS_S if duration is None else duration


def _refuse_to_keep_unless(it_goes: bool) -> None:
    if not it_goes:
        raise InvalidError(KEEP_GOES_WITH, field="keep")


def _kept(plan: Plan, keep: Path) -> tuple[Plan, int]:
    """Go on with the session that was begun before; return also up to when it has passed."""
    return replace(plan, start_us=began_us(keep, plan, plan.start_us)), plan.start_us * 1_000


def _start_us(start: str | None) -> int:
    if start is None:
        return START_US
    if start == "now":
        return SystemClock().now_us()
    try:
        time = datetime.fromisoformat(start)
    except ValueError as error:
        text = f"--start {start!r} is neither now nor an ISO time such as 2026-01-05T09:00"
        raise InvalidError(text, field="start") from error
    return round((time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()) * 1_000_000


def _hold(choice: options.HoldChoice, pace: str) -> Hold:
    holds: dict[options.HoldChoice, Hold] = {
        options.HoldChoice.AUTO: "nobody" if math.isinf(parse_pace(pace)) else "never",
        options.HoldChoice.NEVER: "never",
        options.HoldChoice.NOBODY: "nobody",
        options.HoldChoice.MISSING: "missing",
    }
    return holds[choice]


def _run(exchange: Exchange, run_dir: Path | None, name: str) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(exchange, run_dir, name))


async def _serve(exchange: Exchange, run_dir: Path | None, name: str) -> None:
    asked_to_end = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, asked_to_end.set)
    async with exchange:
        address = exchange.address
        with _published(run_dir, Door(name, "simulator", extra={"http": address})):
            typer.echo(f"simulated exchange: http://{address}/  ws://{address}/ws/btcusdt@trade")
            await _until(asked_to_end, exchange)


async def _until(asked_to_end: asyncio.Event, exchange: Exchange) -> None:
    """Wait for the signal; a session that fails ends the exchange with its error."""
    waiting = asyncio.create_task(asked_to_end.wait())
    playing = asyncio.create_task(exchange.played())
    await asyncio.wait({waiting, playing}, return_when=asyncio.FIRST_COMPLETED)
    if playing.done():
        playing.result()
    await waiting
    playing.cancel()


@contextmanager
def _published(run_dir: Path | None, door: Door) -> Iterator[None]:
    if run_dir is None:
        yield
        return
    publish(run_dir, door)
    try:
        yield
    finally:
        withdraw(run_dir, door)
