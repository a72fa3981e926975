"""`k2 governor state`: the level, and why it is what it is."""

from __future__ import annotations

import asyncio
from datetime import UTC
from typing import Annotated

import typer
from google.protobuf.json_format import MessageToDict
from k2.governor.v1 import governor_pb2 as pb
from k2.governor.v1.governor_pb2_grpc import GovernorServiceStub
from rich.console import Console
from rich.text import Text

from libs.rpc.client import call
from tools.cli.output import Output, Row, chosen, write_rows
from tools.cli.reaching import service_channel
from tools.cli.tables import grid, show
from tools.cli.view import LEVEL_STYLES, count

ANSWER_TIMEOUT_S = 10.0


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(help="The governor: level, lag, memory.", no_args_is_help=True)
    group.command("state")(state)
    app.add_typer(group, name="governor", rich_help_panel="Running K2")


def state(
    output: Annotated[Output | None, typer.Option("--output", "-o", help="table or json.")] = None,
) -> None:
    """The level now, since when and why; lag of each group, memory of each process."""
    found = asyncio.run(_state())
    form = chosen(output, None)
    if form is not Output.TABLE:
        write_rows([_as_row(found)], (), form, None)
        return
    console = Console(highlight=False)
    _show_level(console, found)
    _show_groups(console, found)
    _show_processes(console, found)


async def _state() -> pb.State:
    async with service_channel("governor") as connection:
        stub = GovernorServiceStub(connection)
        answer = await call(stub.GetState, pb.GetStateRequest(), timeout_s=ANSWER_TIMEOUT_S)
    return answer.state


def _as_row(found: pb.State) -> Row:
    return MessageToDict(
        found, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )


def level_name(level: pb.Level.ValueType) -> str:
    """Return the level as K2 writes it: NORMAL, SOFT and so on."""
    return pb.Level.Name(level).removeprefix("LEVEL_")


def _show_level(console: Console, found: pb.State) -> None:
    name = level_name(found.directive.level)
    since = found.level_since.ToDatetime(tzinfo=UTC).strftime("%Y-%m-%d %H:%M:%S")
    console.print(Text(name, style=LEVEL_STYLES.get(name, "")), f"since {since}")
    console.print(found.directive.explanation.removeprefix(f"{name}: "), style="dim")


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
            _mebibytes(report.memory_used_bytes),
            _mebibytes(report.memory_limit_bytes),
            level_name(report.memory_level),
            level_name(report.applied_level),
            process.refused_because or f"{process.acknowledged_sequence}",
        )
    show(console, table)


def _mebibytes(number: int) -> str:
    return f"{number / 2**20:,.0f} MiB" if number else ""
