"""`k2 governor`: the level, why it is what it is, and an operator's say in it."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Annotated

import typer
from google.protobuf.duration_pb2 import Duration
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from k2.governor.v1 import governor_pb2 as pb
from k2.governor.v1.governor_pb2_grpc import GovernorServiceStub
from rich.console import Console

from libs.market.errors import InvalidError
from libs.rpc.client import call
from tools.cli.commands.governor_plot import plot
from tools.cli.commands.governor_watch import watch
from tools.cli.doors.governing import governor_channel
from tools.cli.times import past_moment, span_s
from tools.cli.views.governor_view import show_explained, show_override, show_state
from tools.cli.views.output import Output, Row, chosen, write_rows

ANSWER_TIMEOUT_S = 10.0
READ_TIMEOUT_S = 30.0
LEVELS = tuple(name.removeprefix("LEVEL_") for name in pb.Level.keys()[1:])

Form = Annotated[Output | None, typer.Option("--output", "-o", help="table or json.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(help="The governor: level, lag, memory.", no_args_is_help=True)
    for command in (state, explain, watch, override, plot):
        group.command()(command)
    app.add_typer(group, name="governor", rich_help_panel="Running K2")


def state(output: Form = None) -> None:
    """The level now, since when and why; lag of each group, memory of each process."""
    found = asyncio.run(_state())
    form = chosen(output, None)
    if form is not Output.TABLE:
        write_rows([as_row(found)], (), form, None)
        return
    show_state(Console(highlight=False), found)


def explain(
    at: Annotated[
        str | None, typer.Option(help="When: an ISO time (UTC), 14:05, or how long ago (10m).")
    ] = None,
    output: Form = None,
) -> None:
    """Why the level is what it is, or was at a time, from the record.

    k2 governor explain

    k2 governor explain --at 14:05
    """
    found = asyncio.run(_explanation(at))
    form = chosen(output, None)
    if form is not Output.TABLE:
        write_rows([as_row(found)], (), form, None)
        return
    show_explained(Console(highlight=False), found)


def override(
    level: Annotated[str | None, typer.Argument(help=f"Level by lag: {', '.join(LEVELS)}.")] = None,
    reason: Annotated[str, typer.Option(help="Why; shown wherever the level is.")] = "",
    for_: Annotated[str, typer.Option("--for", help="How long: 90s, 10m, 2h; a day at most.")] = "",
    clear: Annotated[bool, typer.Option("--clear", help="Go by the lag again.")] = False,
) -> None:
    """Set the level by lag in the governor's place, up or down, for a time.

    Each process's own memory still counts: it is its own safety.

    k2 governor override SOFT --reason "catalog upgrade" --for 10m

    k2 governor override --clear
    """
    if clear == (level is not None):
        raise InvalidError("give a level, or --clear", field="level")
    console = Console(highlight=False)
    if clear:
        cleared = asyncio.run(_clear())
        console.print("nothing was set" if cleared is None else "the level goes by the lag again")
        return
    wanted = _override_request(str(level), reason, for_)
    show_override(console, asyncio.run(_set(wanted)))


def _override_request(level: str, reason: str, for_: str) -> pb.SetOverrideRequest:
    name = level.upper().replace("-", "_")
    if name not in LEVELS:
        raise InvalidError(f"{level!r} is no level: take {', '.join(LEVELS)}", field="level")
    if not for_:
        raise InvalidError("say how long with --for, such as --for 10m", field="for")
    duration = Duration()
    duration.FromMilliseconds(round(span_s(for_, field="for") * 1_000))
    number = pb.Level.Value(f"LEVEL_{name}")
    return pb.SetOverrideRequest(level=number, reason=reason, duration=duration)


def as_row(message: Message) -> Row:
    return MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )


async def _state() -> pb.State:
    async with governor_channel() as connection:
        stub = GovernorServiceStub(connection)
        answer = await call(stub.GetState, pb.GetStateRequest(), timeout_s=ANSWER_TIMEOUT_S)
    return answer.state


async def _explanation(at: str | None) -> pb.ExplainResponse:
    request = pb.ExplainRequest()
    if at is not None:
        request.time.FromDatetime(past_moment(at, datetime.now(UTC), field="at"))
    async with governor_channel() as connection:
        stub = GovernorServiceStub(connection)
        return await call(stub.Explain, request, timeout_s=READ_TIMEOUT_S)


async def _set(request: pb.SetOverrideRequest) -> pb.Override:
    async with governor_channel(leading=True) as connection:
        stub = GovernorServiceStub(connection)
        answer = await call(stub.SetOverride, request, timeout_s=ANSWER_TIMEOUT_S)
    return answer.override


async def _clear() -> pb.Override | None:
    async with governor_channel(leading=True) as connection:
        stub = GovernorServiceStub(connection)
        request = pb.ClearOverrideRequest()
        answer = await call(stub.ClearOverride, request, timeout_s=ANSWER_TIMEOUT_S)
    return answer.override if answer.HasField("override") else None
