"""The live status as people see it: a panel on a terminal, a line elsewhere."""

from __future__ import annotations

from collections.abc import Collection

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from tools.cli.doors.watching import Flow

LEVEL_STYLES = {
    "NORMAL": "bold green",
    "SOFT": "bold yellow",
    "GRACEFUL": "bold dark_orange",
    "AGGRESSIVE": "bold red",
    "CIRCUIT_BREAK": "bold white on red",
}


def panel(
    flow: Flow,
    *,
    title: str,
    sent: int | None,
    expected: int | None,
    away: Collection[str] = (),
) -> RenderableType:
    """Show the whole way of a trade, from exchange to answer; `away` are parts that ended."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(justify="right", no_wrap=True, min_width=16)
    grid.add_column(style="dim")
    for name, value, note in [*_lines(flow, sent), *_of_parts(flow, away)]:
        grid.add_row(name, value, note)
    parts: list[RenderableType] = [grid]
    if expected:
        parts.insert(0, _progress(flow, expected))
    return Panel(Group(*parts), title=title, title_align="left", border_style="dim", expand=False)


def _progress(flow: Flow, expected: int) -> RenderableType:
    """Show how much of the session a query can see."""
    visible = min((flow.committed_rows or 0) + (flow.tail_rows or 0), expected)
    bar = Table.grid(padding=(0, 2))
    bar.add_row(
        ProgressBar(total=expected, completed=visible, width=48),
        f"{visible / expected:.0%} of {expected:,} trades",
    )
    return bar


def _lines(flow: Flow, sent: int | None) -> list[tuple[str, RenderableType, str]]:
    level = flow.level or "unknown"
    lines: list[tuple[str, RenderableType, str]] = [
        ("exchange sent", count(sent), "trades"),
        ("received", count(flow.received), f"{rate(flow.received_per_second)} trades/s"),
        ("lag", count(flow.lag), "records not decoded yet"),
        ("in Iceberg", count(flow.committed_rows), _commits(flow)),
        ("in the tail", count(flow.tail_rows), "rows, not committed yet"),
        ("freshness", _freshness(flow), "socket to queryable, p50 / p99"),
        (
            "level",
            Text(level, style=LEVEL_STYLES.get(level, "dim")),
            (flow.explanation or "").removeprefix(f"{level}: "),
        ),
        ("trouble", _trouble(flow), "gaps, reconnects, dead letters"),
    ]
    lines += _of_ingestor(flow)
    if flow.held_partitions:
        held = Text(plural(flow.held_partitions, "partition"), style="bold red")
        lines.append(("held", held, f"{flow.held_because}: `k2 dlq resume` reads on now"))
    return lines


def _of_ingestor(flow: Flow) -> list[tuple[str, RenderableType, str]]:
    """Say what was missed and what waits for Kafka, where anything was or does."""
    lines: list[tuple[str, RenderableType, str]] = []
    if flow.open_gaps or flow.healed:
        still_open = plural(flow.open_gaps, "gap")
        lines.append(("healed", count(flow.healed), f"trades from REST, {still_open} open"))
    if flow.spooled_bytes:
        lines.append(("spooled", f"{flow.spooled_bytes / 2**20:,.1f} MiB", "waits for Kafka"))
    if flow.not_taking:
        why = "its memory is short and its spool full; healed later"
        lines.append(("intake", Text("stopped", style="bold red"), why))
    return lines


def _of_parts(flow: Flow, away: Collection[str]) -> list[tuple[str, RenderableType, str]]:
    """Say who waits for what, where a part is away or does not get on."""
    lines: list[tuple[str, RenderableType, str]] = []
    if away:
        gone = Text(", ".join(sorted(away)), style="bold yellow")
        lines.append(("away", gone, "ended, and is being started again"))
    unread = (flow.partitions or 0) - (flow.taken_partitions or 0)
    if unread > 0:
        why = "no writer has them: they wait for the one that is away, or for the group to share"
        lines.append(("unread", Text(plural(unread, "partition"), style="bold yellow"), why))
    if flow.not_committing_because:
        lines.append(("commits", Text("wait", style="bold red"), flow.not_committing_because))
    if flow.not_answering_all_because:
        lack = Text("lack rows", style="bold red")
        lines.append(("answers", lack, flow.not_answering_all_because))
    if flow.not_reading_catalog_because:
        unread_catalog = Text("not read", style="bold yellow")
        lines.append(("catalog", unread_catalog, flow.not_reading_catalog_because))
    return lines


def line(flow: Flow, *, sent: int, expected: int | None) -> str:
    """Say the same in one line, for logs and pipes."""
    of = f"/{expected:,}" if expected else ""
    return (
        f"sent {sent:,}{of}  received {count(flow.received)}  lag {count(flow.lag)}"
        f"  iceberg {count(flow.committed_rows)}  tail {count(flow.tail_rows)}"
        f"  freshness {_freshness(flow)}  level {flow.level or 'unknown'}"
    )


def count(number: int | None) -> str:
    return "?" if number is None else f"{number:,}"


def plural(number: int | None, noun: str) -> str:
    return f"{count(number)} {noun}" + ("" if number == 1 else "s")


def rate(per_second: float | None) -> str:
    return "?" if per_second is None else f"{per_second:,.0f}"


def _commits(flow: Flow) -> str:
    return f"rows, {plural(flow.committed_files, 'file')}, {plural(flow.commits, 'commit')}"


def _freshness(flow: Flow) -> str:
    if not flow.freshness_p99_us:
        return "?"
    return f"{(flow.freshness_p50_us or 0) / 1000:.1f} / {flow.freshness_p99_us / 1000:.1f} ms"


def _trouble(flow: Flow) -> str:
    return f"{count(flow.gaps)}, {count(flow.reconnects)}, {count(flow.dead_lettered)}"
