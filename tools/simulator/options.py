"""The simulator's command-line options, with what they mean."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class HoldChoice(StrEnum):
    AUTO = "auto"
    NEVER = "never"
    NOBODY = "nobody"
    MISSING = "missing"


_HOLD_HELP = (
    "When the session stands still: never; while nobody listens; while a trade stream of it is"
    " missing a listener. auto: nobody at pace max, else never."
)
_FAULT_HELP = (
    "kind[:key=value,...], such as skip:at=1000,count=3. Kinds: drop skip duplicate delay malformed"
    " shutdown rate_limit ban. Keys: at every count symbol seconds connection."
)

Seed = Annotated[
    int, typer.Option(min=0, help="The same seed gives the same session, byte for byte.")
]
Symbols = Annotated[int, typer.Option(min=1, help="How many; the k-th trades 1/k as much.")]
Duration = Annotated[
    float | None, typer.Option(min=0, help="The session's length in its own seconds. [no end]")
]
Rate = Annotated[float, typer.Option(min=0.001, help="Trades a second over all symbols, average.")]
Trades = Annotated[int | None, typer.Option(min=1, help="End after so many trades.")]
BookTicker = Annotated[bool, typer.Option("--book-ticker", help="Generate @bookTicker as well.")]
Start = Annotated[
    str | None, typer.Option(help="The session's first moment: an ISO time, or now. [2026-01-05]")
]
Keep = Annotated[
    Path | None,
    typer.Option(
        help="Keep in this file when the session began. Started anew with it, the exchange goes on"
        " as if it had never stopped: REST knows the trades between."
    ),
]
Recording = Annotated[
    list[Path] | None, typer.Option(help="Play recorded files instead, merged by receive time.")
]
Write = Annotated[
    Path | None, typer.Option(help="Write the session into this file as a recording, and end.")
]
Pace = Annotated[
    str, typer.Option(help="1 is the original, 10 ten times as fast, max as fast as read.")
]
Hold = Annotated[HoldChoice, typer.Option(help=_HOLD_HELP)]
Eager = Annotated[bool, typer.Option("--eager", help="Begin at once, before any subscriber.")]
Faults = Annotated[list[str] | None, typer.Option("--fault", help=_FAULT_HELP)]
Host = Annotated[str, typer.Option(help="Address to listen on.")]
Port = Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes any.")]
RunDir = Annotated[
    Path | None, typer.Option(help="Publish the address in this folder, for the rest of K2.")
]
Name = Annotated[str, typer.Option(help="Name to publish under.")]
PingEvery = Annotated[float, typer.Option(min=0.01, help="Seconds between pings.")]
PongWithin = Annotated[float, typer.Option(min=0.01, help="Seconds a client has for its pong.")]
ConnectionLives = Annotated[float, typer.Option(min=0.01, help="Seconds until it is closed.")]
Attempts = Annotated[int, typer.Option(min=1, help="Connection attempts per client in 5 minutes.")]
WeightLimit = Annotated[int, typer.Option(min=1, help="REST weight per client in a minute.")]
History = Annotated[int, typer.Option(min=1, help="Trades that REST can still serve.")]
