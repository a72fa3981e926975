"""One symbol's sequence: gaps and repeats in the trade ids that an exchange counts up. Pure.

What becomes of a trade whose id is not the next one, by the first rule that fits:

    id beyond the next      GAP      kept; the ids between are missing
    id that is missing      LATE     kept; no longer missing
    id before all others    LATE     kept
    later time than all     RESTART  kept; the exchange began to count again
    from this connection    REPEAT   kept: the exchange sent it twice, the writer decides
    from another one        OVERLAP  dropped: two connections carried the same trade
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum, auto

RECENT_GAPS = 100


class Step(Enum):
    NEXT = auto()
    GAP = auto()
    LATE = auto()
    RESTART = auto()
    REPEAT = auto()
    OVERLAP = auto()


@dataclass(frozen=True, slots=True)
class Gap:
    """Ids seen to be missing: [first, last]."""

    first: int
    last: int
    seen_us: int


@dataclass(frozen=True, slots=True)
class Unheard:
    """Nothing newer than the id `after` has come since a connection opened, at `since_s`."""

    after: int
    since_s: float


@dataclass(slots=True)
class SymbolSequence:
    """One symbol's state: [floor, last] has been seen, without what `gaps` names.

    `before` is the newest id that an earlier process saw: what lies between it and the first id
    of this one is a gap too. Nothing is dropped for what an earlier process saw. Up to `booked`
    the earlier process knew the times too.
    """

    floor: int = 0
    last: int | None = None
    before: int | None = None
    booked: int = 0
    newest_us: int = 0
    trades: int = 0
    repeats: int = 0
    restarts: int = 0
    gap_count: int = 0
    missing: int = 0
    healed: int = 0
    venue_holes: int = 0
    received_us: int = 0
    gaps: deque[Gap] = field(default_factory=deque)
    last_by_connection: dict[int, int] = field(default_factory=dict)
    _opened: Unheard | None = None

    @property
    def newest(self) -> int | None:
        """The newest id known, of this process or an earlier one."""
        return self.before if self.last is None else self.last

    @property
    def unheard(self) -> Unheard | None:
        """What is known of a symbol that may have traded before its connection opened."""
        opened = self._opened
        return opened if opened is not None and opened.after == self.newest else None

    def run(self, first: int, last: int, newest_us: int, connection: int) -> bool:
        """Take ids first..last at once, if they are the next ones; False changes nothing."""
        if self.last is None and self.before is not None:
            return False
        if self.last is None:
            self.floor = first
        elif first != self.last + 1:
            return False
        self.last = self.last_by_connection[connection] = last
        self.newest_us = max(self.newest_us, newest_us)
        self.trades += last - first + 1
        return True

    def step(self, id_: int, time_us: int, received_us: int, connection: int) -> Step:
        """Take one trade."""
        taken = self._classify(id_, time_us, connection)
        if taken is Step.OVERLAP:
            return taken
        self._record(taken, id_, received_us)
        self.newest_us = max(self.newest_us, time_us)
        self.trades += 1
        newest = self.last_by_connection.get(connection, id_)
        self.last_by_connection[connection] = id_ if taken is Step.RESTART else max(newest, id_)
        return taken

    def forget(self, connection: int) -> None:
        self.last_by_connection.pop(connection, None)

    def resume(
        self, last: int, gaps: Iterable[tuple[int, int]], now_us: int, newest_us: int = 0
    ) -> None:
        """Go on from what an earlier process knew that Kafka has; 0 is a time it did not tell."""
        self.before = self.booked = last
        self.newest_us = newest_us
        for first_id, last_id in gaps:
            self._open_gap(Gap(first_id, last_id, now_us))

    def resume_run(self, first: int, last: int, now_us: int) -> None:
        """Count ids in that an earlier process kept for Kafka."""
        if self.before is not None and first > self.before + 1:
            self._open_gap(Gap(self.before + 1, first - 1, now_us))
        self._remove(first, last)
        self.before = last if self.before is None else max(self.before, last)

    def opened(self, connection: int, now_s: float) -> None:
        """Hear that a connection carries this symbol from now on, and maybe none did before."""
        if self.newest is not None and connection not in self.last_by_connection:
            self._opened = Unheard(self.newest, now_s)

    def listed(self, after: int, last: int, now_us: int) -> None:
        """Hear that the exchange lists trades behind the newest known, unless newer ones came."""
        unheard = self.unheard
        if unheard is None or unheard.after != after or last <= after:
            return
        self._open_gap(Gap(after + 1, last, now_us))
        self._opened = replace(unheard, after=last)
        if self.last is None:
            self.before = last
        else:
            self.last = last

    def heal(self, ids: Sequence[int], newest_us: int) -> list[bool]:
        """Take trades that were asked for; says of each whether it was missing still."""
        wanted = [self._remove(id_, id_) == 1 for id_ in ids]
        # The stream may bring them late: then their times are no news.
        self.newest_us = max(self.newest_us, newest_us)
        self.healed += sum(wanted)
        self.trades += sum(wanted)
        return wanted

    def close(self, first: int, last: int) -> None:
        """Miss these ids no longer: the exchange never had them."""
        self.venue_holes += self._remove(first, last)

    def _classify(self, id_: int, time_us: int, connection: int) -> Step:
        if self.last is None:
            return self._classify_first(id_, time_us)
        if id_ == self.last + 1:
            return Step.NEXT
        if id_ > self.last:
            return Step.GAP
        if self._misses(id_):
            return Step.LATE
        # A trade sent again carries its first time; a counter begun anew goes with new times.
        if time_us > self.newest_us:
            return Step.RESTART
        if id_ < self.floor:
            return Step.LATE
        if id_ <= self.last_by_connection.get(connection, -1):
            return Step.REPEAT
        return Step.OVERLAP

    def _classify_first(self, id_: int, time_us: int) -> Step:
        """Before any new trade of this process.

        What the spool keeps or REST has brought may come by the stream too: that is no counter
        begun anew, and neither is a trade that the exchange sends again.
        """
        if self._misses(id_):
            return Step.LATE
        if self.before is None or id_ == self.before + 1:
            return Step.NEXT
        if id_ > self.before:
            return Step.GAP
        return Step.RESTART if id_ <= self.booked and time_us > self.newest_us else Step.REPEAT

    def _misses(self, id_: int) -> bool:
        return any(gap.first <= id_ <= gap.last for gap in self.gaps)

    def _record(self, taken: Step, id_: int, received_us: int) -> None:
        match taken:
            case Step.GAP:
                known = self.before if self.last is None else self.last
                self.floor = id_ if self.last is None else self.floor
                self._open_gap(Gap((known or 0) + 1, id_ - 1, received_us))
                self.last = id_
            case Step.LATE if id_ < self.floor:
                self._lower_floor(id_, received_us)
            case Step.LATE:
                self._remove(id_, id_)
            case Step.REPEAT:
                self.repeats += 1
            case Step.RESTART:
                self.restarts += 1
                self._forget_past()
                self.last_by_connection.clear()
                self.floor = self.last = id_
            case _:
                self.floor = id_ if self.last is None else self.floor
                self.last = id_

    def _open_gap(self, gap: Gap) -> None:
        self.gap_count += 1
        self.missing += gap.last - gap.first + 1
        self.gaps.append(gap)
        if len(self.gaps) > RECENT_GAPS:
            self._join_oldest()

    def _join_oldest(self) -> None:
        """Make one of the two oldest gaps: what lies between them counts as missing again."""
        older, newer = self.gaps.popleft(), self.gaps.popleft()
        self.missing += newer.first - older.last - 1
        self.gaps.appendleft(Gap(older.first, newer.last, older.seen_us))

    def _forget_past(self) -> None:
        """The exchange began to count anew: what was missing before cannot be told any more."""
        self.before = None
        self.gaps.clear()

    def _lower_floor(self, id_: int, received_us: int) -> None:
        """Begin earlier than thought; with too many gaps to remember, one more is not begun."""
        if len(self.gaps) == RECENT_GAPS or self.before is not None:
            return
        if id_ + 1 < self.floor:
            gap = Gap(id_ + 1, self.floor - 1, received_us)
            self.gaps.appendleft(gap)
            self.gap_count += 1
            self.missing += gap.last - gap.first + 1
        self.floor = id_

    def _remove(self, first: int, last: int) -> int:
        """Miss ids first..last no longer; returns how many were missing."""
        before = self.missing
        touched = [gap for gap in self.gaps if gap.first <= last and gap.last >= first]
        for gap in touched:
            position = self.gaps.index(gap)
            del self.gaps[position]
            for rest in reversed(list(_without(gap, first, last))):
                self.gaps.insert(position, rest)
            self.missing -= min(gap.last, last) - max(gap.first, first) + 1
        return before - self.missing


def _without(gap: Gap, first: int, last: int) -> Iterator[Gap]:
    if gap.first < first:
        yield Gap(gap.first, first - 1, gap.seen_us)
    if last < gap.last:
        yield Gap(last + 1, gap.last, gap.seen_us)
