"""`make bench`: what K2 does on this machine, measured now by the processes that `k2 up` starts."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import Annotated

import typer
from rich.console import Console

from libs.market.errors import K2Error
from tests.benchmarks import control, freshness, latency, stages, throughput
from tests.benchmarks.figures import Figure
from tests.benchmarks.report import Report, Seen, as_json, show
from tests.benchmarks.run import Run
from tools.cli.doors.home import home
from tools.cli.interrupts import Interrupted, until_interrupted

INTERRUPTED = 130
FAILED = 5
NARROWEST = 120


class Only(StrEnum):
    THROUGHPUT = "throughput"
    LATENCY = "latency"
    FRESHNESS = "freshness"
    CONTROL = "control"
    STAGES = "stages"


class Output(StrEnum):
    TABLE = "table"
    JSON = "json"


MEASUREMENTS: dict[Only, Callable[[Run], Awaitable[list[Figure]]]] = {
    Only.THROUGHPUT: throughput.measure,
    Only.LATENCY: latency.measure,
    Only.FRESHNESS: freshness.measure,
    Only.CONTROL: control.measure,
    Only.STAGES: stages.measure,
}


def bench(
    only: Annotated[list[Only] | None, typer.Option(help="Of all measurements, only this.")] = None,
    output: Annotated[Output, typer.Option("--output", "-o")] = Output.TABLE,
    scale: Annotated[float, typer.Option(min=0.001, help="Sizes times this: 0.1 is a try.")] = 1,
) -> None:
    """Measure throughput, query latency, freshness, control and memory; some five minutes.

    Aims for throughput are per second of CPU time, so they hold on a busy machine too; latency and
    freshness need an idle one: the load average is shown.
    """
    console = Console(stderr=True, highlight=False)
    folder = home() / "bench" / str(os.getpid())
    # A broker of its own: figures from somebody's Kafka would say something else.
    os.environ.pop("K2_KAFKA_BOOTSTRAP", None)
    try:
        run = Run(folder, scale, lambda text: console.print(f"[dim]{text}[/]"))
        report = asyncio.run(until_interrupted(measured(run, only or list(Only))))
    except Interrupted:
        raise typer.Exit(INTERRUPTED) from None
    except K2Error as error:
        console.print(f"[red]{error.message}[/]")
        raise typer.Exit(FAILED) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if output is Output.JSON:
        sys.stdout.buffer.write(as_json(report))
    else:
        terminal = Console(highlight=False)
        show(Console(highlight=False, width=max(terminal.width, NARROWEST)), report)


async def measured(run: Run, wanted: list[Only]) -> Report:
    """Take the measurements one after the other."""
    before, figures = Seen.now(), []
    for name in wanted:
        figures += await MEASUREMENTS[name](run)
        shutil.rmtree(run.folder, ignore_errors=True)
    return Report((*figures, *run.peaks.figures()), before, Seen.now(), run.scale)


if __name__ == "__main__":
    typer.run(bench)
