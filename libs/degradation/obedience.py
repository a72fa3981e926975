"""What one process applies: the directive while it is valid, its own judgement otherwise. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from libs.degradation.level import Cause, Level, Rules
from libs.degradation.machine import Ladder, Reading, lag_policy, memory_policy, step
from libs.degradation.memory import MemoryUse
from libs.degradation.messages import Acknowledgement, Directive, OwnReport, Partition

# The lowest use in this time after the start is the memory baseline: later, buffers are in it.
SETTLING_S = 10.0

Authority = Literal["governor", "itself"]


@dataclass(frozen=True, slots=True)
class Applied:
    """What this process acts on: by lag, by its own memory, and the higher of both.

    `causes` explain the level; SINK_DOWN and HOT_PARTITION change what helps against lag: with the
    first shedding helps nowhere, with the second in the `hot_partitions` alone. `restart`: the
    governor gives this process its turn to be started anew, for its memory's sake.
    """

    lag_level: Level = Level.NORMAL
    memory_level: Level = Level.NORMAL
    causes: frozenset[Cause] = frozenset()
    authority: Authority = "itself"
    explanation: str = ""
    hot_partitions: frozenset[Partition] = frozenset()
    restart: bool = False

    @property
    def level(self) -> Level:
        return max(self.lag_level, self.memory_level)


@dataclass(frozen=True, slots=True)
class Obedience:
    """The last directive and how long it holds, and both of the process's own ladders.

    While a directive holds, `lag` stands at its level, so that its end lowers nothing. `policy` is
    the version of its priorities, empty for a process that has none.
    """

    directive: Directive | None = None
    valid_until_s: float = float("-inf")
    rules: Rules = field(default_factory=Rules)
    lag: Ladder = field(default_factory=Ladder)
    memory: Ladder = field(default_factory=Ladder)
    baseline_bytes: int | None = None
    settled_at_s: float | None = None
    sink_down: bool = False
    policy: str = ""

    @property
    def epoch(self) -> int:
        return self.directive.epoch if self.directive else 0

    def directed(self, now_s: float) -> bool:
        """Whether a directive holds at this time."""
        return now_s < self.valid_until_s


def hear(state: Obedience, directive: Directive, now_s: float) -> tuple[Obedience, Acknowledgement]:
    """Take a directive in, unless it is stale or of another policy than the process has.

    It is stale where a newer one has been obeyed, by epoch, then by sequence, or where its time
    was over before it arrived. What is refused changes nothing.
    """
    refusal = _refusal(state, directive, now_s)
    acknowledgement = Acknowledgement(directive.epoch, directive.sequence, refusal)
    if refusal:
        return state, acknowledgement
    same = state.lag.level is directive.lag_level
    obeyed = replace(
        state,
        directive=directive,
        valid_until_s=_valid_until_s(directive, now_s),
        rules=directive.rules,
        lag=state.lag if same else Ladder(directive.lag_level),
    )
    return obeyed, acknowledgement


def watch(state: Obedience, memory: MemoryUse, own: OwnReport, now_s: float) -> Obedience:
    """Take the process's own readings in: memory always, lag only while no directive holds."""
    sink_down = own.commit_failures >= state.rules.sink_down_failures
    settled = replace(_settle(state, memory, now_s), sink_down=sink_down)
    reading = Reading(memory.share, (settled.baseline_bytes or 0) / memory.limit_bytes)
    watched = replace(
        settled, memory=step(settled.memory, reading, memory_policy(settled.rules), now_s)
    )
    if watched.directed(now_s):
        return watched
    policy = lag_policy(watched.rules, writers=writers(watched))
    return replace(watched, lag=step(watched.lag, Reading(_lag(own)), policy, now_s))


def applied(state: Obedience, now_s: float) -> Applied:
    """What to act on now: the higher of the directive and the process's own memory level."""
    if state.directive is None or not state.directed(now_s):
        return _alone(state)
    directive = state.directive
    memory_level = max(directive.memory_level, state.memory.level)
    return Applied(
        directive.lag_level,
        memory_level,
        frozenset(directive.causes) | _causes(state, directive.lag_level, memory_level),
        "governor",
        directive.explanation,
        directive.hot_partitions,
        directive.restart,
    )


def recovering(state: Obedience) -> bool:
    """Say whether the process's memory is below the recovery point of its level."""
    return state.memory.below_since_s is not None


def writers(state: Obedience) -> int:
    """How many share the lag, by the last directive."""
    return max(1, state.directive.writers) if state.directive else 1


def _valid_until_s(directive: Directive, now_s: float) -> float:
    """Return the end of its time: one TTL from its arrival, and from the report it answers."""
    answers_s = directive.answers_ms / 1_000 if directive.answers_ms else now_s
    return min(now_s, answers_s) + directive.ttl_s


def _refusal(state: Obedience, directive: Directive, now_s: float) -> str:
    if state.policy and directive.policy not in ("", state.policy):
        return f"unknown policy {directive.policy}: this process has {state.policy}"
    if _valid_until_s(directive, now_s) <= now_s:
        late_s = now_s - directive.answers_ms / 1_000
        return f"stale: it answers a report of {late_s:.1f} s ago"
    if state.directive is None:
        return ""
    if directive.epoch < state.directive.epoch:
        return f"stale epoch {directive.epoch}: {state.directive.epoch} has been obeyed"
    same_epoch = directive.epoch == state.directive.epoch
    if same_epoch and directive.sequence < state.directive.sequence:
        return f"stale sequence {directive.sequence}: {state.directive.sequence} has been obeyed"
    return ""


def _settle(state: Obedience, memory: MemoryUse, now_s: float) -> Obedience:
    if state.baseline_bytes is None or state.settled_at_s is None:
        used_bytes = memory.used_bytes
        return replace(state, baseline_bytes=used_bytes, settled_at_s=now_s + SETTLING_S)
    if now_s > state.settled_at_s:
        return state
    return replace(state, baseline_bytes=min(state.baseline_bytes, memory.used_bytes))


def _lag(own: OwnReport) -> int | None:
    """Who reads no topic has no lag: it comes down step by step, where nobody directs it."""
    reads_none = not own.consumer_group and own.lag is None
    return 0 if reads_none else own.lag


def _causes(state: Obedience, lag_level: Level, memory_level: Level) -> frozenset[Cause]:
    """What a process knows itself of its level, whoever directs it."""
    holds = {
        Cause.LAG: lag_level > Level.NORMAL,
        Cause.MEMORY: memory_level > Level.NORMAL,
        Cause.SINK_DOWN: state.sink_down,
    }
    return frozenset(cause for cause, true in holds.items() if true)


def _alone(state: Obedience) -> Applied:
    lag_level, memory_level = state.lag.level, state.memory.level
    return Applied(
        lag_level,
        memory_level,
        _causes(state, lag_level, memory_level),
        explanation="no directive holds: the process goes by its own lag and memory",
    )
