"""What a governor says that does not lead."""

from __future__ import annotations

from libs.market.errors import K2Error
from services.governor.leading.leadership import Leadership


class NotLeadingError(K2Error):
    """Only the leader can do that; the fact `leader` is its address, empty where none is known."""

    reason = "NOT_LEADING"
    retriable = True
    code = "FAILED_PRECONDITION"


def not_leading(state: Leadership) -> NotLeadingError:
    leader = state.leader.address if state.leader and not state.leading else ""
    return NotLeadingError(standing_by(state), leader=leader)


def standing_by(state: Leadership) -> str:
    """Say why this governor directs nobody, and who does."""
    because = f" ({state.hindered})" if state.hindered else ""
    if not state.caught_up:
        return (
            f"{state.process} directs nobody: Kafka does not show it who leads{because}, and"
            " without Kafka no governor leads"
        )
    if state.leader is None:
        return f"{state.process} stands by: nobody leads yet{because}"
    leader = state.leader
    return f"{state.process} stands by: {leader.process} at {leader.address} leads"
