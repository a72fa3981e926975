"""From what the governor knows to a record, and back. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from libs.degradation import machine
from libs.degradation.level import Level
from libs.degradation.machine import Ladder
from services.governor.deciding.explain import explain
from services.governor.deciding.govern import Standing
from services.governor.deciding.overrides import Override
from services.governor.deciding.turns import Turn
from services.governor.leading.groups import damping_of, recorded_group, restored_ladder
from services.governor.leading.leadership import Leader
from services.governor.observing.fleet import Fleet, Member
from services.governor.record.records import (
    SNAPSHOTS,
    Kind,
    Placed,
    Record,
    RecordedProcess,
)

NORMAL = Level.NORMAL


@dataclass(frozen=True, slots=True)
class Restored:
    """What a new leader takes over from the record.

    The times of the ladders and of the turn are from when that was recorded.
    """

    ladders: Mapping[str, Ladder] = field(default_factory=dict)
    level: Level | None = None
    level_since_us: int = 0
    override: Override | None = None
    restarting: str = ""
    recorded_at_us: int = 0

    def age_s(self, now_us: int) -> float:
        return max(0.0, (now_us - self.recorded_at_us) / 1_000_000)


NOTHING = Restored()


def snapshot(kind: Kind, standing: Standing, fleet: Fleet, leader: Leader, now_s: float) -> Record:
    """Record what is ordered, and all that it was ordered from."""
    orders = standing.orders
    ladders = [ladder.level for ladder in standing.ladders.values()]
    lag_level = orders.lag_level if orders else max(ladders, default=Level.NORMAL)
    return Record(
        kind=kind,
        process=leader.process,
        address=leader.address,
        epoch=leader.epoch,
        sequence=orders.sequence if orders else 0,
        lag_level=int(lag_level),
        memory_level=int(orders.memory_level) if orders else 0,
        level_since_us=standing.level_since_us,
        causes=tuple(map(str, _causes(standing))),
        writers=orders.writers if orders else 1,
        policy=standing.policy,
        restarting=standing.turn.process if standing.turn else "",
        override=standing.overriding(now_s),
        explanation=explain(standing, fleet, now_s),
        lag_thresholds=standing.rules.lag.in_order,
        memory_thresholds=standing.rules.memory.in_order,
        damping=damping_of(standing.rules),
        groups=tuple(recorded_group(standing, name, now_s) for name in sorted(standing.ladders)),
        processes=tuple(_process(member) for _, member in sorted(fleet.members.items())),
    )


def restored(records: Iterable[Placed], before: Restored = NOTHING) -> Restored:
    """Read on what governors before have left: the newest snapshot, the last override."""
    for placed in records:
        before = _read_on(before, placed)
    return before


def _read_on(before: Restored, placed: Placed) -> Restored:
    said = placed.record
    if said.kind == "claim":
        return before
    if said.kind not in SNAPSHOTS:
        return replace(before, override=said.override)
    return Restored(
        {group.group: restored_ladder(group) for group in said.groups},
        said.level,
        said.level_since_us,
        said.override,
        said.restarting,
        placed.time_us,
    )


def taken_over(
    blank: Standing, epoch: int, before: Restored, *, now_s: float, now_us: int
) -> Standing:
    """Begin where the record ends. Nothing is ordered yet: lag has not been read.

    A level counts while some process may still hold it by that record: for a TTL, and then for the
    rest that its own first step down needs. From an older one nothing is known any more that the
    lag, and what attached processes apply, do not say better. Reversals have a window of their own.
    """
    left_s = before.override.left_s(now_us) if before.override else 0.0
    recorded_s = now_s - before.age_s(now_us)
    known = before.age_s(now_us) <= blank.ttl_s + blank.rules.cooldown_s
    ladders = {name: machine.moved(lad, recorded_s) for name, lad in before.ladders.items()}
    return replace(
        blank,
        epoch=epoch,
        orders=None,
        ladders=ladders if known else {n: replace(one, level=NORMAL) for n, one in ladders.items()},
        restored_level=before.level if known else None,
        level_since_us=before.level_since_us if known else 0,
        override=before.override,
        override_until_s=now_s + left_s,
        turn=Turn(before.restarting, 0, recorded_s) if before.restarting else None,
    )


def overridden(
    standing: Standing, override: Override | None, *, now_s: float, now_us: int
) -> Standing:
    """Take in what an operator has set, or cleared."""
    if override == standing.override:
        return standing
    left_s = override.left_s(now_us) if override else 0.0
    return replace(standing, override=override, override_until_s=now_s + left_s)


def _causes(standing: Standing) -> Iterable[str]:
    orders = standing.orders
    if orders is None:
        return
    if orders.lag_level > Level.NORMAL and not orders.override:
        yield "LAG"
    if orders.memory_level > Level.NORMAL:
        yield "MEMORY"
    yield from map(str, orders.causes)


def _process(member: Member) -> RecordedProcess:
    said = member.report
    return RecordedProcess(
        said.process,
        said.service,
        said.memory_used_bytes,
        said.memory_limit_bytes,
        int(said.memory_level),
        int(said.applied_level),
        int(said.applied_lag_level),
    )
