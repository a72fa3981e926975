"""`k2 governor plot`: what was recorded, as a picture."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer
from google.protobuf.timestamp_pb2 import Timestamp
from k2.governor.v1 import governor_pb2 as pb
from k2.governor.v1.governor_pb2_grpc import GovernorServiceStub
from rich.console import Console

from libs.market.errors import InvalidError, NotFoundError
from libs.rpc.client import call
from tools.cli.doors.governing import governor_channel
from tools.cli.times import moment
from tools.cli.views.governor_view import level_name
from tools.cli.views.picture import Series, Span, Story, draw

PAGE_TIMEOUT_S = 30.0
PAGE_RECORDS = 1_000
USUAL = timedelta(minutes=10)
# A process or group that was not recorded for so long has a gap in its line.
LONGEST_GAP_S = 15.0


def plot(
    file: Annotated[Path, typer.Argument(help="Where to draw: FILE.svg.")],
    from_: Annotated[
        str | None, typer.Option("--from", help="ISO time (UTC), 14:05, or how long ago (1h).")
    ] = None,
    to: Annotated[str | None, typer.Option(help="The same; without it until now.")] = None,
) -> None:
    """Draw level, lag and memory over time, from the record; the last ten minutes if not said.

    k2 governor plot governor.svg --from 1h
    """
    refuse_undrawable(file, field="file")
    now = datetime.now(UTC)
    end = moment(to, now, field="to") if to else now
    start = moment(from_, now, field="from") if from_ else end - USUAL
    count = asyncio.run(draw_into(file, start, end))
    Console(highlight=False).print(f"drawn from {count:,} records: {file}")


def refuse_undrawable(file: Path, *, field: str) -> None:
    """Find out before the work whether a picture can be put there.

    Raises:
        InvalidError: on `field`, where it cannot.
    """
    if file.suffix != ".svg":
        raise InvalidError(f"{file} must end in .svg", field=field)
    if not file.parent.is_dir():
        raise InvalidError(f"cannot write {file}: there is no folder {file.parent}", field=field)


async def draw_into(
    file: Path, start: datetime, end: datetime, governors: Sequence[str] = ()
) -> int:
    """Draw what was recorded in a time; return of how many records.

    `governors` are addresses; without them those of the running K2 are asked.

    Raises:
        NotFoundError: nothing was recorded then.
        InvalidError: the file cannot be written.
    """
    records = [record async for record in _pages(start, end, governors)]
    if not any(record.groups or record.processes for record in records):
        raise NotFoundError("nothing was recorded in that time")
    picture = draw(story_of(records))
    try:
        await asyncio.to_thread(file.write_text, picture)
    except OSError as error:
        raise InvalidError(f"cannot write {file}: {error.strerror}", field="file") from error
    return len(records)


async def _pages(
    start: datetime, end: datetime, governors: Sequence[str]
) -> AsyncIterator[pb.Record]:
    request = pb.ListRecordsRequest(page_size=PAGE_RECORDS)
    request.from_time.CopyFrom(_timestamp(start))
    request.to_time.CopyFrom(_timestamp(end))
    async with governor_channel(among=governors) as connection:
        stub = GovernorServiceStub(connection)
        while True:
            page = await call(stub.ListRecords, request, timeout_s=PAGE_TIMEOUT_S)
            for record in page.records:
                yield record
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token


def story_of(records: Sequence[pb.Record]) -> Story:
    """Turn records, the oldest first, into what the picture shows."""
    shots = [record for record in records if record.level]
    rules = shots[-1].rules
    return Story(
        start_s=seconds(shots[0].time),
        end_s=seconds(shots[-1].time),
        levels=_levels(shots),
        lag=_lags(shots),
        memory=_memory(shots),
        lag_thresholds=rules.lag_thresholds,
        memory_thresholds=rules.memory_thresholds,
        overrides=_overrides(shots),
        leaders=_leaders(records),
    )


def _levels(shots: Sequence[pb.Record]) -> list[tuple[float, int]]:
    levels: list[tuple[float, int]] = []
    for shot in shots:
        if not levels or levels[-1][1] != shot.level - 1:
            levels.append((seconds(shot.time), shot.level - 1))
    return levels


def _lags(shots: Sequence[pb.Record]) -> list[Series]:
    points: dict[str, list[tuple[float, float | None]]] = {}
    for shot in shots:
        for group in shot.groups:
            value = float(group.lag) if group.known else None
            _add(points.setdefault(group.consumer_group, []), seconds(shot.time), value)
    return [Series(name, found) for name, found in sorted(points.items())]


def _memory(shots: Sequence[pb.Record]) -> list[Series]:
    points: dict[str, list[tuple[float, float | None]]] = {}
    for shot in shots:
        for process in shot.processes:
            share = process.memory_used_bytes / max(process.memory_limit_bytes, 1)
            _add(points.setdefault(process.process, []), seconds(shot.time), share)
    return [Series(name, found) for name, found in sorted(points.items())]


def _add(points: list[tuple[float, float | None]], at_s: float, value: float | None) -> None:
    if points and at_s - points[-1][0] > LONGEST_GAP_S:
        points.append((at_s, None))
    points.append((at_s, value))


def _overrides(shots: Sequence[pb.Record]) -> list[Span]:
    spans: list[Span] = []
    for shot in shots:
        if not shot.HasField("override"):
            continue
        set_s, now_s = seconds(shot.override.set_time), seconds(shot.time)
        text = f"{level_name(shot.override.level)}, {shot.override.reason}"
        if spans and spans[-1].start_s == set_s:
            spans.pop()
        spans.append(Span(set_s, now_s, text))
    return spans


def _leaders(records: Sequence[pb.Record]) -> list[tuple[float, str]]:
    """Return when a governor took over from another."""
    leaders: list[tuple[float, str]] = []
    for record in records:
        if not leaders or leaders[-1][1] != record.leader.process:
            leaders.append((seconds(record.time), record.leader.process))
    return leaders[1:]


def seconds(time: Timestamp) -> float:
    return time.ToMicroseconds() / 1_000_000


def _timestamp(moment_: datetime) -> Timestamp:
    time = Timestamp()
    time.FromDatetime(moment_)
    return time
