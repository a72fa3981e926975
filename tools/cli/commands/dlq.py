"""Records that cannot be stored: `k2 dlq list`, `show`, `replay`, `resume`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from k2.market.v1 import market_pb2
from k2.writer.v1 import dead_letters_pb2 as pb
from k2.writer.v1.dead_letters_pb2_grpc import DeadLetterServiceStub
from rich.console import Console
from rich.text import Text

from libs.market.errors import InvalidError
from libs.rpc.client import call, channel
from tools.cli.doors.home import addresses_of
from tools.cli.doors.reaching import service_channel
from tools.cli.exit_codes import OTHER_FAILURE
from tools.cli.views.output import Output, Row, chosen, write_rows
from tools.cli.views.panel import plural
from tools.cli.views.tables import cell

if TYPE_CHECKING:
    from k2.writer.v1.dead_letters_pb2_grpc import DeadLetterServiceAsyncStub

ANSWER_TIMEOUT_S = 120.0
REPLAY_TIMEOUT_S = 3600.0
PAGE_ROWS = 1_000
HEX_SHOWN = 256
HEX_WIDTH = 16

Topic = Annotated[str, typer.Option(help="Of this topic; default: all that the writer reads.")]
Reason = Annotated[str, typer.Option(help="UNKNOWN_SCHEMA, UNDECODABLE, PRECISION, and so on.")]
Form = Annotated[
    Output | None,
    typer.Option("--output", "-o", help="Default: by the file's ending, else table or JSON."),
]
File = Annotated[Path | None, typer.Option("--file", "-f", help="Write here, not to stdout.")]

_COLUMNS = (
    *("key", "reason", "symbol", "time", "source"),
    *("schema_id", "size_bytes", "replayed_time", "detail"),
)
_SHOWN = ("time", "reason", "symbol", "key")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    text = "Dead letters: records that could not be stored, and what to do about them."
    group = typer.Typer(help=text, no_args_is_help=True)
    for name, command in (("list", list_), ("show", show), ("replay", replay), ("resume", resume)):
        group.command(name)(command)
    app.add_typer(group, name="dlq", rich_help_panel="Running K2")


def list_(
    topic: Topic = "",
    reason: Reason = "",
    symbol: Annotated[str, typer.Option(help="The record's key.")] = "",
    limit: Annotated[
        int, typer.Option("--limit", "-n", min=0, help="Newest first; 0 for all.")
    ] = 20,
    replayed: Annotated[bool, typer.Option("--replayed", help="Replayed ones too.")] = False,
    output: Form = None,
    file: File = None,
) -> None:
    """Records that could not be stored, the newest first.

    k2 dlq list --reason UNKNOWN_SCHEMA
    """
    request = pb.ListDeadLettersRequest(
        topic=topic, reason=reason.upper(), symbol=symbol, show_replayed=replayed
    )
    letters, total = asyncio.run(_list(request, limit))
    form = chosen(output, file)
    columns = _SHOWN if form is Output.TABLE else _COLUMNS
    write_rows([_row(letter) for letter in letters], columns, form, file)
    of = f" of {total:,}" if total > len(letters) else ""
    hint = ": `k2 dlq show KEY` says more" if letters else ""
    Console(stderr=True, highlight=False).print(
        f"[dim]{plural(len(letters), 'dead letter')}{of}{hint}[/]", soft_wrap=True
    )


def show(
    key: Annotated[str, typer.Argument(help="As `k2 dlq list` prints it.")],
    output: Form = None,
) -> None:
    """One record: where it stood, why it was refused, its bytes and fields, and what to do."""
    found = asyncio.run(_get(key))
    form = chosen(output, None)
    if form is not Output.TABLE:
        write_rows([_whole(found)], (), form, None)
        return
    _show(Console(highlight=False), found)


def replay(
    keys: Annotated[list[str] | None, typer.Argument(help="As `k2 dlq list` prints them.")] = None,
    reason: Reason = "",
    all_: Annotated[bool, typer.Option("--all", help="All that were not replayed yet.")] = False,
    topic: Topic = "",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be sent.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Send also what will come back as a dead letter.")
    ] = False,
    output: Form = None,
) -> None:
    """Send records to their topic once more, as they came, after the cause is mended.

    What is in the table already is not stored twice: the writer knows trades by their ids.

    k2 dlq replay --reason UNKNOWN_SCHEMA --dry-run
    """
    if bool(keys) + bool(reason) + all_ != 1:
        raise InvalidError("say which: keys, or --reason, or --all", field="keys")
    request = pb.ReplayDeadLettersRequest(
        keys=keys or (), reason=reason.upper(), all=all_, topic=topic, dry_run=dry_run, force=force
    )
    answer = asyncio.run(_replay(request))
    form = chosen(output, None)
    if form is Output.TABLE:
        _show_replay(Console(highlight=False), answer, dry_run=dry_run)
    else:
        refusals = {refusal.key: refusal.reason for refusal in answer.refusals}
        row: Row = {"replayed": answer.replayed, "refused": answer.refused, "refusals": refusals}
        write_rows([row], (), form, None)
    if answer.refused:
        raise typer.Exit(OTHER_FAILURE)


def resume(
    topic: Annotated[str, typer.Option(help="Of this topic; default: all.")] = "",
    partition: Annotated[int | None, typer.Option(min=0, help="This partition alone.")] = None,
) -> None:
    """Read on where a burst of unreadable records holds partitions; those become dead letters.

    `k2 status` shows what is held, and why. It resumes by itself where the records read again.

    A record batch that is none has no records to set aside: it is only tried at once.
    """
    if partition is not None and not topic:
        raise InvalidError("say of which topic: --topic", field="topic")
    resumed = asyncio.run(_resume(topic, partition))
    console = Console(highlight=False)
    for name, number in resumed:
        console.print(f"{name} partition {number} is read again", soft_wrap=True)
    if not resumed:
        console.print("nothing is held")


@asynccontextmanager
async def _service() -> AsyncIterator[DeadLetterServiceAsyncStub]:
    async with service_channel("writer") as connection:
        yield DeadLetterServiceStub(connection)


async def _list(request: pb.ListDeadLettersRequest, limit: int) -> tuple[list[pb.DeadLetter], int]:
    letters: list[pb.DeadLetter] = []
    async with _service() as service:
        while True:
            request.page_size = min(PAGE_ROWS, limit - len(letters)) if limit else PAGE_ROWS
            page = await call(service.ListDeadLetters, request, timeout_s=ANSWER_TIMEOUT_S)
            letters += page.dead_letters
            request.page_token = page.next_page_token
            if not page.next_page_token or (limit and len(letters) >= limit):
                return letters, page.total


async def _get(key: str) -> pb.GetDeadLetterResponse:
    async with _service() as service:
        request = pb.GetDeadLetterRequest(key=key)
        return await call(service.GetDeadLetter, request, timeout_s=ANSWER_TIMEOUT_S)


async def _replay(request: pb.ReplayDeadLettersRequest) -> pb.ReplayDeadLettersResponse:
    async with _service() as service:
        return await call(service.ReplayDeadLetters, request, timeout_s=REPLAY_TIMEOUT_S)


async def _resume(topic: str, partition: int | None) -> list[tuple[str, int]]:
    """Ask every writer: each has some of the partitions."""
    request = pb.ResumePartitionsRequest(topic=topic, partition=partition)
    resumed: list[tuple[str, int]] = []
    for address in addresses_of("writer"):
        async with channel(address) as connection:
            service = DeadLetterServiceStub(connection)
            answer = await call(service.ResumePartitions, request, timeout_s=ANSWER_TIMEOUT_S)
            resumed += [(found.topic, found.partition) for found in answer.partitions]
    return sorted(resumed)


def _row(letter: pb.DeadLetter) -> Row:
    row: Row = {name: getattr(letter, name) for name in _COLUMNS}
    row["schema_id"] = letter.schema_id if letter.HasField("schema_id") else None
    for name in ("time", "replayed_time"):
        at = getattr(letter, name)
        row[name] = at.ToDatetime(tzinfo=UTC) if letter.HasField(name) else None
    return row


def _whole(found: pb.GetDeadLetterResponse) -> Row:
    return {
        **_row(found.dead_letter),
        "raw_hex": found.raw.hex(),
        "fields": dict(found.fields),
        "refused_because": found.refused_because,
        "what_to_do": found.what_to_do,
    }


def _show(console: Console, found: pb.GetDeadLetterResponse) -> None:
    letter = found.dead_letter
    console.print(Text(letter.reason, "bold red"), Text(letter.detail), soft_wrap=True)
    row = _row(letter)
    for name in _COLUMNS:
        if row[name] not in (None, "") and name not in ("reason", "detail"):
            _entry(console, name.removesuffix("_bytes"), cell(row[name]))
    console.print("[bold]fields[/]" if found.fields else "[bold]fields[/] [dim]none can be read[/]")
    for field in market_pb2.Trade.DESCRIPTOR.fields:
        if field.name in found.fields:
            _entry(console, field.name, found.fields[field.name])
    console.print("[bold]bytes[/]")
    for line in hex_dump(found.raw):
        console.print(Text(f"  {line}"), soft_wrap=True)
    if found.refused_because:
        console.print("[bold]still refused[/]", Text(found.refused_because), soft_wrap=True)
    console.print("[bold]what to do[/]", Text(found.what_to_do), soft_wrap=True)


def _entry(console: Console, name: str, value: str) -> None:
    console.print(Text(f"  {name:<20}", "dim"), Text(value), sep="", soft_wrap=True)


def hex_dump(raw: bytes) -> list[str]:
    """Show the first bytes, sixteen a line, with what of them is text."""
    lines = []
    for start in range(0, min(len(raw), HEX_SHOWN), HEX_WIDTH):
        piece = raw[start : start + HEX_WIDTH]
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in piece)
        lines.append(f"{start:04x}  {piece.hex(' '):<{HEX_WIDTH * 3}} {text}")
    left = len(raw) - HEX_SHOWN
    return [*lines, f"and {left:,} more: -o json has all"] if left > 0 else lines


def _show_replay(console: Console, answer: pb.ReplayDeadLettersResponse, *, dry_run: bool) -> None:
    for refusal in answer.refusals:
        console.print(Text(refusal.key, "cyan"), Text(refusal.reason), soft_wrap=True)
    if answer.refused > len(answer.refusals):
        console.print(f"[dim]and {answer.refused - len(answer.refusals):,} more[/]")
    sent = "would be sent" if dry_run else "sent again"
    refused = f", {answer.refused:,} refused" if answer.refused else ""
    console.print(f"{plural(answer.replayed, 'record')} {sent}{refused}")
