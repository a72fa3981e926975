"""Whose turn it is to be started anew for its memory's sake: one process at a time. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from services.governor.observing.fleet import Fleet, Member

# A process that is not back by then is not waited for: others need their turn too.
LONGEST_TURN_S = 60.0


@dataclass(frozen=True, slots=True)
class Turn:
    """Given to the process as it was then connected; stream 0: by the governor before."""

    process: str
    stream: int
    since_s: float


def next_turn(turn: Turn | None, fleet: Fleet, now_s: float) -> Turn | None:
    """Keep a turn until its process is back at work; then whoever is shortest of memory is next."""
    if turn is not None and not _over(turn, fleet, now_s):
        return turn
    waiting = {
        name: member
        for name, member in fleet.members.items()
        if member.attached and member.report.own.restart_wanted
    }
    if not waiting:
        return None
    chosen = min(waiting, key=lambda name: (-_share(waiting[name]), name))
    return Turn(chosen, waiting[chosen].stream, now_s)


def _over(turn: Turn, fleet: Fleet, now_s: float) -> bool:
    if now_s - turn.since_s >= LONGEST_TURN_S:
        return True
    member = fleet.members.get(turn.process)
    if member is None or not member.attached:
        return False
    own = member.report.own
    return bool(own.positions) if member.stream != turn.stream else not own.restart_wanted


def _share(member: Member) -> float:
    return member.report.memory_used_bytes / member.report.memory_limit_bytes
