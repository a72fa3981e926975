"""`k2 backfill status`: what was put off while a writer was behind, and when it will be written."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from itertools import groupby
from typing import Annotated

import typer
from google.protobuf.json_format import MessageToDict
from k2.writer.v1 import backfill_pb2 as pb
from k2.writer.v1.writer_pb2_grpc import WriterServiceStub
from rich.console import Console
from rich.table import Table
from rich.text import Text

from libs.rpc.client import call, channel
from tools.cli.doors.home import addresses_of
from tools.cli.views.output import Output, chosen, write_rows
from tools.cli.views.panel import plural
from tools.cli.views.saying import warn
from tools.cli.views.tables import grid, show

ANSWER_TIMEOUT_S = 10.0
COLUMNS = ("offsets", "classes", "symbols", "records", "age", "retention", "state")
UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))
STYLES = {
    "WORKING": "green",
    "YIELDING": "yellow",
    "WAITING": "yellow",
    "NOT_PLACED": "red",
    "URGENT": "dark_orange",
    "ALARM": "bold red",
}
NOTES = {
    "WAITING": "WAITING for NORMAL: `k2 governor state` says why the level is what it is",
    "YIELDING": "YIELDING to live traffic: it goes on when the writer has caught up",
    "NOT_PLACED": "NOT_PLACED: its partition is not read, `k2 status` says why",
}
URGENT_AT, ALARM_AT = 0.5, 0.8


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(help="What was put off under load.", no_args_is_help=True)
    group.command("status")(status)
    app.add_typer(group, name="backfill", rich_help_panel="Running K2")


def status(
    output: Annotated[Output | None, typer.Option("--output", "-o", help="table or json.")] = None,
) -> None:
    """Each range that still waits: its symbols, its age, how near the log is to forget it."""
    answers = asyncio.run(_answers())
    form = chosen(output, None)
    if form is not Output.TABLE:
        write_rows([as_row(answer) for answer in answers], (), form, None)
        return
    console = Console(highlight=False)
    owed = [one for answer in answers for one in answer.ranges]
    console.print(summary(answers, owed))
    for topic, ranges in groupby(sorted(owed, key=lambda one: one.topic), lambda one: one.topic):
        show(console, table_of(topic, ranges))
    for state in sorted({one.state for one in owed} & NOTES.keys()):
        console.print(NOTES[state], style="dim")
    for sentence in warnings_of(answers):
        warn(sentence)


async def _answers() -> list[pb.GetBackfillResponse]:
    """Ask every writer: each knows of its own partitions."""
    return [await _answer(address) for address in addresses_of("writer")]


async def _answer(address: str) -> pb.GetBackfillResponse:
    async with channel(address) as connection:
        stub = WriterServiceStub(connection)
        found: pb.GetBackfillResponse = await call(
            stub.GetBackfill, pb.GetBackfillRequest(), timeout_s=ANSWER_TIMEOUT_S
        )
        return found


def as_row(answer: pb.GetBackfillResponse) -> dict[str, object]:
    return MessageToDict(
        answer, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )


def summary(answers: list[pb.GetBackfillResponse], owed: list[pb.OpenRange]) -> Text:
    written = sum(answer.backfilled_records for answer in answers)
    done = f"{written:,} written since the start" if written else ""
    if not owed:
        return Text.assemble(("nothing waits", "bold green"), f"; {done}" if done else "")
    records = sum(one.records for one in owed)
    speed = sum(answer.records_per_s for answer in answers)
    parts = [f"in {plural(len(owed), 'range')}", done]
    if speed:
        parts.append(f"{speed:,.0f} a second, {span(records / speed)} to go")
    what = f"{plural(records, 'record')} wait" + ("s" if records == 1 else "")
    return Text.assemble((what, "bold"), " " + "; ".join(filter(None, parts)))


def table_of(topic: str, ranges: Iterable[pb.OpenRange]) -> Table:
    table = grid(COLUMNS, title=topic)
    for one in ranges:
        table.add_row(
            f"{one.partition}: {one.start_offset} to {one.end_offset}",
            ", ".join(one.classes),
            f"{one.symbols:,}",
            f"{one.records:,}",
            span(one.age.ToTimedelta().total_seconds()),
            Text(f"{one.retention_used:.0%}", style=retention_style(one.retention_used)),
            Text(one.state, style=STYLES.get(one.state, "")),
        )
    return table


def retention_style(used: float) -> str:
    if used >= ALARM_AT:
        return "bold red"
    return "dark_orange" if used >= URGENT_AT else ""


def warnings_of(answers: list[pb.GetBackfillResponse]) -> list[str]:
    spared = sorted({topic for answer in answers for topic in answer.spared_topics})
    stopped = [answer for answer in answers if answer.stopped_because]
    return [
        *(f"{answer.writer} cannot write it: {answer.stopped_because}" for answer in stopped),
        *(f"{topic} is not put off any more, its retention runs out" for topic in spared),
    ]


def span(seconds: float) -> str:
    """Write a time span by its two largest units: 3 d 12 h, 1 h 30 min, 45 s."""
    parts: list[str] = []
    left = round(seconds)
    for unit, name in UNITS:
        number, left = divmod(left, unit)
        if number or (unit == 1 and not parts):
            parts.append(f"{number} {name}")
    return " ".join(parts[:2])
