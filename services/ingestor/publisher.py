"""The publisher: checks the sequence, encodes, and has Kafka take everything."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import structlog
from opentelemetry import trace
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from libs.market.clock import Clock
from libs.runtime.actor import Actor
from libs.runtime.mailbox import Mailbox, MailboxClosedError
from libs.telemetry.tracing import tracer
from services.ingestor import measures
from services.ingestor.binance import Rejected
from services.ingestor.columns import TradeColumns
from services.ingestor.dead_letters import DeadLetters
from services.ingestor.delivery import Delivery, Producer, Records
from services.ingestor.encoding import encode
from services.ingestor.feeds import Feed, FeedState, Rates
from services.ingestor.messages import Ended, Message, Received
from services.ingestor.sequence import SequenceCheck, Step, Verdict
from services.ingestor.symbols import SymbolTable

log = structlog.get_logger()

MAILBOX_BURSTS = 8
SAY_REJECTED_EVERY_S = 5.0


@dataclass(frozen=True, slots=True)
class Destination:
    """Where trades go, and what cannot be one."""

    topic: str
    dead_letter_topic: str
    schema_id: int


class Publisher(Actor):
    """Owns the sequence state and what Kafka has not taken yet.

    A burst is checked once: after a failure between the check and the hand-over, the restarted
    actor goes on with the checked rows, and after it with the records it handed over.
    """

    name = "publisher"

    def __init__(
        self,
        *,
        table: SymbolTable,
        destination: Destination,
        open_producer: Callable[[], Awaitable[Producer]],
        clock: Clock,
    ) -> None:
        self.mailbox: Mailbox[Message] = Mailbox(self.name, MAILBOX_BURSTS)
        self._sequence = SequenceCheck(len(table.symbols))
        self._rates = Rates(len(table.symbols))
        self.rejected = 0
        self._table = table
        self._to = destination
        self._dead_letters = DeadLetters(destination.dead_letter_topic, clock.now_us())
        self._clock = clock
        self._delivery = Delivery(
            open_producer, clock=clock, on_acknowledged=self._count_acknowledged
        )
        self._checked: Received | None = None
        self._seldom = measures.Seldom(SAY_REJECTED_EVERY_S)
        self._tracer = tracer("k2.ingestor")

    async def start(self) -> None:
        await self._delivery.open()

    async def run(self) -> None:
        while await self._take():
            with self._tracer.start_as_current_span("publish") as span:
                self._hand_over(span)
                await self._delivery.send()
            # With more bursts waiting, Kafka acknowledges while the next one is encoded.
            if not self.mailbox.depth:
                await self._delivery.settle(0)
        await self._delivery.flush()

    async def stop(self) -> None:
        self.mailbox.close()

    async def close(self) -> None:
        await self._delivery.close()
        if self._delivery.unacknowledged:
            log.error("records_not_delivered", records=self._delivery.unacknowledged)

    def feeds(self, exchange: str, states: Mapping[str, FeedState]) -> list[Feed]:
        """Tell of each symbol how it goes; `states` are those of the symbols' sessions."""
        rates = self._rates.per_second(self._clock.monotonic_s()).tolist()
        return [
            Feed(
                exchange=exchange,
                symbol=symbol,
                state=states[symbol],
                trades=state.trades,
                trades_per_second=rate,
                last_sequence=state.last or 0,
                received_us=state.received_us,
                gaps=state.gap_count,
                missing_trades=state.missing,
                repeated_trades=state.repeats,
                recent_gaps=tuple(state.gaps),
            )
            for symbol, state, rate in zip(
                self._table.symbols, self._sequence.by_code, rates, strict=True
            )
        ]

    async def _take(self) -> bool:
        """Have a checked burst in hand; False once there will be no more."""
        while self._checked is None:
            try:
                message = await self.mailbox.get()
            except MailboxClosedError:
                return False
            match message:
                case Ended(connection):
                    self._sequence.forget(connection)
                case Received():
                    self._checked = self._check(message)
        return True

    def _check(self, received: Received) -> Received:
        trades = received.trades
        verdict = self._sequence.check(trades, received.connection)
        self._count(received, verdict)
        if not verdict.drop:
            return received
        return replace(received, trades=trades.where(verdict.kept(len(trades))))

    def _hand_over(self, span: trace.Span) -> None:
        """Encode the checked burst; from here on it is the delivery's."""
        checked = self._checked
        if checked is None:
            return
        span.set_attribute("k2.trades", len(checked.trades))
        records = self._encode(checked.trades)
        if records and span.is_recording():
            records[0] = _traced(records[0])
        if checked.rejected:
            records.append(self._dead_letters.records(checked.rejected))
        self._delivery.add(records)
        self._checked = None

    def _encode(self, trades: TradeColumns) -> list[Records]:
        return [
            Records(self._to.topic, group.partition, group.keys, group.values)
            for group in encode(trades, self._table, self._to.schema_id)
        ]

    def _count(self, received: Received, verdict: Verdict) -> None:
        if len(received.trades):
            measures.RECEIVED.inc(len(received.trades))
            measures.BURST_ROWS.observe(len(received.trades))
            self._rates.add(received.trades.codes, self._clock.monotonic_s())
        for step, count in verdict.steps.items():
            if step is not Step.NEXT:
                measures.STEPS.labels(step.name.lower()).inc(count)
        if Step.GAP in verdict.steps or Step.LATE in verdict.steps:
            measures.MISSING.set(sum(s.missing for s in self._sequence.by_code))
            self._say_gaps(received.trades)
        for frame in received.rejected:
            self._count_rejected(frame)

    def _say_gaps(self, trades: TradeColumns) -> None:
        unsaid = self._seldom.may_say("gap", self._clock.monotonic_s())
        if unsaid is not None:
            symbols = [self._table.symbols[code] for code in np.unique(trades.codes).tolist()]
            missing = sum(s.missing for s in self._sequence.by_code)
            log.warning("sequence_gap", among=symbols[:10], missing=missing, more_since=unsaid)

    def _count_rejected(self, frame: Rejected) -> None:
        self.rejected += 1
        measures.REJECTED.labels(frame.reason).inc()
        unsaid = self._seldom.may_say(frame.reason, self._clock.monotonic_s())
        if unsaid is not None:
            raw = frame.raw[:200].decode(errors="backslashreplace")
            log.warning(
                "frame_rejected",
                reason=frame.reason,
                detail=frame.detail[:200],
                raw=raw,
                more_since=unsaid,
            )

    def _count_acknowledged(self, topic: str, records: int) -> None:
        if topic == self._to.topic:
            measures.TRADES.inc(records)


def _traced(records: Records) -> Records:
    """Give the first record the span's traceparent, for whoever reads it."""
    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier)
    headers = [(name, text.encode()) for name, text in carrier.items()]
    return replace(records, headers=[headers, *([()] * (len(records) - 1))])
