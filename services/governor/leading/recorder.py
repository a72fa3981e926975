"""Recorder: stands by, claims, and records what is ordered before it is pushed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, replace

import structlog

from libs.market.clock import Clock
from libs.market.errors import K2Error, UnavailableError
from libs.runtime.actor import Actor, answer, refuse
from libs.runtime.backoff import Backoff
from libs.runtime.faultpoint import reach
from libs.runtime.mailbox import Mailbox
from services.governor.board import Board, Recorded, Term
from services.governor.deciding.govern import Orders, Standing
from services.governor.deciding.overrides import Override
from services.governor.leading import leadership as leading
from services.governor.leading.following import not_leading
from services.governor.leading.leadership import RECORDS_PER_TTL, Leader, Leadership, Proof
from services.governor.leading.snapshots import NOTHING, overridden, restored, snapshot, taken_over
from services.governor.metrics import LEADING, RECORD_SECONDS, TERMS
from services.governor.record.records import Kind, Placed, Record
from services.governor.record.topic import FencedError, Topic, TopicReader, TopicWriter

log = structlog.get_logger()

BACKOFF = Backoff(first_s=0.2, most_s=2.0)
FOLLOW_S = 0.2
CLAIM_TIMEOUT_S = 10.0
MOST_SLACK = 4.0
ASK_TIMEOUT_S = 5.0
# A Kafka that is slow for so long need not cost the lead: meanwhile nothing is pushed beyond a TTL.
LEAST_PATIENCE_S = 5.0
WAITING_REQUESTS = 8


@dataclass(frozen=True, slots=True)
class Request:
    """An operator's wish; None clears. The reply is what stood there before."""

    override: Override | None
    reply: asyncio.Future[Override | None]


