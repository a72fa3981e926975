"""A run as people see it: a panel on a terminal, lines elsewhere, JSON for programs."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import structlog
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from libs.degradation.level import Level
from libs.degradation.policy import Priority
from tools.chaos.ground import Ground
from tools.chaos.sights import ProcessSight, Sight
from tools.chaos.story import Event, Kind
from tools.cli.views.panel import LEVEL_STYLES

STRIP_S = 1.0
STRIP_LETTERS = 60
BARS = " ▁▂▃▄▅▆▇█"
KIND_STYLES = {Kind.SETTING: "dim", Kind.HARM: "cyan", Kind.SEEN: ""}
MIB = 2**20


class Quiet:
    """Shows nothing of what goes on; events are told elsewhere."""

    def starting(self, part: str) -> None:
        """Say nothing."""

    def look(self, ground: Ground) -> None:
        """Say nothing."""


@dataclass(slots=True)
class Strip:
    """Level and lag by the second, as a strip of letters."""

    points: list[tuple[Level, int]] = field(default_factory=list)
    _next_s: float = 0.0

    def take(self, sight: Sight) -> None:
        """Take a sight in, once a second."""
        if sight.at_s >= self._next_s:
            self._next_s = sight.at_s + STRIP_S
            self.points.append((sight.level or Level.NORMAL, sight.governed.lag))

    def render(self) -> Text:
        """Draw lag as height, by its square root, and the level as colour."""
        shown = self.points[-STRIP_LETTERS:]
        most = max((lag for _, lag in shown), default=0) or 1
        strip = Text()
        for level, lag in shown:
            height = round((lag / most) ** 0.5 * (len(BARS) - 2)) + 1
            strip.append(BARS[height], style=LEVEL_STYLES[level.name])
        return strip


@dataclass(slots=True)
class LivePanel:
    """The run on a terminal; events are printed above the panel as they come."""

    console: Console
    title: str
    live: Live
    strip: Strip = field(default_factory=Strip)

    def starting(self, part: str) -> None:
        """Show what is started."""
        self.live.update(Text(f"starting {part}", style="dim"))

    def look(self, ground: Ground) -> None:
        """Show everything as it is now."""
        self.strip.take(ground.sight)
        body = Group(overview(ground), Text(), self.strip.render())
        self.live.update(
            Panel(body, title=self.title, title_align="left", border_style="dim", expand=False)
        )

    def tell(self, event: Event) -> None:
        """Print an event."""
        self.console.print(line(event))


def overview(ground: Ground) -> Table:
    """Show what is done, and what it does."""
    sight = ground.sight
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column()
    rows: dict[str, RenderableType] = {
        f"{sight.at_s:.0f} s": Text(ground.story.step, style="cyan"),
        "level": level_line(sight),
        "lag": f"{sight.governed.lag:,} records; measured here {sight.behind:,}",
        "memory": Text("   ").join(map(memory_of, sight.governed.processes)),
        "put off": classes_line(sight.shed),
        "written since": classes_line(sight.backfilled),
        "waits": f"{sight.written.open_records:,} records",
        "table, tail": f"{sight.committed_rows:,} + {sight.tail_rows:,} rows",
        "queries": asked_line(ground),
    }
    if sight.written.stopped_because:
        rows["the writer"] = Text(sight.written.stopped_because, style="yellow")
    for name, value in rows.items():
        grid.add_row(name, value)
    return grid


def level_line(sight: Sight) -> Text:
    if sight.level is None:
        return Text("no level: no governor answers", style="dim")
    name = sight.level.name
    return Text.assemble((name, LEVEL_STYLES[name]), " ", (", ".join(sight.governed.causes), "dim"))


def memory_of(process: ProcessSight) -> Text:
    style = LEVEL_STYLES[process.memory_level.name] if process.memory_level else ""
    share = f" {process.share:.0%}" if process.limit_bytes else ""
    return Text.assemble((f"{process.name} {process.used_bytes // MIB:,} MiB{share}", style))


def classes_line(counts: Mapping[str, int]) -> str:
    named = {p: counts.get(p, 0) for p in reversed(Priority) if p is not Priority.CRITICAL}
    return ", ".join(f"{count:,} {name}" for name, count in named.items())


def asked_line(ground: Ground) -> Text:
    judgement = ground.asker.judgement
    outcomes: Counter[str] = judgement.outcomes
    told = ", ".join(f"{count:,} {name}" for name, count in sorted(outcomes.items()))
    wrong = judgement.wrong_answers
    return Text.assemble(told, ", ", (f"{wrong} wrong", "bold red" if wrong else "green"))


def line(event: Event) -> Text:
    """Show one event as a line."""
    return Text.assemble((f"{event.at_s:7.1f} s  ", "dim"), _told(event))


def _told(event: Event) -> Text:
    match event.kind:
        case Kind.LEVEL:
            name, _, rest = event.text.partition(": ")
            return Text.assemble((name, LEVEL_STYLES.get(name, "")), "  ", (rest, "dim"))
        case Kind.PROMISE:
            mark = ("✓ ", "bold green") if event.facts["held"] else ("✗ ", "bold red")
            return Text.assemble(
                mark, f"{event.facts['says']}  ", (str(event.facts["seen"]), "dim")
            )
        case Kind.VERDICT:
            passed = event.facts["passed"]
            head = ("PROVEN ", "bold green") if passed else ("FAILED ", "bold red")
            return Text.assemble(head, event.text)
    return Text(event.text, style=KIND_STYLES.get(event.kind, ""))


def as_json(scenario: str, event: Event) -> bytes:
    """Write one event as a line of JSON."""
    at_s = round(event.at_s, 2)
    said = {"scenario": scenario, "at_s": at_s, "event": event.kind, "text": event.text}
    return msgspec.json.encode({**said, **event.facts}) + b"\n"


@contextmanager
def on_terminal(scenario: str) -> Iterator[LivePanel]:
    """Show a run as a live panel."""
    console = Console(highlight=False)
    live = Live(console=console, refresh_per_second=5, transient=True)
    with live:
        yield LivePanel(console, f"K2 chaos: {scenario}", live)


def tell_json(scenario: str, event: Event) -> None:
    """Write an event for a program that reads along."""
    sys.stdout.buffer.write(as_json(scenario, event))
    sys.stdout.buffer.flush()


def tell_line(console: Console, event: Event) -> None:
    """Write an event for a log."""
    console.print(line(event), soft_wrap=True)


@contextmanager
def logs_in(path: Path) -> Iterator[None]:
    """Write down there what this process logs: it is no part of what is shown."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        structlog.configure(logger_factory=structlog.PrintLoggerFactory(file))
        try:
            yield
        finally:
            structlog.reset_defaults()
