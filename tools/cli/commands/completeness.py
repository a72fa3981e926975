"""`k2 completeness`: whether every trade of a symbol is held, and what is missing where not."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Annotated

import typer
from google.protobuf.json_format import MessageToDict
from google.protobuf.timestamp_pb2 import Timestamp
from k2.query.v1 import query_pb2 as pb
from rich.console import Console
from rich.text import Text

from libs.rpc.client import call
from tools.cli.commands.market import LARGEST, Exchange, File, Form, Since, Symbol, Until
from tools.cli.doors.asking import ANSWER_TIMEOUT_S, query_service, timestamp
from tools.cli.exit_codes import NOT_COMPLETE
from tools.cli.views.output import Output, Row, chosen, write_rows
from tools.cli.views.tables import grid, show

PAGE_HOLES = 10_000

NEXT_STEPS = {
    "GAP": "fetch them from the exchange; what it has not, declare: WriterService.RecordVenueHole",
    "NOT_IN_THE_LOG": "gone from the log before they were stored: fetch them from the exchange",
    "ANOTHER_LOG": "Kafka was made anew under this table: see `k2 status`",
    "LOG_UNREACHABLE": "Kafka does not answer: see `k2 status`",
    "UNREADABLE_BATCH": "the broker gives a record batch that is none: see `k2 status`",
    "LOST": "the log's retention took them before they were stored: fetch them from the exchange",
    "DEAD_LETTER": "`k2 dlq list` says why; `k2 dlq replay` stores what can be read by now",
    "SHED": "put off under load: `k2 backfill status` says when they are stored",
    "BEFORE_FIRST": "ask from the first trade held on, or import what was traded before",
    "NOT_PROVABLE": "count these trades at the exchange: they carry no id",
}

_COLUMNS = (
    *("reason", "lacking", "exchange", "asset_class", "symbol", "sequence_epoch"),
    *("first_id", "last_id", "after_time", "before_time"),
    *("topic", "partition", "start", "end", "recorded_time", "detail"),
)
_TIMES = ("after_time", "before_time", "recorded_time")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(rich_help_panel="Questions")(completeness)


def completeness(
    symbol: Symbol,
    exchange: Exchange = "",
    since: Since = None,
    until: Until = None,
    first_id: Annotated[
        int | None, typer.Option(max=LARGEST, help="The first id that must be held.")
    ] = None,
    last_id: Annotated[
        int | None, typer.Option(max=LARGEST, help="The last id that must be held.")
    ] = None,
    output: Form = None,
    file: File = None,
) -> None:
    """Whether every trade of a symbol is held, and if not, what is missing and why.

    k2 completeness BTCUSDT --from 2024-08-09 --to 2024-08-10

    Ends with 0 where nothing is missing, with 6 where something is.
    """
    request = pb.CheckCompletenessRequest(
        symbol=symbol,
        exchange=exchange,
        start_time=timestamp(since, "--from"),
        end_time=timestamp(until, "--to"),
        first_id=first_id,
        last_id=last_id,
        page_size=PAGE_HOLES,
    )
    form = chosen(output, file)
    certificate = asyncio.run(_certificate(request))
    if form is Output.TABLE:
        show_certificate(Console(highlight=False), certificate)
    elif form is Output.JSON:
        write_rows([_whole(certificate)], (), form, file)
    else:
        write_rows([_hole_row(hole) for hole in certificate.holes], _COLUMNS, form, file)
    if not certificate.complete:
        raise typer.Exit(NOT_COMPLETE)


async def _certificate(request: pb.CheckCompletenessRequest) -> pb.CheckCompletenessResponse:
    """Return the certificate with the holes of all pages; its other words are the last page's."""
    holes: list[pb.MissingRange] = []
    async with query_service() as service:
        while True:
            answer = await call(service.CheckCompleteness, request, timeout_s=ANSWER_TIMEOUT_S)
            holes += answer.holes
            if not answer.next_page_token:
                break
            request.page_token = answer.next_page_token
    del answer.holes[:]
    answer.holes.extend(holes)
    return answer