class Recorder(Actor):
    """Owns leadership: nobody is directed but by what it has recorded."""

    def __init__(self, board: Board, topic: Topic, ttl_s: float, clock: Clock) -> None:
        self.name = "recorder"
        self.address = ""
        self._board, self._topic, self._ttl_s, self._clock = board, topic, ttl_s, clock
        self._patience_s = max(ttl_s, LEAST_PATIENCE_S)
        self._requests: Mailbox[Request] = Mailbox("override requests", WAITING_REQUESTS)
        self._left = NOTHING
        self._stopping = asyncio.Event()

    async def override(self, wanted: Override | None) -> Override | None:
        """Set or clear an operator's override, once it is recorded; return the one before.

        Raises:
            NotLeadingError: another governor leads, or took over meanwhile.
            UnavailableError: not recorded in time.
        """
        if not self._state.leading:
            raise not_leading(self._state)
        reply: asyncio.Future[Override | None] = asyncio.get_running_loop().create_future()
        self._requests.offer(Request(wanted, reply))
        try:
            async with asyncio.timeout(ASK_TIMEOUT_S):
                return await reply
        except TimeoutError as error:
            raise UnavailableError("the override was not recorded in time") from error

    async def run(self) -> None:
        failures = 0
        while not self._stopping.is_set():
            because, led_epoch = "", self._state.led_epoch
            try:
                await self._stand_by_and_lead(_with_slack(self._topic, failures))
                failures = 0
            except (FencedError, UnavailableError) as error:
                led = self._state.led_epoch != led_epoch
                before = 0 if led else failures
                failures = 0 if isinstance(error, FencedError) else before + 1
                self._say_lost(error)
                because = error.message
            self._publish(leading.deaf(self._state, because))
            await self._rest(BACKOFF.wait_s(max(1, failures)))

    async def stop(self) -> None:
        self._stopping.set()

    @property
    def _state(self) -> Leadership:
        return self._board.leadership.value

    def _publish(self, state: Leadership) -> None:
        LEADING.set(state.leading)
        if state != self._state:
            self._board.leadership.publish(state)

    async def _stand_by_and_lead(self, topic: Topic) -> None:
        reader = await TopicReader.open(topic)
        try:
            await self._stand_by(reader)
            if not self._stopping.is_set():
                await self._lead(reader, topic)
        finally:
            await reader.close()

    async def _stand_by(self, reader: TopicReader) -> None:
        """Follow the topic until it is time to claim."""
        self._left = NOTHING
        self._hear(await reader.recent())
        self._publish(leading.caught_up(self._state, self._clock.monotonic_s()))
        while not self._stopping.is_set():
            if leading.may_claim(self._state, self._clock.monotonic_s()):
                # Silence means something only where nothing is left to read.
                self._hear(await reader.to_end())
                if leading.may_claim(self._state, self._clock.monotonic_s()):
                    return
            self._hear(await reader.more(FOLLOW_S))

    def _hear(self, records: Iterable[Placed]) -> None:
        now_s = self._clock.monotonic_s()
        for placed in records:
            resigned = placed.record.kind == "resignation"
            self._publish(leading.heard(self._state, placed.leader, now_s, resigned=resigned))
            self._left = restored([placed], self._left)

    async def _lead(self, reader: TopicReader, topic: Topic) -> None:
        await reach("governor.before_claim")
        writer = await TopicWriter.open(topic, timeout_s=CLAIM_TIMEOUT_S * topic.slack)
        try:
            # Whoever led is fenced by now: what it has recorded is all there will ever be.
            self._hear(await reader.to_end())
            before = self._left
            await reader.close()
            epoch = await self._claim(writer)
            await reach("governor.after_claim")
            self._board.override.publish(before.override)
            self._board.term.publish(Term(epoch, epoch, before))
            await self._record_until_stopped(writer)
            await writer.write(
                self._say("resignation", self._board.override.value), timeout_s=self._ttl_s
            )
        finally:
            await self._end_term()
            await writer.close()

    async def _claim(self, writer: TopicWriter) -> int:
        self._hear_reports()
        state = self._state
        claim = Record(kind="claim", process=state.process, address=self.address, epoch=state.floor)
        offset = await writer.write(claim, timeout_s=self._patience_s)
        epoch = max(offset, claim.epoch)
        self._publish(leading.claimed(state, epoch, self.address))
        TERMS.inc()
        log.info("leads", epoch=epoch, address=self.address)
        return epoch

    async def _end_term(self) -> None:
        """Push nothing more: streams end as soon as they see it."""
        self._publish(leading.deaf(self._state))
        self._board.recorded.publish(None)
        self._board.term.publish(None)
        while self._requests.depth:
            refuse((await self._requests.get()).reply, not_leading(self._state))

    async def _record_until_stopped(self, writer: TopicWriter) -> None:
        due_s = self._clock.monotonic_s()
        while not self._stopping.is_set():
            self._hear_reports()
            standing, now_s = self._board.standing.value, self._clock.monotonic_s()
            if leading.outdated(self._state):
                await self._claim_anew(writer)
            elif self._requests.depth:
                await self._grant(writer, await self._requests.get())
            elif standing.epoch == self._state.own_epoch and self._to_record(standing.orders):
                await self._record(writer, "directive")
                due_s = now_s + self._ttl_s / RECORDS_PER_TTL
            elif now_s >= due_s:
                await self._record(writer, "sample")
                due_s = now_s + self._ttl_s / RECORDS_PER_TTL
            else:
                await self._board.standing.changed_since(standing, due_s - now_s)

    def _to_record(self, orders: Orders | None) -> bool:
        recorded = self._board.recorded.value
        return orders is not None and (recorded is None or recorded.orders != orders)

    async def _claim_anew(self, writer: TopicWriter) -> None:
        term = self._board.term.value
        epoch = await self._claim(writer)
        if term is not None:
            self._board.term.publish(Term(term.first_epoch, epoch, term.restored))

    async def _record(self, writer: TopicWriter, kind: Kind) -> None:
        """Record, and only then let it be pushed."""
        await reach("governor.before_record")
        began_s, fleet = self._clock.monotonic_s(), self._board.fleet.value
        standing = self._standing(began_s)
        record = snapshot(kind, standing, fleet, self._me, began_s)
        await writer.write(record, timeout_s=self._patience_s)
        RECORD_SECONDS.observe(self._clock.monotonic_s() - began_s)
        await reach("governor.after_record")
        heard_ms = {name: m.report.said_at_ms for name, m in fleet.members.items()}
        proof = Proof(began_s, heard_ms)
        self._board.recorded.publish(Recorded(standing.orders, proof, record.explanation))

    def _standing(self, now_s: float) -> Standing:
        """Return what stands; before the controller has begun the term, what was taken over.

        And with the override as it is now, for the next leader takes that from the last record.
        """
        standing, term = self._board.standing.value, self._board.term.value
        now_us, override = self._clock.now_us(), self._board.override.value
        if term is not None and standing.epoch < term.first_epoch:
            before = term.restored
            standing = taken_over(standing, term.epoch, before, now_s=now_s, now_us=now_us)
        return overridden(standing, override, now_s=now_s, now_us=now_us)

    async def _grant(self, writer: TopicWriter, request: Request) -> None:
        if request.reply.done():
            return
        before = self._board.override.value
        try:
            await writer.write(self._say("override", request.override), timeout_s=self._patience_s)
        except K2Error as error:
            refuse(request.reply, error)
            raise
        self._board.override.publish(request.override)
        answer(request.reply, before)

    @property
    def _me(self) -> Leader:
        return Leader(self._state.process, self.address, self._state.own_epoch or 0)

    def _say(self, kind: Kind, override: Override | None) -> Record:
        me = self._me
        return Record(
            kind=kind, process=me.process, address=me.address, epoch=me.epoch, override=override
        )

    def _hear_reports(self) -> None:
        self._publish(leading.obeyed(self._state, self._board.fleet.value.newest_epoch))

    def _say_lost(self, error: K2Error) -> None:
        """Tell once of each thing that hinders."""
        if error.message != self._state.hindered:
            log.warning("stands_by", error=error.message)

    async def _rest(self, rest_s: float) -> None:
        try:
            async with asyncio.timeout(rest_s):
                await self._stopping.wait()
        except TimeoutError:
            return


def _with_slack(topic: Topic, failures: int) -> Topic:
    """Wait longer after each failure in a row: Kafka may answer, and only slowly."""
    return replace(topic, slack=min(MOST_SLACK, 2.0**failures))
