"""The exchange's side: `k2 simulate` plays one, `k2 record` writes down a live one."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from libs.market.errors import InvalidError, UnavailableError
from tools.cli.parts.fleet import LIVE_EXCHANGE_URL
from tools.simulator.app import simulate
from tools.simulator.record import RecordingState
from tools.simulator.record import record as record_session

STREAMS = ("trade", "bookTicker", "depth@100ms")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(rich_help_panel="Exchange")(simulate)
    app.command(rich_help_panel="Exchange")(record)


def record(
    symbols: Annotated[list[str], typer.Argument(help="As the exchange writes them: BTCUSDT.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="A new file: session.gz.")],
    streams: Annotated[str, typer.Option(help=f"Comma list of {', '.join(STREAMS)}.")] = "trade",
    url: Annotated[str, typer.Option(help="The exchange.")] = LIVE_EXCHANGE_URL,
    microseconds: Annotated[bool, typer.Option("--microseconds", help="Finer stamps.")] = False,
    duration: Annotated[float | None, typer.Option(min=0.1, help="Seconds; else Ctrl-C.")] = None,
) -> None:
    """Record a live session, to replay with `k2 up --recording` or `k2 simulate --recording`.

    k2 record BTCUSDT ETHUSDT --out session.gz
    """
    asked = [name.strip() for name in streams.split(",")]
    unknown = sorted(set(asked) - set(STREAMS))
    if unknown:
        text = f"no stream {unknown[0]!r}: take of {', '.join(STREAMS)}"
        raise InvalidError(text, field="streams")
    if not url.startswith(("ws://", "wss://")):
        raise InvalidError(f"{url} is no ws:// or wss:// address", field="url")
    names = [f"{symbol.lower()}@{stream}" for symbol in symbols for stream in asked]
    unit = "MICROSECOND" if microseconds else "MILLISECOND"
    state = asyncio.run(_record(url, names, out, unit, duration))
    if not state.messages:
        out.unlink()
        why = state.problem or "does it have these symbols?"
        raise UnavailableError(f"nothing came from {url}: {why}")
    Console(highlight=False).print(f"{state.messages:,} messages in {out}")


async def _record(
    url: str, streams: list[str], out: Path, unit: str, duration_s: float | None
) -> RecordingState:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    if duration_s is not None:
        loop.call_later(duration_s, stop.set)
    console = Console(highlight=False)
    with console.status(f"connecting to {url}") as status:

        def show(state: RecordingState) -> None:
            status.update(
                f"{state.messages:,} messages, {state.bytes_written:,} bytes: Ctrl-C ends"
            )

        return await record_session(url, streams, out, stop=stop, time_unit=unit, on_flush=show)
