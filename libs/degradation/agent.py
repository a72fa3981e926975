"""The governor's end in each process: reports, obeys, and manages alone while nobody directs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol

import structlog
from prometheus_client import Gauge

from libs.degradation.level import Level, Rules
from libs.degradation.memory import MemoryUse, memory_now
from libs.degradation.messages import Acknowledgement, Directive, OwnReport, Report
from libs.degradation.obedience import Applied, Obedience, applied, hear, watch
from libs.market.clock import Clock, SystemClock
from libs.market.errors import K2Error, UnavailableError
from libs.runtime.actor import Actor
from libs.runtime.backoff import Backoff
from libs.runtime.mailbox import Mailbox

log = structlog.get_logger()

REPORT_EVERY_S = 1.0
BACKOFF = Backoff(first_s=0.2, most_s=5.0)
# Longer without a word, and the stream is taken for dead: a stopped governor keeps its sockets.
LONGEST_SILENCE_S = 30.0
WAITING_MESSAGES = 8

LEVEL = Gauge("k2_level", "Level acted on, 0 NORMAL to 4 CIRCUIT_BREAK", ["process"])
CAUSE_LEVEL = Gauge("k2_cause_level", "Level acted on, by what causes it", ["process", "cause"])
MEMORY_USED = Gauge("k2_memory_used_bytes", "Memory that counts against the limit", ["process"])
MEMORY_LIMIT = Gauge("k2_memory_limit_bytes", "Memory this process may use", ["process"])
DIRECTED = Gauge("k2_directed", "1 while a governor's directive holds", ["process"])


class GovernorStream(Protocol):
    """One open Control stream; both methods raise K2Error where it breaks."""

    async def send(self, message: Report | Acknowledgement) -> None: ...

    async def receive(self) -> Directive: ...


Connect = Callable[[str], AbstractAsyncContextManager[GovernorStream]]


class DegradationAgent(Actor):
    """Keep `level` current, and tell `apply` of each change, on the event loop.

    `report` is asked once a second and must not block. `apply` hears of every change of what is
    to be done, not of the level at start, which is NORMAL. Without a `governor_address`, or while
    nothing answers there, the process goes by its own lag and memory.
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
    ) -> None:
        self.name = "degradation"
        self._service, self._process = service, process
        self._address = governor_address
        self._report, self._apply = report, apply
        self._memory_limit_bytes, self._measure = memory_limit_bytes, measure
        self._connect = connect or _over_grpc
        self._clock = clock or SystemClock()
        self._state = Obedience(rules=rules or Rules())
        self._applied = Applied()
        self._outbox: Mailbox[Report | Acknowledgement] | None = None
        self._stopping = asyncio.Event()

    @property
    def level(self) -> Level:
        """The higher of the two this process acts on."""
        return self._applied.level

    @property
    def applied(self) -> Applied:
        """What this process acts on, by cause."""
        return self._applied

    @property
    def connected(self) -> bool:
        return self._outbox is not None

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(self._report_each_second())]
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
        self._state = watch(self._state, memory, own.lag, now_s)
        self._follow()
        MEMORY_USED.labels(self._process).set(memory.used_bytes)
        MEMORY_LIMIT.labels(self._process).set(memory.limit_bytes)
        return self._report_of(own, memory)

    def obey(self, directive: Directive) -> Acknowledgement:
        """Apply a directive, or refuse a stale one."""
        now_s = self._clock.monotonic_s()
        self._state, acknowledgement = hear(self._state, directive, now_s)
        if acknowledgement.refused_because:
            log.warning("directive_refused", because=acknowledgement.refused_because)
        self._follow()
        return acknowledgement

    def _follow(self) -> None:
        now_s = self._clock.monotonic_s()
        before, self._applied = self._applied, applied(self._state, now_s)
        DIRECTED.labels(self._process).set(self._state.directed(now_s))
        LEVEL.labels(self._process).set(self.level)
        CAUSE_LEVEL.labels(self._process, "LAG").set(self._applied.lag_level)
        CAUSE_LEVEL.labels(self._process, "MEMORY").set(self._applied.memory_level)
        if _to_do(before) != _to_do(self._applied):
            self._tell_of_change()

    def _tell_of_change(self) -> None:
        now = self._applied
        log.info(
            "level_applied",
            level=now.level.name,
            lag_level=now.lag_level.name,
            memory_level=now.memory_level.name,
            causes=sorted(map(str, now.causes)),
            authority=now.authority,
            because=now.explanation,
        )
        self._apply(now)

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
        )

    async def _report_each_second(self) -> None:
        while True:
            self._post(self.tick())
            await asyncio.sleep(REPORT_EVERY_S)

    def _post(self, message: Report | Acknowledgement) -> None:
        """Leave a message for the stream; where it is stuck, a later one says it all again."""
        if self._outbox is not None:
            self._outbox.offer(message)

    async def _stay_connected(self, address: str) -> None:
        failures = 0
        while True:
            heard_before = self._state.directive
            try:
                async with self._connect(address) as stream:
                    await self._converse(stream)
            except K2Error as error:
                failures = 1 if self._state.directive is not heard_before else failures + 1
                if failures == 1:
                    log.warning("governor_away", address=address, error=error.message)
            await asyncio.sleep(BACKOFF.wait_s(failures))

    async def _converse(self, stream: GovernorStream) -> None:
        outbox: Mailbox[Report | Acknowledgement] = Mailbox("degradation outbox", WAITING_MESSAGES)
        self._outbox = outbox
        self._post(self.tick())
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(_send(stream, outbox))
                tasks.create_task(self._receive(stream))
        except* K2Error as errors:
            raise _first(errors) from None
        finally:
            self._outbox = None

    async def _receive(self, stream: GovernorStream) -> None:
        while True:
            try:
                async with asyncio.timeout(LONGEST_SILENCE_S):
                    directive = await stream.receive()
            except TimeoutError as error:
                silent = f"the governor said nothing for {LONGEST_SILENCE_S:g} s"
                raise UnavailableError(silent) from error
            self._post(self.obey(directive))


async def _send(stream: GovernorStream, outbox: Mailbox[Report | Acknowledgement]) -> None:
    while True:
        await stream.send(await outbox.get())


def _first(errors: BaseExceptionGroup[K2Error]) -> K2Error:
    first = errors.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first


def _to_do(now: Applied) -> tuple[object, ...]:
    return (now.lag_level, now.memory_level, now.causes)


def _over_grpc(address: str) -> AbstractAsyncContextManager[GovernorStream]:
    # Imported late: a process without a governor loads no stubs, and tests none.
    from libs.degradation.stream import open_stream

    return open_stream(address)
