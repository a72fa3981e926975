"""The governor's state and explanations as people see them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp
from k2.governor.v1 import governor_pb2 as pb
from rich.console import Console
from rich.text import Text

from tools.cli.views.panel import LEVEL_STYLES, count
from tools.cli.views.tables import grid, show


def level_name(level: pb.Level.ValueType) -> str:
    """Return the level as K2 writes it: NORMAL, SOFT and so on."""
    return pb.Level.Name(level).removeprefix("LEVEL_")


def cause_name(cause: pb.Cause.ValueType) -> str:
    return pb.Cause.Name(cause).removeprefix("CAUSE_")


def styled(name: str) -> Text:
    return Text(name, style=LEVEL_STYLES.get(name, ""))


def clock(time: Timestamp) -> str:
    """Print a time for people: UTC, and the day only where it is another."""
    moment = time.ToDatetime(tzinfo=UTC)
    today = moment.date() == datetime.now(UTC).date()
    return moment.strftime("%H:%M:%S" if today else "%Y-%m-%d %H:%M:%S")


def show_state(console: Console, found: pb.State) -> None:
    """Print the level, who leads, an override, the lag and the memory."""
    name = level_name(found.directive.level)
    if found.directive.level != pb.LEVEL_UNSPECIFIED:
        console.print(styled(name), f"since {clock(found.level_since)}")
    console.print(found.directive.explanation.removeprefix(f"{name}: "), style="dim")
    if found.HasField("override"):
        show_override(console, found.override)
    if found.directive.policy:
        console.print(f"priority policy {found.directive.policy} is demanded", style="dim")
    if found.leading:
        console.print(f"{found.leader.process} leads, epoch {found.leader.epoch}", style="dim")
    _show_groups(console, found)
    _show_processes(console, found)


def show_override(console: Console, override: pb.Override) -> None:
    until = f"by lag until {clock(override.end_time)}, set by an operator: {override.reason}"
    console.print(styled(level_name(override.level)), until)


def show_explained(console: Console, found: pb.ExplainResponse) -> None:
    """Print why, what it was seen from, and what came before."""
    sample = found.sample
    name = level_name(sample.level)
    console.print(styled(name), f"at {clock(sample.time)}, since {clock(sample.level_since)}")
    console.print(found.explanation.removeprefix(f"{name}: "))
    if sample.HasField("override"):
        show_override(console, sample.override)
    _show_inputs(console, sample)
    _show_changes(console, found)
    said = f"recorded by {sample.leader.process}, epoch {sample.leader.epoch}"
    console.print(f"{said}, at offset {sample.offset}", style="dim")


def _show_inputs(console: Console, sample: pb.Record) -> None:
    lag = grid(("consumer group", "lag", "comes /s", "decoded /s", "level"), title="Lag")
    for group in sample.groups:
        number = count(group.lag) if group.known else "unknown"
        level = styled(level_name(group.level))
        lag.add_row(group.consumer_group, number, *_rates(group), level)
    show(console, lag)
    for group in sample.groups:
        for said in _findings(group):
            console.print(f"{group.consumer_group}: {said}", style="dim")
    if sample.processes:
        memory = grid(("process", "service", "memory", "of", "level", "applied"), title="Memory")
        for process in sample.processes:
            memory.add_row(
                process.process,
                process.service,
                mebibytes(process.memory_used_bytes),
                mebibytes(process.memory_limit_bytes),
                styled(level_name(process.memory_level)),
                styled(level_name(process.applied_level)),
            )
        show(console, memory)


def _rates(group: pb.GroupLag) -> tuple[str, str]:
    if not group.rated:
        return "unknown", "unknown"
    return count(round(group.produced_per_s)), count(round(group.decoded_per_s))


def _findings(group: pb.GroupLag) -> Iterator[str]:
    """Say what was found of a group, where anything was."""
    if group.behind:
        yield f"{', '.join(group.behind)} behind with a part of the lag: told to shed"
    if group.hot_partitions:
        hot = ", ".join(f"{one.topic} {one.partition}" for one in group.hot_partitions)
        yield f"{hot} hot: shedding helps there alone"
    if held := [str(one.partition) for one in group.partitions if one.held]:
        yield f"{count(group.held_lag)} records wait in held partitions ({', '.join(held)})"
    if group.sink_down:
        yield f"commits of {', '.join(group.sink_down)} fail"
    if group.reversals:
        yield f"{group.reversals} rises after a fall in the last minutes"


def _show_changes(console: Console, found: pb.ExplainResponse) -> None:
    if not found.changes:
        return
    console.print("[bold]Changes before[/]")
    for change in found.changes:
        name = level_name(change.level)
        why = change.explanation.removeprefix(f"{name}: ").removeprefix(f"{name} ")
        console.print(f"  {clock(change.time)}", styled(name), Text(why, style="dim"))


def _show_groups(console: Console, found: pb.State) -> None:
    table = grid(("consumer group", "lag", "partitions behind"), title="Lag")
    for group in found.groups:
        behind = sum(p.end_offset > p.decoded_offset for p in group.partitions)
        lag = count(group.lag) if group.known else "unknown"
        table.add_row(group.consumer_group, lag, str(behind))
    show(console, table)


def _show_processes(console: Console, found: pb.State) -> None:
    columns = ("process", "service", "memory", "of", "own level", "applied", "acknowledged")
    table = grid(columns, title="Processes")
    for process in found.processes:
        report = process.report
        table.add_row(
            report.process,
            report.service,
            mebibytes(report.memory_used_bytes),
            mebibytes(report.memory_limit_bytes),
            level_name(report.memory_level),
            level_name(report.applied_level),
            process.refused_because or f"{process.acknowledged_sequence}",
        )
    show(console, table)


def mebibytes(number: int) -> str:
    return f"{number / 2**20:,.0f} MiB" if number else ""
