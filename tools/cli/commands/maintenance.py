"""`k2 maintenance`: what compaction, expiry and orphan removal do, would do, and do now."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import UTC
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from k2.writer.v1 import maintenance_pb2 as pb
from k2.writer.v1.writer_pb2_grpc import WriterServiceStub
from rich.console import Console
from rich.table import Table

from libs.rpc.client import call, channel
from tools.cli.doors.home import addresses_of
from tools.cli.exit_codes import OTHER_FAILURE
from tools.cli.views.output import Output, Row, chosen, write_rows
from tools.cli.views.panel import count, plural
from tools.cli.views.tables import grid, show

if TYPE_CHECKING:
    from k2.writer.v1.writer_pb2_grpc import WriterServiceAsyncStub

A = TypeVar("A")

LOOK_TIMEOUT_S = 60.0
ANSWER_TIMEOUT_S = 10.0
POLL_S = 0.25

STYLES = {
    pb.MAINTENANCE_OUTCOME_DONE: "green",
    pb.MAINTENANCE_OUTCOME_FAILED: "red",
    pb.MAINTENANCE_OUTCOME_YIELDED: "yellow",
    pb.MAINTENANCE_OUTCOME_SUPERSEDED: "yellow",
}
COLUMNS = ("task", "what", "files", "rows", "size", "outcome", "why")


class Only(StrEnum):
    """One task of maintenance."""

    COMPACT = "compact"
    EXPIRE = "expire"
    ORPHANS = "orphans"


NUMBERS = {
    Only.COMPACT: pb.MAINTENANCE_TASK_COMPACT,
    Only.EXPIRE: pb.MAINTENANCE_TASK_EXPIRE,
    Only.ORPHANS: pb.MAINTENANCE_TASK_REMOVE_ORPHANS,
}

OnlyOption = Annotated[list[Only] | None, typer.Option(help="Of all tasks, only this.")]
EveryDay = Annotated[
    bool, typer.Option("--every-day", help="Compact days too that are not over and quiet.")
]
OutputOption = Annotated[Output | None, typer.Option("--output", "-o", help="table or json.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(
        help="The table's files: compaction, expiry, orphans.", no_args_is_help=True
    )
    group.command("status")(status)
    group.command("plan")(plan)
    group.command("run")(run)
    app.add_typer(group, name="maintenance", rich_help_panel="Running K2")


def status(output: OutputOption = None) -> None:
    """What the writers are doing for the table now, and what they have done."""
    answers = asyncio.run(of_every_writer(state))
    if not as_table(output, answers):
        return
    console = Console(highlight=False)
    for answer in answers:
        show_writer(console, answer)


def plan(
    only: OnlyOption = None, *, every_day: EveryDay = False, output: OutputOption = None
) -> None:
    """What a run would do now; nothing is changed."""
    request = asked(only, every_day=every_day, dry_run=True)

    async def look(writer: WriterServiceAsyncStub) -> pb.RunMaintenanceResponse:
        return await call(writer.RunMaintenance, request, timeout_s=LOOK_TIMEOUT_S)

    answers = asyncio.run(of_every_writer(look))
    steps = [step for answer in answers for step in answer.steps]
    if not as_table(output, steps):
        return
    console = Console(highlight=False)
    if steps:
        show(console, steps_table(steps))
    else:
        console.print("nothing is due")


def run(
    only: OnlyOption = None, *, every_day: EveryDay = False, output: OutputOption = None
) -> None:
    """Do now what is due, and show how it goes; it gives way to ingest."""
    request = asked(only, every_day=every_day, dry_run=False)
    console = Console(stderr=True, highlight=False)

    async def work(writer: WriterServiceAsyncStub) -> list[pb.MaintenanceStep]:
        before = await state(writer)
        begun = await call(writer.RunMaintenance, request, timeout_s=ANSWER_TIMEOUT_S)
        with console.status("maintenance begins") as line:
            while (now := await state(writer)).last_ended_run < begun.run:
                line.update(doing(now))
                await asyncio.sleep(POLL_S)
        return [step for step in now.ended if is_new(step, before)]

    steps = [step for ended in asyncio.run(of_every_writer(work)) for step in reversed(ended)]
    if not as_table(output, steps):
        return
    if steps:
        show(Console(highlight=False), steps_table(steps))
    else:
        Console(highlight=False).print("nothing was due")
    if any(step.outcome == pb.MAINTENANCE_OUTCOME_FAILED for step in steps):
        raise typer.Exit(OTHER_FAILURE)


def asked(only: list[Only] | None, *, every_day: bool, dry_run: bool) -> pb.RunMaintenanceRequest:
    tasks = [NUMBERS[task] for task in only or ()]
    return pb.RunMaintenanceRequest(tasks=tasks, every_day=every_day, dry_run=dry_run)


async def of_every_writer(ask: Callable[[WriterServiceAsyncStub], Awaitable[A]]) -> list[A]:
    """Ask each running writer: each keeps its own partitions."""
    answers = []
    for address in addresses_of("writer"):
        async with channel(address) as connection:
            answers.append(await ask(WriterServiceStub(connection)))
    return answers


async def state(writer: WriterServiceAsyncStub) -> pb.GetMaintenanceResponse:
    answer: pb.GetMaintenanceResponse = await call(
        writer.GetMaintenance, pb.GetMaintenanceRequest(), timeout_s=ANSWER_TIMEOUT_S
    )
    return answer


def is_new(step: pb.MaintenanceStep, before: pb.GetMaintenanceResponse) -> bool:
    """Say whether a step ended after the run was asked for."""
    last_us = max((seen.end_time.ToMicroseconds() for seen in before.ended), default=0)
    return step.end_time.ToMicroseconds() > last_us


def doing(now: pb.GetMaintenanceResponse) -> str:
    """Say what is under way, in a line."""
    if now.waits_because:
        return f"{now.writer} waits: {now.waits_because}"
    if not now.running:
        return f"{now.writer} looks what is due"
    step = now.running[0]
    share = (
        f" {min(step.rows_done / step.rows, 1):.0%} of {count(step.rows)} rows" if step.rows else ""
    )
    return f"{now.writer}: {task_name(step)}, {step.what}{share}"


def as_table(output: Output | None, found: Sequence[Message]) -> bool:
    """Write the answer for programs and return False, or leave it to be shown to people."""
    form = chosen(output, None)
    if form is Output.TABLE:
        return True
    write_rows([as_row(message) for message in found], (), form, None)
    return False


def as_row(message: Message) -> Row:
    return MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )


def show_writer(console: Console, answer: pb.GetMaintenanceResponse) -> None:
    role = "compacts, expires, removes orphans" if answer.leads else "compacts"
    state = answer.waits_because and f"waits: {answer.waits_because}"
    console.print(f"[bold]{answer.writer}[/] {role if answer.enabled else 'off'} {state}")
    console.print(
        f"{plural(answer.compactions, 'compaction')} of {plural(answer.files_compacted, 'file')},"
        f" {plural(answer.snapshots_forgotten, 'snapshot')} forgotten,"
        f" {plural(answer.files_deleted, 'file')} deleted, {plural(answer.failures, 'failure')};"
        f" next look {answer.next_round_time.ToDatetime(tzinfo=UTC):%H:%M:%S}",
        style="dim",
    )
    steps = [*answer.running, *answer.ended]
    if steps:
        show(console, steps_table(steps))


def steps_table(steps: Iterable[pb.MaintenanceStep]) -> Table:
    table = grid(COLUMNS)
    for step in steps:
        style = STYLES.get(step.outcome, "")
        outcome = pb.MaintenanceOutcome.Name(step.outcome).removeprefix("MAINTENANCE_OUTCOME_")
        table.add_row(
            task_name(step),
            step.what,
            became(step.files, step.files_after),
            count(step.rows) if step.rows else "",
            became(step.size_bytes, step.size_bytes_after, size_text),
            f"[{style}]{outcome.lower()}[/]" if style else outcome.lower(),
            step.reason or step.why,
        )
    return table


def became(before: int, after: int, text: Callable[[int], str] = count) -> str:
    """Show what there was and, where it is known, what there is now."""
    if not before:
        return ""
    return f"{text(before)} → {text(after)}" if after else text(before)


def size_text(size_bytes: int) -> str:
    if size_bytes < 2**20:
        return f"{size_bytes / 2**10:,.0f} KiB"
    return f"{size_bytes / 2**20:,.1f} MiB"


def task_name(step: pb.MaintenanceStep) -> str:
    return next((name.value for name, number in NUMBERS.items() if number == step.task), "")
