"""The governor's end in each process: reports, obeys, and manages alone while nobody directs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import structlog

from libs.degradation.cadence import answers, due, every_s, pressed
from libs.degradation.level import Level, Rules
from libs.degradation.link import Connect, GovernorStream, first_of, over_grpc, send_all
from libs.degradation.memory import MemoryUse, memory_now
from libs.degradation.messages import Acknowledgement, Directive, OwnReport, Report
from libs.degradation.obedience import Applied, Obedience, applied, hear, recovering, watch
from libs.degradation.search import Search, failed, rested
from libs.degradation.shown import DIRECTED, show_levels, show_memory, tell_of_change
from libs.degradation.spans import Obeying
from libs.market.clock import Clock, SystemClock
from libs.market.errors import K2Error, UnavailableError
from libs.runtime.actor import Actor
from libs.runtime.backoff import Backoff
from libs.runtime.mailbox import Mailbox

log = structlog.get_logger()

LOOK_EVERY_S = 0.25
BACKOFF = Backoff(first_s=0.2, most_s=3.0)
# Longer without a word, and the stream is taken for dead: a stopped governor keeps its sockets.
# The first directive may wait for lag to be read; after it there are several in each TTL.
LONGEST_SILENCE_S = 6.0
SILENT_SHARE = 0.6
WAITING_MESSAGES = 8


class DegradationAgent(Actor):
    """Keep `demanded` current, and tell `apply` of each change, on the event loop.

    `report` is asked four times a second and must not block. `apply` hears at once of every
    change of what is to be done, not of the level at start, NORMAL. `taken_in` waits until all
    parts of the process go by what `apply` heard last; until then the change is not applied, not
    shown and not acknowledged. `policy` is the version of the process's priorities.

    `governor_address` may name several governors, separated by commas: the agent finds the one
    that leads. Without one the process goes by its own lag and memory.
    """

    def __init__(
        self,
        service: str,
        process: str,
        governor_address: str | None,
        report: Callable[[], OwnReport],
        apply: Callable[[Applied], None],
        *,
        memory_limit_bytes: int | None = None,
        rules: Rules | None = None,
        measure: Callable[[int | None], MemoryUse] = memory_now,
        connect: Connect | None = None,
        clock: Clock | None = None,
        taken_in: Callable[[], Awaitable[None]] | None = None,
        policy: str = "",
    ) -> None:
        self.name = "degradation"
        self._service, self._process = service, process
        self._address = governor_address
        self._report, self._apply = report, apply
        self._memory_limit_bytes, self._measure = memory_limit_bytes, measure
        self._connect = connect or over_grpc
        self._clock = clock or SystemClock()
        self._state = Obedience(rules=rules or Rules(), policy=policy)
        self._taken_in = taken_in
        self._demanded = self._applied = Applied()
        self._changed = asyncio.Event()
        self._pending = False
        self._obeying = Obeying(process)
        self._owed: Acknowledgement | None = None
        self._told: Report | None = None
        self._told_at_s = float("-inf")
        self._outbox: Mailbox[Report | Acknowledgement] | None = None
        self._stopping = asyncio.Event()

    @property
    def level(self) -> Level:
        """The higher of the two this process acts on."""
        return self._applied.level

    @property
    def applied(self) -> Applied:
        """What all parts of this process act on, by cause."""
        return self._applied

    @property
    def demanded(self) -> Applied:
        """What its parts are to act on: ahead of `applied` until the last has taken it in."""
        return self._demanded

    @property
    def own_memory_level(self) -> Level:
        """What its own memory demands, whoever directs it."""
        return self._state.memory.level

    @property
    def recovering(self) -> bool:
        """Whether its own memory is below the recovery point of that level."""
        return recovering(self._state)

    @property
    def cooldown_s(self) -> float:
        """Rest that a step down needs: no level ends sooner."""
        return self._state.rules.cooldown_s

    @property
    def connected(self) -> bool:
        return self._outbox is not None

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(self._report_steadily())]
            if self._taken_in is not None:
                running.append(tasks.create_task(self._follow_up(self._taken_in)))
            if self._address is not None:
                running.append(tasks.create_task(self._stay_connected(self._address)))
            await self._stopping.wait()
            for task in running:
                task.cancel()

    async def stop(self) -> None:
        self._stopping.set()

    def tick(self) -> Report:
        """Take one reading, apply what follows, and say so."""
        own, now_s = self._report(), self._clock.monotonic_s()
        memory = self._measure(self._memory_limit_bytes)
        self._state = watch(self._state, memory, own, now_s)
        self._follow()
        show_memory(self._process, memory)
        return self._report_of(own, memory)

    def obey(self, directive: Directive) -> Acknowledgement | None:
        """Demand what a directive says, or refuse a stale one.

        None: it is acknowledged when it is applied.
        """
        now_s = self._clock.monotonic_s()
        self._state, acknowledgement = hear(self._state, directive, now_s)
        if acknowledgement.refused_because:
            log.warning("directive_refused", because=acknowledgement.refused_because)
            return acknowledgement
        self._obeying.heard(directive)
        self._follow()
        if not self._pending:
            return acknowledgement
        self._owed = acknowledgement
        return None

    def _follow(self) -> None:
        now_s = self._clock.monotonic_s()
        before, self._demanded = self._demanded, applied(self._state, now_s)
        DIRECTED.labels(self._process).set(self._state.directed(now_s))
        if _to_do(before) != _to_do(self._demanded):
            self._apply(self._demanded)
            self._pending = self._taken_in is not None
            self._changed.set()
        if not self._pending:
            self._conclude(self._demanded)

    async def _follow_up(self, taken_in: Callable[[], Awaitable[None]]) -> None:
        """Call each change applied once every part has taken it in."""
        self._changed.set()
        while True:
            await self._changed.wait()
            self._changed.clear()
            demanded = self._demanded
            await taken_in()
            self._conclude(demanded)
            self._pending = self._changed.is_set()
            if self._owed is not None and not self._pending:
                self._post(self._owed)
                self._owed = None

    def _conclude(self, now: Applied) -> None:
        before, self._applied = self._applied, now
        self._obeying.done()
        show_levels(self._process, now)
        if _to_do(before) != _to_do(now):
            tell_of_change(now)

    def _report_of(self, own: OwnReport, memory: MemoryUse) -> Report:
        return Report(
            service=self._service,
            process=self._process,
            memory_used_bytes=memory.used_bytes,
            memory_limit_bytes=memory.limit_bytes,
            memory_baseline_bytes=self._state.baseline_bytes or 0,
            memory_level=self._state.memory.level,
            applied_level=self._applied.level,
            applied_lag_level=self._applied.lag_level,
            epoch=self._state.epoch,
            own=own,
            said_at_ms=int(self._clock.monotonic_s() * 1_000),
            every_s=every_s(self._state, own, self._clock.monotonic_s()),
        )

    async def _report_steadily(self) -> None:
        """Report steadily, and at once what may change a level."""
        while True:
            report = self.tick()
            urgent = pressed(self._state, report.own, self._clock.monotonic_s())
            # A look that comes a little early is not put off to the next one.
            if due(self._told, report, self._since_told_s() + LOOK_EVERY_S / 2, pressed=urgent):
                self._tell(report)
            await asyncio.sleep(LOOK_EVERY_S)

    def _tell(self, report: Report) -> None:
        self._told, self._told_at_s = report, time.monotonic()
        self._post(report)

    def _since_told_s(self) -> float:
        return time.monotonic() - self._told_at_s

    def _post(self, message: Report | Acknowledgement) -> bool:
        """Leave a message for the stream; where it is stuck, a later one says it all again."""
        return self._outbox is not None and self._outbox.offer(message)

    async def _stay_connected(self, addresses: str) -> None:
        search, rounds = Search.among(addresses), 0
        while True:
            heard_before = self._state.directive
            error = await self._attend(search.address)
            if self._state.directive is not heard_before:
                search, rounds = rested(search), 0
            if not (rounds or search.tried):
                log.warning("governor_away", address=search.address, error=error.message)
            search = failed(search, str(error.facts.get("leader", "")))
            if search.rests:
                search, rounds = rested(search), rounds + 1
                await asyncio.sleep(BACKOFF.wait_s(rounds))

    async def _attend(self, address: str) -> K2Error:
        """Be directed from there until that fails; say why it did."""
        try:
            async with self._connect(address) as stream:
                await self._converse(stream)
        except K2Error as error:
            return error
        return UnavailableError("the stream to the governor has ended")

    async def _converse(self, stream: GovernorStream) -> None:
        outbox: Mailbox[Report | Acknowledgement] = Mailbox("degradation outbox", WAITING_MESSAGES)
        self._outbox = outbox
        self._tell(self.tick())
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(send_all(stream, outbox))
                tasks.create_task(self._receive(stream))
        except* K2Error as errors:
            raise first_of(errors) from None
        finally:
            self._outbox = self._owed = None

    async def _receive(self, stream: GovernorStream) -> None:
        """Obey what comes; what only renews a directive was acknowledged before."""
        silence_s, said = LONGEST_SILENCE_S, None
        while True:
            try:
                async with asyncio.timeout(silence_s):
                    directive = await stream.receive()
            except TimeoutError as error:
                silent = f"the governor said nothing for {silence_s:g} s"
                raise UnavailableError(silent) from error
            silence_s = directive.ttl_s * SILENT_SHARE
            acknowledgement = self.obey(directive)
            if acknowledgement is not None and acknowledgement != said:
                said = acknowledgement if self._post(acknowledgement) else None
            if answers(self._told, self._since_told_s()):
                self._tell(self.tick())


def _to_do(now: Applied) -> tuple[object, ...]:
    return (now.lag_level, now.memory_level, now.causes, now.hot_partitions)
