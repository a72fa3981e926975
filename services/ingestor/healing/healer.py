"""The healer: fetches what connections missed, and hands it to the publisher."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import structlog

from libs.market.clock import Clock
from libs.market.errors import K2Error, UnavailableError
from libs.runtime.actor import Actor
from libs.runtime.backoff import Backoff
from libs.runtime.first import first_of
from libs.runtime.mailbox import Mailbox
from services.ingestor import measures
from services.ingestor.healing.budget import Budget
from services.ingestor.healing.holes import Declare
from services.ingestor.healing.plan import (
    MOST_ROWS,
    Answered,
    Attempt,
    GapKey,
    IdRange,
    key_of,
    next_gap,
    read_answer,
    rows_to_ask,
)
from services.ingestor.healing.rest import Answer, TradesApi, to_columns
from services.ingestor.parsing.validation import misfits
from services.ingestor.publishing.messages import Healed, Listed, Message, NeverWere
from services.ingestor.publishing.missed import OpenGap, QuietSymbol
from services.ingestor.publishing.symbol_sequence import Unheard

log = structlog.get_logger()

LOOK_EVERY_S = 0.1
BACKOFF = Backoff(first_s=1, most_s=120)
# Then other gaps have their turn.
MOST_PAGES_A_TURN = 20
NOT_LOOKED_UP = "quiet_symbol_not_looked_up"
NO_WRITER = "the exchange never had them, and no writer is known to record it"


@dataclass(frozen=True, slots=True)
class HealingRules:
    """How a healer goes about it.

    A symbol that has not traded `quiet_after_s` after a connection opened is looked up, once.
    """

    after_s: float
    most_weight: int
    quiet_after_s: float
    backoff: Backoff = BACKOFF


class Healer(Actor):
    """Owns the request budget, and what came of each gap it asked for.

    `gaps` tells what is missing now; `held_because` is empty where trades may be brought.
    """

    name = "healer"

    def __init__(
        self,
        api: TradesApi,
        rules: HealingRules,
        *,
        gaps: Callable[[], Sequence[OpenGap]],
        quiet: Callable[[], Sequence[QuietSymbol]],
        held_because: Callable[[], str],
        publisher: Mailbox[Message],
        declare: Declare | None,
        clock: Clock,
    ) -> None:
        self.requests = 0
        self.budget = Budget(rules.most_weight)
        self._api = api
        self._rules = rules
        self._gaps = gaps
        self._quiet = quiet
        self._looked_up: dict[int, Unheard] = {}
        self._look_up_from_s = 0.0
        self._held_because = held_because
        self._publisher = publisher
        self._declare = declare
        self._clock = clock
        self._idle = True
        self._attempts: dict[GapKey, Attempt] = {}
        self._stopping = asyncio.Event()

    @property
    def waits_because(self) -> str:
        return self._held_because() or self.budget.because(self._now_s())

    def reason(self, code: int, first: int) -> str:
        """Say what came of asking for a gap; empty where it was not asked for yet."""
        attempt = self._attempts.get((code, first))
        return attempt.because if attempt else ""

    async def start(self) -> None:
        await self._api.open()

    async def run(self) -> None:
        while not self._stopping.is_set():
            if not self.waits_because:
                await self._work()
            await self._pause(LOOK_EVERY_S if self._idle else 0)

    async def stop(self) -> None:
        self._stopping.set()

    async def close(self) -> None:
        await self._api.close()

    async def _work(self) -> None:
        """Heal a gap; with none due, look after a symbol that its connection has not brought."""
        gap = self._next()
        quiet = self._next_quiet() if gap is None else None
        self._idle = gap is None and quiet is None
        if gap is not None:
            await self._heal(gap)
        elif quiet is not None:
            await self._look_up(quiet)

    def _next_quiet(self) -> QuietSymbol | None:
        now_s = self._clock.monotonic_s()
        if now_s < self._look_up_from_s:
            return None
        since_s = now_s - self._rules.quiet_after_s
        due = (quiet for quiet in self._quiet() if quiet.unheard.since_s <= since_s)
        return next((q for q in due if self._looked_up.get(q.code) != q.unheard), None)

    async def _look_up(self, quiet: QuietSymbol) -> None:
        """Ask whether a symbol traded while nobody listened; where it did, that is a gap.

        An exchange that lists neither the newest trade known nor the next has forgotten it, or
        counts anew.
        """
        after = quiet.unheard.after
        try:
            answer = await self._request(quiet.symbol, max(after, 0), MOST_ROWS)
        except UnavailableError as error:
            self._look_up_later(quiet, error.message)
            return
        if answer.for_all:
            return
        if answer.status >= 500 or answer.for_any:
            self._look_up_later(quiet, answer.problem)
            return
        self._looked_up[quiet.code] = quiet.unheard
        if answer.status != 200:
            log.warning(NOT_LOOKED_UP, symbol=quiet.symbol, error=answer.problem)
        ids = [trade.id for trade in answer.trades]
        if ids and ids[0] in (after, after + 1) and ids[-1] > after:
            await self._tell(Listed(quiet.code, after, ids[-1]))

    def _look_up_later(self, quiet: QuietSymbol, because: str) -> None:
        log.warning(NOT_LOOKED_UP, symbol=quiet.symbol, error=because)
        self._look_up_from_s = self._clock.monotonic_s() + self._rules.backoff.most_s

    def _next(self) -> OpenGap | None:
        gaps = self._gaps()
        there = {key_of(gap) for gap in gaps}
        self._attempts = {key: tried for key, tried in self._attempts.items() if key in there}
        return next_gap(
            gaps,
            self._attempts,
            now_s=self._clock.monotonic_s(),
            seen_before_us=self._clock.now_us() - round(self._rules.after_s * 1_000_000),
        )

    async def _heal(self, gap: OpenGap) -> None:
        """Ask for a gap page by page; what stays open is noted with why."""
        from_id = max(gap.gap.first - 1, 0)
        for _ in range(MOST_PAGES_A_TURN):
            answer = await self._ask(gap, from_id)
            if answer is None or self._stopping.is_set():
                return
            told = read_answer(gap.gap, from_id, [trade.id for trade in answer.trades])
            because = await self._bring(gap, answer, told)
            if because or told.go_on_from is None:
                self._note(gap, because or told.because)
                return
            if self.waits_because:
                return
            from_id = told.go_on_from

    async def _ask(self, gap: OpenGap, from_id: int) -> Answer | None:
        """Return a page of trades; None where there is none, which is noted."""
        limit = rows_to_ask(gap.gap, from_id)
        try:
            answer = await self._request(gap.symbol, from_id, limit)
        except UnavailableError as error:
            self._note(gap, error.message)
            return None
        if answer.status == 200:
            return answer
        if not answer.for_all:
            self._note(gap, answer.problem)
        return None

    async def _request(self, symbol: str, from_id: int, limit: int) -> Answer:
        """Ask, within the budget; what brings no answer may have cost the exchange's weight too.

        Raises:
            UnavailableError: nothing there answers as the exchange does.
        """
        try:
            answer = await self._api.historical_trades(symbol, from_id, limit)
        except UnavailableError:
            self._spend(None, "none")
            raise
        self._spend(answer.used_weight, str(answer.status))
        self._obey(answer)
        return answer

    def _spend(self, used_weight: int | None, status: str) -> None:
        self.requests += 1
        self.budget = self.budget.spent(used_weight, self._now_s())
        measures.REST_REQUESTS.labels(status).inc()
        measures.REST_WEIGHT.set(self.budget.used)

    def _obey(self, answer: Answer) -> None:
        now_s = self._now_s()
        if answer.for_all:
            self.budget = self.budget.refused(answer.status, answer.retry_after_s, now_s)
            log.warning("exchange_refuses_rest", status=answer.status, problem=answer.problem)

    async def _bring(self, gap: OpenGap, answer: Answer, told: Answered) -> str:
        """Hand trades over and declare holes; returns why some of it could not be."""
        because = await self._hand_over(gap, answer, told)
        for hole in told.never_were:
            because = await self._close(gap, hole) or because
        return because

    async def _hand_over(self, gap: OpenGap, answer: Answer, told: Answered) -> str:
        trades = to_columns(answer.trades[told.wanted], gap.code, self._clock.now_us())
        bad = misfits(trades, [gap.symbol] * len(trades))
        keep = np.ones(len(trades), np.bool_)
        keep[[misfit.row for misfit in bad]] = False
        if keep.any():
            await self._tell(Healed(gap.code, trades.where(keep) if bad else trades))
        if not bad:
            return ""
        first = bad[0]
        return f"trade {trades.ids[first.row]} does not fit: {first.reason}, {first.detail}"

    async def _close(self, gap: OpenGap, hole: IdRange) -> str:
        if self._declare is None:
            return NO_WRITER
        first, last = hole
        try:
            await self._declare(gap.symbol, first, last)
        except K2Error as error:
            return f"the exchange never had {first} to {last}; not recorded yet: {error.message}"
        measures.VENUE_HOLES.inc(last - first + 1)
        log.info("venue_hole_recorded", symbol=gap.symbol, first=first, last=last)
        await self._tell(NeverWere(gap.code, first, last))
        return ""

    def _note(self, gap: OpenGap, because: str) -> None:
        """Ask again later, unless there is nothing left to ask for."""
        before = self._attempts.get(key_of(gap))
        failures = (before.failures if before else 0) + 1
        due_s = self._clock.monotonic_s() + self._rules.backoff.wait_s(failures)
        self._attempts[key_of(gap)] = Attempt(failures, due_s, because)
        if because and failures == 1:
            first, last = gap.gap.first, gap.gap.last
            log.warning("gap_stays", symbol=gap.symbol, first=first, last=last, because=because)

    async def _tell(self, message: Message) -> None:
        """Wait for room, but not longer than this actor lives."""
        await first_of(self._publisher.put(message), self._stopping.wait())

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()

    def _now_s(self) -> float:
        return self._clock.now_us() / 1_000_000
