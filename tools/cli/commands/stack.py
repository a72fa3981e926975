"""K2 that stays: `k2 up`, `k2 down`, `k2 status`."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import psutil
import typer
from rich.console import Console

from libs.market.errors import ConflictError, CorruptError, InvalidError, UnavailableError
from libs.runtime.doors import Door, find, publish, unreadable, withdraw
from libs.runtime.restarts import RestartPolicy
from tools.cli.doors.home import NOT_RUNNING, damaged, home
from tools.cli.doors.home import running as running_doors
from tools.cli.doors.owner import OWNER, owner_of
from tools.cli.doors.watching import flow_of
from tools.cli.interrupts import until_interrupted
from tools.cli.parts.children import last_complaint, last_words
from tools.cli.parts.fleet import Layout, Plan, raise_failure, running
from tools.cli.session.source import PACES, Source, keep_to
from tools.cli.views.addresses import show_doors
from tools.cli.views.output import Output, Row, chosen, write_rows
from tools.cli.views.panel import panel
from tools.cli.views.saying import warn

READY_TIMEOUT_S = 180.0
DOWN_TIMEOUT_S = 90.0
POLL_S = 0.1


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (up, down, status):
        app.command(rich_help_panel="Running K2")(command)


def up(
    generate: Annotated[int, typer.Option(help="Seed of the generated session.")] = 7,
    symbols: Annotated[int, typer.Option(min=1, help="Symbols of the generated session.")] = 20,
    rate: Annotated[float, typer.Option(min=1, help="Trades a second, generated.")] = 500,
    recording: Annotated[
        list[Path] | None, typer.Option(help="Replay this session; may be given again.")
    ] = None,
    live: Annotated[
        str | None, typer.Option(help="Live Binance, these symbols: BTCUSDT,ETHUSDT, or * for all.")
    ] = None,
    pace: Annotated[str, typer.Option(help=PACES)] = "1",
    flush_after_s: Annotated[float, typer.Option(min=0.1, help="Seconds between commits.")] = 10,
    writers: Annotated[
        int, typer.Option(min=1, max=5, help="Writers; they share the partitions.")
    ] = 1,
    governors: Annotated[
        int, typer.Option(min=1, max=5, help="Governors; one leads, the others stand by.")
    ] = 1,
    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="Go on in the background.")
    ] = False,
) -> None:
    """Start K2 on .k2/up and keep it running; its data is there again the next time.

    k2 up --detach

    k2 up --live BTCUSDT,ETHUSDT

    K2_HOME=/data/k2 k2 up --detach keeps it there; the other commands need K2_HOME then too.
    """
    if live is not None and not live.strip(" ,"):
        raise InvalidError("--live names no symbol: give some, or * for all", field="live")
    source = Source(generate, symbols, None, rate, tuple(recording or ()), live, pace)
    exchange, layout = source.exchange(), Layout(home() / "up")
    layout.make()
    _refuse_a_second(layout)
    keep_to(source, layout.data)
    if detach:
        _detach(layout)
        return
    plan = Plan(
        layout,
        exchange,
        flush_after_s,
        restarts=RestartPolicy(),
        writers=writers,
        governors=governors,
    )
    asyncio.run(until_interrupted(_stay_up(plan)))


async def _stay_up(plan: Plan) -> None:
    console = Console(highlight=False)
    layout = plan.layout
    plan = replace(plan, on_step=lambda step: console.print(f"[dim]starting {step}[/]"))
    async with running(plan) as (fleet, task):
        parts = ",".join(part.name for part in fleet.parts() if part.name != "kafka")
        owner = Door(OWNER, "up", extra={"kafka": fleet.bootstrap, "parts": parts})
        publish(layout.run, owner)
        try:
            show_doors(console, fleet.doors(), fleet.bootstrap)
            console.print("[dim]K2 is up: Ctrl-C or `k2 down` ends it[/]")
            await asyncio.wait({task})
            raise_failure(task)
        finally:
            withdraw(layout.run, owner)


def _refuse_a_second(layout: Layout) -> None:
    for path in unreadable(layout.run):
        raise CorruptError(f"{path} is not an address file of K2; remove it", path=path)
    if find(layout.run):
        raise ConflictError("K2 is up already: `k2 status` shows it, `k2 down` ends it")


def _detach(layout: Layout) -> None:
    log = layout.logs / "up.log"
    words = [word for word in sys.argv[1:] if word not in ("--detach", "-d")]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "tools.cli", *words],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    console = Console(highlight=False)
    with console.status("starting K2 in the background"):
        try:
            _wait_for_owner(layout, process, log)
        except KeyboardInterrupt:
            process.terminate()
            process.wait(DOWN_TIMEOUT_S)
            raise
    doors = find(layout.run)
    show_doors(console, doors, doors[OWNER].extra["kafka"])
    console.print(f"[dim]K2 is up: `k2 status` shows it, `k2 down` ends it; log: {log}[/]")


def _wait_for_owner(layout: Layout, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline_s = time.monotonic() + READY_TIMEOUT_S
    while OWNER not in find(layout.run):
        if process.poll() is not None:
            raise UnavailableError(last_words(log).removeprefix("error: "))
        if time.monotonic() > deadline_s:
            process.terminate()
            raise UnavailableError(f"K2 is not up after {READY_TIMEOUT_S:g} s: {waits(layout)}")
        time.sleep(POLL_S)


def waits(layout: Layout) -> str:
    """Say what the parts last complained of, and where to read more."""
    logs = sorted(layout.logs.glob("*.log"))
    said = [f"{log.stem}: {why}" for log in logs if (why := last_complaint(log))]
    return "; ".join([*said, f"see {layout.logs}"])


def down() -> None:
    """Stop what `k2 up` started, in order, and wait until it is gone."""
    console = Console(highlight=False)
    warn_of_damage()
    owner = owner_of(Layout(home() / "up").run)
    if owner is None:
        console.print("K2 is not up")
        return
    with console.status("stopping: intake first, then what is on its way is committed"):
        try:
            owner.terminate()
            owner.wait(DOWN_TIMEOUT_S)
        except psutil.AccessDenied as error:
            text = f"K2 (process {owner.pid}) was started by somebody else, who may stop it"
            raise ConflictError(text, pid=owner.pid) from error
        except psutil.TimeoutExpired as error:
            text = f"K2 (process {owner.pid}) is still stopping after {DOWN_TIMEOUT_S:g} s"
            raise UnavailableError(text, pid=owner.pid) from error
    console.print("K2 is down")


def warn_of_damage() -> None:
    for sentence in damaged():
        warn(sentence)


def status(
    output: Annotated[Output | None, typer.Option("--output", "-o", help="table or json.")] = None,
) -> None:
    """What the running K2 does at this moment."""
    warn_of_damage()
    doors = running_doors()
    if not doors:
        raise UnavailableError(NOT_RUNNING)
    flow, away = asyncio.run(flow_of(doors.values())), away_from(doors)
    form = chosen(output, None)
    if form is not Output.TABLE:
        write_rows([{**rounded(asdict(flow)), "away": away}], (), form, None)
        return
    console = Console(highlight=False)
    console.print(panel(flow, title="K2", sent=None, expected=None, away=away))
    show_doors(console, doors, doors[OWNER].extra.get("kafka") if OWNER in doors else None)


def away_from(doors: Mapping[str, Door]) -> list[str]:
    """Name the parts that `k2 up` keeps running and that have no open door at this moment."""
    owner = doors.get(OWNER)
    parts = owner.extra.get("parts", "").split(",") if owner else []
    return [name for name in parts if name and name not in doors]


def rounded(row: Row) -> Row:
    """Return rates to a tenth: the digits after it are noise of adding them up."""
    return {k: round(v, 1) if isinstance(v, float) else v for k, v in row.items()}
