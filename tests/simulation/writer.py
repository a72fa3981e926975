"""A writer in the mind: its real rules of obeying, and only the work itself made up."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum

from libs.degradation.cadence import answers, due, every_s, pressed
from libs.degradation.level import Level, Rules
from libs.degradation.memory import MemoryUse
from libs.degradation.messages import Directive, OwnReport, Report
from libs.degradation.obedience import (
    Applied,
    Obedience,
    applied,
    hear,
    recovering,
    watch,
)
from libs.degradation.policy import Priority, PriorityPolicy, load_policy
from services.writer.batching.shedding import ShedRule, rule_under
from services.writer.intake.throttle import Reading, Throttle
from services.writer.restarting.need import Need, Sight, restarts_left
from tests.simulation.log import SimPartition

GROUP = "k2-writer"
POLICY: PriorityPolicy = load_policy("crypto")
SHARES = {Priority.CRITICAL: 0.1, Priority.HIGH: 0.2, Priority.NORMAL: 0.3, Priority.LOW: 0.4}
# To pass a record by costs so much of decoding it.
SHED_COST = 0.1
SMALL_BATCHES = 0.7
COMMIT_EVERY_S = 10.0
COMMIT_AGAIN_S = 3.0
BUFFER_S = 20.0
DOWN_S = 8.0
MEMORY_BYTES = 1_000_000


class Gives(Enum):
    """When a writer's memory comes back."""

    AT_ONCE = "while it pauses"
    RESTARTED = "only when started anew"
    NEVER = "never: it is full again at once"


class Obeys(Enum):
    """How lag levels are obeyed: as K2 does, or as the system before it did."""

    SHEDS = "sheds"
    STOPS = "stops consuming at AGGRESSIVE"


@dataclass(slots=True)
class Outside:
    """What happens to a writer."""

    speed: float = 1.0
    sink_up: bool = True
    ballast: float = 0.0
    gives: Gives = Gives.AT_ONCE


@dataclass(slots=True)
class Done:
    """What it did: for the invariants and the report."""

    decoded: float = 0.0
    shed: float = 0.0
    restarts: int = 0
    refusals: int = 0
    longest_pause_s: float = 0.0


