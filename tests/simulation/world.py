"""A whole fleet on a virtual clock: log, writers, governors, and the links between them."""

from __future__ import annotations

import heapq
import itertools
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from libs.degradation.level import Level, Rules
from libs.degradation.messages import Directive
from tests.simulation.governor import SimGovernor, SimTopic, leader_of
from tests.simulation.log import SimLog
from tests.simulation.writer import Obeys, SimWriter

SESSION_S = 10.0
SILENCE_S = 5.0
# So many messages come a step late.
LATE = 0.1
# A hot partition gets so much more than its writer can take, at most.
HOT_TIMES = 20


@dataclass(frozen=True, slots=True)
class Size:
    """What a world is made of."""

    writers: int = 4
    partitions: int = 8
    capacity_per_s: float = 1_000.0
    step_s: float = 0.5
    ttl_s: float = 10.0
    obeys: Obeys = Obeys.SHEDS
    rules: Rules = field(default_factory=Rules)


@dataclass(frozen=True, slots=True)
class Claim:
    epoch: int
    at_s: float


@dataclass(slots=True)
class Link:
    """Between one writer and the governor it talks to. Messages may overtake each other."""

    governor: int = 0
    stream: int = 0
    cut: bool = False
    slow_s: float = 0.0
    heard_at_s: float = 0.0


@dataclass(slots=True)
class Seen:
    """What happened, for whoever reads the report."""

    seconds_at: Counter[Level] = field(default_factory=Counter)
    changes: list[tuple[float, Level, Level]] = field(default_factory=list)
    most_lag: float = 0.0
    undirected_s: float = 0.0


class World:
    def __init__(self, size: Size, seed: int) -> None:
        self.size, self.now_s = size, 0.0
        self.random = random.Random(seed)
        self.log = SimLog.of(self.random.uniform(0.5, 1.5) for _ in range(size.partitions))
        self.log.most_hot = HOT_TIMES * size.capacity_per_s * size.step_s
        self.topic = SimTopic()
        self.governors = [
            SimGovernor.of(f"governor-{n}", self.topic, size.rules, size.ttl_s, draw)
            for n, draw in enumerate((0.2, 0.8))
        ]
        self.writers = [self._writer(number) for number in range(size.writers)]
        self.by_name = {writer.name: writer for writer in self.writers}
        self.links = {writer.name: Link() for writer in self.writers}
        self.ingress_per_s = 0.0
        self.seen = Seen()
        self.claims: list[Claim] = []
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count(1)
        self._alive: list[str] = []

    @property
    def capacity_per_s(self) -> float:
        """What all writers decode together when nothing is wrong."""
        return self.size.writers * self.size.capacity_per_s

    @property
    def leader(self) -> SimGovernor | None:
        return leader_of(self.governors)

    @property
    def level(self) -> Level:
        """The lag level as it is ordered; NORMAL where nobody orders."""
        leader = self.leader
        orders = leader.recorded if leader else None
        return orders.lag_level if orders else Level.NORMAL

    def lag_level(self, writer: SimWriter) -> Level:
        return writer.applied(self.now_s).lag_level

    def run(self, seconds: float) -> None:
        for _ in range(round(seconds / self.size.step_s)):
            self.step()

    def step(self) -> None:
        before = self.level
        self.now_s += self.size.step_s
        self.log.produce(self.ingress_per_s * self.size.step_s)
        self._share_out()
        for writer in self.writers:
            if writer.up(self.now_s):
                writer.work(self.size.step_s, self.now_s)
                self._report(writer)
        self._deliver()
        for number, governor in enumerate(self.governors):
            if governor.running(self.now_s):
                governor.tick(self.log, self.now_s, self._pusher(number))
        self._deliver()
        if self.topic.owner > (self.claims[-1].epoch if self.claims else 0):
            self.claims.append(Claim(self.topic.owner, self.now_s))
        self._note(before)

    def _writer(self, number: int) -> SimWriter:
        size = self.size
        return SimWriter(f"writer-{number}", size.capacity_per_s, size.rules, size.obeys)

    def _share_out(self) -> None:
        """Move partitions when their writer has been away for a session, or comes back."""
        now_s = self.now_s
        alive = [w.name for w in self.writers if not w.gone and w.up_at_s - now_s <= SESSION_S]
        if alive != self._alive:
            self._alive = alive
            self.log.share_out(alive)
            for writer in self.writers:
                writer.parts = self.log.of_owner(writer.name)

    def _report(self, writer: SimWriter) -> None:
        report, link = writer.look(self.now_s), self.links[writer.name]
        if self.now_s - link.heard_at_s > SILENCE_S:
            self._turn_to(link, (link.governor + 1) % len(self.governors))
        if report is None:
            return
        stream, number = link.stream, link.governor

        def arrive() -> None:
            governor = self.governors[number]
            if not governor.running(self.now_s):
                self._send(link, arrive)
                return
            other = governor.hear(stream, report, self.now_s)
            if other is not None:
                self._send(link, lambda: self._redirect(link, number, other.process))

        self._send(link, arrive)

    def _redirect(self, link: Link, asked: int, leader: str) -> None:
        """Turn to the leader that was named, or else to the next in the list."""
        names = [governor.name for governor in self.governors]
        if link.governor == asked:
            known = names.index(leader) if leader in names else (asked + 1) % len(names)
            self._turn_to(link, known)

    def _turn_to(self, link: Link, governor: int) -> None:
        link.governor, link.stream = governor, next(self._numbers)
        link.heard_at_s = self.now_s

    def _pusher(self, governor: int) -> Callable[[Directive, str], None]:
        def push(directive: Directive, name: str) -> None:
            writer, link = self.by_name[name], self.links[name]
            state = writer.state

            def arrive() -> None:
                # A process that was started anew has another stream.
                if writer.up(self.now_s) and link.governor == governor:
                    link.heard_at_s = self.now_s
                    writer.hear(directive, self.now_s)

            if state.directive is None or self._news(directive, state.directive):
                self._send(link, arrive)

        return push

    @staticmethod
    def _news(directive: Directive, before: Directive) -> bool:
        said = (before.epoch, before.sequence, before.answers_ms)
        return (directive.epoch, directive.sequence, directive.answers_ms) != said

    def _send(self, link: Link, arrive: Callable[[], None]) -> None:
        if link.cut:
            return
        late = self.random.random() < LATE
        delay_s = self.size.step_s * late + self.random.uniform(0.5, 1.0) * link.slow_s
        heapq.heappush(self._due, (self.now_s + delay_s, next(self._numbers), arrive))

    def _deliver(self) -> None:
        """Bring what is due; what that sends is under way until the next step at least."""
        due = []
        while self._due and self._due[0][0] <= self.now_s:
            due.append(heapq.heappop(self._due)[2])
        for arrive in due:
            arrive()

    def _note(self, before: Level) -> None:
        level, seen = self.level, self.seen
        seen.seconds_at[level] += self.size.step_s  # type: ignore[assignment]
        seen.most_lag = max(seen.most_lag, self.log.lag)
        if self.leader is None or self.leader.recorded is None:
            seen.undirected_s += self.size.step_s
        if level is not before:
            seen.changes.append((self.now_s, before, level))
