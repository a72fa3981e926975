"""`k2 chaos`: harm for real, on a K2 of its own, and a proof that nothing is lost by it."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated

import psutil
import typer

from libs.market.errors import InvalidError, K2Error
from libs.runtime.doors import find
from tools.chaos import show
from tools.chaos.ground import Setting, cut_short_by
from tools.chaos.reader import PipedConsole, Reader, ReaderLeftError
from tools.chaos.scale import Scale
from tools.chaos.scenario import Scenario, Show, play, verdict
from tools.chaos.scenarios import SCENARIOS
from tools.chaos.story import Event, Kind, Story
from tools.cli.commands.governor_plot import draw_into, refuse_undrawable
from tools.cli.doors.home import home
from tools.cli.interrupts import until_interrupted
from tools.cli.parts.fleet import Layout
from tools.cli.views.output import Output, as_told
from tools.cli.views.saying import let_go_of_stdout, warn

PROMISE_BROKEN = 1
# As of whom SIGPIPE ends: no promise was judged, so neither 0 nor 1 were true.
READER_LEFT = 141
HELP = (
    "Harm K2 for real, and prove that no trade is lost by it.\n\n"
    "Each scenario brings up a K2 of its own in a folder of its own, with trades flowing and"
    " queries asking all the time; a K2 that is up is never touched. It does the harm, waits for"
    " recovery to NORMAL, and then reads every trade back: what was sent is what is answered,"
    " digit by digit. Meanwhile `k2 governor state` and `k2 status` speak to it.\n\n"
    "Ends with 0 where every promise held, with 1 where one did not. Piped, it writes a line of"
    " JSON per event; where its reader leaves, it ends too, with 141. Ctrl-C ends it at any moment"
    " and leaves nothing."
)
UNSCALED = {
    "kill": "SIGKILL of each service in turn: ingestor, writer, query, governor, every process of"
    " each.\n\nk2 chaos kill --writers 2 --governors 2",
    "broker": "Kafka hangs for some seconds (SIGSTOP), goes on, and is killed; trades keep coming.",
    "catalog": "The Iceberg catalog is locked against writing, then cannot even be read; queries"
    " go on.",
    "exchange": "The exchange leaves trades out, sends some twice, cuts, delays, sends garbage,"
    " shuts down.",
}

Seed = Annotated[int, typer.Option(help="Seed of the exchange's session.")]
Rate = Annotated[float, typer.Option(min=1, help="Trades a second of the exchange's session.")]
LagScale = Annotated[
    float,
    typer.Option(
        "--scale", min=0.005, help="Multiplies the lag thresholds (100,000 to 5,000,000)."
    ),
]
Cooldown = Annotated[float, typer.Option(min=0.5, help="Seconds of rest before each step down.")]
Writers = Annotated[int, typer.Option(min=1, max=8, help="Writers that share the work.")]
Governors = Annotated[int, typer.Option(min=1, max=3, help="Governors, of which one leads.")]
Keep = Annotated[bool, typer.Option("--keep", help="Keep the data folder and the logs.")]
Plot = Annotated[Path | None, typer.Option(help="Draw level, lag and memory of the run: FILE.svg.")]
Form = Annotated[Output | None, typer.Option("--output", "-o", help="table or json.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(help=HELP, no_args_is_help=True, rich_markup_mode="rich")
    group.command()(lag)
    group.command()(memory)
    for name, does in UNSCALED.items():
        group.command(name, help=does)(unscaled(name))
    app.add_typer(group, name="chaos", rich_help_panel="Running K2")


def lag(
    scale: LagScale = SCENARIOS["lag"].scale.lag,
    cooldown: Cooldown = SCENARIOS["lag"].scale.cooldown_s,
    writers: Writers = 1,
    governors: Governors = 1,
    seed: Seed = 7,
    rate: Rate = 500,
    keep: Keep = False,
    plot: Plot = None,
    output: Form = None,
) -> None:
    """A producer floods until the writer truly falls behind: SOFT to CIRCUIT_BREAK and back.

    Low symbols are put off first, then all but the critical ones; in the end all are written.

    It fails unless each class below critical was really put off, and written afterwards.

    Writers that take all this machine can send stand still for the last of it, and the run says so.

    k2 chaos lag --scale 0.05 --cooldown 2
    """
    scaled = replace(SCENARIOS["lag"].scale, lag=scale, cooldown_s=cooldown)
    _run("lag", Options(scaled, writers, governors, seed, rate, keep, output, plot))


def memory(
    limit: Annotated[
        int, typer.Option("--limit-mib", min=400, help="Memory that each writer may take.")
    ] = SCENARIOS["memory"].scale.writer_limit_mib or 0,
    cgroup: Annotated[
        bool, typer.Option("--cgroup", help="Have the kernel hold each writer to it; takes root.")
    ] = False,
    cooldown: Cooldown = SCENARIOS["memory"].scale.cooldown_s,
    writers: Writers = 1,
    governors: Governors = 1,
    seed: Seed = 7,
    rate: Rate = 500,
    keep: Keep = False,
    plot: Plot = None,
    output: Form = None,
) -> None:
    """A writer truly reaches its memory limit: by load, by ballast, and by one it never gives back.

    The ballast shows all five levels and the way back.

    What is never freed, as by an allocator that keeps what it has, is cured by a restart.
    """
    peace = SCENARIOS["memory"].scale
    scaled = replace(peace, writer_limit_mib=limit, cgroup=cgroup, cooldown_s=cooldown)
    _run("memory", Options(scaled, writers, governors, seed, rate, keep, output, plot))


def unscaled(name: str) -> Callable[..., None]:
    """Return the command of a scenario that only the options of all of them fit."""

    def command(
        writers: Writers = 1,
        governors: Governors = 1,
        seed: Seed = 7,
        rate: Rate = 500,
        keep: Keep = False,
        output: Form = None,
    ) -> None:
        scale = SCENARIOS[name].scale
        _run(name, Options(scale, writers, governors, seed, rate, keep, output))

    return command


@dataclass(frozen=True, slots=True)
class Options:
    """What was typed."""

    scale: Scale
    writers: int = 1
    governors: int = 1
    seed: int = 7
    rate: float = 500.0
    keep: bool = False
    output: Output | None = None
    plot: Path | None = None


def _run(name: str, options: Options) -> None:
    if options.plot is not None:
        refuse_undrawable(options.plot, field="plot")
    if not run_one(SCENARIOS[name], options):
        raise typer.Exit(PROMISE_BROKEN)


def run_each(
    names: Sequence[str], writers: int, governors: int, output: Output | None, *, quick: bool
) -> None:
    """Run scenarios one after the other, all of them; ends with 1 where one did not hold."""
    held = []
    for name in names:
        scenario = SCENARIOS[name]
        scale = scenario.scale.quicker() if quick else scenario.scale
        held.append(run_one(scenario, Options(scale, writers, governors, output=output)))
    if not all(held):
        raise typer.Exit(PROMISE_BROKEN)


def run_one(scenario: Scenario, options: Options) -> bool:
    """Run a scenario in a folder of its own; return whether every promise held.

    The folder stays where one did not, or K2 itself failed, until the next run.
    """
    as_told(options.output)
    if os.environ.get("K2_KAFKA_BOOTSTRAP"):
        text = "chaos harms a Kafka of its own: unset K2_KAFKA_BOOTSTRAP"
        raise InvalidError(text, field="K2_KAFKA_BOOTSTRAP")
    remove_dead()
    layout = Layout(home() / "chaos" / f"{os.getpid()}-{scenario.name}")
    keep = options.keep
    try:
        held = asyncio.run(until_interrupted(played(scenario, options, layout)))
        keep = keep or not held
    except K2Error:
        keep = True
        raise
    except ReaderLeftError:
        let_go_of_stdout()
        raise typer.Exit(READER_LEFT) from None
    else:
        return held
    finally:
        if keep:
            warn(f"its data and logs stay in {layout.root} until the next run")
        else:
            shutil.rmtree(layout.root, ignore_errors=True)


async def played(scenario: Scenario, options: Options, layout: Layout) -> bool:
    """Play it, and show it where its output goes."""
    scale, seed, rate = options.scale, options.seed, options.rate
    setting = Setting(layout, scale, seed, rate, options.writers, options.governors)
    with (
        show.logs_in(layout.logs / "k2.log"),
        shown(scenario.name, options.output) as (where, tell),
    ):
        reader = Reader(tell)
        story = Story(scenario.name, lambda: 0.0, reader.tell)
        draw = partial(drawn, options.plot, layout, datetime.now(UTC), story)
        async with cut_short_by(reader.left()):
            return verdict(story, await play(scenario, setting, story, where, draw))


async def drawn(file: Path | None, layout: Layout, start: datetime, story: Story) -> None:
    """Draw what the governor has recorded of the run, where that is wanted."""
    if file is None:
        return
    doors = [door for door in find(layout.run).values() if door.service == "governor"]
    governors = [door.grpc for door in doors if door.grpc]
    count = await draw_into(file, start, datetime.now(UTC), governors)
    story.note(Kind.SEEN, f"drawn from {count:,} records of the governor: {file}")


@contextmanager
def shown(scenario: str, output: Output | None) -> Iterator[tuple[Show, Callable[[Event], None]]]:
    """Say where a run is shown: a panel, lines, or JSON."""
    if as_told(output) is not Output.TABLE:
        yield show.Quiet(), lambda event: show.tell_json(scenario, event)
    elif PipedConsole().is_terminal:
        with show.on_terminal(scenario) as panel:
            yield panel, panel.tell
    else:
        console = PipedConsole(highlight=False)
        yield show.Quiet(), lambda event: show.tell_line(console, event)


def remove_dead() -> None:
    """Remove what runs left that ended some other way than in order."""
    for folder in home().glob("chaos/*"):
        owner = folder.name.partition("-")[0]
        alive = owner.isdigit() and psutil.pid_exists(int(owner))
        if not alive:
            shutil.rmtree(folder, ignore_errors=True)