@dataclass(slots=True)
class SimWriter:
    name: str
    capacity_per_s: float
    rules: Rules
    obeys: Obeys = Obeys.SHEDS
    outside: Outside = field(default_factory=Outside)
    done: Done = field(default_factory=Done)
    up_at_s: float = 0.0
    gone: bool = False
    state: Obedience = field(default_factory=Obedience)
    throttle: Throttle = field(default_factory=Throttle)
    need: Need = field(default_factory=Need)
    failures: int = 0
    committed_at_s: float = 0.0
    past_us: list[int] = field(default_factory=list)
    reported_at_s: float = float("-inf")
    told: Report | None = None
    heard: bool = False
    parts: list[SimPartition] = field(default_factory=list)
    shed_now: float = 0.0
    stood_still: bool = False

    def up(self, now_s: float) -> bool:
        return not self.gone and now_s >= self.up_at_s

    def kill(self, now_s: float, down_s: float = DOWN_S) -> None:
        """End the process; the one after it remembers nothing but its restarts."""
        self.up_at_s = now_s + down_s
        self.state, self.throttle, self.need = Obedience(rules=self.rules), Throttle(), Need()
        self.failures, self.committed_at_s = 0, self.up_at_s
        if self.outside.gives is not Gives.NEVER:
            self.outside.ballast = 0.0

    def applied(self, now_s: float) -> Applied:
        return applied(self.state, now_s)

    def work(self, dt_s: float, now_s: float) -> None:
        """Decode for so long, and commit where it is time to."""
        now, decoded, shed = self.applied(now_s), self.done.decoded, self.done.shed
        self._pause(now, now_s)
        self._commit(now, now_s)
        free = self.throttle.reading is Reading.ALL and self.outside.sink_up and not self.failures
        could = free and any(part.readable >= 1 for part in self.parts)
        if self.obeys is Obeys.SHEDS or now.lag_level < Level.AGGRESSIVE:
            self._decode(rule_under(now, POLICY, frozenset(), 0), dt_s)
        self.shed_now = self.done.shed - shed
        self.stood_still = could and self.done.decoded == decoded

    def look(self, now_s: float) -> Report | None:
        """Take a reading; a report where one is due, or would answer what was just heard."""
        own = self._own()
        memory = MemoryUse(round(self.memory * MEMORY_BYTES), MEMORY_BYTES)
        self.state = watch(self.state, memory, own, now_s)
        self._restart_where_needed(now_s)
        report, urgent = self._report(own, memory, now_s), pressed(self.state, own, now_s)
        since_s = now_s - self.reported_at_s
        heard, self.heard = self.heard, False
        tells = due(self.told, report, since_s, pressed=urgent) or (
            heard and answers(self.told, since_s)
        )
        if not tells or not self.up(now_s):
            return None
        self.reported_at_s, self.told = now_s, report
        for part in self.parts:
            part.gauge = int(part.decoded)
        return report

    def hear(self, directive: Directive, now_s: float) -> None:
        self.state, answer = hear(self.state, directive, now_s)
        self.done.refusals += bool(answer.refused_because)
        self.heard = True

    @property
    def memory(self) -> float:
        return 0.2 + 0.1 * min(1.0, self._buffered / self._buffer) + self.outside.ballast

    @property
    def _buffer(self) -> float:
        return BUFFER_S * self.capacity_per_s

    @property
    def _buffered(self) -> float:
        return sum(part.decoded - part.seam for part in self.parts)

    def _pause(self, now: Applied, now_s: float) -> None:
        self.throttle = self.throttle.after(now.memory_level, now_s)
        reads_nothing = self.throttle.reading is Reading.NOTHING
        if reads_nothing and self.outside.gives is Gives.AT_ONCE:
            self.outside.ballast = max(0.0, self.outside.ballast - 0.1)
        if self.throttle.since_s is not None:
            paused_s = now_s - self.throttle.since_s
            self.done.longest_pause_s = max(self.done.longest_pause_s, paused_s)

    def _commit(self, now: Applied, now_s: float) -> None:
        starved = self.throttle.reading is Reading.NOTHING
        every_s = COMMIT_AGAIN_S if self.failures or starved else COMMIT_EVERY_S
        if now.lag_level >= Level.SOFT and not starved:
            every_s *= 3
        full = self._buffered >= self._buffer / 2 and not self.failures
        if now_s - self.committed_at_s < every_s and not full:
            return
        self.committed_at_s = now_s
        if not self.outside.sink_up:
            self.failures += 1
            return
        self.failures = 0
        for part in self.parts:
            part.seam = part.decoded

    def _decode(self, rule: ShedRule, dt_s: float) -> None:
        parts = self._read()
        time_s = dt_s * self.outside.speed
        if self.throttle.max_runs == 1:
            time_s *= SMALL_BATCHES
        room = max(0.0, self._buffer - self._buffered)
        costs = [self._cost(rule, part) for part in parts]
        wanted_s = sum(part.readable * cost for part, cost in zip(parts, costs, strict=True))
        wanted_s /= self.capacity_per_s
        share = min(1.0, time_s / wanted_s) if wanted_s else 0.0
        for part, cost in zip(parts, costs, strict=True):
            self._take(part, min(part.readable * share, room), cost)

    def _take(self, part: SimPartition, records: float, cost: float) -> None:
        part.decoded += records
        self.done.decoded += records
        self.done.shed += records * (1 - cost) / (1 - SHED_COST)

    def _read(self) -> list[SimPartition]:
        if self.throttle.reading is Reading.NOTHING:
            return []
        if self.throttle.reading is Reading.CRITICAL:
            return self.parts[::2]
        return self.parts

    def _cost(self, rule: ShedRule, part: SimPartition) -> float:
        shed = sum(SHARES[priority] for priority in rule.puts_off(part.place))
        return 1.0 - shed * (1.0 - SHED_COST)

    def _restart_where_needed(self, now_s: float) -> None:
        drained = self.throttle.reading is Reading.NOTHING and not self._buffered
        starved = self.state.memory.level >= Level.AGGRESSIVE and not recovering(self.state)
        sight = Sight(starved, drained or (self.throttle.bears and not self.failures))
        self.need = self.need.after(sight, now_s, jitter_s=1.0)
        if not self.need.wanted:
            return
        now = self.applied(now_s)
        if not restarts_left(self.past_us, round(now_s * 1e6)):
            self.need = replace(self.need, given_up=True)
            self.throttle = self.throttle.gone_on()
        elif self.need.may_act(now_s, turn=now.restart if now.authority == "governor" else None):
            self.past_us.append(round(now_s * 1e6))
            self.done.restarts += 1
            self.kill(now_s)

    def _own(self) -> OwnReport:
        return OwnReport(
            GROUP,
            {part.place: int(part.decoded) for part in self.parts},
            round(sum(part.lag for part in self.parts if not part.held)),
            self.failures,
            frozenset(part.place for part in self.parts if part.held),
            restart_wanted=self.need.wanted,
        )

    def _report(self, own: OwnReport, memory: MemoryUse, now_s: float) -> Report:
        now = self.applied(now_s)
        return Report(
            service="writer",
            process=self.name,
            memory_used_bytes=memory.used_bytes,
            memory_limit_bytes=memory.limit_bytes,
            memory_baseline_bytes=self.state.baseline_bytes or 0,
            memory_level=self.state.memory.level,
            applied_level=now.level,
            applied_lag_level=now.lag_level,
            epoch=self.state.epoch,
            own=own,
            said_at_ms=round(now_s * 1_000),
            every_s=every_s(self.state, own, now_s),
        )
