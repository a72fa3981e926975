"""One open Control stream: what its process says, and when it applied what it was told."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress

from k2.governor.v1 import governor_pb2 as pb

from libs.degradation.messages import Acknowledgement, Directive, Report
from libs.degradation.protocol import acknowledgement_from_pb, directive_to_pb, report_from_pb
from libs.market.errors import InvalidError, UnavailableError
from libs.runtime.mailbox import MailboxClosedError
from services.governor.deciding.crossings import Crossing
from services.governor.directing.pusher import Send
from services.governor.metrics import APPLIED_SECONDS, APPLY_SECONDS, PUSHES
from services.governor.observing.collector import Acknowledged, Closed, ReportCollector, Reported
from services.governor.published import Published


class Conversation:
    """Passes on to the collector what one stream brings, in order."""

    def __init__(
        self,
        stream: int,
        first: Report,
        collector: ReportCollector,
        crossing: Published[Crossing | None],
    ) -> None:
        self._stream, self._first, self._collector = stream, first, collector
        self._crossing, self._answered = crossing, crossing.value
        self._newest = (0, 0)
        self._said = pb.ControlResponse()
        self._sent_at_s: float | None = None
        self._heard_at_s = time.monotonic()
        self._sending_since_s: float | None = None

    async def open(self) -> None:
        await self._collector.tell(Reported(self._stream, self._first))

    async def close(self) -> None:
        with suppress(MailboxClosedError):
            await self._collector.tell(Closed(self._stream, self._first.process))

    async def hear(self, requests: AsyncIterator[pb.ControlRequest]) -> None:
        """Take in all that follows the first report."""
        async for request in requests:
            self._heard_at_s = time.monotonic()
            if request.HasField("acknowledgement"):
                await self._acknowledged(acknowledgement_from_pb(request.acknowledgement))
            else:
                report = _of(self._first.process, report_of(request))
                await self._collector.tell(Reported(self._stream, report))

    def sender(self, write: Callable[[pb.ControlResponse], Awaitable[None]]) -> Send:
        """Send directives; `watch` ends the stream where one is not taken within a TTL."""

        async def send(directive: Directive) -> None:
            response = self._response(directive)
            self._sending_since_s = time.monotonic()
            await write(response)
            self._sending_since_s = None
            PUSHES.inc()

        return send

    def _response(self, directive: Directive) -> pb.ControlResponse:
        """Say it; what only renews a directive differs in nothing but what it answers, and why."""
        this = (directive.epoch, directive.sequence)
        if this != self._newest:
            self._newest, self._sent_at_s = this, time.monotonic()
            self._said = pb.ControlResponse(directive=directive_to_pb(directive))
        self._said.directive.answers_ms = directive.answers_ms
        self._said.directive.explanation = directive.explanation
        return self._said

    async def watch(self, ttl_s: float) -> None:
        """End where nothing has come, or nothing was taken, for a TTL.

        A process that is stopped keeps its sockets. One timer for a stream, not one for each
        message: with a hundred attached those were a tenth of what a governor did.

        Raises:
            UnavailableError: so it is.
        """
        process = self._first.process
        while True:
            now_s = time.monotonic()
            sending_s = now_s if self._sending_since_s is None else self._sending_since_s
            if now_s - sending_s >= ttl_s:
                raise UnavailableError(f"{process} takes no directives")
            if now_s - self._heard_at_s >= ttl_s:
                raise UnavailableError(f"{process} has reported nothing for {ttl_s:g} s")
            await asyncio.sleep(min(self._heard_at_s, sending_s) + ttl_s - now_s)

    async def _acknowledged(self, said: Acknowledgement) -> None:
        if (said.epoch, said.sequence) == self._newest and self._sent_at_s is not None:
            APPLY_SECONDS.observe(time.monotonic() - self._sent_at_s)
            self._sent_at_s = None
        crossed = self._crossing.value
        if crossed is not None and crossed is not self._answered and crossed.answered_by(said):
            self._answered = crossed
            if crossed.group == self._first.own.consumer_group:
                APPLIED_SECONDS.observe(time.monotonic() - crossed.at_s)
        await self._collector.tell(Acknowledged(self._first.process, said))


async def first_report(requests: AsyncIterator[pb.ControlRequest], ttl_s: float) -> Report:
    """Read what a stream begins with.

    Raises:
        UnavailableError: nothing came within a TTL; InvalidError: it is no report.
    """
    try:
        async with asyncio.timeout(ttl_s):
            return report_of(await anext(requests, None))
    except TimeoutError as error:
        raise UnavailableError(f"the process reported nothing for {ttl_s:g} s") from error


def report_of(request: pb.ControlRequest | None) -> Report:
    """Read the report in a request.

    Raises:
        InvalidError: there is none, or it makes no sense.
    """
    if request is None or not request.HasField("report"):
        raise InvalidError("a stream begins with a report and goes on with them", field="report")
    return report_from_pb(request.report)


def _of(process: str, report: Report) -> Report:
    if report.process != process:
        text = f"this stream is {process}'s, not {report.process}'s"
        raise InvalidError(text, field="report.process")
    return report
