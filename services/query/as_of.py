"""What had been received by a time: the offsets that the ledger's time lines give, for ever."""

from __future__ import annotations

from datetime import UTC, datetime

from pyiceberg.io import FileIO

from libs.lake.ledger.store import seam_at_time
from libs.lake.ledger.timeline import MINUTE_US, Lines
from libs.market.errors import InvalidError, NotFoundError, UnavailableError
from services.query.offsets import Offsets

# A commit that is on its way when its minute ends has that minute's time; it is there within this.
SETTLED_AFTER_US = 30_000_000
RETRY_AFTER_S = 5.0


def offsets_as_of(io: FileIO, lines: Lines, time_us: int, now_us: int) -> Offsets:
    """Return the offsets below which all was received when the minute of a time began. Blocking.

    Raises:
        InvalidError: the time has not come.
        UnavailableError: that minute has only just begun: its answer could still change.
        NotFoundError: it is before the first commit.
    """
    first_us, last_us = ends_of(lines)
    minute_us = time_us - time_us % MINUTE_US
    if minute_us > now_us:
        raise InvalidError("at.as_of lies in the future", field="at.as_of")
    if minute_us > last_us and now_us < minute_us + SETTLED_AFTER_US:
        raise UnavailableError(
            "at.as_of counts by whole minutes, and this one has only just begun; try again",
            retry_after_s=RETRY_AFTER_S,
        )
    offsets = seam_at_time(io, lines, time_us)
    if not offsets:
        raise nothing_before(first_us)
    return offsets


def ends_of(lines: Lines) -> tuple[int, int]:
    """Return the times of the first and the last line."""
    stretches = [(chunk.first_us, chunk.last_us) for chunk in lines.chunks]
    stretches += [(line.time_us, line.time_us) for line in lines.open]
    if not stretches:
        raise NotFoundError("the table does not say yet what was received when: commit once more")
    return stretches[0][0], stretches[-1][1]


def nothing_before(first_us: int) -> NotFoundError:
    """Name the first time that can be asked for: the minute after the first commit's own."""
    earliest_us = first_us - first_us % MINUTE_US + MINUTE_US
    first, earliest = (
        datetime.fromtimestamp(time_us / 1e6, UTC).isoformat(timespec="seconds")
        for time_us in (first_us, earliest_us)
    )
    return NotFoundError(
        f"nothing was in the table at at.as_of: its first commit is of {first}, the earliest time"
        f" to ask for is {earliest}",
        earliest_us=earliest_us,
    )
