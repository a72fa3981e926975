"""A governor in the mind: its real decisions, on a topic and links that are made up."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from libs.degradation.level import Level, Rules
from libs.degradation.machine import Ladder
from libs.degradation.messages import Directive, Report
from services.governor.deciding.govern import Orders, Standing, directive, govern
from services.governor.leading import leadership as leading
from services.governor.leading.leadership import (
    RECORDS_PER_TTL,
    Leader,
    Leadership,
    Proof,
    patience_s,
)
from services.governor.leading.snapshots import Restored, taken_over
from services.governor.observing import fleet as fleets
from services.governor.observing.fleet import MOST_PATIENCE_S, Fleet
from services.governor.observing.lag import GroupLag, Looks, group_lag
from services.governor.observing.sampler import FRESH_S
from tests.simulation.log import SimLog
from tests.simulation.writer import GROUP

# A transaction that Kafka does not take fails after so long.
TRANSACTION_S = 2.0


@dataclass(slots=True)
class SimTopic:
    """The topic of directives, and Kafka's fence: the newest claim's records alone are taken."""

    records: list[Leader] = field(default_factory=list)
    owner: int = 0
    level: Level = Level.NORMAL

    def claim(self, process: str) -> int:
        """Fence whoever led; return the new epoch, which is the claim's offset."""
        self.owner = len(self.records) + 1
        self.records.append(Leader(process, process, self.owner))
        return self.owner

    def take(self, process: str, epoch: int, level: Level) -> bool:
        """Take a record of what is ordered, unless its writer is fenced."""
        if epoch != self.owner:
            return False
        self.records.append(Leader(process, process, epoch))
        self.level = level
        return True


@dataclass(slots=True)
class SimGovernor:
    """One of several. Paused it does nothing; without Kafka it cannot prove that it leads."""

    name: str
    topic: SimTopic
    blank: Standing
    state: Leadership
    paused_until_s: float = 0.0
    reaches_kafka: bool = True
    read: int = 0
    fleet: Fleet = field(default_factory=Fleet)
    standing: Standing | None = None
    recorded: Orders | None = None
    proof: Proof = field(default_factory=Proof)
    pushed: tuple[Orders | None, float] = (None, 0.0)
    looks: Looks = field(default_factory=lambda: Looks(()))

    @classmethod
    def of(cls, name: str, topic: SimTopic, rules: Rules, ttl_s: float, draw: float) -> SimGovernor:
        blank = Standing(rules, ttl_s, epoch=0)
        return cls(name, topic, blank, Leadership(name, patience_s(ttl_s, draw)))

    @property
    def ttl_s(self) -> float:
        return self.blank.ttl_s

    def running(self, now_s: float) -> bool:
        return now_s >= self.paused_until_s

    def hear(self, stream: int, report: Report, now_s: float) -> Leader | None:
        """Take a report in; or say who leads, where this one does not."""
        if not self.state.leading:
            return self.state.leader or Leader("", "", 0)
        self.fleet = fleets.report(self.fleet, stream, report, now_s, 0)
        return None

    def tick(self, log: SimLog, now_s: float, push: Callable[[Directive, str], None]) -> None:
        """One moment of all its actors; pushing first, as if it woke up there."""
        self._push(now_s, push)
        if not self.reaches_kafka:
            self._without_kafka(now_s)
            return
        self._follow(now_s)
        if leading.may_claim(self.state, now_s):
            self._claim(now_s)
        if self.state.leading:
            self._decide(log, now_s)
            self._record(now_s)
            self._push(now_s, push)

    def _push(self, now_s: float, push: Callable[[Directive, str], None]) -> None:
        """Send what is recorded, within a TTL of the proof, and again with each proof."""
        standing, orders = self.standing, self.recorded
        news = (orders, self.proof.began_s)
        if standing is None or orders is None or not self.proof.holds(self.ttl_s, now_s):
            return
        if news == self.pushed:
            return
        self.pushed = news
        for name, member in self.fleet.members.items():
            heard_ms = self.proof.heard_ms.get(name)
            order = directive(standing, orders, member.report) if member.attached else None
            if order is not None and heard_ms:
                push(replace(order, answers_ms=heard_ms), name)

    def _without_kafka(self, now_s: float) -> None:
        if self.state.leading and now_s - self.proof.began_s > TRANSACTION_S:
            self._lead_no_more()
        elif self.standing is not None:
            self._govern({GROUP: GroupLag(GROUP)}, now_s)

    def _follow(self, now_s: float) -> None:
        records = self.topic.records
        for record in records[self.read :]:
            if record.process != self.name:
                self.state = leading.heard(self.state, record, now_s)
        self.read = len(records)
        self.state = leading.caught_up(self.state, now_s)

    def _claim(self, now_s: float) -> None:
        epoch = self.topic.claim(self.name)
        self.state = leading.claimed(self.state, epoch, self.name)
        level = self.topic.level
        before = Restored({GROUP: Ladder(level)}, level, recorded_at_us=round(now_s * 1e6))
        now_us = round(now_s * 1e6)
        self.standing = taken_over(self.blank, epoch, before, now_s=now_s, now_us=now_us)
        self.fleet, self.recorded = Fleet(), None
        self.looks, self.proof = Looks(()), Proof(now_s)

    def _lead_no_more(self) -> None:
        self.state = leading.deaf(self.state)
        self.standing = self.recorded = None

    def _decide(self, log: SimLog, now_s: float) -> None:
        for name, member in list(self.fleet.members.items()):
            if member.attached and now_s - member.reported_at_s > self.ttl_s:
                self.fleet = fleets.close(self.fleet, member.stream, name, now_s)
        self.fleet = fleets.forget(self.fleet, self.ttl_s, now_s)
        self.looks = self.looks.and_then(log.look(now_s), keep_s=FRESH_S + MOST_PATIENCE_S)
        gauges = {part.place: part.gauge for part in log.partitions}
        reported = self.fleet.positions(GROUP, since_s=now_s - FRESH_S)
        self._govern({GROUP: group_lag(GROUP, self.looks, gauges, reported)}, now_s)

    def _govern(self, sample: Mapping[str, GroupLag], now_s: float) -> None:
        if self.standing is not None:
            self.standing = govern(self.standing, sample, self.fleet, now_s, round(now_s * 1e6))

    def _record(self, now_s: float) -> None:
        orders = self.standing.orders if self.standing else None
        due = now_s - self.proof.began_s >= self.ttl_s / RECORDS_PER_TTL
        if orders == self.recorded and not due:
            return
        level = orders.lag_level if orders else self.topic.level
        if not self.topic.take(self.name, self.state.own_epoch or 0, level):
            self._lead_no_more()
            return
        self.recorded = orders
        heard = {n: m.report.said_at_ms for n, m in self.fleet.members.items()}
        self.proof = Proof(now_s, heard)


def leader_of(governors: Iterable[SimGovernor]) -> SimGovernor | None:
    """Return the one that leads by its own belief; the newest claim where two believe it."""
    believing = [one for one in governors if one.state.leading]
    return max(believing, key=lambda one: one.state.own_epoch or 0, default=None)
