"""Time lines: where the seam stood at the end of each minute, for ever. Pure.

A line is a commit's time and seam: the last commit of its minute. The open day's lines stand in
the ledger, those of closed days in files of their own; after 30 days one an hour is left.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from libs.lake.seam import EMPTY_SEAM, Seam

MINUTE_US = 60_000_000


class Line(NamedTuple):
    """At this time a commit moved the seam here."""

    time_us: int
    offsets: Seam


class Chunk(NamedTuple):
    """Lines that stand in a file of their own."""

    first_us: int
    last_us: int
    location: str


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
