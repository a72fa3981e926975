"""Time lines: where the seam stood at the end of each minute, for ever. Pure.

A line is a commit's time and seam: the last commit of its minute. The open hour's lines stand in
the ledger itself, for every commit writes it; those before in immutable files, one for each hour
of the open day, then one a day, and after 30 days, an hour a line, one for 30 days together.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

from libs.lake.commits.seam import EMPTY_SEAM, Seam
from libs.market.trade import DAY_US

MINUTE_US = 60_000_000
HOUR_US = 60 * MINUTE_US
FULL_DAYS = 30


class Line(NamedTuple):
    """At this time a commit moved the seam here."""

    time_us: int
    offsets: Seam


class Chunk(NamedTuple):
    """Lines that stand in a file of their own."""

    first_us: int
    last_us: int
    location: str
    thinned: bool = False


@dataclass(frozen=True, slots=True)
class Lines:
    """All lines in order of time: the files' first, then the open ones."""

    chunks: tuple[Chunk, ...] = ()
    open: tuple[Line, ...] = ()


NO_LINES = Lines()


def offsets_at(lines: Sequence[Line], time_us: int) -> Seam:
    """Return the seam as it stood when the minute of `time_us` began.

    By whole minutes, for only so does a later question get the same answer: lines of a minute that
    is still open move. Before the first line nothing had been committed.
    """
    at = bisect_left(lines, time_us - time_us % MINUTE_US, key=lambda line: line.time_us)
    return lines[at - 1].offsets if at else EMPTY_SEAM


def chunk_for(lines: Lines, time_us: int) -> Chunk | None:
    """Return the file to ask of this time, None where the open lines know."""
    minute_us = time_us - time_us % MINUTE_US
    if lines.open and lines.open[0].time_us < minute_us:
        return None
    at = bisect_left(lines.chunks, minute_us, key=lambda chunk: chunk.first_us)
    return lines.chunks[at - 1] if at else None


def add_line(lines: Lines, time_us: int, offsets: Seam) -> Lines:
    """Put a commit's line where it belongs: it takes the place of its own minute's last one."""
    kept = lines.open
    if kept and kept[-1].time_us // MINUTE_US == time_us // MINUTE_US:
        kept = kept[:-1]
    return Lines(lines.chunks, (*kept, Line(time_us, offsets)))


def closing(lines: Sequence[Line]) -> tuple[list[Line], list[Line]]:
    """Part the lines of closed hours from those of the newest line's hour."""
    hour = lines[-1].time_us // HOUR_US if lines else 0
    done = [line for line in lines if line.time_us // HOUR_US < hour]
    return done, list(lines[len(done) :])


def regrouping(chunks: Sequence[Chunk], now_us: int) -> Iterator[tuple[list[Chunk], bool]]:
    """Yield files to become one, and whether an hour a line is enough of them."""
    today = now_us // DAY_US

    def period(chunk: Chunk) -> tuple[bool, int]:
        day = chunk.first_us // DAY_US
        if day >= today:
            return False, chunk.first_us
        old = day // FULL_DAYS < (today - FULL_DAYS) // FULL_DAYS
        return old, day // FULL_DAYS if old else day

    for (old, _), grouped in groupby(chunks, period):
        group = list(grouped)
        if len(group) > 1 or (old and not group[0].thinned):
            yield group, old


def hourly(lines: Iterable[Line]) -> list[Line]:
    """Keep the last line of each hour."""
    return list({line.time_us // HOUR_US: line for line in lines}.values())
