"""Two governors in any order of steps, sleeps and lost messages: a fenced one has no say."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from libs.degradation.level import Level
from libs.degradation.messages import Directive
from libs.degradation.obedience import Obedience, hear
from services.governor.leading import leadership as leading
from services.governor.leading.leadership import Leader, Leadership, Proof

TTL_S = 10.0
GOVERNORS = ("governor-1", "governor-2")
PROCESS = "writer-1"
STEPS = (
    "reads_the_topic",
    "takes_the_id",
    "claims",
    "hears_a_report",
    "begins_a_record",
    "ends_a_record",
    "pushes",
)
governors = st.sampled_from(GOVERNORS)


@dataclass
class Kafka:
    """The transactional id, and the topic: whoever took the id last may write."""

    holder: int = 0
    log: list[Leader] = field(default_factory=list)
    fenced_at_s: dict[int, float] = field(default_factory=dict)

    def take(self, now_s: float) -> int:
        self.fenced_at_s[self.holder] = now_s
        self.holder += 1
        return self.holder

    def write(self, token: int, said: Leader) -> int | None:
        """Return the offset; None where another has taken the id."""
        if token != self.holder:
            return None
        self.log.append(said)
        return len(self.log) - 1


@dataclass
class Governor:
    """One process: it may stop for any time between any two of its steps."""

    state: Leadership
    token: int = 0
    read: int = 0
    sequence: int = 0
    heard_ms: dict[str, int] = field(default_factory=dict)
    begun: Proof | None = None
    proof: Proof = field(default_factory=Proof)

    def lose(self) -> None:
        self.state, self.token, self.begun = leading.deaf(self.state), 0, None


class TwoGovernors(RuleBasedStateMachine):
    """Every rule is one step of one party; what is not stepped, sleeps."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 100.0
        self.restarted = False
        self.kafka = Kafka()
        self.governors = {
            name: Governor(Leadership(name, leading.patience_s(TTL_S, at / 2)))
            for at, name in enumerate(GOVERNORS)
        }
        self.process = Obedience()
        self.obeyed: list[tuple[int, int]] = []
        # Not by epoch alone: that of a topic made anew may come again. So each with its sender.
        self.directives: list[tuple[int, Directive]] = []
        self.obeys = 0

    @rule(seconds=st.sampled_from((0.1, 3.0, 6.0)))
    def time_passes(self, seconds: float) -> None:
        self.now_s += seconds

    def reads_the_topic(self, name: str) -> None:
        governor = self.governors[name]
        for said in self.kafka.log[governor.read :]:
            governor.state = leading.heard(governor.state, said, self.now_s)
        governor.read = len(self.kafka.log)
        governor.state = leading.caught_up(governor.state, self.now_s)

    def takes_the_id(self, name: str) -> None:
        governor = self.governors[name]
        if not governor.token and leading.may_claim(governor.state, self.now_s):
            governor.token = self.kafka.take(self.now_s)

    def claims(self, name: str) -> None:
        """Only after all is read that was written before the id was taken."""
        governor = self.governors[name]
        if not governor.token or (governor.state.leading and not leading.outdated(governor.state)):
            return
        self.reads_the_topic(name)
        floor = governor.state.floor
        epoch = max(len(self.kafka.log), floor)
        if self.kafka.write(governor.token, Leader(name, name, epoch)) is None:
            governor.lose()
            return
        governor.read = len(self.kafka.log)
        governor.state = leading.claimed(governor.state, epoch, name)
        governor.proof, governor.begun = Proof(), None

    def begins_a_record(self, name: str) -> None:
        governor = self.governors[name]
        if governor.state.leading:
            governor.begun = Proof(self.now_s, dict(governor.heard_ms))

    def ends_a_record(self, name: str) -> None:
        governor = self.governors[name]
        if governor.begun is None or governor.state.leader is None:
            return
        if self.kafka.write(governor.token, governor.state.leader) is None:
            governor.lose()
            return
        governor.read = len(self.kafka.log)
        governor.proof, governor.begun = governor.begun, None
        governor.sequence += 1

    def pushes(self, name: str) -> None:
        """What is under way may be delivered at any time, or never."""
        governor = self.governors[name]
        heard_ms = governor.proof.heard_ms.get(PROCESS)
        if not governor.state.leading or not heard_ms:
            return
        if governor.proof.holds(TTL_S, self.now_s):
            epoch = governor.state.own_epoch or 0
            levels = (Level.SOFT, Level.NORMAL)
            order = Directive(epoch, governor.sequence, TTL_S, *levels, answers_ms=heard_ms)
            self.directives.append((governor.token, order))

    def hears_a_report(self, name: str) -> None:
        governor = self.governors[name]
        governor.heard_ms[PROCESS] = int(self.now_s * 1_000)
        governor.state = leading.obeyed(governor.state, self.process.epoch)

    @rule(name=governors, step=st.sampled_from(STEPS))
    def takes_a_step(self, name: str, step: str) -> None:
        getattr(self, step)(name)

    @rule(name=governors)
    def takes_over(self, name: str) -> None:
        """Take all steps to lead, as it mostly does, the other silent for long enough."""
        self.reads_the_topic(name)
        self.now_s += TTL_S / 2
        self.takes_the_id(name)
        self.claims(name)

    @rule(name=governors)
    def directs(self, name: str) -> None:
        self.hears_a_report(name)
        self.begins_a_record(name)
        self.ends_a_record(name)
        self.pushes(name)

    @precondition(lambda self: self.directives)
    @rule(newest=st.booleans())
    def process_hears(self, newest: bool) -> None:
        sender, order = self.directives.pop(-1 if newest else 0)
        self.process, answer = hear(self.process, order, self.now_s)
        if not answer.refused_because:
            self.obeys = sender
            self.obeyed.append((order.epoch, order.sequence))

    @rule(name=governors, anew=st.booleans())
    def something_is_forgotten(self, name: str, anew: bool) -> None:
        """A governor restarts; or the topic is made anew, while all that ran remember.

        Those who do not remember learn by refusals what was obeyed.
        """
        if not anew:
            self.restarted = True
            self.governors[name] = Governor(Leadership(name, TTL_S / 2))
        elif not self.restarted:
            self.kafka.log.clear()
            for governor in self.governors.values():
                governor.read = 0

    @invariant()
    def nobody_obeys_a_fenced_governor_beyond_a_ttl(self) -> None:
        fenced_at_s = self.kafka.fenced_at_s.get(self.obeys)
        if self.process.directed(self.now_s) and fenced_at_s is not None:
            assert self.now_s <= fenced_at_s + TTL_S

    @invariant()
    def what_a_process_obeys_never_goes_back(self) -> None:
        assert self.obeyed == sorted(self.obeyed)


TwoGovernors.TestCase.settings = settings(max_examples=120, stateful_step_count=40, deadline=None)
TestTwoGovernors = TwoGovernors.TestCase