def _whole(certificate: pb.CheckCompletenessResponse) -> Row:
    return MessageToDict(
        certificate, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )


def _hole_row(hole: pb.MissingRange) -> Row:
    row: Row = {name: getattr(hole, name) for name in _COLUMNS}
    if not hole.HasField("first_id"):
        row |= {"first_id": None, "last_id": None}
    times = (hole.after_time, hole.before_time, hole.recorded_time)
    return row | dict(zip(_TIMES, map(time_of, times), strict=True))


def time_of(stamp: Timestamp) -> datetime | None:
    """Return a time; none where it is not set."""
    return stamp.ToDatetime(tzinfo=UTC) if stamp.ByteSize() else None


def show_certificate(console: Console, certificate: pb.CheckCompletenessResponse) -> None:
    """Print the verdict, what is held, what is missing and what to do about it."""
    colour = "green" if certificate.complete else "yellow"
    console.print(Text(certificate.sentence, style=f"bold {colour}"), soft_wrap=True)
    snapshot = f"snapshot {certificate.snapshot_id}" if certificate.snapshot_id else "no snapshot"
    behind = f", {certificate.behind_log:,} records behind the log" * bool(certificate.behind_log)
    console.print(Text(f"by {snapshot} and the tail{behind}", style="dim"), soft_wrap=True)
    _show_series(console, certificate)
    _show_holes(console, certificate)


def _show_series(console: Console, certificate: pb.CheckCompletenessResponse) -> None:
    console.print()
    table = grid(("series", "ids", "in the table", "in the tail", "duplicates dropped"))
    for series in certificate.series:
        name = f"{series.exchange} {series.asset_class.lower()} {series.symbol}"
        table.add_row(
            f"{name}, epoch {series.sequence_epoch}" if series.sequence_epoch else name,
            f"{series.held[0].first_id} to {series.held[-1].last_id}" if series.held else "none",
            *(f"{n:,}" for n in (series.stored_ids, series.tail_ids, series.duplicates)),
        )
    show(console, table)


def _show_holes(console: Console, certificate: pb.CheckCompletenessResponse) -> None:
    if not certificate.holes:
        return
    console.print()
    detailed = any(hole.detail for hole in certificate.holes)
    table = grid(("why", "what", "between", "detail")[: 4 if detailed else 3])
    for hole in certificate.holes:
        why = Text(in_words(hole.reason), "yellow" if hole.lacking else "dim")
        table.add_row(why, what_of(hole), between(hole), *([hole.detail] if detailed else []))
    show(console, table)
    _show_next_steps(console, certificate)


def _show_next_steps(console: Console, certificate: pb.CheckCompletenessResponse) -> None:
    console.print()
    for reason in dict.fromkeys(hole.reason for hole in certificate.holes if hole.lacking):
        step = Text.assemble((f"{in_words(reason)}: ", "yellow"), NEXT_STEPS[reason])
        console.print(step, soft_wrap=True)


def in_words(reason: str) -> str:
    return reason.replace("_", " ").lower()


def what_of(hole: pb.MissingRange) -> str:
    """Name the ids, or the positions."""
    if hole.HasField("first_id"):
        count = hole.last_id - hole.first_id + 1
        if count == 1:
            return f"id {hole.first_id}"
        return f"ids {hole.first_id} to {hole.last_id} ({count:,})"
    if not hole.topic:
        return ""
    return f"{hole.topic}/{hole.partition} [{hole.start}, {hole.end})"


def between(hole: pb.MissingRange) -> str:
    """Say between which trades the ids lie, the day only once."""
    after, before = time_of(hole.after_time), time_of(hole.before_time)
    start, end = map(in_milliseconds, (after, before))
    if after and before and after.date() == before.date():
        end = end.split()[1]
    return f"{start} to {end}" if start or end else ""


def in_milliseconds(time: datetime | None) -> str:
    return time.replace(tzinfo=None).isoformat(" ", "milliseconds") if time else ""
