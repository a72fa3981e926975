"""The publisher: checks the sequence, encodes, and hands everything to the backlog."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import structlog
from opentelemetry import trace

from libs.market.clock import Clock
from libs.market.trade import Origin
from libs.runtime.actor import Actor
from libs.runtime.mailbox import Mailbox, MailboxClosedError
from services.ingestor import measures
from services.ingestor.delivering.backlog import Backlog
from services.ingestor.delivering.records import Records
from services.ingestor.feeds import Feed, FeedState, Rates
from services.ingestor.parsing.binance import Rejected
from services.ingestor.parsing.columns import TradeColumns
from services.ingestor.parsing.symbols import SymbolTable
from services.ingestor.publishing.bookkeeping import Bookkeeping
from services.ingestor.publishing.dead_letters import DeadLetters
from services.ingestor.publishing.encoding import encode
from services.ingestor.publishing.messages import (
    Ended,
    Healed,
    Listed,
    Message,
    NeverWere,
    Opened,
    Received,
)
from services.ingestor.publishing.missed import (
    OpenGap,
    QuietSymbol,
    open_gaps,
    quiet_symbols,
)
from services.ingestor.publishing.sequence import SequenceCheck, Verdict
from services.ingestor.publishing.symbol_sequence import Step
from services.ingestor.publishing.tracing import publish_span, traced
from services.ingestor.spool.entries import IdRun

log = structlog.get_logger()

MAILBOX_BURSTS = 8
SAY_REJECTED_EVERY_S = 5.0
BOOK_EVERY_S = 1.0


@dataclass(frozen=True, slots=True)
class Destination:
    """Where trades go, and what cannot be one."""

    topic: str
    dead_letter_topic: str
    schema_id: int


@dataclass(frozen=True, slots=True)
class _Checked:
    """What goes on to Kafka; of a symbol that begins here, once the book says so."""

    trades: TradeColumns
    rejected: tuple[Rejected, ...] = ()
    origin: Origin = Origin.STREAM
    begins: bool = False


class Publisher(Actor):
    """Owns the sequence state.

    A burst is checked once: after a failure between the check and the hand-over, the restarted
    actor goes on with the checked rows.
    """

    name = "publisher"

    def __init__(
        self,
        *,
        table: SymbolTable,
        destination: Destination,
        backlog: Backlog,
        outstanding: Callable[[], int],
        book_dir: Path,
        clock: Clock,
    ) -> None:
        self.mailbox: Mailbox[Message] = Mailbox(self.name, MAILBOX_BURSTS)
        self._sequence = SequenceCheck(len(table.symbols))
        self._rates = Rates(len(table.symbols))
        self.rejected = 0
        self._table = table
        self._to = destination
        self._dead_letters = DeadLetters(destination.dead_letter_topic, clock.now_us())
        self._backlog = backlog
        self._outstanding = outstanding
        self._book = Bookkeeping(table, self._sequence.by_code, book_dir)
        self._clock = clock
        self._checked: _Checked | None = None
        self._seldom = measures.Seldom(SAY_REJECTED_EVERY_S)

    def resume(self, spooled: Iterable[IdRun]) -> None:
        """Go on from the last process's book, and from what it left in the spool."""
        self._book.resume(spooled, self._clock.now_us())

    async def run(self) -> None:
        keeping = asyncio.create_task(self._keep_book())
        try:
            while await self._take():
                with publish_span(self._to.topic) as span:
                    await self._hand_over(span)
        finally:
            keeping.cancel()
            with suppress(asyncio.CancelledError):
                await keeping
        self._book.make_page(self._backlog.accepted)

    async def stop(self) -> None:
        self.mailbox.close()

    async def write_last_page(self) -> None:
        """Write the book once more, when the deliverer has ended."""
        await self._write_book()
        self._book.close()

    def open_gaps(self) -> list[OpenGap]:
        """Name what is missing, as it stands now."""
        return open_gaps(self._table.symbols, self._sequence.by_code)

    def quiet(self) -> list[QuietSymbol]:
        """Name the symbols whose connection has brought nothing of them since it opened."""
        return quiet_symbols(self._table.symbols, self._sequence.by_code)

    def feeds(
        self,
        exchange: str,
        states: Mapping[str, FeedState],
        reason: Callable[[int, int], str] = lambda _code, _first: "",
    ) -> list[Feed]:
        """Tell of each symbol how it goes; `states` are those of the symbols' sessions.

        `reason` says why a gap stays, by its symbol's code and first id.
        """
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
                healed_trades=state.healed,
                venue_holes=state.venue_holes,
                repeated_trades=state.repeats,
                open_gaps=tuple((gap, reason(code, gap.first)) for gap in state.gaps),
            )
            for code, (symbol, state, rate) in enumerate(
                zip(self._table.symbols, self._sequence.by_code, rates, strict=True)
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
                case Opened(connection, codes):
                    self._sequence.opened(codes, connection, self._clock.monotonic_s())
                case Ended(connection):
                    self._sequence.forget(connection)
                case Received():
                    self._checked = self._check(message)
                case Healed():
                    self._checked = self._check_healed(message)
                case NeverWere(code, first, last):
                    self._sequence.by_code[code].close(first, last)
                    self._count_missing()
                case Listed(code, after, last):
                    self._sequence.by_code[code].listed(after, last, self._clock.now_us())
                    self._count_missing()
        return True

    def _check(self, received: Received) -> _Checked:
        trades = received.trades
        verdict = self._sequence.check(trades, received.connection)
        self._count(received, verdict)
        if verdict.drop:
            trades = trades.where(verdict.kept(len(trades)))
        return _Checked(trades, received.rejected, begins=verdict.begins)

    def _check_healed(self, healed: Healed) -> _Checked:
        """Keep what is missing still: some may have come late by themselves."""
        trades = healed.trades
        newest_us = int(trades.times_us.max())
        wanted = self._sequence.by_code[healed.code].heal(trades.ids.tolist(), newest_us)
        measures.HEALED.inc(sum(wanted))
        self._count_missing()
        return _Checked(trades.where(np.array(wanted, np.bool_)), origin=Origin.HEALED)

    async def _hand_over(self, span: trace.Span) -> None:
        """Encode the checked burst; from here on it is the backlog's."""
        checked = self._checked
        if checked is None:
            return
        if checked.begins:
            await self._book.write_beginnings(self._done)
        span.set_attribute("k2.trades", len(checked.trades))
        records = self._encode(checked)
        if records and span.is_recording():
            records[0] = traced(records[0])
        if checked.rejected:
            records.append(self._dead_letters.records(checked.rejected))
        await self._backlog.put(records)
        self._checked = None

    def _encode(self, checked: _Checked) -> list[Records]:
        encoded = encode(checked.trades, self._table, self._to.schema_id, checked.origin)
        return [
            Records(self._to.topic, g.partition, g.keys, g.values, (), g.ids, g.section)
            for g in encoded
        ]

    async def _keep_book(self) -> None:
        while True:
            await asyncio.sleep(BOOK_EVERY_S)
            # Between the check of a burst and its hand-over the two do not tell the same.
            if self._checked is None:
                self._book.make_page(self._backlog.accepted)
            await self._write_book()

    async def _write_book(self) -> None:
        await self._book.write_due(self._done)

    @property
    def _done(self) -> int:
        """How many records Kafka has."""
        return self._backlog.accepted - self._outstanding()

    def _count(self, received: Received, verdict: Verdict) -> None:
        if len(received.trades):
            measures.RECEIVED.inc(len(received.trades))
            measures.BURST_ROWS.observe(len(received.trades))
            self._rates.add(received.trades.codes, self._clock.monotonic_s())
        for step, count in verdict.steps.items():
            if step is not Step.NEXT:
                measures.STEPS.labels(step.name.lower()).inc(count)
        if Step.GAP in verdict.steps or Step.LATE in verdict.steps:
            self._count_missing()
            self._say_gaps(received.trades)
        for frame in received.rejected:
            self._count_rejected(frame)

    def _count_missing(self) -> None:
        measures.MISSING.set(sum(s.missing for s in self._sequence.by_code))
        measures.OPEN_GAPS.set(sum(len(s.gaps) for s in self._sequence.by_code))

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
