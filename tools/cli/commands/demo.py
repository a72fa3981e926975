"""`k2 demo`: the whole system on one session, watched live, and a proof at the end."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import psutil
import typer
from k2.writer.v1 import writer_pb2
from k2.writer.v1.writer_pb2_grpc import WriterServiceStub
from rich.console import Console
from rich.live import Live

from libs.market.errors import UnavailableError
from libs.rpc.client import call, channel
from tools.cli.commands.degradation import degradation
from tools.cli.doors.home import home
from tools.cli.doors.watching import Flow, flow_of
from tools.cli.interrupts import Interrupted, until_interrupted
from tools.cli.parts.children import ChildError
from tools.cli.parts.fleet import Fleet, Layout, Plan, raise_failure, running
from tools.cli.session.progress import SessionProgress, progress_of
from tools.cli.session.proof import Proof, prove, show_proof
from tools.cli.session.source import PACES, Source
from tools.cli.views.addresses import show_doors
from tools.cli.views.panel import line, panel
from tools.simulator import truth

PROOF_FAILED = 1
SESSION_S = 60.0
FLUSH_AFTER_S = 2.0
REFRESH_S = 0.25
LINE_EVERY_S = 2.0
COMMIT_TIMEOUT_S = 60.0
# No new row for this long after the session's end: what is missing then will not come.
STALLED_AFTER_S = 45.0
# The same where all that was received can be queried: nothing is on its way.
SETTLED_AFTER_S = 5.0


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(invoke_without_command=True)
    group.callback()(demo)
    group.command("degradation")(degradation)
    app.add_typer(group, name="demo", rich_help_panel="Running K2")


def demo(
    context: typer.Context,
    duration: Annotated[
        float | None, typer.Option(min=1, help="Seconds of market; ends by itself after the proof.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the generated session.")] = 7,
    symbols: Annotated[int, typer.Option(min=1, help="Symbols of the generated session.")] = 20,
    rate: Annotated[float, typer.Option(min=1, help="Trades a second, generated.")] = 500,
    recording: Annotated[
        list[Path] | None, typer.Option(help="Replay this session instead; may be given again.")
    ] = None,
    pace: Annotated[str, typer.Option(help=PACES)] = "1",
    fault: Annotated[
        list[str] | None,
        typer.Option(help="Let the exchange misbehave, as `k2 simulate` can: skip:at=500."),
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the data folder.")] = False,
) -> None:
    """Run a session through the whole system, and prove that nothing is missing or twice.

    It stays up until Ctrl-C unless --duration is given; where the proof fails it ends with 1.
    """
    if context.invoked_subcommand is not None:
        return
    session_s = duration or SESSION_S
    source = Source(
        seed, symbols, session_s, rate, tuple(recording or ()), None, pace, tuple(fault or ())
    )
    remove_dead_demos()
    layout = Layout(home() / "demo" / str(os.getpid()))
    show = Demo(source, layout, stays=duration is None)
    try:
        passed = asyncio.run(until_interrupted(show.run()))
    except Interrupted:
        # Ctrl-C after the proof is how a demo that stays is meant to end.
        if show.proof is None:
            raise
        passed = show.proof.passed
    except ChildError:
        # The error names a log, which the next demo removes.
        keep = True
        raise
    finally:
        if not keep:
            shutil.rmtree(layout.root, ignore_errors=True)
    if not passed:
        raise typer.Exit(PROOF_FAILED)


@dataclass(slots=True)
class Demo:
    """One demo, from start to proof."""

    source: Source
    layout: Layout
    stays: bool
    proof: Proof | None = None

    async def run(self) -> bool:
        """Start everything, watch, prove; return whether the proof held."""
        console = Console(highlight=False)
        plan = Plan(
            self.layout,
            self.source.exchange(),
            FLUSH_AFTER_S,
            on_step=lambda step: console.print(f"[dim]starting {step}[/]"),
        )
        async with running(plan) as (fleet, ended):
            work = asyncio.create_task(self._show(console, fleet))
            try:
                await asyncio.wait({work, ended}, return_when=asyncio.FIRST_COMPLETED)
                if ended.done():
                    raise_failure(ended)
                return await work
            finally:
                # Before the parts end, or it would ask those that are gone.
                work.cancel()
                await asyncio.wait({work})

    async def _show(self, console: Console, fleet: Fleet) -> bool:
        expected = await asyncio.to_thread(truth.expected, self.source.session())
        total = sum(symbol.count for symbol in expected.values())
        await watch(console, fleet, total)
        await commit_some(fleet)
        self.proof = await prove(expected, fleet.door("query").grpc or "")
        show_proof(console, self.proof)
        if self.stays:
            show_doors(console, fleet.doors(), fleet.bootstrap)
            console.print("[dim]K2 stays up: Ctrl-C ends it[/]")
            await asyncio.Event().wait()
        return self.proof.passed


async def watch(console: Console, fleet: Fleet, total: int) -> None:
    """Show the live status until every trade sent can be queried, or nothing more comes."""
    display = _Panel(console, total) if console.is_terminal else _Lines(console, total)
    progress, moved_s, rows = SessionProgress(), time.monotonic(), 0
    with display:
        while True:
            flow = await flow_of(fleet.doors().values())
            # On a busy machine an answer may come too late: what was known stays true.
            with suppress(UnavailableError):
                progress = await progress_of(fleet.door("simulator"))
            display.show(flow, progress)
            if visible(flow) != rows:
                rows, moved_s = visible(flow), time.monotonic()
            arrived = flow.received is not None and visible(flow) >= flow.received
            settled = arrived and not flow.open_gaps
            patience_s = SETTLED_AFTER_S if settled else STALLED_AFTER_S
            stalled = time.monotonic() - moved_s > patience_s
            if progress.done and (rows >= total or stalled):
                return
            await asyncio.sleep(REFRESH_S)


async def commit_some(fleet: Fleet) -> None:
    """Have the writer commit where a short session ended before it did: the proof reads both sides.

    Where it cannot, the proof says how many rows came from where.
    """
    deadline_s = time.monotonic() + COMMIT_TIMEOUT_S
    with suppress(UnavailableError):
        if (await flow_of(fleet.doors().values())).committed_rows:
            return
        async with channel(fleet.door("writer").grpc or "") as connection:
            service = WriterServiceStub(connection)
            await call(service.Flush, writer_pb2.FlushRequest(), timeout_s=COMMIT_TIMEOUT_S)
        while time.monotonic() < deadline_s:
            if (await flow_of(fleet.doors().values())).committed_rows:
                return
            await asyncio.sleep(REFRESH_S)


def visible(flow: Flow) -> int:
    """Return the rows that a query can see."""
    return (flow.committed_rows or 0) + (flow.tail_rows or 0)


class _Panel:
    def __init__(self, console: Console, total: int) -> None:
        self._live = Live(console=console, refresh_per_second=4, transient=False)
        self._total = total

    def __enter__(self) -> None:
        self._live.__enter__()

    def __exit__(self, *_: object) -> None:
        self._live.__exit__(None, None, None)

    def show(self, flow: Flow, progress: SessionProgress) -> None:
        self._live.update(panel(flow, title="K2 demo", sent=progress.sent, expected=self._total))


class _Lines:
    """The same for logs and pipes: a line every two seconds."""

    def __init__(self, console: Console, total: int) -> None:
        self._console = console
        self._total = total
        self._last_s = -LINE_EVERY_S
        self._latest = ""

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        self._console.print(self._latest, soft_wrap=True)

    def show(self, flow: Flow, progress: SessionProgress) -> None:
        self._latest = line(flow, sent=progress.sent, expected=self._total)
        if time.monotonic() - self._last_s >= LINE_EVERY_S:
            self._last_s = time.monotonic()
            self._console.print(self._latest, soft_wrap=True)


def remove_dead_demos() -> None:
    """Remove what demos left that were killed before they could clean up."""
    for folder in home().glob("demo/*"):
        if not (folder.name.isdigit() and psutil.pid_exists(int(folder.name))):
            shutil.rmtree(folder, ignore_errors=True)
