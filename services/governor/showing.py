"""What a governor shows of itself, whether it leads or stands by, as Protobuf."""

from __future__ import annotations

from k2.governor.v1 import governor_pb2 as pb

from libs.degradation.level import Level
from libs.degradation.protocol import level_to_pb
from libs.rpc.times import timestamp
from services.governor.board import Board
from services.governor.deciding.overrides import Override
from services.governor.leading.following import standing_by
from services.governor.leading.leadership import Leader
from services.governor.views import Now, state

UNPROVEN = (
    "No directive is pushed now: Kafka has taken no record for {:.0f} s, so who leads is not sure."
)


def board_state(board: Board, now: Now) -> pb.State:
    """Show everything; of a standby, who leads in its place."""
    leadership, standing = board.leadership.value, board.standing.value
    shown = state(standing, board.fleet.value, now)
    shown.leading = leadership.leading
    if leadership.leader is not None:
        shown.leader.CopyFrom(leader_to_pb(leadership.leader))
    override = standing.overriding(now.monotonic_s)
    if override is not None:
        shown.override.CopyFrom(override_to_pb(override))
        shown.directive.override = override.reason
    shown.directive.policy = standing.policy
    if not leadership.leading:
        shown.ClearField("directive")
        shown.directive.explanation = f"{standing_by(leadership)}."
        return shown
    _show_proof(board, shown, now)
    return shown


def _show_proof(board: Board, shown: pb.State, now: Now) -> None:
    recorded = board.recorded.value
    if recorded is None:
        return
    shown.proven_time.CopyFrom(now.at(recorded.proof.began_s))
    if not recorded.proof.holds(board.standing.value.ttl_s, now.monotonic_s):
        unproven = UNPROVEN.format(now.monotonic_s - recorded.proof.began_s)
        shown.directive.explanation = f"{shown.directive.explanation} {unproven}"


def leader_to_pb(leader: Leader) -> pb.Leader:
    return pb.Leader(process=leader.process, address=leader.address, epoch=leader.epoch)


def override_to_pb(override: Override) -> pb.Override:
    return pb.Override(
        level=level_to_pb(Level(override.level)),
        reason=override.reason,
        set_time=timestamp(override.set_at_us),
        end_time=timestamp(override.ends_at_us),
    )
