"""`k2 governor watch`: level, lag, memory and causes, live."""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import UTC, datetime

import msgspec
from k2.governor.v1 import governor_pb2 as pb
from k2.governor.v1.governor_pb2_grpc import GovernorServiceStub
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from libs.market.errors import K2Error, UnavailableError
from libs.rpc.client import stream
from tools.cli.doors.governing import governor_channel
from tools.cli.interrupts import until_interrupted
from tools.cli.views.governor_view import cause_name, clock, level_name, mebibytes, styled
from tools.cli.views.output import Row
from tools.cli.views.panel import LEVEL_STYLES, count

KEPT = 48
BAR_WIDTH = 24
BLOCKS = "▁▂▃▄▅▆▇█"
# As long as it may take until another governor leads.
GONE_TIMEOUT_S = 30.0
LOOK_AGAIN_S = 0.5


def watch() -> None:
    """Level, lag, memory and causes as they change; JSON lines where the output is piped.

    Follows whichever governor leads. Ctrl-C ends it.
    """
    terminal = sys.stdout.isatty()
    asyncio.run(until_interrupted(_on_terminal() if terminal else _as_lines()))


async def _on_terminal() -> None:
    trail = Trail()
    with Live(Text("asking"), console=Console(), auto_refresh=False) as live:
        async with aclosing(_states()) as states:
            async for state in states:
                trail.add(state)
                live.update(_panel(state, trail), refresh=True)


async def _as_lines() -> None:
    encode = msgspec.json.Encoder().encode
    async with aclosing(_states()) as states:
        async for state in states:
            sys.stdout.write(encode(line_of(state)).decode() + "\n")
            sys.stdout.flush()


async def _states() -> AsyncGenerator[pb.State]:
    """Yield what the leader shows; where it goes, what the next one does."""
    loop = asyncio.get_running_loop()
    seen_s = loop.time()
    while True:
        try:
            async with governor_channel() as connection:
                watching = GovernorServiceStub(connection).WatchState
                states = stream(watching, pb.WatchStateRequest(), timeout_s=None)
                async with aclosing(states):
                    async for answer in states:
                        seen_s = loop.time()
                        yield answer.state
                        if not answer.state.leading and answer.state.HasField("leader"):
                            break
        except K2Error as error:
            if not isinstance(error, UnavailableError) or loop.time() - seen_s > GONE_TIMEOUT_S:
                raise
        await asyncio.sleep(LOOK_AGAIN_S)


def line_of(state: pb.State) -> Row:
    """Return what a program wants of it, flat."""
    directive = state.directive
    proven = state.proven_time.ToDatetime(tzinfo=UTC) if state.HasField("proven_time") else None
    return {
        "time": datetime.now(UTC),
        "level": level_name(directive.level),
        "lag_level": level_name(directive.lag_level),
        "memory_level": level_name(directive.memory_level),
        "causes": [cause_name(cause) for cause in directive.causes],
        "leader": state.leader.process,
        "epoch": state.leader.epoch,
        "leading": state.leading,
        "proven_time": proven,
        "override": directive.override,
        "explanation": directive.explanation,
        "groups": {
            group.consumer_group: {"lag": group.lag, "known": group.known} for group in state.groups
        },
        "processes": {
            process.report.process: {
                "memory_share": round(_share(process.report), 4),
                "level": level_name(process.report.memory_level),
                "applied": level_name(process.report.applied_level),
            }
            for process in state.processes
        },
    }


@dataclass
class Trail:
    """The lag of each group lately, for its small curve."""

    lags: dict[str, deque[int]] = field(default_factory=dict)

    def add(self, state: pb.State) -> None:
        for group in state.groups:
            self.lags.setdefault(group.consumer_group, deque(maxlen=KEPT)).append(group.lag)


def _panel(state: pb.State, trail: Trail) -> RenderableType:
    name = level_name(state.directive.level)
    parts: list[RenderableType] = [
        Text.assemble((f" {name} ", LEVEL_STYLES.get(name, "dim")), "  ", _since(state)),
        Text(state.directive.explanation.removeprefix(f"{name}: "), style="dim"),
        Text(""),
        _lags(state, trail),
        Text(""),
        _memory(state),
    ]
    if state.directive.causes:
        causes = ", ".join(map(cause_name, state.directive.causes))
        parts.insert(2, Text.assemble(("causes ", "dim"), causes))
    leader = f"{state.leader.process} leads, epoch {state.leader.epoch}"
    title = f"governor: {leader}" if state.HasField("leader") else "governor: nobody leads"
    return Panel(Group(*parts), title=title, title_align="left", border_style="dim", padding=(1, 2))


def _since(state: pb.State) -> Text:
    text = f"since {clock(state.level_since)}" if state.HasField("level_since") else ""
    if state.HasField("next_step_down"):
        text += f", falls at {clock(state.next_step_down)} if nothing changes"
    if state.HasField("override"):
        override = state.override
        text += f", set by an operator until {clock(override.end_time)}: {override.reason}"
    return Text(text)


def _lags(state: pb.State, trail: Trail) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="cyan", no_wrap=True)
    table.add_column(justify="right", no_wrap=True, min_width=12)
    table.add_column(no_wrap=True)
    for group in state.groups:
        lag = count(group.lag) if group.known else "unknown"
        level = styled(level_name(group.level)) if group.level else Text("")
        curve = Text(sparkline(trail.lags.get(group.consumer_group, ())), style="dim")
        table.add_row(group.consumer_group, f"{lag} behind", Text.assemble(level, "  ", curve))
    return table


def _memory(state: pb.State) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="cyan", no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(no_wrap=True)
    for process in state.processes:
        report = process.report
        share = _share(report)
        table.add_row(
            report.process,
            bar(share, level_name(report.memory_level)),
            f"{share:.0%} of {mebibytes(report.memory_limit_bytes)}",
            styled(level_name(report.applied_level)),
        )
    return table


def bar(share: float, level: str) -> Text:
    """Draw a share of one, in the colour of its level."""
    full = round(min(max(share, 0.0), 1.0) * BAR_WIDTH)
    colour = LEVEL_STYLES.get(level, "").rpartition(" ")[2] or "green"
    return Text.assemble(("━" * full, colour), ("━" * (BAR_WIDTH - full), "grey30"))


def sparkline(values: Sequence[int] | deque[int]) -> str:
    """Draw values as blocks, from nothing up to the highest of them."""
    most = max(values, default=0)
    if not most:
        return ""
    return "".join(BLOCKS[round(value / most * (len(BLOCKS) - 1))] for value in values)


def _share(report: pb.Report) -> float:
    return report.memory_used_bytes / max(report.memory_limit_bytes, 1)
