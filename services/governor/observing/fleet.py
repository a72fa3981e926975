"""Who is attached, and what each process said last. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from operator import itemgetter

from libs.degradation.messages import (
    MOST_EVERY_S,
    STEADY_S,
    Acknowledgement,
    Partition,
    Report,
)
from services.governor.observing.lag import Reported

# A process that reports less often than each second is waited for so much longer, and no more.
MOST_PATIENCE_S = MOST_EVERY_S - STEADY_S
# Clocks that never step gain or lose far less than this on each other.
MOST_DRIFT = 0.001


@dataclass(frozen=True, slots=True)
class Member:
    """One process. `stream` tells its connections apart: one that was replaced says no more.

    `offset_s` is from its clock to ours, by the report of this stream that was quickest to come.
    """

    stream: int
    report: Report
    reported_at_s: float
    reported_at_us: int
    closed_at_s: float | None = None
    acknowledged: Acknowledgement | None = None
    offset_s: float = 0.0

    @property
    def said_at_s(self) -> float:
        """When the newest report was said, by our clock; when it came, where it does not say."""
        said_at_ms = self.report.said_at_ms
        return said_at_ms / 1_000 + self.offset_s if said_at_ms else self.reported_at_s

    @property
    def attached(self) -> bool:
        return self.closed_at_s is None

    @property
    def patience_s(self) -> float:
        """How much longer its report counts than that of one that reports each second."""
        return min(max(0.0, self.report.every_s - STEADY_S), MOST_PATIENCE_S)

    @property
    def newest_epoch(self) -> int:
        """The newest epoch that it has obeyed.

        One that refuses by sequence has obeyed another leader of the same epoch: the topic was
        made anew, and nobody remembered.
        """
        said = self.acknowledged
        refused = said is not None and said.refused_because.startswith("stale sequence")
        return max(self.report.epoch, said.epoch + 1 if said and refused else 0)


@dataclass(frozen=True, slots=True)
class Fleet:
    """All processes that count, by name; `newest_epoch` is what any has obeyed, also one gone."""

    members: Mapping[str, Member] = field(default_factory=dict)
    newest_epoch: int = 0

    @property
    def writers(self) -> int:
        """How many processes share the lag, at least one."""
        return max(1, sum(m.report.service == "writer" for m in self.members.values()))

    def of(self, group: str) -> dict[str, Member]:
        """The processes of a consumer group."""
        return {
            name: member
            for name, member in self.members.items()
            if member.report.own.consumer_group == group
        }

    def positions(self, group: str, *, since_s: float) -> dict[Partition, Reported]:
        """What attached processes of a group said of their partitions since then, or still holds.

        Where two speak of one, as when it moves, the later word counts.
        """
        fresh = [
            (member.said_at_s, member)
            for member in self.of(group).values()
            if member.attached and member.said_at_s >= since_s - member.patience_s
        ]
        newest: dict[Partition, Reported] = {}
        for at_s, member in sorted(fresh, key=itemgetter(0), reverse=True):
            own = member.report.own
            if not own.positions.keys() <= newest.keys():
                said = {p: Reported(o, at_s, p in own.held) for p, o in own.positions.items()}
                newest = said | newest
        return newest


def report(fleet: Fleet, stream: int, said: Report, now_s: float, now_us: int) -> Fleet:
    """Take a report in. The newest connection of a process speaks for it."""
    before = fleet.members.get(said.process)
    if before is not None and before.stream > stream:
        return fleet
    acknowledged = before.acknowledged if before is not None else None
    offset_s = _offset_s(before if before and before.stream == stream else None, said, now_s)
    member = Member(stream, said, now_s, now_us, acknowledged=acknowledged, offset_s=offset_s)
    return _with(fleet, said.process, member)


def acknowledge(fleet: Fleet, process: str, said: Acknowledgement) -> Fleet:
    before = fleet.members.get(process)
    return fleet if before is None else _with(fleet, process, replace(before, acknowledged=said))


def close(fleet: Fleet, stream: int, process: str, now_s: float) -> Fleet:
    """A stream has ended; the process counts until its TTL has passed."""
    before = fleet.members.get(process)
    if before is None or before.stream != stream:
        return fleet
    return _with(fleet, process, replace(before, closed_at_s=now_s))


def forget(fleet: Fleet, ttl_s: float, now_s: float) -> Fleet:
    """Drop who has been away for longer than the TTL."""
    kept = {
        name: member
        for name, member in fleet.members.items()
        if member.closed_at_s is None or now_s - member.closed_at_s <= ttl_s
    }
    return fleet if len(kept) == len(fleet.members) else replace(fleet, members=kept)


def _offset_s(before: Member | None, said: Report, now_s: float) -> float:
    """From the process's clock to ours: what was quickest, as far as clocks may have drifted since.

    At 300,000 records a second a report that comes 0.3 s late would look like lag.
    """
    offset_s = now_s - said.said_at_ms / 1_000
    if before is None:
        return offset_s
    return min(offset_s, before.offset_s + MOST_DRIFT * (now_s - before.reported_at_s))


def _with(fleet: Fleet, process: str, member: Member) -> Fleet:
    newest_epoch = max(fleet.newest_epoch, member.newest_epoch)
    return Fleet({**fleet.members, process: member}, newest_epoch)
