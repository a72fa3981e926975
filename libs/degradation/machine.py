"""The state machine of one dimension: up at once, down slowly. Pure; time comes in with each step.

A lag machine and a memory machine differ only in their policy and in the baseline of their
readings. Nothing here knows what a level does.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from libs.degradation.level import Damping, Level, Rules, Thresholds

# A reading older than this vouches for nothing: "continuously below" starts again after it.
LONGEST_GAP_S = 5.0


@dataclass(frozen=True, slots=True)
class Policy:
    """How a ladder moves. `samples_up`: readings in a row that must demand a level to reach it."""

    thresholds: Thresholds
    samples_up: int
    cooldown_s: float
    damping: Damping = field(default_factory=Damping)

    def recovery_point(self, level: Level, baseline: float = 0.0) -> float:
        """Value below which `level` may be left, in the end.

        Half way from the baseline to the trigger; the trigger itself where a process rests above
        it, for half way would then lie above what demands the level.
        """
        trigger = self.thresholds.trigger(level)
        return min(trigger, baseline + self.damping.recovery_share * (trigger - baseline))


@dataclass(frozen=True, slots=True)
class Reading:
    """One sample; no value where it could not be read. `baseline` is the value at rest."""

    value: float | None
    baseline: float = 0.0


@dataclass(frozen=True, slots=True)
class Ladder:
    """Where one dimension stands, and what it must remember to move.

    `demands` are those of the newest readings, at most `samples_up - 1`; `fell_at_s` is the last
    step down that no rise has answered yet; `reversals_s` are the rises that did answer one.
    """

    level: Level = Level.NORMAL
    demands: tuple[Level, ...] = ()
    read_at_s: float | None = None
    below_since_s: float | None = None
    fell_at_s: float | None = None
    reversals_s: tuple[float, ...] = ()


def lag_policy(rules: Rules, *, writers: int = 1) -> Policy:
    """Some readings in a row to rise; the thresholds are shared out among the writers."""
    thresholds = rules.lag.scaled(1 / writers)
    return Policy(thresholds, rules.lag_samples_up, rules.cooldown_s, rules.damping)


def memory_policy(rules: Rules) -> Policy:
    return Policy(rules.memory, 1, rules.cooldown_s, rules.damping)


def step(ladder: Ladder, reading: Reading, policy: Policy, now_s: float) -> Ladder:
    """Take one reading in: rise to what it demands, or fall one level if it has rested long enough.

    `now_s` never goes back. A reading without a value holds the level and starts the rest again.
    """
    if reading.value is None:
        return replace(ladder, below_since_s=None)
    demanded = policy.thresholds.demanded(reading.value)
    target = min((*ladder.demands, demanded)) if _enough(ladder, policy) else Level.NORMAL
    seen = replace(
        _rest_if_unbroken(ladder, now_s), read_at_s=now_s, demands=_kept(ladder, demanded, policy)
    )
    return (
        _rise(seen, target, policy, now_s)
        if target > seen.level
        else _rest(seen, reading, policy, now_s)
    )


def raised(ladder: Ladder, level: Level) -> Ladder:
    """The ladder at `level` at least, as when a new governor takes over what is applied."""
    return ladder if level <= ladder.level else replace(ladder, level=level, below_since_s=None)


def moved(ladder: Ladder, by_s: float) -> Ladder:
    """The ladder with all that it remembers so much later, as on another clock.

    Whoever takes it over has read nothing: no rest and no demand is taken over with it.
    """
    fell_at_s = None if ladder.fell_at_s is None else ladder.fell_at_s + by_s
    reversals_s = tuple(time_s + by_s for time_s in ladder.reversals_s)
    return Ladder(ladder.level, fell_at_s=fell_at_s, reversals_s=reversals_s)


def reversals(ladder: Ladder, policy: Policy, now_s: float) -> int:
    """How many rises after a fall still count."""
    return len(_recent(ladder, policy, now_s))


def cooldown_s(ladder: Ladder, policy: Policy, now_s: float) -> float:
    """Rest that a step down needs: doubled for every few reversals of late, up to a factor."""
    damping = policy.damping
    recent = reversals(ladder, policy, now_s)
    factor = min(2 ** (recent // damping.reversals_to_double), damping.most_cooldown_factor)
    return float(policy.cooldown_s * factor)


def falls_at_s(ladder: Ladder, policy: Policy, now_s: float) -> float | None:
    """When the next step down is due if all stays as it is; None while nothing leads there."""
    if ladder.below_since_s is None:
        return None
    return ladder.below_since_s + cooldown_s(ladder, policy, now_s)


def _enough(ladder: Ladder, policy: Policy) -> bool:
    return len(ladder.demands) >= policy.samples_up - 1


def _kept(ladder: Ladder, demanded: Level, policy: Policy) -> tuple[Level, ...]:
    kept = policy.samples_up - 1
    return (*ladder.demands, demanded)[-kept:] if kept else ()


def _rest_if_unbroken(ladder: Ladder, now_s: float) -> Ladder:
    if ladder.read_at_s is None or now_s - ladder.read_at_s > LONGEST_GAP_S:
        return replace(ladder, below_since_s=None)
    return ladder


def _recent(ladder: Ladder, policy: Policy, now_s: float) -> tuple[float, ...]:
    start_s = now_s - policy.damping.reversal_window_s
    return tuple(time_s for time_s in ladder.reversals_s if time_s > start_s)


def _rise(ladder: Ladder, target: Level, policy: Policy, now_s: float) -> Ladder:
    recent = _recent(ladder, policy, now_s)
    start_s = now_s - policy.damping.reversal_window_s
    reversal = ladder.fell_at_s is not None and ladder.fell_at_s > start_s
    return replace(
        ladder,
        level=target,
        below_since_s=None,
        fell_at_s=None,
        reversals_s=(*recent, now_s) if reversal else recent,
    )


def _rest(ladder: Ladder, reading: Reading, policy: Policy, now_s: float) -> Ladder:
    if not _below(ladder.level, reading, policy):
        return replace(ladder, below_since_s=None)
    since_s = now_s if ladder.below_since_s is None else ladder.below_since_s
    rested = replace(ladder, below_since_s=since_s)
    if now_s - since_s < cooldown_s(ladder, policy, now_s):
        return rested
    return _fall(rested, reading, policy, now_s)


def _fall(ladder: Ladder, reading: Reading, policy: Policy, now_s: float) -> Ladder:
    level = ladder.level.below
    since_s = now_s if _below(level, reading, policy) else None
    return replace(ladder, level=level, below_since_s=since_s, fell_at_s=now_s)


def _below(level: Level, reading: Reading, policy: Policy) -> bool:
    if level is Level.NORMAL or reading.value is None:
        return False
    return reading.value < policy.recovery_point(level, reading.baseline)
